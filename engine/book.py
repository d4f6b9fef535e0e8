"""The order book: price-time priority as a structure, without order types or accounts. Pure.

Theory. Each side is a dict of price levels and a heap of their keys (`level.key`: the price,
negated for bids, so that on both sides a smaller key is a better price and one code serves both). A
level is a queue linked through its orders; an index finds an order by its id. Adding, cancelling
and filling an order take the same steps in a small and in a large book.

The best price is lazy. An emptied level leaves the dict at once, and the heap when its key surfaces
or when stale keys outnumber the levels and the heap is built anew: constant cost per added level.
`side.best` may therefore be a level that is empty; it is never worse than the real best, so one
comparison says that nothing crosses, and `live_best` looks for the real one.

`LimitBook` is that structure, generic in the class of its orders: `engine.matching` rests orders of
accounts in it. `OrderBook` is the same structure driven directly by a program, without accounts.

Garbage collection. Each resting order is one object that CPython's collector visits in its full
passes, 0.25 µs each: building a book of a million orders takes 2.7 times as long with the collector
on. A steady book makes no such passes, because objects come and go in equal numbers. The book makes
no reference cycle that outlives a removal, so a process may disable the collector while it rebuilds
its books and `gc.freeze()` them then; nothing here depends on it. Measured by
`python -m tests.bench.bench_book`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from heapq import heapify, heappop, heappush
from itertools import islice
from typing import Final, Generic

from engine.enums import Side
from engine.level import OrderT, PriceLevel, RestingOrder

_BUY: Final = Side.BUY

#: Key of the level that ends each side. Larger than the key of any price (prices are below 2^62).
END_KEY: Final = 1 << 63

#: Stale keys that a heap may hold beyond the number of its levels before it is built anew.
STALE_KEYS_ALLOWED: Final = 256

#: Owner that equals no account: given to `take` where orders of one owner may trade together.
NO_OWNER: Final = -1

#: More resting orders than a book can hold.
NO_LIMIT: Final = 1 << 62


class BookSide(Generic[OrderT]):
    """One side of a book: its levels by key and the heap of the keys.

    Attributes:
        side: Buy or sell.
        sign: -1 for bids, 1 for asks: key = sign * price.
        levels: Every level by key; none is empty but the end level.
        heap: The keys of the levels, and some of levels that have gone.
        best: The level with the smallest key, or an emptied level with a smaller one.
    """

    __slots__ = ("best", "heap", "levels", "side", "sign")

    def __init__(self, side: Side) -> None:
        self.side = side
        self.sign = -1 if side == _BUY else 1
        self.best: PriceLevel[OrderT] = PriceLevel()
        self.levels = {END_KEY: self.best}
        self.heap = [END_KEY]
        end = self.best
        end.side, end.price_ticks, end.key = side, 0, END_KEY
        end.siblings, end.head, end.tail, end.qty_lots = self.levels, None, None, 0

    def live_best(self) -> PriceLevel[OrderT]:
        """Return the best level with orders, or the end level (price 0); drop stale keys."""
        best = self.best
        if best.head is None:
            heap, levels = self.heap, self.levels
            while heap[0] not in levels:
                heappop(heap)
            self.best = best = levels[heap[0]]
        return best

    def walk(self) -> Iterator[PriceLevel[OrderT]]:
        """Iterate over the levels with orders, best first, without changing anything.

        A walk over the first n levels costs O(n log n), whatever lies behind them: it follows the
        heap downwards through a frontier of its own.
        """
        heap, levels = self.heap, self.levels
        frontier = [(heap[0], 0)]
        last_key = None
        while True:
            key, place = heappop(frontier)
            if key == END_KEY:
                return
            if key != last_key and key in levels:
                yield levels[key]
            last_key = key
            for child in range(2 * place + 1, min(2 * place + 3, len(heap))):
                heappush(frontier, (heap[child], child))


class LimitBook(Generic[OrderT]):
    """Both sides of one symbol's book and the index of its orders."""

    __slots__ = ("asks", "bids", "orders")

    def __init__(self) -> None:
        self.bids: BookSide[OrderT] = BookSide(Side.BUY)
        self.asks: BookSide[OrderT] = BookSide(Side.SELL)
        #: Every resting order by its id.
        self.orders: dict[int, OrderT] = {}

    def best_bid(self) -> int | None:
        """Return the highest bid in ticks, or None where nobody bids."""
        level = self.bids.live_best()
        return None if level.key == END_KEY else level.price_ticks

    def best_ask(self) -> int | None:
        """Return the lowest ask in ticks, or None where nobody asks."""
        level = self.asks.live_best()
        return None if level.key == END_KEY else level.price_ticks

    def depth_at(self, side: Side, price_ticks: int) -> int:
        """Return the quantity in lots that rests at a price; 0 where there is none."""
        book_side = self.bids if side == _BUY else self.asks
        level = book_side.levels.get(price_ticks * book_side.sign)
        return 0 if level is None else level.qty_lots

    def levels(self, side: Side, count: int) -> list[tuple[int, int, int]]:
        """Return the best levels of a side as (price_ticks, qty_lots, order_count), best first."""
        book_side = self.bids if side == _BUY else self.asks
        return [
            (level.price_ticks, level.qty_lots, len(level.orders()))
            for level in islice(book_side.walk(), count)
        ]

    def rest(self, book_side: BookSide[OrderT], price_ticks: int, order: OrderT) -> None:
        """Put an order, whose id must not rest yet, in the index and last in its price's queue."""
        self.orders[order.order_id] = order
        order.next = None
        key = price_ticks * book_side.sign
        levels = book_side.levels
        if key in levels:
            order.level = level = levels[key]
            order.prev = tail = level.tail
            assert tail is not None, "Invariant: a level in the dict has orders"
            tail.next = order
            level.tail = order
            level.qty_lots += order.leaves_qty_lots
            return
        order.prev = None
        order.level = levels[key] = level = PriceLevel()
        level.side = book_side.side
        level.price_ticks = price_ticks
        level.key = key
        level.siblings = levels
        level.head = level.tail = order
        level.qty_lots = order.leaves_qty_lots
        heap = book_side.heap
        heappush(heap, key)
        if len(heap) > 2 * len(levels) + STALE_KEYS_ALLOWED:
            heap[:] = levels
            heapify(heap)
        if key <= book_side.best.key:
            book_side.best = level

    def cancel(self, order_id: int) -> OrderT | None:
        """Take an order out of its queue, wherever it stands, and out of the index.

        Returns:
            The order, which keeps its leaves and its level; None where no such order rests.
        """
        order = self.orders.pop(order_id, None)
        if order is None:
            return None
        level = order.level
        before = order.prev
        after = order.next
        if before is not None:
            before.next = after
        else:
            level.head = after
            if after is None:
                del level.siblings[level.key]
        if after is not None:
            after.prev = before
        else:
            level.tail = before
        level.qty_lots -= order.leaves_qty_lots
        return order

    def reduce(self, order: OrderT, qty_lots: int) -> None:
        """Take `qty_lots` off a resting order, which keeps its place and must keep some leaves."""
        assert 0 < qty_lots < order.leaves_qty_lots, "Invariant: a reduced order keeps leaves"
        order.leaves_qty_lots -= qty_lots
        order.level.qty_lots -= qty_lots

    def take(
        self,
        side: Side,
        price_ticks: int,
        qty_lots: int,
        avoid: int = NO_OWNER,
        matches_max: int = NO_LIMIT,
    ) -> tuple[int, list[tuple[OrderT, int]], OrderT | None]:
        """Fill an incoming order against the other side, best price first, oldest first.

        Stops when the quantity is filled, when the next price is beyond the limit, before an order
        of `avoid`, after `matches_max` fills, and after an order that it has emptied of what it
        shows and that has hidden lots: the caller may put that one back before it goes on.

        Args:
            side: Side of the incoming order.
            price_ticks: Its limit: the worst price it accepts.
            qty_lots: Its quantity.
            avoid: Owner whose orders must not be traded with.
            matches_max: Resting orders that it may meet.

        Returns:
            The quantity left; the fills as (resting order, filled quantity) in order; and the order
            before which it stopped although their prices cross, or after which (it has no leaves
            then, but hidden lots), or None. A resting order that was filled whole has left the
            book, has no leaves, and knows its level.
        """
        opposite = self.asks if side == _BUY else self.bids
        limit_key = price_ticks * opposite.sign
        fills: list[tuple[OrderT, int]] = []
        while opposite.best.key <= limit_key:
            level = opposite.best
            maker = level.head
            while maker is not None:
                if maker.owner == avoid or len(fills) >= matches_max:
                    return qty_lots, fills, maker
                leaves = maker.leaves_qty_lots
                if leaves > qty_lots:
                    maker.leaves_qty_lots = leaves - qty_lots
                    level.qty_lots -= qty_lots
                    fills.append((maker, qty_lots))
                    return 0, fills, None
                fills.append((maker, leaves))
                self.cancel(maker.order_id)
                maker.leaves_qty_lots = 0
                qty_lots -= leaves
                if maker.hidden_lots:
                    return qty_lots, fills, maker
                if not qty_lots:
                    return 0, fills, None
                maker = level.head
            opposite.live_best()
        return qty_lots, fills, None

    def crosses(self, side: Side, price_ticks: int) -> bool:
        """Return whether an incoming order with this limit would trade."""
        opposite = self.asks if side == _BUY else self.bids
        return opposite.live_best().key <= price_ticks * opposite.sign

    def by_priority(self) -> Iterator[OrderT]:
        """Iterate over every order, bids before asks, best price first, oldest first."""
        for side in (self.bids, self.asks):
            for level in side.walk():
                yield from level.orders()

    def content(self) -> list[tuple[int, int, int, int]]:
        """Return every order as (side, price_ticks, order_id, leaves), sorted by priority."""
        return [
            (int(one.level.side), one.level.price_ticks, one.order_id, one.leaves_qty_lots)
            for one in self.by_priority()
        ]

    def state_hash(self) -> str:
        """Return a digest of all orders in priority order; equal books have equal digests."""
        return content_hash(self.content())

    def check_invariants(self) -> None:
        """Walk the whole book and assert what must hold. For tests and audits; slow.

        Raises:
            AssertionError: The book is crossed, or index, queues and totals disagree.
        """
        self.check_structure()
        bid, ask = self.best_bid(), self.best_ask()
        assert bid is None or ask is None or bid < ask, (
            f"Invariant: best bid {bid} < best ask {ask}"
        )

    def check_structure(self) -> None:
        """Assert what must hold of a book that may be crossed. For tests and audits; slow.

        Raises:
            AssertionError: Index, queues and totals disagree.
        """
        seen = sum(self._check_side(side) for side in (self.bids, self.asks))
        assert seen == len(self.orders), "Invariant: index and queues hold the same orders"

    def _check_side(self, side: BookSide[OrderT]) -> int:
        # Returns the number of orders seen, each of which was found in the index.
        keys = sorted(side.levels)
        assert [level.key for level in side.walk()] == keys[:-1], "Invariant: the heap has all keys"
        assert side.best.key <= keys[0], "Invariant: side.best is never worse than the real best"
        assert keys[-1] == END_KEY, "Invariant: the end level stays"
        return sum(self._check_level(side, side.levels[key]) for key in keys[:-1])

    def _check_level(self, side: BookSide[OrderT], level: PriceLevel[OrderT]) -> int:
        assert level.side == side.side, "Invariant: level knows its side"
        assert level.key == level.price_ticks * side.sign, "Invariant: level has its key"
        assert side.levels[level.key] is level, "Invariant: level stands under its key"
        before = None
        orders = level.orders()
        assert orders, "Invariant: no level but the end level is empty"
        for order in orders:
            assert order.leaves_qty_lots > 0, f"Invariant: order {order.order_id} has leaves"
            assert self.orders.get(order.order_id) is order, "Invariant: queue is in the index"
            assert order.level is level, "Invariant: order knows its level"
            assert order.prev is before, "Invariant: queue is linked both ways"
            before = order
        assert level.tail is before, "Invariant: tail is the last order"
        total_lots = sum(order.leaves_qty_lots for order in orders)
        assert level.qty_lots == total_lots, "Invariant: level total is the sum of leaves"
        return len(orders)


