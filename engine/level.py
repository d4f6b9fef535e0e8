"""RestingOrder and PriceLevel: the parts of a first-in first-out queue with O(1) removal. Pure.

The queue is a doubly linked list through the orders themselves, so that cancelling an order in
the middle of a long queue costs the same as cancelling one at its end, and an order costs one
object and no list node. Prices stand in the level only: an order's price is its level's. The
linking itself is in `engine.book` (`rest`, `cancel`), where a call per step would be felt.
"""

from __future__ import annotations

from typing import Generic, Self, TypeVar

from engine.enums import Side


class RestingOrder:
    """An order in a book: its identity, its owner, what is left of it, and its place in a queue.

    Whoever makes one sets the first four attributes; the book sets the others. There is no
    `__init__` here or in `PriceLevel`, because calling one costs a fifth of adding an order.

    Attributes:
        order_id: Unique among the live orders of its book.
        owner: Account of the order; 0 where a program drives the book without accounts.
        leaves_qty_lots: Open quantity that the book shows; positive while the order rests.
        hidden_lots: Open quantity behind it, that the book does not know about (iceberg orders).
        level: The level it rests in, or rested in last.
        prev: The order before it in the queue, None for the first.
        next: The order after it in the queue, None for the last.
    """

    __slots__ = ("hidden_lots", "leaves_qty_lots", "level", "next", "order_id", "owner", "prev")

    order_id: int
    owner: int
    leaves_qty_lots: int
    hidden_lots: int
    level: PriceLevel[Self]
    prev: Self | None
    next: Self | None


OrderT = TypeVar("OrderT", bound=RestingOrder)


class PriceLevel(Generic[OrderT]):
    """All resting orders of one side and price, oldest first. A level without orders is discarded.

    Attributes:
        side: Side of the orders.
        price_ticks: Their price.
        key: The price, negated for bids: on both sides a smaller key is a better price.
        siblings: The levels of the side by key, which an empty level leaves.
        head: First in time, None once the level is empty.
        tail: Last in time, None once the level is empty.
        qty_lots: Sum of the orders' leaves.
    """

    __slots__ = ("head", "key", "price_ticks", "qty_lots", "siblings", "side", "tail")

    side: Side
    price_ticks: int
    key: int
    siblings: dict[int, PriceLevel[OrderT]]
    head: OrderT | None
    tail: OrderT | None
    qty_lots: int

    def orders(self) -> list[OrderT]:
        """Return the orders, oldest first."""
        result: list[OrderT] = []
        order = self.head
        while order is not None:
            result.append(order)
            order = order.next
        return result
