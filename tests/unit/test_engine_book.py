"""engine.book and engine.book_naive: one set of cases for the fast and the slow book."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from engine.book import NO_OWNER, STALE_KEYS_ALLOWED, OrderBook
from engine.book_naive import NaiveBook
from engine.enums import Side
from engine.level import RestingOrder

Book = OrderBook | NaiveBook


@pytest.fixture(params=[OrderBook, NaiveBook])
def book(request: pytest.FixtureRequest) -> Book:
    made: Book = request.param()
    for order_id, side, price, qty in (
        (1, Side.BUY, 99, 10),
        (2, Side.BUY, 98, 20),
        (3, Side.BUY, 99, 5),
        (4, Side.SELL, 101, 10),
        (5, Side.SELL, 103, 30),
        (6, Side.SELL, 101, 7),
    ):
        assert not made.new_limit(order_id, side, price, qty)
    return made


def rows(
    fills: Sequence[tuple[RestingOrder, int] | tuple[int, int, int]],
) -> list[tuple[int, int, int]]:
    """Bring the fills of either book into the form (resting order id, price, quantity)."""
    return [
        (fill[0].order_id, fill[0].level.price_ticks, fill[1]) if len(fill) == 2 else fill
        for fill in fills
    ]


def test_best_prices_and_depth(book: Book) -> None:
    assert (book.best_bid(), book.best_ask()) == (99, 101)
    assert book.depth_at(Side.BUY, 99) == 15
    assert book.depth_at(Side.SELL, 99) == 0
    assert book.levels(Side.BUY, 5) == [(99, 15, 2), (98, 20, 1)]
    assert book.levels(Side.SELL, 1) == [(101, 17, 2)]


def test_empty_book_has_no_best_price(book: Book) -> None:
    for order_id in range(1, 7):
        assert book.cancel(order_id) is not None
    assert (book.best_bid(), book.best_ask()) == (None, None)
    assert book.levels(Side.BUY, 5) == []
    assert book.content() == []


def test_limit_order_takes_best_price_then_oldest_and_rests_the_remainder(book: Book) -> None:
    fills = book.new_limit(7, Side.BUY, 102, 25)
    assert rows(fills) == [(4, 101, 10), (6, 101, 7)]
    assert (book.best_bid(), book.best_ask()) == (102, 103)
    assert book.depth_at(Side.BUY, 102) == 8
    book.check_invariants()


def test_partly_filled_resting_order_keeps_its_place(book: Book) -> None:
    assert rows(book.new_limit(7, Side.SELL, 99, 4)) == [(1, 99, 4)]
    assert rows(book.new_limit(8, Side.SELL, 99, 8)) == [(1, 99, 6), (3, 99, 2)]
    assert book.depth_at(Side.BUY, 99) == 3


def test_ioc_remainder_does_not_rest(book: Book) -> None:
    assert rows(book.new_ioc(7, Side.SELL, 99, 100)) == [(1, 99, 10), (3, 99, 5)]
    assert book.best_ask() == 101
    assert book.cancel(7) is None


def test_ioc_that_does_not_cross_changes_nothing(book: Book) -> None:
    before = book.state_hash()
    assert rows(book.new_ioc(7, Side.BUY, 100, 1)) == []
    assert book.state_hash() == before


def test_cancel_of_unknown_or_filled_order_is_none(book: Book) -> None:
    book.new_limit(7, Side.SELL, 99, 10)
    assert book.cancel(1) is None
    assert book.cancel(999) is None


def test_replace_loses_the_place_in_the_queue(book: Book) -> None:
    assert rows(book.replace(1, 7, 99, 10) or []) == []
    assert rows(book.new_ioc(8, Side.SELL, 99, 6)) == [(3, 99, 5), (7, 99, 1)]


def test_replace_under_its_own_id_that_crosses_trades(book: Book) -> None:
    assert rows(book.replace(2, 2, 101, 12) or []) == [(4, 101, 10), (6, 101, 2)]
    assert book.depth_at(Side.BUY, 98) == 0


def test_replace_of_unknown_order_is_none(book: Book) -> None:
    before = book.state_hash()
    assert book.replace(999, 7, 99, 10) is None
    assert book.state_hash() == before


@pytest.mark.parametrize(("order_id", "qty"), [(1, 5), (7, 0), (7, -1)])
def test_used_id_or_no_quantity_is_an_error_and_changes_nothing(
    book: Book, order_id: int, qty: int
) -> None:
    before = book.state_hash()
    for call in (book.new_limit, book.new_ioc):
        with pytest.raises(ValueError, match=f"order {order_id}"):
            call(order_id, Side.BUY, 101, qty)
    with pytest.raises(ValueError, match=f"order {order_id}"):
        book.replace(2, order_id, 101, qty)
    assert book.state_hash() == before


def test_state_hash_depends_on_priority_not_on_history(book: Book) -> None:
    same, other = type(book)(), type(book)()
    for target, ids in ((same, (1, 3)), (other, (3, 1))):
        target.new_limit(77, Side.BUY, 99, 1)
        target.cancel(77)
        for order_id in ids:
            target.new_limit(order_id, Side.BUY, 99, {1: 10, 3: 5}[order_id])
        target.new_limit(2, Side.BUY, 98, 20)
        for order_id, price, qty in ((4, 101, 10), (6, 101, 7), (5, 103, 30)):
            target.new_limit(order_id, Side.SELL, price, qty)
    assert same.state_hash() == book.state_hash()
    assert other.state_hash() != book.state_hash()


def test_reduce_keeps_the_place_in_the_queue() -> None:
    book = OrderBook()
    book.new_limit(1, Side.BUY, 99, 10)
    book.new_limit(2, Side.BUY, 99, 10)
    book.reduce(book.orders[1], 4)
    assert book.depth_at(Side.BUY, 99) == 16
    assert rows(book.new_ioc(3, Side.SELL, 99, 7)) == [(1, 99, 6), (2, 99, 1)]


def test_take_stops_at_an_order_of_the_avoided_owner() -> None:
    book = OrderBook()
    for order_id, owner in ((1, 0), (2, 5), (3, 0)):
        book.new_limit(order_id, Side.SELL, 100, 10)
        book.orders[order_id].owner = owner
    left, fills, stopped_before = book.take(Side.BUY, 100, 25, avoid=5)
    assert (left, rows(fills), stopped_before) == (15, [(1, 100, 10)], book.orders[2])
    left, fills, stopped_before = book.take(Side.BUY, 100, left, avoid=NO_OWNER)
    assert (left, rows(fills), stopped_before) == (0, [(2, 100, 10), (3, 100, 5)], None)


def test_take_stops_after_so_many_matches() -> None:
    book = OrderBook()
    for order_id in (1, 2, 3):
        book.new_limit(order_id, Side.SELL, 100, 10)
    left, fills, stopped_before = book.take(Side.BUY, 100, 25, matches_max=2)
    assert (left, rows(fills)) == (5, [(1, 100, 10), (2, 100, 10)])
    assert stopped_before is book.orders[3]


def test_heap_of_prices_that_come_and_go_stays_small() -> None:
    book = OrderBook()
    book.new_limit(1, Side.BUY, 10_000, 1)
    for order_id in range(2, 10_000):
        book.new_limit(order_id, Side.BUY, order_id, 1)
        book.cancel(order_id)
    assert len(book.bids.heap) <= 2 * len(book.bids.levels) + STALE_KEYS_ALLOWED
    assert book.best_bid() == 10_000
    book.check_invariants()


def test_broken_links_are_found() -> None:
    book = OrderBook()
    book.new_limit(1, Side.BUY, 99, 10)
    book.new_limit(2, Side.BUY, 99, 10)
    book.orders[1].level.qty_lots += 1
    with pytest.raises(AssertionError, match="level total"):
        book.check_invariants()
    book.orders[1].level.qty_lots -= 1
    book.orders[2].prev = None
    with pytest.raises(AssertionError, match="linked both ways"):
        book.check_invariants()
