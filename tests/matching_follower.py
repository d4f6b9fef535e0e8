"""A second opinion on matching: one symbol's book and stop orders, read off events alone.

The book is the naive one and does each trade itself: a fill must be the trade that it makes. Stop
orders are in a plain list; each time the follower says which one is next to be triggered, and that
none is left out.
"""

from __future__ import annotations

from dataclasses import dataclass

from engine.book_naive import NaiveBook
from engine.commands import OrderConditions
from engine.enums import Liquidity, OrdType, Side
from engine.events import (
    Event,
    OrderAccepted,
    OrderCanceled,
    OrderFilled,
    OrderRefilled,
    OrderReplaced,
    OrderTriggered,
    Output,
)
from engine.limits import STOP_TRIGGERS_PER_INPUT_MAX

STOPS = (OrdType.STOP, OrdType.STOP_LIMIT)
Entering = OrderAccepted | OrderReplaced | OrderTriggered


@dataclass
class Waiting:
    """A stop order that waits."""

    order_seq: int
    side: Side
    stop_ticks: int
    leaves_lots: int


class Follower:
    """What is known of a symbol after some outputs.

    Attributes:
        book: The resting orders.
        stops: The waiting orders, in the order in which they came or lost their place.
        last_ticks: Price of the last trade; 0 before the first.
        triggers_max: How many stop orders one output may trigger.
    """

    def __init__(self, triggers_max: int = STOP_TRIGGERS_PER_INPUT_MAX) -> None:
        self.book = NaiveBook()
        self.stops: list[Waiting] = []
        self.last_ticks = 0
        self.triggers_max = triggers_max
        self._touched: list[int] = []  # trade prices since no reached stop order was left
        self._incoming: Entering | None = None
        self._left = 0

    def apply(self, output: Output) -> None:
        """Do what an output says, and check that it had to be so."""
        triggered = 0
        for event in output.events:
            match event:
                case OrderAccepted() | OrderReplaced():
                    self._begin(event)
                case OrderTriggered():
                    self._trigger(event)
                    triggered += 1
                case OrderFilled():
                    self._fill(event)
                case OrderRefilled():
                    self._check_refill(event)
                case OrderCanceled():
                    self._cancel(event)
                case _:
                    self._check_other(event)
        self._settle()
        if not self.stops:
            self._touched.clear()
        assert triggered <= self.triggers_max, "one input triggers so many"
        assert triggered == self.triggers_max or self.next_stop() is None, "all are triggered"

    def next_stop(self) -> Waiting | None:
        """Return the stop order that is to be triggered next, or None."""
        prices = [*self._touched, *([self.last_ticks] if self.last_ticks else [])]
        if not prices:
            return None
        high, low = max(prices), min(prices)
        buys = [s for s in self.stops if s.side is Side.BUY and s.stop_ticks <= high]
        sells = [s for s in self.stops if s.side is Side.SELL and s.stop_ticks >= low]
        if buys:
            return min(buys, key=lambda stop: stop.stop_ticks)
        if sells:
            return max(sells, key=lambda stop: stop.stop_ticks)
        self._touched.clear()
        return None

    def _begin(self, event: OrderAccepted | OrderReplaced) -> None:
        conditions = event.conditions or OrderConditions()
        waiting = self._waiting(event.order_seq)
        if isinstance(event, OrderReplaced):
            if waiting is not None and event.kept_priority:
                assert waiting.stop_ticks == conditions.stop_ticks
                waiting.leaves_lots = event.leaves_lots
                return
            if waiting is not None:
                self.stops.remove(waiting)
            elif event.kept_priority:
                self.book.reduce(event.order_seq, event.old_leaves_lots - event.leaves_lots)
                return
            else:
                canceled = self.book.cancel(event.order_seq)
                assert canceled is not None
                assert canceled.leaves_qty_lots + canceled.hidden_lots == event.old_leaves_lots
        if waiting is not None or (isinstance(event, OrderAccepted) and event.ord_type in STOPS):
            self.stops.append(
                Waiting(event.order_seq, event.side, conditions.stop_ticks, event.leaves_lots)
            )
        else:
            self._incoming, self._left = event, event.leaves_lots

    def _trigger(self, event: OrderTriggered) -> None:
        self._settle()
        waiting = self.next_stop()
        assert waiting is not None, f"no stop order is reached: {event}"
        expected = waiting.order_seq, waiting.leaves_lots, waiting.stop_ticks
        assert (event.order_seq, event.leaves_lots, event.conditions.stop_ticks) == expected
        self.stops.remove(waiting)
        self._incoming, self._left = event, event.leaves_lots

    def _fill(self, event: OrderFilled) -> None:
        if event.liquidity is Liquidity.TAKER:
            self._left -= event.last_qty_lots
            assert event.leaves_lots == self._left
            return
        incoming = self._incoming
        assert incoming is not None
        trades = self.book.new_ioc(
            incoming.order_seq, incoming.side, incoming.price_ticks, event.last_qty_lots
        )
        assert trades == [(event.order_seq, event.last_price_ticks, event.last_qty_lots)]
        resting = self.book.find(event.order_seq)
        left = resting.leaves_qty_lots + resting.hidden_lots if resting is not None else 0
        assert event.leaves_lots == left
        self.last_ticks = event.last_price_ticks
        self._touched.append(self.last_ticks)

    def _check_refill(self, event: OrderRefilled) -> None:
        # The naive book has shown the next part with the fill of the one before.
        resting = self.book.find(event.order_seq)
        assert resting is not None
        assert (resting.leaves_qty_lots, event.leaves_lots) == (
            event.displayed_lots,
            resting.leaves_qty_lots + resting.hidden_lots,
        )

    def _cancel(self, event: OrderCanceled) -> None:
        waiting = self._waiting(event.order_seq)
        if self._incoming is not None and event.order_seq == self._incoming.order_seq:
            assert event.canceled_lots == self._left
            self._left = 0
        elif waiting is not None:
            assert event.canceled_lots == waiting.leaves_lots
            self.stops.remove(waiting)
        else:
            order = self.book.cancel(event.order_seq)
            assert order is not None
            assert order.leaves_qty_lots + order.hidden_lots == event.canceled_lots

    def _check_other(self, event: Event) -> None:
        assert not isinstance(event, OrderFilled | OrderCanceled)

    def _settle(self) -> None:
        # What is left of the order that came in or was triggered rests.
        incoming, left = self._incoming, self._left
        self._incoming, self._left = None, 0
        if incoming is None or not left:
            return
        assert incoming.ord_type is not OrdType.STOP, "what a stop order has left ends"
        conditions = incoming.conditions or OrderConditions()
        trades = self.book.new_limit(
            incoming.order_seq,
            incoming.side,
            incoming.price_ticks,
            left,
            conditions.max_floor_lots,
        )
        assert trades == [], "what rests does not cross"

    def _waiting(self, order_seq: int) -> Waiting | None:
        return next((stop for stop in self.stops if stop.order_seq == order_seq), None)
