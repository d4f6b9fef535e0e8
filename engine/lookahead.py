"""What an order would trade if it came in now: for orders that want that much or nothing. Pure.

The trades come in the order in which matching would make them, with the parts that iceberg orders
show one after the other, and end where matching would end: at the order's limit, at an order of its
own account where self-trade prevention cancels the newest, and after `MATCHES_PER_ORDER_MAX`
resting orders. Nothing is changed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from engine.book import NO_OWNER, LimitBook
from engine.commands import NewOrder
from engine.enums import SelfTradePrevention, Side
from engine.instrument import PPM, SymbolRules
from engine.limits import MATCHES_PER_ORDER_MAX
from engine.open_order import OpenOrder

_BUY: Final = Side.BUY
_STP_NONE: Final = SelfTradePrevention.NONE
_STP_OLDEST: Final = SelfTradePrevention.CANCEL_OLDEST


def can_trade(book: LimitBook[OpenOrder], order: NewOrder, qty_lots: int) -> bool:
    """Return whether a new order would trade so many lots at once."""
    for _, lots in trades_ahead(book, order):
        qty_lots -= lots
        if qty_lots <= 0:
            return True
    return False


def lots_for_cash(
    book: LimitBook[OpenOrder], rules: SymbolRules, order: NewOrder, cash: int
) -> int:
    """Return how many lots a market buy would get for an amount of cash, its fee included.

    A fee on all that was traded, rounded up once, is affordable with it exactly when the traded
    notional is at most cash ÷ (1 + rate), rounded down: both are whole units.

    Args:
        book: The book that it would meet.
        rules: In force; the result is at most their largest quantity.
        order: The buy; its price is the worst that it accepts.
        cash: In the quote asset's smallest unit.
    """
    affordable = cash * PPM // (PPM + rules.taker_fee_ppm)
    bought = 0
    for price_ticks, lots in trades_ahead(book, order):
        price = price_ticks * rules.quote_units_per_tick_lot
        wanted = min(lots, affordable // price, rules.max_qty_lots - bought)
        bought += wanted
        affordable -= wanted * price
        if wanted < lots:
            break
    return bought


def trades_ahead(book: LimitBook[OpenOrder], order: NewOrder) -> Iterator[tuple[int, int]]:
    """Iterate over what a new order of any quantity would trade: price in ticks, and lots."""
    avoid = NO_OWNER if order.stp == _STP_NONE else order.account
    matches_left = MATCHES_PER_ORDER_MAX
    opposite = book.asks if order.side == _BUY else book.bids
    limit_key = order.price_ticks * opposite.sign
    for level in opposite.walk():
        if level.key > limit_key:
            return
        hidden: list[tuple[int, int]] = []
        for maker in level.orders():
            if not matches_left or (maker.owner == avoid and order.stp != _STP_OLDEST):
                return
            matches_left -= 1
            if maker.owner == avoid:
                continue
            yield level.price_ticks, maker.leaves_qty_lots
            if maker.hidden_lots:
                assert maker.conditions is not None, "Invariant: what hides has a MaxFloor"
                hidden.append((maker.hidden_lots, maker.conditions.max_floor_lots))
        while hidden:
            # Each shows its next part at the end of the queue: round by round.
            if len(hidden) > matches_left:
                hidden, matches_left = hidden[:matches_left], 0
                yield from ((level.price_ticks, min(part)) for part in hidden)
                return
            matches_left -= len(hidden)
            yield from ((level.price_ticks, min(part)) for part in hidden)
            hidden = [(lots - floor, floor) for lots, floor in hidden if lots > floor]
