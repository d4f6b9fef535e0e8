"""The public messages: what stands in them, and that what is written can be read."""

from __future__ import annotations

import json

import pytest

from engine.enums import Liquidity, PhaseReason, Side, TradingPhase
from engine.errors import DecodeError
from engine.events import Output
from marketdata.candles import Candle, Places
from marketdata.feed import Checkpoint, SymbolFeed
from marketdata.feed_codec import (
    BboMessage,
    DepthMessage,
    HeartbeatMessage,
    RulesMessage,
    StatusMessage,
    SymbolTexts,
    TradesMessage,
    TradeText,
    decode_candle,
    decode_message,
    decode_snapshot,
    encode_candle,
    encode_heartbeat,
    encode_rules,
)
from marketdata.updates import Update
from router.market_state import decode_phase
from tests.market_events import (
    SYMBOL,
    TS_US,
    accepted,
    defined,
    filled,
    output,
    phase_changed,
    rules,
    trade,
)

BUY, SELL = Side.BUY, Side.SELL


def last_update(*outputs: Output) -> Update:
    feed = SymbolFeed(Checkpoint.empty(SYMBOL))
    return [feed.apply(one) for one in outputs][-1]


def quoted_and_traded() -> Update:
    return last_update(
        output(1, defined()),
        output(2, accepted(2, SELL, 103, 4)),
        output(3, accepted(3, BUY, 103, 4), *trade(3, 2, BUY, 103, 4)),
    )


def test_trades_message() -> None:
    data = SymbolTexts(rules()).trades(quoted_and_traded())
    assert decode_message(data) == TradesMessage(
        SYMBOL, 3, 0, TS_US, [TradeText(f"{SYMBOL}-3-0", "1.03", "0.4", "buy")]
    )


def test_bbo_message_of_an_empty_book_has_nulls() -> None:
    data = SymbolTexts(rules()).bbo(quoted_and_traded())
    assert decode_message(data) == BboMessage(SYMBOL, 3, 2, TS_US, None, None, None, None)
    assert json.loads(data)["ask_price"] is None


def test_depth_message_tells_a_gone_level_with_zeros() -> None:
    data = SymbolTexts(rules()).depth(quoted_and_traded())
    assert decode_message(data) == DepthMessage(SYMBOL, 3, 2, TS_US, [], [("1.03", "0.0", 0)])


def test_messages_of_updates_are_compact_json_with_the_type_first() -> None:
    texts = SymbolTexts(rules())
    resting = last_update(
        output(1, defined()),
        output(2, accepted(2, SELL, 103, 4)),
        output(3, accepted(3, BUY, 7, 1)),
    )
    swept = last_update(
        output(1, defined()),
        *(output(seq, accepted(seq, SELL, 100 + seq, 4)) for seq in (2, 3)),
        output(
            4,
            accepted(4, BUY, 103, 8),
            *trade(4, 2, BUY, 102, 4),
            *trade(4, 3, BUY, 103, 4, index=1),
        ),
    )
    assert (len(swept.trades), len(swept.asks)) == (2, 2)
    for update in (resting, quoted_and_traded(), swept):
        for data in (texts.trades(update), texts.bbo(update), texts.depth(update)):
            value = json.loads(data)
            assert data == json.dumps(value, separators=(",", ":")).encode()
            assert list(value)[:5] == ["type", "symbol", "seq", "prev_seq", "ts"]


def test_status_message_names_phase_reason_and_auction() -> None:
    both = {"fill": 2, "leaves": 0, "liquidity": Liquidity.AUCTION, "last_ticks": 101}
    opened = last_update(
        output(1, defined()),
        output(2, phase_changed(TradingPhase.PRE_OPEN)),
        output(3, accepted(3, BUY, 102, 2)),
        output(4, accepted(4, SELL, 100, 2)),
        output(
            5,
            phase_changed(TradingPhase.OPENING_AUCTION, auction=(101, 2)),
            filled(3, BUY, 102, **both),
            filled(4, SELL, 100, **both),
            phase_changed(TradingPhase.CONTINUOUS, PhaseReason.AUCTION_DONE),
        ),
    )
    texts = SymbolTexts(rules())
    assert decode_message(texts.status(opened)) == StatusMessage(
        SYMBOL, 5, 2, TS_US, "continuous", "auction_done", "1.01", "0.2"
    )
    assert decode_phase(texts.status(opened)).changed_seq == 5
    trades = decode_message(texts.trades(opened))
    assert isinstance(trades, TradesMessage)
    assert trades.trades == [TradeText(f"{SYMBOL}-5-0", "1.01", "0.2", None)]
    halted = last_update(output(1, defined()), output(2, phase_changed(TradingPhase.HALTED)))
    assert decode_message(texts.status(halted)) == StatusMessage(
        SYMBOL, 2, 0, TS_US, "halted", "operator", None, None
    )


def test_heartbeat_of_the_status_channel_has_no_phase() -> None:
    beat = decode_phase(encode_heartbeat(SYMBOL, "status", seq=7, ts_us=TS_US, incarnation="i"))
    assert (beat.phase, beat.seq, beat.symbol) == ("", 7, SYMBOL)


def test_rules_message() -> None:
    data = encode_rules(last_update(output(1, defined())))
    assert decode_message(data) == RulesMessage(SYMBOL, 1, 0, TS_US, "0.01", "0.1", 1)


def test_heartbeat_repeats_its_number() -> None:
    data = encode_heartbeat(SYMBOL, "bbo", seq=7, ts_us=TS_US, incarnation="i")
    assert decode_message(data) == HeartbeatMessage(SYMBOL, 7, 7, TS_US, "bbo", "i")


def test_fields_that_a_reader_does_not_know_are_ignored() -> None:
    data = json.dumps(
        {"type": "heartbeat", "symbol": "A", "seq": 1, "prev_seq": 1, "ts": 2, "channel": "bbo"}
        | {"incarnation": "i", "added": 1}
    )
    assert decode_message(data).seq == 1


@pytest.mark.parametrize(
    "data", [b"", b"{}", b'{"type":"news"}', b'{"type":"bbo","seq":1}', b"\xff"]
)
def test_anything_else_is_refused(data: bytes) -> None:
    with pytest.raises(DecodeError):
        decode_message(data)
    with pytest.raises(DecodeError):
        decode_snapshot(data)
    with pytest.raises(DecodeError):
        decode_candle(data)


def test_candle_has_decimal_text() -> None:
    candle = Candle(open_us=60, prices=(1, 20_000, 1, 5), base=7, quote=8, trades=2, seq=9)
    text = decode_candle(encode_candle(candle, Places(3, 0, 2)))
    assert (text.open, text.high, text.close) == ("0.001", "20.000", "0.005")
    assert (text.volume, text.quote_volume, text.open_time) == ("7", "0.08", 60)