class OrderBook(LimitBook[RestingOrder]):
    """A book that a program drives directly: limit and IOC orders, cancel, replace; no accounts.

    Fills come back as (resting order, quantity); the price is `order.level.price_ticks`, and
    `order.leaves_qty_lots` is what it has left.
    """

    __slots__ = ()

    def new_limit(
        self, order_id: int, side: Side, price_ticks: int, qty_lots: int
    ) -> Sequence[tuple[RestingOrder, int]]:
        """Match a limit order and rest what is left of it.

        Returns:
            The fills, best price first; empty where nothing crossed.

        Raises:
            ValueError: The quantity is not positive or the id rests already. The book is unchanged.
        """
        if qty_lots <= 0 or order_id in self.orders:
            raise ValueError(f"order {order_id}: expected a new id and a quantity, got {qty_lots}")
        if side == _BUY:
            own, opposite = self.bids, self.asks
        else:
            own, opposite = self.asks, self.bids
        fills: Sequence[tuple[RestingOrder, int]] = ()
        if opposite.best.key <= price_ticks * opposite.sign:
            qty_lots, fills, _ = self.take(side, price_ticks, qty_lots)
        if qty_lots:
            order = RestingOrder()
            order.order_id = order_id
            order.owner = 0
            order.leaves_qty_lots = qty_lots
            order.hidden_lots = 0
            self.rest(own, price_ticks, order)
        return fills

    def new_ioc(
        self, order_id: int, side: Side, price_ticks: int, qty_lots: int
    ) -> Sequence[tuple[RestingOrder, int]]:
        """Match an immediate-or-cancel order; what is left of it is gone.

        Raises:
            ValueError: The quantity is not positive or the id rests already. The book is unchanged.
        """
        if qty_lots <= 0 or order_id in self.orders:
            raise ValueError(f"order {order_id}: expected a new id and a quantity, got {qty_lots}")
        return self.take(side, price_ticks, qty_lots)[1]

    def replace(
        self, order_id: int, new_order_id: int, price_ticks: int, qty_lots: int
    ) -> Sequence[tuple[RestingOrder, int]] | None:
        """Cancel a resting order and put in another of the same side, last in its queue.

        Returns:
            The fills of the new order; None, and nothing done, where no such order rests.

        Raises:
            ValueError: As `new_limit`. The book is unchanged.
        """
        order = self.orders.get(order_id)
        if order is None:
            return None
        if qty_lots <= 0 or (new_order_id != order_id and new_order_id in self.orders):
            raise ValueError(
                f"order {new_order_id}: expected a new id and a quantity, got {qty_lots}"
            )
        self.cancel(order_id)
        return self.new_limit(new_order_id, order.level.side, price_ticks, qty_lots)


def content_hash(content: Sequence[tuple[int, int, int, int]]) -> str:
    """Return the digest of a book's content rows (see `LimitBook.content`)."""
    return hashlib.blake2b(repr(content).encode(), digest_size=16).hexdigest()
