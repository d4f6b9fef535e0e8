"""OrderReplica: every order that a book displays, kept from the engine's events alone. Pure.

Theory. An order is displayed when it is open, has been triggered if it is a stop order, and its
output is over; an iceberg order with its displayed part. So an output is read as: what it takes off
displayed orders, event by event; and what is left of an *incoming* order goes in as soon as another
one comes in, or at the end. Incoming is the subject of an ``OrderAccepted`` that is no stop order
yet, of an ``OrderTriggered``, and of an ``OrderReplaced`` by which a displayed order loses its
place. Its own fills and its own cancel are about an order that is not displayed; everything else
that is filled or canceled either is displayed or is a stop order that waits, which nobody sees.
That holds for every order type, because the rest of an order that may not rest ends in an
``OrderCanceled`` of the same output, before the next order comes in. In an auction both sides of a
trade are displayed.

Priority. ``place`` rises with each arrival at the back of a queue, so the orders of a price are in
the order of their places. A refill takes a new one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import msgspec

from engine.enums import Liquidity, OrdType, Side
from engine.events import (
    Event,
    OrderAccepted,
    OrderCanceled,
    OrderFilled,
    OrderRefilled,
    OrderReplaced,
    OrderState,
    OrderTriggered,
)
from engine.price_levels import Bbo, LevelChange, PriceLevels

_BUY: Final = Side.BUY
_TAKER: Final = Liquidity.TAKER
_STOPS: Final = (OrdType.STOP, OrdType.STOP_LIMIT)

_Incoming = OrderAccepted | OrderReplaced | OrderTriggered


class BookOrder(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An order as the book displays it; 0 lots: it is not displayed any more.

    ``place``: its priority, see the head of this file; comparable within one replica, and those
    that were made from its content.
    """

    order_seq: int
    side: Side
    price_ticks: int
    qty_lots: int
    place: int


class BookChanges(msgspec.Struct, frozen=True, gc=False):
    """What one output changed: each touched level and order once, as it stands after it."""

    bids: list[LevelChange]
    asks: list[LevelChange]
    orders: list[BookOrder]


