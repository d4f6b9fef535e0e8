"""The reference book: the same API as `engine.book.OrderBook`, slow and obvious. Pure.

Each side is one plain list, best price first and oldest first within a price. Every operation walks
it. Tests, benchmarks and replay audits compare it with the fast book by fills and state hash.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from engine.book import content_hash
from engine.enums import Side


@dataclass(slots=True)
class NaiveOrder:
    """A resting order of the reference book; an iceberg hides what is beyond its floor."""

    order_id: int
    side: Side
    price_ticks: int
    leaves_qty_lots: int
    hidden_lots: int = 0
    floor_lots: int = 0

    def is_behind(self, price_ticks: int) -> bool:
        """Return whether the order's price is worse than another price of its side."""
        if self.side == Side.BUY:
            return self.price_ticks < price_ticks
        return self.price_ticks > price_ticks

    def is_acceptable(self, limit_ticks: int) -> bool:
        """Return whether an incoming order with this limit may trade with it."""
        if self.side == Side.BUY:
            return self.price_ticks >= limit_ticks
        return self.price_ticks <= limit_ticks


class NaiveBook:
    """One symbol's book as two sorted lists; `engine.book.OrderBook` says what each call means.

    Fills come back as (order id, price_ticks, quantity).
    """

    def __init__(self) -> None:
        self._bids: list[NaiveOrder] = []
        self._asks: list[NaiveOrder] = []

    def new_limit(
        self, order_id: int, side: Side, price_ticks: int, qty_lots: int, floor_lots: int = 0
    ) -> list[tuple[int, int, int]]:
        """Match a limit order and rest what is left, showing at most `floor_lots` (0: all)."""
        fills = self.new_ioc(order_id, side, price_ticks, qty_lots)
        left = qty_lots - sum(qty for _, _, qty in fills)
        if left:
            self.rest(NaiveOrder(order_id, side, price_ticks, 0, left, floor_lots or left))
        return fills

    def new_ioc(
        self, order_id: int, side: Side, price_ticks: int, qty_lots: int
    ) -> list[tuple[int, int, int]]:
        """Match an immediate-or-cancel order; what is left of it is gone."""
        if qty_lots <= 0 or self.find(order_id) is not None:
            raise ValueError(f"order {order_id}: expected a new id and a quantity, got {qty_lots}")
        queue = self._queue(Side.SELL if side == Side.BUY else Side.BUY)
        fills: list[tuple[int, int, int]] = []
        while qty_lots and queue and queue[0].is_acceptable(price_ticks):
            maker = queue[0]
            filled = min(qty_lots, maker.leaves_qty_lots)
            fills.append((maker.order_id, maker.price_ticks, filled))
            qty_lots -= filled
            maker.leaves_qty_lots -= filled
            if not maker.leaves_qty_lots:
                queue.pop(0)
                if maker.hidden_lots:
                    self.rest(maker)
        return fills

    def cancel(self, order_id: int) -> NaiveOrder | None:
        """Take an order out of the book and return it; None where no such order rests."""
        order = self.find(order_id)
        if order is not None:
            self._queue(order.side).remove(order)
        return order

    def reduce(self, order_id: int, qty_lots: int) -> None:
        """Take a quantity off a resting order, which keeps its place and must keep some leaves.

        What it hides goes first.
        """
        order = self.find(order_id)
        assert order is not None, "Invariant: a reduced order rests"
        left = order.leaves_qty_lots + order.hidden_lots - qty_lots
        assert qty_lots > 0 and left > 0, "Invariant: a reduced order keeps leaves"
        order.leaves_qty_lots = min(order.leaves_qty_lots, left)
        order.hidden_lots = left - order.leaves_qty_lots

    def replace(
        self, order_id: int, new_order_id: int, price_ticks: int, qty_lots: int
    ) -> list[tuple[int, int, int]] | None:
        """Cancel a resting order and put in another of the same side."""
        order = self.find(order_id)
        if order is None:
            return None
        if qty_lots <= 0 or (new_order_id != order_id and self.find(new_order_id) is not None):
            raise ValueError(f"order {new_order_id}: expected a new id, got quantity {qty_lots}")
        self._queue(order.side).remove(order)
        return self.new_limit(new_order_id, order.side, price_ticks, qty_lots)

    def best_bid(self) -> int | None:
        """Return the highest bid in ticks, or None where nobody bids."""
        return self._bids[0].price_ticks if self._bids else None

    def best_ask(self) -> int | None:
        """Return the lowest ask in ticks, or None where nobody asks."""
        return self._asks[0].price_ticks if self._asks else None

    def depth_at(self, side: Side, price_ticks: int) -> int:
        """Return the quantity in lots that rests at a price."""
        return sum(
            order.leaves_qty_lots for order in self._queue(side) if order.price_ticks == price_ticks
        )

    def levels(self, side: Side, count: int) -> list[tuple[int, int, int]]:
        """Return the best levels of a side as (price_ticks, qty_lots, order_count), best first."""
        prices = list(dict.fromkeys(order.price_ticks for order in self._queue(side)))[:count]
        return [
            (
                price,
                self.depth_at(side, price),
                sum(1 for order in self._queue(side) if order.price_ticks == price),
            )
            for price in prices
        ]

    def content(self) -> list[tuple[int, int, int, int]]:
        """Return every order as (side, price_ticks, order_id, leaves), sorted by priority."""
        return [
            (int(order.side), order.price_ticks, order.order_id, order.leaves_qty_lots)
            for order in self._bids + self._asks
        ]

    def state_hash(self) -> str:
        """Return the digest that `OrderBook.state_hash` gives for the same orders."""
        return content_hash(self.content())

    def check_invariants(self) -> None:
        """Assert that both sides are sorted, uncrossed and hold only open orders."""
        for queue in (self._bids, self._asks):
            for order, after in pairwise(queue):
                assert not order.is_behind(after.price_ticks), "Invariant: best price first"
            assert all(order.leaves_qty_lots > 0 for order in queue), "Invariant: open"
        bid, ask = self.best_bid(), self.best_ask()
        assert bid is None or ask is None or bid < ask, f"Invariant: bid {bid} < ask {ask}"

    def rest(self, order: NaiveOrder) -> None:
        """Show the next part of what an order hides, last in the queue of its price.

        Nothing is matched: before an opening the book may be crossed.
        """
        order.leaves_qty_lots = min(order.floor_lots, order.hidden_lots)
        order.hidden_lots -= order.leaves_qty_lots
        queue = self._queue(order.side)
        place = 0
        while place < len(queue) and not queue[place].is_behind(order.price_ticks):
            place += 1
        queue.insert(place, order)

    def _queue(self, side: Side) -> list[NaiveOrder]:
        return self._bids if side == Side.BUY else self._asks

    def find(self, order_id: int) -> NaiveOrder | None:
        """Return a resting order, or None."""
        for order in self._bids + self._asks:
            if order.order_id == order_id:
                return order
        return None
