"""Which open orders end because of the time, and when. Pure.

Two ways. An order that is good till a date leaves with the first input whose stamp has come to its
ExpireTime; a heap of those times finds it. The heap is lazy: an entry whose order is done, or has
another time by now, is dropped when it surfaces, or when such entries outnumber the open orders.

Day orders leave when their symbol is closed, orders at the opening when that is over. Such a sweep
takes out the orders that were there when it began, oldest first, and goes on with the next inputs
where they are many (`engine.limits`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from heapq import heapify, heappop, heappush, nsmallest
from typing import Final

import msgspec

from engine.enums import TimeInForce
from engine.open_order import OpenOrder

NEVER: Final = 1 << 62
"""Later than every stamp."""

_STALE_ALLOWED: Final = 256


class Sweep(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Orders of one time in force end: those that are older than the input `before_seq`."""

    time_in_force: TimeInForce
    before_seq: int


class Expiry:
    """The expiry times of one symbol's open orders, and the sweeps under way.

    Attributes:
        next_us: Nothing is to be done before this stamp; 0 while a sweep is under way.
        sweeps: Under way, the first one first.
    """

    __slots__ = ("_heap", "next_us", "sweeps")

    def __init__(self) -> None:
        self._heap: list[tuple[int, int]] = []
        self.next_us = NEVER
        self.sweeps: list[Sweep] = []

    def watch(self, order: OpenOrder, open_orders: Iterable[OpenOrder], open_count: int) -> None:
        """Note the expiry time of an order that rests or waits.

        Args:
            order: The order; noting it again does no harm.
            open_orders: All that rest or wait, to build the heap anew from.
            open_count: How many those are.
        """
        heappush(self._heap, (_expire_us(order), order.order_id))
        if len(self._heap) > 2 * open_count + _STALE_ALLOWED:
            self._heap = [(_expire_us(o), o.order_id) for o in open_orders if _expire_us(o)]
            heapify(self._heap)
        self._schedule()

    def sweep(self, time_in_force: TimeInForce, before_seq: int) -> None:
        """Begin to end all orders of a time in force that are older than an input."""
        self.sweeps.append(Sweep(time_in_force, before_seq))
        self._schedule()

    def due(
        self, now_us: int, find: Callable[[int], OpenOrder | None], count: int
    ) -> list[OpenOrder]:
        """Return the orders whose time has come, the earliest time first.

        Those that are returned are noted no more.

        Args:
            now_us: Stamp of the input.
            find: Returns the open order of an id, None where it is done.
            count: At most so many.
        """
        due: list[OpenOrder] = []
        while len(due) < count and self.first_us(find) <= now_us:
            order = find(heappop(self._heap)[1])
            assert order is not None, "Invariant: the first entry's order is open"
            if order not in due[-1:]:  # noted twice: the entries follow each other
                due.append(order)
        self._schedule()
        return due

    def swept(self, open_orders: Iterable[OpenOrder], count: int) -> list[OpenOrder]:
        """Return the next orders of the sweep under way, oldest first; fewer than `count` end it.

        Args:
            open_orders: All that rest or wait.
            count: At most so many.
        """
        of, before_seq = self.sweeps[0].time_in_force, self.sweeps[0].before_seq
        found = nsmallest(
            count,
            (o for o in open_orders if o.time_in_force == of and o.order_id < before_seq),
            key=_order_seq,
        )
        if len(found) < count:
            del self.sweeps[0]
        self._schedule()
        return found

    def first_us(self, find: Callable[[int], OpenOrder | None]) -> int:
        """Return the earliest expiry time, `NEVER` where there is none; drop stale entries."""
        heap = self._heap
        while heap:
            expire_us, order_id = heap[0]
            order = find(order_id)
            if order is not None and _expire_us(order) == expire_us:
                return expire_us
            heappop(heap)
        return NEVER

    def _schedule(self) -> None:
        first_us = self._heap[0][0] if self._heap else NEVER
        self.next_us = 0 if self.sweeps else first_us


def _expire_us(order: OpenOrder) -> int:
    return 0 if order.conditions is None else order.conditions.expire_us


def _order_seq(order: OpenOrder) -> int:
    return order.order_id