class OrderReplica:
    """The displayed orders of one symbol, after each output equal to the engine's book.

    Args:
        orders: those displayed at the position where this replica begins.

    Attributes:
        orders: by order_seq.
        bids, asks: the same by level.
    """

    __slots__ = (
        *("_incoming", "_last_place", "_leaves_lots", "_queues", "_touched"),
        *("asks", "bids", "orders"),
    )

    def __init__(self, orders: Iterable[BookOrder] = ()) -> None:
        self.orders: dict[int, BookOrder] = {}
        self.bids = PriceLevels(Side.BUY)
        self.asks = PriceLevels(Side.SELL)
        # Per side, price → the orders there, first in priority first.
        self._queues: tuple[dict[int, dict[int, BookOrder]], dict[int, dict[int, BookOrder]]]
        self._queues = ({}, {})
        self._last_place = 0
        # While one output is applied: the incoming order and what it has left, and what the orders
        # were before that it has touched (None: not displayed), level by level.
        self._incoming: _Incoming | None = None
        self._leaves_lots = 0
        self._touched: dict[int, BookOrder | None] = {}
        for order in sorted(orders, key=_place):
            self._put(order)
            self._last_place = order.place

    def apply(self, events: Sequence[Event]) -> BookChanges:
        """Apply the events of one whole output.

        Raises:
            AssertionError: they do not continue this book.
        """
        if len(events) == 1:
            event = events[0]
            if type(event) is OrderAccepted and self._rests_whole(event):
                # Most outputs: an order that rests, and nothing else.
                order, level = self._append(event, event.leaves_lots)
                if order.side is _BUY:
                    return BookChanges([level], [], [order])
                return BookChanges([], [level], [order])
        for event in events:
            handler = _HANDLERS.get(type(event))
            if handler is not None:
                handler(self, event)
        if self._incoming is not None:
            self._arrive()
        if not self._touched:
            return NOTHING
        return self._changes()

    def bbo(self) -> Bbo:
        """Return the best price and total of both sides."""
        bid_ticks, bid_lots = self.bids.best()
        ask_ticks, ask_lots = self.asks.best()
        return Bbo(bid_ticks, bid_lots, ask_ticks, ask_lots)

    def queue(self, side: Side, price_ticks: int) -> Iterable[BookOrder]:
        """Return the orders of a level, first in priority first."""
        return self._queues[side - 1].get(price_ticks, {}).values()

    # ------------------------------------------------------------ the kinds of events

    def _on_accepted(self, event: OrderAccepted) -> None:
        if self._incoming is not None:
            self._arrive()
        if event.ord_type not in _STOPS:
            self._incoming, self._leaves_lots = event, event.leaves_lots

    def _on_triggered(self, event: OrderTriggered) -> None:
        if self._incoming is not None:
            self._arrive()
        self._incoming, self._leaves_lots = event, event.leaves_lots

    def _on_filled(self, event: OrderFilled) -> None:
        if event.liquidity is _TAKER:
            self._leaves_lots = event.leaves_lots
            return
        order = self.orders[event.order_seq]
        left_lots = order.qty_lots - event.last_qty_lots
        if left_lots:
            self._change(order, left_lots)
        else:
            # An iceberg order comes back with its refill.
            self._remove(order)

    def _on_refilled(self, event: OrderRefilled) -> None:
        order = self.orders.get(event.order_seq)
        if order is not None:
            self._remove(order)
        self._touched.setdefault(event.order_seq, None)
        self._append(event, event.displayed_lots)

    def _on_canceled(self, event: OrderCanceled) -> None:
        incoming = self._incoming
        if incoming is not None and incoming.order_seq == event.order_seq:
            self._incoming = None
            return
        order = self.orders.get(event.order_seq)
        if order is not None:
            self._remove(order)

    def _on_replaced(self, event: OrderReplaced) -> None:
        order = self.orders.get(event.order_seq)
        if order is None:
            # A stop order that waits.
            return
        if event.kept_priority:
            shown_lots = min(order.qty_lots, event.leaves_lots)
            if shown_lots != order.qty_lots:
                self._change(order, shown_lots)
            return
        self._remove(order)
        self._incoming, self._leaves_lots = event, event.leaves_lots

    # ------------------------------------------------------------ orders and levels

    def _rests_whole(self, event: OrderAccepted) -> bool:
        return event.conditions is None and event.leaves_lots > 0 and event.ord_type not in _STOPS

    def _arrive(self) -> None:
        """Display what the incoming order has left."""
        event, self._incoming = self._incoming, None
        assert event is not None, "Invariant: the caller has looked"
        if self._leaves_lots:
            conditions = event.conditions
            floor_lots = conditions.max_floor_lots if conditions is not None else 0
            lots = self._leaves_lots
            self._touched.setdefault(event.order_seq, None)
            self._append(event, min(floor_lots, lots) if floor_lots else lots)

    def _append(self, event: OrderState, lots: int) -> tuple[BookOrder, LevelChange]:
        self._last_place += 1
        order = BookOrder(event.order_seq, event.side, event.price_ticks, lots, self._last_place)
        return order, self._put(order)

    def _put(self, order: BookOrder) -> LevelChange:
        assert order.qty_lots > 0, "Invariant: a displayed order shows something"
        price_ticks = order.price_ticks
        self.orders[order.order_seq] = order
        self._queues[order.side - 1].setdefault(price_ticks, {})[order.order_seq] = order
        return self._levels(order.side).add(price_ticks, order.qty_lots, 1)

    def _change(self, order: BookOrder, lots: int) -> None:
        assert 0 < lots < order.qty_lots, "Invariant: what keeps its place becomes less"
        seq, side, price_ticks = order.order_seq, order.side, order.price_ticks
        self._touched.setdefault(seq, order)
        changed = BookOrder(seq, side, price_ticks, lots, order.place)
        self.orders[seq] = changed
        self._queues[side - 1][price_ticks][seq] = changed
        self._levels(side).add(price_ticks, lots - order.qty_lots, 0)

    def _remove(self, order: BookOrder) -> None:
        seq, side, price_ticks = order.order_seq, order.side, order.price_ticks
        self._touched.setdefault(seq, order)
        del self.orders[seq]
        queues = self._queues[side - 1]
        queue = queues[price_ticks]
        del queue[seq]
        if not queue:
            del queues[price_ticks]
        self._levels(side).add(price_ticks, -order.qty_lots, -1)

    def _levels(self, side: Side) -> PriceLevels:
        return self.bids if side is _BUY else self.asks

    def _changes(self) -> BookChanges:
        touched, self._touched = self._touched, {}
        prices: tuple[dict[int, None], dict[int, None]] = ({}, {})
        orders = []
        for seq, before in touched.items():
            after = self.orders.get(seq)
            if before is not None:
                prices[before.side - 1][before.price_ticks] = None
            if after is not None:
                prices[after.side - 1][after.price_ticks] = None
                orders.append(after)
            elif before is not None:
                orders.append(
                    BookOrder(seq, before.side, before.price_ticks, 0, before.place),
                )
        bids, asks = self.bids, self.asks
        return BookChanges(
            [bids.at(price) for price in prices[0]], [asks.at(price) for price in prices[1]], orders
        )


def _place(order: BookOrder) -> int:
    return order.place


NOTHING: Final = BookChanges([], [], [])
"""What most outputs of a quiet market change."""

_HANDLERS: Final[dict[type[Any], Callable[[OrderReplica, Any], None]]] = {
    OrderFilled: OrderReplica._on_filled,
    OrderAccepted: OrderReplica._on_accepted,
    OrderCanceled: OrderReplica._on_canceled,
    OrderReplaced: OrderReplica._on_replaced,
    OrderTriggered: OrderReplica._on_triggered,
    OrderRefilled: OrderReplica._on_refilled,
}
