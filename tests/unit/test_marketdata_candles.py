"""CandleBook: intervals, the ticker's window, and exactness over a change of rules."""

from __future__ import annotations

from itertools import pairwise

from engine.enums import Side
from engine.trades import Trade
from marketdata.candles import INTERVALS_US, MINUTE_US, CandleBook, Places
from tests.market_events import rules

# 2023-11-14 00:00 UTC, the begin of all four intervals.
DAY_US = 1_699_920_000_000_000


def at(minute: int, price_ticks: int, qty_lots: int, *, seq: int = 2, us: int = 0) -> Trade:
    return Trade(seq, 0, DAY_US + minute * MINUTE_US + us, price_ticks, qty_lots, Side.BUY)


def new_book(*trades: Trade) -> CandleBook:
    book = CandleBook()
    book.use_rules(rules())
    for one in trades:
        book.add([one])
    return book


def test_trade_opens_a_candle_of_each_interval() -> None:
    book = new_book(at(7, 1000, 3, us=59_999_999))
    assert {name: candle.open_us for name, candle in book.changed()} == {
        "1m": DAY_US + 7 * MINUTE_US,
        "5m": DAY_US + 5 * MINUTE_US,
        "1h": DAY_US,
        "1d": DAY_US,
    }


def test_candle_has_first_highest_lowest_and_last_price_and_sums() -> None:
    book = new_book()
    book.add([at(0, 1000, 3), at(0, 1200, 1), at(0, 900, 2)])
    book.add([at(0, 1100, 4, seq=9)])
    [candle] = [candle for name, candle in book.changed() if name == "1m"]
    assert (candle.open, candle.high, candle.low, candle.close) == (1000, 1200, 900, 1100)
    assert (candle.trades, candle.seq) == (4, 9)
    # 10 lots of 0.1 with two places; 10.00×0.3 + 12.00×0.1 + 9.00×0.2 + 11.00×0.4 with five.
    assert (candle.base, candle.quote) == (100, 1_040_000)


def test_trade_on_the_boundary_belongs_to_the_new_interval() -> None:
    book = new_book(at(4, 1000, 1), at(5, 1100, 1))
    opens = [(name, candle.open_us, candle.trades) for name, candle in book.changed()]
    assert ("1m", DAY_US + 5 * MINUTE_US, 1) in opens
    assert ("5m", DAY_US + 5 * MINUTE_US, 1) in opens
    assert ("1h", DAY_US, 2) in opens


def test_candle_is_changed_until_it_is_stored_as_it_stands() -> None:
    book = new_book(at(0, 1000, 1, seq=2))
    stored = {(name, candle.open_us): candle.seq for name, candle in book.changed()}
    book.add([at(1, 1000, 1, seq=3)])
    book.stored(stored)
    left = {(name, candle.open_us, candle.seq) for name, candle in book.changed()}
    minute = DAY_US + MINUTE_US
    assert left == {("1m", minute, 3), ("5m", DAY_US, 3), ("1h", DAY_US, 3), ("1d", DAY_US, 3)}


def test_ticker_covers_the_minute_of_its_time_and_1439_before_it() -> None:
    book = new_book(at(0, 1000, 1), at(1, 1300, 1), at(1_440, 1100, 1))
    now_us = DAY_US + 1_440 * MINUTE_US + 5
    day = book.day(now_us)
    assert day.window_us == DAY_US + MINUTE_US
    assert (day.open, day.high, day.low, day.close, day.trades) == (1300, 1300, 1100, 1100, 2)


def test_ticker_without_trades_in_its_window_is_empty_but_knows_the_last_price() -> None:
    book = new_book(at(0, 1000, 1))
    day = book.day(DAY_US + 5_000 * MINUTE_US)
    assert (day.trades, day.base, day.high) == (0, 0, 0)
    assert book.last_price() == 1000


def test_rules_with_finer_ticks_keep_what_was_traded_before() -> None:
    book = new_book(at(0, 1000, 2))
    book.use_rules(rules(tick_size="0.0025", lot_size="0.5", version=2))
    book.add([at(0, 4100, 1)])
    [candle] = [candle for name, candle in book.changed() if name == "1d"]
    # 10.00 and 10.25 with four places; 0.2 + 0.5 with two; 2.00 + 5.125 with five.
    assert book.places == Places(4, 2, 5)
    assert (candle.open, candle.high) == (100_000, 102_500)
    assert (candle.base, candle.quote) == (70, 712_500)


def test_rules_with_coarser_ticks_lose_no_digit_of_what_was_traded_before() -> None:
    book = new_book(at(0, 1001, 1))
    book.use_rules(rules(tick_size="5", lot_size="0.1", version=2))
    book.add([at(0, 3, 1)])
    day = book.day(DAY_US)
    assert (day.open, day.close) == (1001, 1500)


def test_intervals_divide_each_other() -> None:
    lengths = sorted(INTERVALS_US.values())
    assert all(b % a == 0 for a, b in pairwise(lengths))
