"""OrderReplica: each kind of event, alone and in the order in which one output may hold them."""

from __future__ import annotations

import pytest

from engine.commands import OrderConditions
from engine.enums import CancelReason, Liquidity, OrdType, Side
from engine.order_replica import BookOrder, OrderReplica
from engine.price_levels import Bbo, LevelChange, PriceLevels
from tests.market_events import accepted, canceled, filled, refilled, replaced, trade, triggered

BUY, SELL = Side.BUY, Side.SELL
Levels = tuple[list[LevelChange], list[LevelChange]]


class Book(OrderReplica):
    """A replica whose ``apply`` tells the levels only."""

    def levels_after(self, *events: object) -> Levels:
        changes = self.apply(list(events))  # type: ignore[arg-type]
        return changes.bids, changes.asks


def book_with(*orders: tuple[int, Side, int, int]) -> Book:
    book = Book()
    for seq, side, price, lots in orders:
        book.apply([accepted(seq, side, price, lots)])
    return book


def shown(book: OrderReplica, side: Side, price_ticks: int) -> list[tuple[int, int]]:
    """The orders of a level, in priority: seq and displayed lots."""
    return [(order.order_seq, order.qty_lots) for order in book.queue(side, price_ticks)]


def test_accepted_order_rests_at_its_price() -> None:
    book = Book()
    assert book.levels_after(accepted(2, BUY, 100, 5)) == ([LevelChange(100, 5, 1)], [])
    assert book.levels_after(accepted(3, BUY, 100, 4)) == ([LevelChange(100, 9, 2)], [])
    assert book.bbo() == Bbo(100, 9, 0, 0)


def test_accepted_order_rests_with_what_its_fills_left() -> None:
    book = book_with((2, SELL, 101, 3))
    events = [
        accepted(3, BUY, 102, 5),
        filled(2, SELL, 101, fill=3, leaves=0, liquidity=Liquidity.MAKER),
        filled(3, BUY, 102, fill=3, leaves=2, liquidity=Liquidity.TAKER, last_ticks=101),
    ]
    assert book.levels_after(*events) == ([LevelChange(102, 2, 1)], [LevelChange(101, 0, 0)])


def test_partly_filled_maker_keeps_its_order_in_the_level() -> None:
    book = book_with((2, SELL, 101, 3), (3, SELL, 101, 4))
    events = [
        accepted(4, BUY, 101, 2),
        filled(2, SELL, 101, fill=2, leaves=1, liquidity=Liquidity.MAKER),
        filled(4, BUY, 101, fill=2, leaves=0, liquidity=Liquidity.TAKER),
    ]
    assert book.levels_after(*events) == ([], [LevelChange(101, 5, 2)])


def test_rest_of_an_ioc_order_never_rests() -> None:
    book = book_with((2, SELL, 101, 3))
    events = [
        accepted(3, BUY, 101, 5, ioc=True),
        filled(2, SELL, 101, fill=3, leaves=0, liquidity=Liquidity.MAKER),
        filled(3, BUY, 101, fill=3, leaves=2, liquidity=Liquidity.TAKER),
        canceled(3, BUY, 101, 2, CancelReason.EXPIRED),
    ]
    assert book.levels_after(*events) == ([], [LevelChange(101, 0, 0)])
    assert book.bbo() == Bbo(0, 0, 0, 0)


def test_self_trade_prevention_cancels_a_resting_order_and_the_new_one_rests() -> None:
    book = book_with((2, SELL, 101, 3))
    events = [accepted(3, BUY, 101, 5), canceled(2, SELL, 101, 3, CancelReason.SELF_TRADE)]
    assert book.levels_after(*events) == ([LevelChange(101, 5, 1)], [LevelChange(101, 0, 0)])


def test_self_trade_prevention_cancels_the_new_order_and_the_resting_one_stays() -> None:
    book = book_with((2, SELL, 101, 3))
    events = [accepted(3, BUY, 101, 5), canceled(3, BUY, 101, 5, CancelReason.SELF_TRADE)]
    assert book.levels_after(*events) == ([], [])
    assert book.bbo() == Bbo(0, 0, 101, 3)


def test_cancel_takes_the_order_out_of_its_level() -> None:
    book = book_with((2, BUY, 100, 5), (3, BUY, 100, 4))
    assert book.levels_after(canceled(2, BUY, 100, 5)) == ([LevelChange(100, 4, 1)], [])


def test_cancel_of_everything_touches_each_level_once() -> None:
    book = book_with((2, BUY, 100, 5), (3, BUY, 100, 4), (4, SELL, 102, 1))
    events = [canceled(2, BUY, 100, 5), canceled(3, BUY, 100, 4), canceled(4, SELL, 102, 1)]
    assert book.levels_after(*events) == ([LevelChange(100, 0, 0)], [LevelChange(102, 0, 0)])


