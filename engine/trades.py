"""Trades: what one output's fills mean to the public. Pure."""

from __future__ import annotations

from typing import Final

import msgspec

from engine.enums import Liquidity, Side
from engine.events import OrderFilled, OutputEvents

_MAKER: Final = Liquidity.MAKER
_AUCTION: Final = Liquidity.AUCTION


class Trade(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One trade. ``seq`` and ``trade`` make its id; ``aggressor`` is the side that took, None in an
    auction."""

    seq: int
    trade: int
    ts_us: int
    price_ticks: int
    qty_lots: int
    aggressor: Side | None


def trades_of(output: OutputEvents) -> list[Trade]:
    """Return the trades of one output, in the order in which they happened.

    Each is two fills with the same number; the second one makes the trade.
    """
    seq, ts_us = output.seq, output.ts_us
    trades = []
    last = -1
    for event in output.events:
        if type(event) is not OrderFilled or event.liquidity is _MAKER:
            continue
        aggressor: Side | None = event.side
        if event.liquidity is _AUCTION:
            aggressor = None
            if event.trade != last:
                last = event.trade
                continue
        price_ticks, lots = event.last_price_ticks, event.last_qty_lots
        trades.append(Trade(seq, event.trade, ts_us, price_ticks, lots, aggressor))
    return trades
