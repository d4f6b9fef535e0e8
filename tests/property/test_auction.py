"""The auction against a slow obvious one: every tick is tried, every lot is matched by itself."""

from __future__ import annotations

from collections import Counter
from itertools import islice

from hypothesis import given
from hypothesis import strategies as st

from engine.auction import Uncross, find_price, trades
from engine.book import LimitBook
from engine.enums import Side
from engine.level import RestingOrder

Order = tuple[Side, int, int]
"""Side, price in ticks, lots; its id is its place in the list, and its time."""

ORDERS = st.lists(
    st.tuples(st.sampled_from(Side), st.integers(1, 14), st.integers(1, 6)), max_size=24
)
REFERENCES = st.integers(0, 16)


def naive_price(orders: list[Order], reference_ticks: int) -> Uncross | None:
    candidates = []
    for price in range(1, 15):
        demand = sum(lots for side, limit, lots in orders if side == Side.BUY and limit >= price)
        supply = sum(lots for side, limit, lots in orders if side == Side.SELL and limit <= price)
        distance = abs(price - reference_ticks) if reference_ticks else 0
        volume = min(demand, supply)
        candidates.append((-volume, abs(demand - supply), distance, price))
    best = min(candidates)
    return Uncross(best[3], -best[0]) if best[0] else None


def naive_lots(orders: list[Order], price: int, volume: int) -> list[tuple[int, int]]:
    """Return who buys and who sells each single lot, by price, then time."""
    buyers, sellers = [
        [
            number
            for number, (_, _, lots) in sorted(
                enumerate(orders), key=lambda one: (sign * one[1][1], one[0])
            )
            if orders[number][0] == side and sign * orders[number][1] <= sign * price
            for _ in range(lots)
        ]
        for side, sign in ((Side.BUY, -1), (Side.SELL, 1))
    ]
    return list(zip(buyers[:volume], sellers[:volume], strict=True))


def price_of(orders: list[Order], reference_ticks: int) -> Uncross | None:
    totals: dict[Side, Counter[int]] = {side: Counter() for side in Side}
    for side, price, lots in orders:
        totals[side][price] += lots
    return find_price(totals[Side.BUY].items(), totals[Side.SELL].items(), reference_ticks)


def crossed_book(orders: list[Order]) -> LimitBook[RestingOrder]:
    book: LimitBook[RestingOrder] = LimitBook()
    for number, (side, price, lots) in enumerate(orders):
        order = RestingOrder()
        order.order_id, order.owner, order.leaves_qty_lots = number, 0, lots
        book.rest(book.bids if side == Side.BUY else book.asks, price, order)
    return book


@given(ORDERS, REFERENCES)
def test_the_price_is_the_one_that_trying_every_tick_finds(
    orders: list[Order], reference_ticks: int
) -> None:
    assert price_of(orders, reference_ticks) == naive_price(orders, reference_ticks)


@given(ORDERS, REFERENCES, st.integers(1, 5))
def test_trades_are_those_of_single_lots_and_leave_no_crossed_book(
    orders: list[Order], reference_ticks: int, slice_size: int
) -> None:
    found = price_of(orders, reference_ticks)
    if found is None:
        return
    book = crossed_book(orders)
    matched: list[tuple[int, int]] = []
    traded = 0
    while slice_ := list(islice(trades(book, found.price_ticks), slice_size)):
        for bid, ask, lots in slice_:
            matched += [(bid.order_id, ask.order_id)] * lots
            traded += lots
    assert traded == found.volume_lots
    assert matched == naive_lots(orders, *found)
    book.check_invariants()
    resting = sum(order.leaves_qty_lots for order in book.orders.values())
    assert resting + 2 * traded == sum(lots for _, _, lots in orders), "no lot is lost"
