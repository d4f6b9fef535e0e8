"""Price bands: how far from the last trade an order may be priced. Pure.

Two bands. The static one, from ``min_price_ticks`` to ``max_price_ticks``, is a rule like any other
(`engine.checks`). The band around the last trade moves with it: a buy may not be priced above
last × (1 + band), a sell not below last × (1 - band), because so far and no further may the price
move at once. The other direction is free: an order priced away from the market only rests. Without
a last trade, or without ``band_ppm``, there is only the static band; so it is before an opening,
because the auction is how a price finds its way out of a band that it has left.

A limit order beyond is refused. A market order, or a stop order that becomes one, has no price of
its own, only a protection: that is moved to the edge of both bands instead. Edges are rounded
towards the last trade, so that nothing beyond the exact band is ever traded.
"""

from __future__ import annotations

from typing import Final

from engine.conditions import Refusal
from engine.enums import OrdRejReason, Side
from engine.instrument import PPM, DecimalGrid, SymbolRules

_BUY: Final = Side.BUY


def edge_ticks(rules: SymbolRules, last_ticks: int, side: Side) -> int:
    """Return the worst price, in ticks, at which an order of this side may trade.

    Args:
        rules: In force.
        last_ticks: Price of the last trade; 0 before the first.
        side: Of the order: a buy has the upper edge, a sell the lower one.
    """
    moves = last_ticks and rules.band_ppm
    if side == _BUY:
        highest = rules.max_price_ticks
        return min(highest, last_ticks * (PPM + rules.band_ppm) // PPM) if moves else highest
    lowest = rules.min_price_ticks
    return max(lowest, -(-last_ticks * (PPM - rules.band_ppm) // PPM)) if moves else lowest


def check_band(rules: SymbolRules, last_ticks: int, side: Side, price_ticks: int) -> Refusal | None:
    """Return the refusal of a limit price beyond the band around the last trade, or None.

    Args:
        rules, last_ticks, side: See `edge_ticks`.
        price_ticks: The limit, which lies within the static band.
    """
    if not (last_ticks and rules.band_ppm):
        return None
    edge = edge_ticks(rules, last_ticks, side)
    if price_ticks <= edge if side == _BUY else price_ticks >= edge:
        return None
    grid = DecimalGrid(rules.tick_size)
    bound = "at most" if side == _BUY else "at least"
    text = (
        f"Price band: expected {bound} {grid.format(edge)}"
        f" (last trade {grid.format(last_ticks)}), received {grid.format(price_ticks)}"
    )
    return Refusal(OrdRejReason.OTHER, text)


def clamp(rules: SymbolRules, last_ticks: int, side: Side, price_ticks: int) -> int:
    """Return a market order's protection price, moved to the edge of the bands if it is beyond."""
    edge = edge_ticks(rules, last_ticks, side)
    return min(price_ticks, edge) if side == _BUY else max(price_ticks, edge)
