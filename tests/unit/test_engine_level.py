"""engine.level: the queue of one price, as the book links it."""

from __future__ import annotations

import pytest

from engine.book import OrderBook
from engine.enums import Side


@pytest.fixture
def book() -> OrderBook:
    book = OrderBook()
    for order_id in (1, 2, 3):
        book.new_limit(order_id, Side.BUY, 100, 10 * order_id)
    return book


def queue(book: OrderBook) -> list[int]:
    return [order.order_id for order in book.orders[min(book.orders)].level.orders()]


def test_orders_of_one_price_share_a_level_oldest_first(book: OrderBook) -> None:
    assert queue(book) == [1, 2, 3]
    level = book.orders[1].level
    assert (level.price_ticks, level.side, level.qty_lots) == (100, Side.BUY, 60)


@pytest.mark.parametrize(("leaving", "left"), [(1, [2, 3]), (2, [1, 3]), (3, [1, 2])])
def test_order_leaves_from_any_place(book: OrderBook, leaving: int, left: list[int]) -> None:
    order = book.cancel(leaving)
    assert order is not None
    assert order.leaves_qty_lots == 10 * leaving
    assert order.level.price_ticks == 100
    assert queue(book) == left
    assert order.level.qty_lots == 60 - 10 * leaving
    book.check_invariants()


def test_last_order_takes_the_level_along(book: OrderBook) -> None:
    level = book.orders[1].level
    for order_id in (1, 2, 3):
        book.cancel(order_id)
    assert level.orders() == []
    assert level.qty_lots == 0
    assert level.key not in book.bids.levels


def test_emptied_price_starts_a_new_queue(book: OrderBook) -> None:
    for order_id in (1, 2, 3):
        book.cancel(order_id)
    book.new_limit(4, Side.BUY, 100, 7)
    assert queue(book) == [4]
    assert book.best_bid() == 100
    book.check_invariants()