def test_replace_that_keeps_priority_reduces_the_level() -> None:
    book = book_with((2, BUY, 100, 5))
    event = replaced(2, BUY, old=(100, 5), new=(100, 3), kept_priority=True)
    assert book.levels_after(event) == ([LevelChange(100, 3, 1)], [])


def test_replace_to_another_price_moves_the_order() -> None:
    book = book_with((2, BUY, 100, 5))
    event = replaced(2, BUY, old=(100, 5), new=(99, 7), kept_priority=False)
    assert book.levels_after(event) == ([LevelChange(100, 0, 0), LevelChange(99, 7, 1)], [])


def test_replace_that_crosses_rests_with_what_is_left() -> None:
    book = book_with((2, BUY, 100, 5), (3, SELL, 101, 2))
    events = [
        replaced(2, BUY, old=(100, 5), new=(101, 5), kept_priority=False),
        filled(3, SELL, 101, fill=2, leaves=0, liquidity=Liquidity.MAKER),
        filled(2, BUY, 101, fill=2, leaves=3, liquidity=Liquidity.TAKER),
    ]
    assert book.levels_after(*events) == (
        [LevelChange(100, 0, 0), LevelChange(101, 3, 1)],
        [LevelChange(101, 0, 0)],
    )


def test_order_that_trades_whole_leaves_no_level() -> None:
    book = book_with((2, BUY, 100, 5))
    assert book.levels_after(accepted(3, SELL, 99, 5), *trade(3, 2, SELL, 100, 5)) == (
        [LevelChange(100, 0, 0)],
        [],
    )


def test_fill_of_an_order_that_is_not_there_is_an_error() -> None:
    with pytest.raises(KeyError):
        book_with((2, BUY, 100, 5)).apply(trade(9, 3, SELL, 100, 5))


def test_fill_of_more_than_is_shown_trips_the_invariant() -> None:
    with pytest.raises(AssertionError, match="becomes less"):
        book_with((2, BUY, 100, 5)).apply(trade(9, 2, SELL, 100, 6))


def test_stop_order_is_not_displayed_until_it_is_triggered() -> None:
    book = book_with((2, SELL, 101, 3))
    stop = OrderConditions(stop_ticks=102)
    waiting = accepted(3, BUY, 104, 5, ord_type=OrdType.STOP_LIMIT, conditions=stop)
    assert book.levels_after(waiting) == ([], [])
    other = accepted(4, BUY, 104, 5, ord_type=OrdType.STOP_LIMIT, conditions=stop)
    assert book.levels_after(other) == ([], [])
    assert book.levels_after(canceled(4, BUY, 104, 5)) == ([], [])
    moved = replaced(3, BUY, old=(104, 5), new=(103, 4), kept_priority=False)
    assert book.levels_after(moved) == ([], [])
    events = [
        triggered(3, BUY, 103, 4, stop),
        filled(2, SELL, 101, fill=3, leaves=0, liquidity=Liquidity.MAKER),
        filled(3, BUY, 103, fill=3, leaves=1, liquidity=Liquidity.TAKER, last_ticks=101),
    ]
    assert book.levels_after(*events) == ([LevelChange(103, 1, 1)], [LevelChange(101, 0, 0)])


def test_order_that_triggers_a_stop_may_trade_with_it_at_once() -> None:
    book = book_with((2, SELL, 101, 3))
    stop = OrderConditions(stop_ticks=101)
    events = [
        accepted(5, BUY, 101, 5),
        filled(2, SELL, 101, fill=3, leaves=0, liquidity=Liquidity.MAKER),
        filled(5, BUY, 101, fill=3, leaves=2, liquidity=Liquidity.TAKER),
        triggered(3, SELL, 90, 4, stop),
        filled(5, BUY, 101, fill=2, leaves=0, liquidity=Liquidity.MAKER, trade=1),
        filled(3, SELL, 90, fill=2, leaves=2, liquidity=Liquidity.TAKER, last_ticks=101, trade=1),
        canceled(3, SELL, 90, 2, CancelReason.EXPIRED),
    ]
    assert book.levels_after(*events) == ([], [LevelChange(101, 0, 0)])
    assert not book.orders


