"""Board: snapshot, ticker and checkpoint of one symbol, and what a restart restores."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from engine.enums import Side, TradingPhase
from engine.events import Output
from marketdata.board import RECENT_TRADES, Board, restore_candles
from marketdata.candles import MINUTE_US, CandleBook
from marketdata.feed import Checkpoint, SymbolFeed
from marketdata.feed_codec import decode_candle, decode_snapshot, encode_candle
from router.market_state import decode_orders_snapshot, decode_phase
from tests.market_events import (
    SYMBOL,
    TS_US,
    accepted,
    defined,
    output,
    phase_changed,
    rules,
    trade,
)

BUY, SELL = Side.BUY, Side.SELL


def board_after(*outputs: Output) -> Board:
    feed = SymbolFeed(Checkpoint.empty(SYMBOL))
    board = Board(Checkpoint.empty(SYMBOL), CandleBook())
    for one in outputs:
        board.apply(feed.apply(one))
    return board


def traded(count: int = 1) -> list[Output]:
    """Define, then `count` pairs of an offer at 1.03 + n × 0.01 and its buyer."""
    outputs = [output(1, defined())]
    for number in range(count):
        seq, price = 2 + 2 * number, 103 + number
        outputs.append(output(seq, accepted(seq, SELL, price, 4)))
        buyer = [accepted(seq + 1, BUY, price, 4), *trade(seq + 1, seq, BUY, price, 4)]
        outputs.append(output(seq + 1, *buyer, ts_us=TS_US + number * MINUTE_US))
    return outputs


def snapshot_of(board: Board, *, levels_max: int = 10) -> dict[str, Any]:
    data = board.snapshot(levels_max=levels_max, now_us=TS_US)
    assert data is not None
    decode_snapshot(data)
    decoded: dict[str, Any] = json.loads(data)
    return decoded


def ticker_of(board: Board, *, now_us: int = TS_US) -> dict[str, Any]:
    data = board.ticker(now_us=now_us)
    assert data is not None
    decoded: dict[str, Any] = json.loads(data)
    return decoded


def test_nothing_is_shown_before_the_symbol_is_defined() -> None:
    board = board_after()
    assert board.snapshot(levels_max=5, now_us=TS_US) is None
    assert board.ticker(now_us=TS_US) is None
    assert board.phase() is None
    assert board.orders(run_id="server") is None


def test_snapshot_has_levels_best_first_quote_and_channel_numbers() -> None:
    board = board_after(
        output(1, defined()),
        output(2, accepted(2, BUY, 100, 5)),
        output(3, accepted(3, BUY, 101, 12)),
        output(4, accepted(4, SELL, 110, 1)),
        output(5, accepted(5, SELL, 109, 2)),
        output(6),
    )
    snapshot = snapshot_of(board)
    assert snapshot["seq"] == 6
    assert snapshot["last_seq"] == {"trades": 0, "bbo": 5, "depth": 5, "status": 0}
    assert snapshot["bids"] == [["1.01", "1.2", 1], ["1.00", "0.5", 1]]
    assert snapshot["asks"] == [["1.09", "0.2", 1], ["1.10", "0.1", 1]]
    assert (snapshot["bid_price"], snapshot["bid_qty"]) == ("1.01", "1.2")
    assert (snapshot["ask_price"], snapshot["ask_qty"]) == ("1.09", "0.2")
    assert snapshot["complete"] is True


def test_snapshot_of_a_deeper_book_has_its_best_levels_and_says_so() -> None:
    quotes = [output(seq, accepted(seq, BUY, 100 + seq, 1)) for seq in range(2, 6)]
    snapshot = snapshot_of(board_after(output(1, defined()), *quotes), levels_max=2)
    assert [level[0] for level in snapshot["bids"]] == ["1.05", "1.04"]
    assert snapshot["complete"] is False


def test_empty_sides_are_null() -> None:
    snapshot = snapshot_of(board_after(output(1, defined())))
    assert snapshot["bid_price"] is snapshot["bid_qty"] is snapshot["ask_price"] is None
    assert snapshot["bids"] == snapshot["asks"] == []


def test_phase_and_displayed_orders_are_kept_for_gateways_through_a_restart() -> None:
    orders = [output(3, accepted(3, Side.BUY, 100, 5)), output(4, accepted(4, Side.BUY, 99, 2))]
    board = board_after(
        output(1, defined()), output(2, phase_changed(TradingPhase.HALTED)), *orders
    )
    again = Board(board.checkpoint(), CandleBook())
    for one in (board, again):
        phase = decode_phase(one.phase() or b"")
        assert (phase.phase, phase.changed_seq, phase.changed_us) == ("halted", 2, TS_US)
        assert (phase.seq, snapshot_of(one)["phase"]) == (4, "halted")
        kept = decode_orders_snapshot(one.orders(run_id="server") or b"")
        assert (kept.seq, kept.run_id, kept.last_trade) == (4, "server", None)
        assert [(order.order_seq, order.qty_lots) for order in kept.orders] == [(3, 5), (4, 2)]


def test_snapshot_keeps_the_last_trades() -> None:
    trades = snapshot_of(board_after(*traded(RECENT_TRADES + 2)))["trades"]
    assert len(trades) == RECENT_TRADES
    assert trades[0] == {"id": f"{SYMBOL}-7-0", "price": "1.05", "qty": "0.4", "side": "buy"}


def test_ticker_tells_the_day() -> None:
    ticker = ticker_of(board_after(*traded(3)))
    assert (ticker["open"], ticker["high"], ticker["low"]) == ("1.03", "1.05", "1.03")
    assert (ticker["last"], ticker["change"], ticker["change_percent"]) == ("1.05", "0.02", "1.94")
    assert (ticker["volume"], ticker["quote_volume"], ticker["trades"]) == ("1.20", "1.24800", 3)


def test_ticker_of_a_falling_price_has_negative_changes_cut_after_two_places() -> None:
    sale = [accepted(5, SELL, 101, 4), *trade(5, 4, SELL, 101, 4)]
    board = board_after(*traded(1), output(4, accepted(4, BUY, 101, 4)), output(5, *sale))
    ticker = ticker_of(board)
    assert (ticker["change"], ticker["change_percent"]) == ("-0.02", "-1.94")


def test_ticker_forgets_trades_of_the_day_before_but_not_the_last_price() -> None:
    ticker = ticker_of(board_after(*traded(1)), now_us=TS_US + 1_500 * MINUTE_US)
    assert ticker["last"] == "1.03"
    assert ticker["open"] is ticker["change"] is ticker["change_percent"] is None
    assert (ticker["volume"], ticker["trades"]) == ("0.00", 0)


def test_ticker_time_is_never_behind_the_last_command() -> None:
    assert ticker_of(board_after(*traded(3)), now_us=0)["trades"] == 3


def test_board_restored_from_checkpoint_and_candles_shows_the_same() -> None:
    board = board_after(*traded(3), output(8, accepted(8, BUY, 90, 2)))
    checkpoint = msgspec.msgpack.decode(msgspec.msgpack.encode(board.checkpoint()), type=Checkpoint)
    rows: dict[str, list[Any]] = {}
    for name, candle in board.candles.changed():
        rows.setdefault(name, []).append(decode_candle(encode_candle(candle, board.candles.places)))
    again = Board(checkpoint, restore_candles(rows))
    assert snapshot_of(again) == snapshot_of(board)
    assert ticker_of(again) == ticker_of(board)
    assert again.checkpoint() == board.checkpoint()


def test_trades_of_another_grid_leave_the_snapshot_but_not_the_ticker() -> None:
    finer = defined(rules(tick_size="0.0025", version=2))
    board = board_after(*traded(1), output(4, finer))
    assert snapshot_of(board)["trades"] == []
    assert snapshot_of(board)["tick_size"] == "0.0025"
    assert ticker_of(board)["last"] == "1.0300"
