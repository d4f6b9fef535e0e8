"""DepthBook: each kind of event, alone and in the order in which one output may hold them."""

from __future__ import annotations

import pytest

from engine.enums import CancelReason, Liquidity, Side
from marketdata.depth import DepthBook, DepthSide
from marketdata.updates import Bbo, LevelChange
from tests.market_events import accepted, canceled, filled, replaced, trade

BUY, SELL = Side.BUY, Side.SELL


def book_with(*orders: tuple[int, Side, int, int]) -> DepthBook:
    book = DepthBook()
    for seq, side, price, lots in orders:
        book.apply([accepted(seq, side, price, lots)])
    return book


def test_accepted_order_rests_at_its_price() -> None:
    book = DepthBook()
    assert book.apply([accepted(2, BUY, 100, 5)]) == ([LevelChange(100, 5, 1)], [])
    assert book.apply([accepted(3, BUY, 100, 4)]) == ([LevelChange(100, 9, 2)], [])
    assert book.bbo() == Bbo(100, 9, 0, 0)


def test_accepted_order_rests_with_what_its_fills_left() -> None:
    book = book_with((2, SELL, 101, 3))
    events = [
        accepted(3, BUY, 102, 5),
        filled(2, SELL, 101, fill=3, leaves=0, liquidity=Liquidity.MAKER),
        filled(3, BUY, 102, fill=3, leaves=2, liquidity=Liquidity.TAKER, last_ticks=101),
    ]
    assert book.apply(events) == ([LevelChange(102, 2, 1)], [LevelChange(101, 0, 0)])


def test_partly_filled_maker_keeps_its_order_in_the_level() -> None:
    book = book_with((2, SELL, 101, 3), (3, SELL, 101, 4))
    events = [
        accepted(4, BUY, 101, 2),
        filled(2, SELL, 101, fill=2, leaves=1, liquidity=Liquidity.MAKER),
        filled(4, BUY, 101, fill=2, leaves=0, liquidity=Liquidity.TAKER),
    ]
    assert book.apply(events) == ([], [LevelChange(101, 5, 2)])


def test_rest_of_an_ioc_order_never_rests() -> None:
    book = book_with((2, SELL, 101, 3))
    events = [
        accepted(3, BUY, 101, 5, ioc=True),
        filled(2, SELL, 101, fill=3, leaves=0, liquidity=Liquidity.MAKER),
        filled(3, BUY, 101, fill=3, leaves=2, liquidity=Liquidity.TAKER),
        canceled(3, BUY, 101, 2, CancelReason.EXPIRED),
    ]
    assert book.apply(events) == ([], [LevelChange(101, 0, 0)])
    assert book.bbo() == Bbo(0, 0, 0, 0)


def test_self_trade_prevention_cancels_a_resting_order_and_the_new_one_rests() -> None:
    book = book_with((2, SELL, 101, 3))
    events = [accepted(3, BUY, 101, 5), canceled(2, SELL, 101, 3, CancelReason.SELF_TRADE)]
    assert book.apply(events) == ([LevelChange(101, 5, 1)], [LevelChange(101, 0, 0)])


def test_self_trade_prevention_cancels_the_new_order_and_the_resting_one_stays() -> None:
    book = book_with((2, SELL, 101, 3))
    events = [accepted(3, BUY, 101, 5), canceled(3, BUY, 101, 5, CancelReason.SELF_TRADE)]
    assert book.apply(events) == ([], [])
    assert book.bbo() == Bbo(0, 0, 101, 3)


def test_cancel_takes_the_order_out_of_its_level() -> None:
    book = book_with((2, BUY, 100, 5), (3, BUY, 100, 4))
    assert book.apply([canceled(2, BUY, 100, 5)]) == ([LevelChange(100, 4, 1)], [])


def test_cancel_of_everything_touches_each_level_once() -> None:
    book = book_with((2, BUY, 100, 5), (3, BUY, 100, 4), (4, SELL, 102, 1))
    events = [canceled(2, BUY, 100, 5), canceled(3, BUY, 100, 4), canceled(4, SELL, 102, 1)]
    assert book.apply(events) == ([LevelChange(100, 0, 0)], [LevelChange(102, 0, 0)])


def test_replace_that_keeps_priority_reduces_the_level() -> None:
    book = book_with((2, BUY, 100, 5))
    event = replaced(2, BUY, old=(100, 5), new=(100, 3), kept_priority=True)
    assert book.apply([event]) == ([LevelChange(100, 3, 1)], [])


def test_replace_to_another_price_moves_the_order() -> None:
    book = book_with((2, BUY, 100, 5))
    event = replaced(2, BUY, old=(100, 5), new=(99, 7), kept_priority=False)
    assert book.apply([event]) == ([LevelChange(100, 0, 0), LevelChange(99, 7, 1)], [])


def test_replace_that_crosses_rests_with_what_is_left() -> None:
    book = book_with((2, BUY, 100, 5), (3, SELL, 101, 2))
    events = [
        replaced(2, BUY, old=(100, 5), new=(101, 5), kept_priority=False),
        filled(3, SELL, 101, fill=2, leaves=0, liquidity=Liquidity.MAKER),
        filled(2, BUY, 101, fill=2, leaves=3, liquidity=Liquidity.TAKER),
    ]
    assert book.apply(events) == (
        [LevelChange(100, 0, 0), LevelChange(101, 3, 1)],
        [LevelChange(101, 0, 0)],
    )


def test_order_that_trades_whole_leaves_no_level() -> None:
    book = book_with((2, BUY, 100, 5))
    assert book.apply([accepted(3, SELL, 99, 5), *trade(3, 2, SELL, 100, 5)]) == (
        [LevelChange(100, 0, 0)],
        [],
    )


def test_events_that_take_more_than_rests_trip_the_invariant() -> None:
    book = book_with((2, BUY, 100, 5))
    with pytest.raises(AssertionError, match="no level is negative"):
        book.apply([canceled(2, BUY, 100, 6)])


def test_best_and_top_follow_the_side() -> None:
    bids, asks = DepthSide(BUY), DepthSide(SELL)
    for price in (100, 103, 101):
        bids.put(LevelChange(price, price, 1))
        asks.put(LevelChange(price, price, 1))
    assert (bids.best(), asks.best()) == ((103, 103), (100, 100))
    assert [level.price_ticks for level in bids.top(2)] == [103, 101]
    assert [level.price_ticks for level in asks.top(9)] == [100, 101, 103]
    assert (bids.count_to(101), asks.count_to(101)) == (2, 2)
    assert bids.top(0) == []


def test_putting_a_level_to_nothing_removes_it_once() -> None:
    bids = DepthSide(BUY)
    bids.put(LevelChange(100, 5, 1))
    bids.put(LevelChange(100, 0, 0))
    bids.put(LevelChange(100, 0, 0))
    assert len(bids) == 0
    assert bids.best() == (0, 0)
