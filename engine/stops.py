"""Stop orders that wait for the last trade to reach their stop price. Pure.

A buy is reached by a last trade at its stop price or above, a sell at it or below. The queues are
those of a book whose prices are the stop prices: buys stand where asks would, lowest first, and
sells where bids would, highest first, so that on both sides the first is the one nearest to where
the price came from; at one stop price the oldest is first.

Not all that a trade has reached is triggered by the same input (`engine.limits`). What is left
stays reached, even if the price comes back before its turn: the book keeps the highest and the
lowest last trade since nothing was left. A stop order that comes in between those two meanwhile is
triggered with them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from engine.book import BookSide, LimitBook
from engine.enums import Side
from engine.open_order import OpenOrder

_BUY: Final = Side.BUY


class StopBook:
    """Waiting stop orders of one symbol.

    Attributes:
        orders: All of them by id.
        high_ticks: The highest last trade since nothing reached was left; 0 = nothing is.
        low_ticks: Likewise the lowest.
    """

    __slots__ = ("_book", "high_ticks", "low_ticks", "orders")

    def __init__(self) -> None:
        self._book: LimitBook[OpenOrder] = LimitBook()
        self.orders = self._book.orders
        self.high_ticks = 0
        self.low_ticks = 0

    def add(self, order: OpenOrder) -> None:
        """Put an order at the end of the queue of its stop price."""
        assert order.conditions is not None, "Invariant: a stop order has a stop price"
        order.waits = True
        self._book.rest(self._side(order.side), order.conditions.stop_ticks, order)

    def remove(self, order: OpenOrder) -> None:
        """Take an order out, wherever it stands."""
        self._book.cancel(order.order_id)
        order.waits = False
        if not self.orders:
            self.forget()

    def reduce(self, order: OpenOrder, qty_lots: int) -> None:
        """Take so many lots off an order, which keeps its place and must keep some."""
        self._book.reduce(order, qty_lots)

    def observe(self, last_ticks: int) -> None:
        """Note that a trade was at a price, 0 where there was none.

        What lies between two prices that are noted counts as noted.
        """
        self.high_ticks = max(self.high_ticks, last_ticks)
        self.low_ticks = min(self.low_ticks or last_ticks, last_ticks)

    def forget(self) -> None:
        """Forget the trades so far: nothing that they have reached is left."""
        self.high_ticks = self.low_ticks = 0

    def reached(self) -> OpenOrder | None:
        """Return the order that is to be triggered next, or None."""
        if not self.high_ticks:
            return None
        order = self._first(self._book.asks, self.high_ticks)
        return order or self._first(self._book.bids, self.low_ticks)

    def by_priority(self) -> Iterable[OpenOrder]:
        """Iterate over all orders: sells before buys, the nearest first, oldest first."""
        return self._book.by_priority()

    def check_invariants(self) -> None:
        """Assert what must hold. For tests and audits; slow.

        Raises:
            AssertionError: It does not.
        """
        self._book.check_structure()
        for order in self.orders.values():
            assert order.waits, "Invariant: stop orders wait"
            assert order.hidden_lots == 0, "Invariant: what waits hides nothing"
            assert order.conditions is not None, "Invariant: a stop order has a stop price"
            assert order.level.price_ticks == order.conditions.stop_ticks, "Invariant: stop price"

    def _side(self, side: Side) -> BookSide[OpenOrder]:
        return self._book.asks if side == _BUY else self._book.bids

    def _first(self, side: BookSide[OpenOrder], ticks: int) -> OpenOrder | None:
        level = side.live_best()
        return level.head if level.key <= ticks * side.sign else None