def test_iceberg_order_shows_its_floor_and_refills_at_the_back() -> None:
    book = Book()
    floor = OrderConditions(max_floor_lots=3)
    book.apply([accepted(2, SELL, 101, 8, conditions=floor)])
    book.apply([accepted(3, SELL, 101, 2)])
    assert book.asks.at(101) == LevelChange(101, 5, 2)
    events = [
        accepted(4, BUY, 101, 4),
        filled(2, SELL, 101, fill=3, leaves=5, liquidity=Liquidity.MAKER),
        filled(4, BUY, 101, fill=3, leaves=1, liquidity=Liquidity.TAKER),
        refilled(2, SELL, 101, leaves=5, displayed=3),
        filled(3, SELL, 101, fill=1, leaves=1, liquidity=Liquidity.MAKER, trade=1),
        filled(4, BUY, 101, fill=1, leaves=0, liquidity=Liquidity.TAKER, trade=1),
    ]
    changes = book.apply(events)
    assert changes.asks == [LevelChange(101, 4, 2)]
    assert shown(book, SELL, 101) == [(3, 1), (2, 3)]
    assert [(one.order_seq, one.qty_lots) for one in changes.orders] == [(2, 3), (3, 1)]


def test_iceberg_order_rests_with_its_floor_after_it_took() -> None:
    book = book_with((2, SELL, 101, 3))
    events = [
        accepted(3, BUY, 101, 9, conditions=OrderConditions(max_floor_lots=4)),
        filled(2, SELL, 101, fill=3, leaves=0, liquidity=Liquidity.MAKER),
        filled(3, BUY, 101, fill=3, leaves=6, liquidity=Liquidity.TAKER),
    ]
    assert book.levels_after(*events) == ([LevelChange(101, 4, 1)], [LevelChange(101, 0, 0)])


def test_replace_that_keeps_priority_shows_no_more_than_is_left() -> None:
    book = Book()
    book.apply([accepted(2, BUY, 100, 9, conditions=OrderConditions(max_floor_lots=4))])
    book.apply([replaced(2, BUY, old=(100, 9), new=(100, 6), kept_priority=True)])
    assert shown(book, BUY, 100) == [(2, 4)]
    book.apply([replaced(2, BUY, old=(100, 6), new=(100, 3), kept_priority=True)])
    assert shown(book, BUY, 100) == [(2, 3)]


def test_auction_fills_take_from_both_sides_of_a_crossed_book() -> None:
    book = book_with((2, BUY, 103, 5), (3, SELL, 101, 3))
    assert book.bbo() == Bbo(103, 5, 101, 3)
    both = {"fill": 3, "liquidity": Liquidity.AUCTION, "last_ticks": 102}
    events = [filled(2, BUY, 103, leaves=2, **both), filled(3, SELL, 101, leaves=0, **both)]
    assert book.levels_after(*events) == ([LevelChange(103, 2, 1)], [LevelChange(101, 0, 0)])


def test_order_that_comes_and_goes_in_one_output_is_no_change() -> None:
    events = [
        accepted(2, BUY, 100, 3),
        triggered(1, SELL, 100, 3, OrderConditions(stop_ticks=1)),
        *trade(1, 2, SELL, 100, 3),
    ]
    changes = Book().apply(events)
    assert changes.orders == []
    assert changes.bids == changes.asks == []


def test_replica_of_its_content_has_the_same_priorities() -> None:
    book = book_with((2, BUY, 100, 5), (3, BUY, 100, 4), (4, BUY, 99, 1))
    book.apply([replaced(2, BUY, old=(100, 5), new=(100, 6), kept_priority=False)])
    again = OrderReplica(reversed(list(book.orders.values())))
    assert shown(again, BUY, 100) == shown(book, BUY, 100) == [(3, 4), (2, 6)]
    assert again.bids.top(9) == book.bids.top(9)
    again.apply([accepted(9, BUY, 100, 1)])
    assert shown(again, BUY, 100)[-1] == (9, 1)
    assert BookOrder(9, BUY, 100, 1, 5) in again.orders.values()


def test_best_and_top_follow_the_side() -> None:
    bids, asks = PriceLevels(BUY), PriceLevels(SELL)
    for price in (100, 103, 101):
        bids.put(LevelChange(price, price, 1))
        asks.put(LevelChange(price, price, 1))
    assert (bids.best(), asks.best()) == ((103, 103), (100, 100))
    assert [level.price_ticks for level in bids.top(2)] == [103, 101]
    assert [level.price_ticks for level in asks.top(9)] == [100, 101, 103]
    assert (bids.count_to(101), asks.count_to(101)) == (2, 2)
    assert bids.top(0) == []


def test_putting_a_level_to_nothing_removes_it_once() -> None:
    bids = PriceLevels(BUY)
    bids.put(LevelChange(100, 5, 1))
    bids.put(LevelChange(100, 0, 0))
    bids.put(LevelChange(100, 0, 0))
    assert len(bids) == 0
    assert bids.best() == (0, 0)
