"""engine.stops: which stop order is next, and what is remembered of trades."""

from __future__ import annotations

import pytest

from engine.commands import OrderConditions
from engine.enums import Side
from engine.open_order import OpenOrder
from engine.stops import StopBook
from tests.unit.test_engine_open_order import order


def stop(seq: int, side: Side, ticks: int) -> OpenOrder:
    made = order(seq, f"c{seq}", side)
    made.conditions = OrderConditions(stop_ticks=ticks)
    return made


@pytest.fixture
def stops() -> StopBook:
    """Return buys at 105, 103, 103 and sells at 95, 97, in this order."""
    book = StopBook()
    for seq, (side, ticks) in enumerate(
        [(Side.BUY, 105), (Side.BUY, 103), (Side.BUY, 103), (Side.SELL, 95), (Side.SELL, 97)], 1
    ):
        book.add(stop(seq, side, ticks))
    return book


def drain(stops: StopBook) -> list[int]:
    """Take out all that is reached, and return their ids."""
    taken = []
    while (one := stops.reached()) is not None:
        stops.remove(one)
        taken.append(one.order_id)
    return taken


@pytest.mark.parametrize(
    ("prices", "expected"),
    [
        ([0], []),
        ([100], []),
        ([103], [2, 3]),
        ([110], [2, 3, 1]),
        ([96], [5]),
        ([90], [5, 4]),
        ([97, 103], [2, 3, 5]),
    ],
)
def test_nearest_is_next_then_oldest(
    stops: StopBook, prices: list[int], expected: list[int]
) -> None:
    for price in prices:
        stops.observe(price)
    stops.check_invariants()
    assert drain(stops) == expected
    stops.check_invariants()


def test_price_that_came_back_is_remembered_until_nothing_is_left(stops: StopBook) -> None:
    stops.observe(110)
    first = stops.reached()
    assert first is not None
    stops.remove(first)
    stops.observe(100)
    assert drain(stops) == [3, 1]
    stops.forget()
    assert stops.reached() is None
    stops.observe(100)
    assert stops.reached() is None


def test_prices_are_forgotten_with_the_last_order(stops: StopBook) -> None:
    stops.observe(104)
    for one in list(stops.orders.values()):
        stops.remove(one)
        assert not one.waits
    stops.add(stop(9, Side.BUY, 102))
    assert stops.reached() is None


def test_order_is_taken_out_anywhere_and_lowered_in_its_place(stops: StopBook) -> None:
    stops.reduce(stops.orders[2], 4)
    assert stops.orders[2].leaves_qty_lots == 1
    stops.remove(stops.orders[3])
    stops.check_invariants()
    assert [one.order_id for one in stops.by_priority()] == [5, 4, 2, 1]
