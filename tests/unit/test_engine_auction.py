"""Each rule of the auction's price by itself, and what stops a run of its trades."""

from __future__ import annotations

import pytest

from engine.auction import Uncross, find_price, trades
from engine.book import LimitBook
from engine.level import RestingOrder


@pytest.mark.parametrize(
    ("bids", "asks", "reference_ticks", "expected"),
    [
        pytest.param({10: 5}, {11: 5}, 0, None, id="nothing crosses"),
        pytest.param({}, {11: 5}, 10, None, id="nobody bids"),
        pytest.param({10: 5}, {}, 10, None, id="nobody asks"),
        pytest.param({12: 5, 10: 5}, {9: 10}, 12, Uncross(10, 10), id="the most volume"),
        pytest.param({12: 5, 11: 2}, {10: 5}, 10, Uncross(12, 5), id="the least left over"),
        pytest.param({14: 5}, {10: 5}, 12, Uncross(12, 5), id="nearest to the last trade"),
        pytest.param({14: 5}, {10: 5}, 20, Uncross(14, 5), id="last trade above"),
        pytest.param({14: 5}, {10: 5}, 3, Uncross(10, 5), id="last trade below"),
        pytest.param({14: 5}, {10: 5}, 0, Uncross(10, 5), id="no last trade: the lowest"),
        pytest.param(
            {14: 1, 10: 2}, {6: 2, 10: 0, 12: 1}, 11, Uncross(10, 2), id="an empty level is none"
        ),
    ],
)
def test_price(
    bids: dict[int, int], asks: dict[int, int], reference_ticks: int, expected: Uncross | None
) -> None:
    assert find_price(bids.items(), asks.items(), reference_ticks) == expected


def order(order_id: int, lots: int) -> RestingOrder:
    made = RestingOrder()
    made.order_id, made.owner, made.leaves_qty_lots = order_id, 0, lots
    return made


def test_an_order_that_is_put_back_trades_again_behind_the_others_of_its_price() -> None:
    book: LimitBook[RestingOrder] = LimitBook()
    shown, other, ask = order(1, 2), order(2, 2), order(3, 6)
    book.rest(book.bids, 10, shown)
    book.rest(book.bids, 10, other)
    book.rest(book.asks, 10, ask)
    met = []
    for bid, _, lots in trades(book, 10):
        met.append((bid.order_id, lots))
        if bid is shown and len(met) == 1:
            shown.leaves_qty_lots = 2
            book.rest(book.bids, 10, shown)
    assert met == [(1, 2), (2, 2), (1, 2)]
    book.check_invariants()


def test_what_is_canceled_between_two_trades_does_not_trade() -> None:
    book: LimitBook[RestingOrder] = LimitBook()
    for number in (1, 2):
        book.rest(book.bids, 10, order(number, 1))
    book.rest(book.asks, 9, order(3, 2))
    run = trades(book, 10)
    next(run)
    book.cancel(2)
    assert list(run) == []
    assert [left.order_id for left in book.by_priority()] == [3]
