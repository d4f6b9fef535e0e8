"""Five seeded order flows for the book benchmark: who adds, cancels, replaces and takes, and where.

The mix is what public feeds show: of 100 orders 15 are IOC; of the others one in five is replaced,
and some 95 % end cancelled, not filled (in the flow of sweeps, whose IOC orders are large, half).
What differs is where the orders stand: how many rest, over how many prices, and how close to the
top they come and go.

A flow is a list of tuples (kind, order_id, side, price_ticks, qty_lots, new_order_id), made outside
any timing with the help of the book itself, so that cancels and replaces name orders that are live.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from engine.book import OrderBook
from engine.enums import Side

NEW, IOC, CANCEL, REPLACE = range(4)

Message = tuple[int, int, Side, int, int, int]

MID_TICKS = 1_000_000


@dataclass(frozen=True, slots=True)
class FlowSpec:
    """Where the orders of a flow stand.

    Attributes:
        name: Shown in the table.
        resting: Orders that rest at the start, and about that many all the time.
        reach_ticks: New orders come at most this far from the opposite best price.
        tail: Shape of the distance: 1 is uniform over the reach, larger is closer to the top.
        by_age: Whether cancels and replaces choose by age, log-uniformly: half of them among the
            newest √n of n orders, as lifetimes on real venues do. Otherwise uniformly among all,
            which is what a cache dislikes most.
        ioc_lots_max: IOC quantities are 1 to this; large ones walk through several orders.
    """

    name: str
    resting: int
    reach_ticks: int
    tail: int
    by_age: bool
    ioc_lots_max: int

    def resized(self, resting: int) -> FlowSpec:
        """Return the same flow over a book of another size."""
        return replace(self, resting=resting)


FLOWS = (
    FlowSpec("shallow", 200, 20, 2, True, 30),
    FlowSpec("deep", 100_000, 2_000, 2, True, 30),
    FlowSpec("top of book", 5_000, 500, 6, True, 10),
    FlowSpec("wide prices", 50_000, 200_000, 4, True, 30),
    FlowSpec("sweeps", 20_000, 300, 3, True, 400),
)

#: No real flow: every cancel hits a random one of 100,000 orders, none of them in a cache.
ADVERSE = FlowSpec("deep, cancels anywhere", 100_000, 2_000, 2, False, 30)


class _Maker:
    # Makes messages one by one and applies each to its own book, which knows what is live.

    def __init__(self, spec: FlowSpec, seed: int) -> None:
        self.spec = spec
        self.book = OrderBook()
        self.random = random.Random(f"{spec.name} {seed}")
        self.live: list[int] = []
        self.messages: list[Message] = []
        self.next_id = 1

    def new_id(self) -> int:
        self.next_id += 1
        return self.next_id

    def side(self) -> Side:
        return Side.BUY if self.random.random() < 0.5 else Side.SELL

    def passive_price(self, side: Side) -> int:
        # Joins, improves by a tick or stands behind, never crosses.
        away = 1 + int(self.spec.reach_ticks * self.random.random() ** self.spec.tail)
        if side == Side.BUY:
            return (self.book.best_ask() or MID_TICKS + 1) - away
        return (self.book.best_bid() or MID_TICKS - 1) + away

    def pick_live(self) -> int | None:
        # Removes and returns a live order's id; those of orders filled meanwhile are dropped.
        live = self.live
        while live:
            draw = self.random.random()
            back = int(len(live) ** draw) if self.spec.by_age else 1 + int(len(live) * draw)
            if back > 1_000:  # too far to shift the list: the newest takes its place
                live[-back], live[-1] = live[-1], live[-back]
                back = 1
            order_id = live.pop(-back)
            if order_id in self.book.orders:
                return order_id
        return None

    def add(self) -> None:
        side = self.side()
        order_id, price = self.new_id(), self.passive_price(side)
        qty = self.random.randint(1, 100)
        self.book.new_limit(order_id, side, price, qty)
        self.live.append(order_id)
        self.messages.append((NEW, order_id, side, price, qty, 0))

    def take(self) -> None:
        side = self.side()
        best = self.book.best_ask() if side == Side.BUY else self.book.best_bid()
        reach = 5 + self.spec.ioc_lots_max // 10
        price = (best or MID_TICKS) + (reach if side == Side.BUY else -reach)
        order_id, qty = self.new_id(), self.random.randint(1, self.spec.ioc_lots_max)
        self.book.new_ioc(order_id, side, price, qty)
        self.messages.append((IOC, order_id, side, price, qty, 0))

    def cancel(self) -> None:
        order_id = self.pick_live()
        if order_id is not None:
            self.book.cancel(order_id)
            self.messages.append((CANCEL, order_id, Side.BUY, 0, 0, 0))

    def replace(self) -> None:
        order_id = self.pick_live()
        if order_id is not None:
            new_id, qty = self.new_id(), self.random.randint(1, 100)
            price = self.passive_price(self.book.orders[order_id].level.side)
            self.book.replace(order_id, new_id, price, qty)
            self.live.append(new_id)
            self.messages.append((REPLACE, order_id, Side.BUY, price, qty, new_id))


def make_flow(spec: FlowSpec, count: int, seed: int) -> tuple[list[Message], list[Message]]:
    """Make a flow.

    Args:
        spec: Where the orders stand.
        count: How many messages after the book is filled.
        seed: The same seed gives the same flow.

    Returns:
        The messages that fill the book to its size, and `count` messages after them.
    """
    maker = _Maker(spec, seed)
    while len(maker.book.orders) < spec.resting:
        maker.add()
    seeded, maker.messages = maker.messages, []
    while len(maker.messages) < count:
        # Per 100 messages: 84 that keep the size level (adds and cancels), 8.5 replaces, 7.5 IOC.
        # So 15 of 100 orders are IOC, and one in five of the others is replaced.
        draw = maker.random.random()
        if draw >= 0.925:
            maker.take()
        elif draw >= 0.84:
            maker.replace()
        elif len(maker.book.orders) > spec.resting:
            maker.cancel()
        else:
            maker.add()
    return seeded, maker.messages
