"""engine.expiry: what is due, in which order, and how much at once."""

from __future__ import annotations

from engine.commands import OrderConditions
from engine.enums import TimeInForce
from engine.expiry import NEVER, Expiry
from engine.open_order import OpenOrder
from tests.unit.test_engine_open_order import order


class Orders:
    """Open orders by id, and their expiry."""

    def __init__(self) -> None:
        self.open: dict[int, OpenOrder] = {}
        self.expiry = Expiry()

    def add(self, seq: int, expire_us: int) -> OpenOrder:
        made = self.open.get(seq) or order(seq)
        made.time_in_force = TimeInForce.GTD
        made.conditions = OrderConditions(expire_us=expire_us)
        self.open[seq] = made
        self.expiry.watch(made, self.open.values(), len(self.open))
        return made

    def due(self, now_us: int, count: int = 100) -> list[int]:
        found = self.expiry.due(now_us, self.open.get, count)
        for one in found:
            del self.open[one.order_id]
        return [one.order_id for one in found]


def test_due_orders_come_by_time_then_by_id() -> None:
    orders = Orders()
    for seq, expire_us in ((1, 30), (2, 10), (3, 20), (4, 10)):
        orders.add(seq, expire_us)
    assert orders.expiry.next_us == 10
    assert orders.due(9) == []
    assert orders.due(10) == [2, 4]
    assert orders.expiry.next_us == 20
    assert orders.due(99) == [3, 1]
    assert orders.expiry.next_us == NEVER


def test_at_most_so_many_are_returned_and_the_others_stay_due() -> None:
    orders = Orders()
    for seq in range(1, 6):
        orders.add(seq, 10)
    assert orders.due(10, 2) == [1, 2]
    assert orders.expiry.next_us == 10
    assert orders.due(10, 3) == [3, 4, 5]


def test_another_time_counts_and_a_second_note_does_not() -> None:
    orders = Orders()
    orders.add(1, 10)
    orders.add(1, 30)
    orders.add(1, 30)
    assert orders.expiry.first_us(orders.open.get) == 30
    assert orders.due(29) == []
    assert orders.due(30) == [1]


def test_done_orders_are_dropped() -> None:
    orders = Orders()
    orders.add(1, 10)
    orders.add(2, 20)
    del orders.open[1]
    assert orders.expiry.first_us(orders.open.get) == 20
    del orders.open[2]
    assert orders.expiry.first_us(orders.open.get) == NEVER


def test_entries_of_orders_that_come_and_go_stay_few() -> None:
    orders = Orders()
    orders.add(1, 10_000)
    for seq in range(2, 2_000):
        orders.add(seq, 20_000 + seq)
        del orders.open[seq]
    assert len(orders.expiry._heap) < 300
    assert orders.due(50_000) == [1]


def test_sweep_takes_older_orders_of_its_kind_oldest_first_in_portions() -> None:
    expiry = Expiry()
    open_orders = [order(seq) for seq in (5, 3, 4, 1, 9)]
    for one in open_orders:
        one.time_in_force = TimeInForce.DAY
    open_orders[2].time_in_force = TimeInForce.GTC
    expiry.sweep(TimeInForce.DAY, 9)
    assert expiry.next_us == 0
    found = expiry.swept(open_orders, 2)
    assert [one.order_id for one in found] == [1, 3]
    assert expiry.next_us == 0
    left = [one for one in open_orders if one not in found]
    assert [one.order_id for one in expiry.swept(left, 2)] == [5]
    assert (expiry.sweeps, expiry.next_us) == ([], NEVER)
