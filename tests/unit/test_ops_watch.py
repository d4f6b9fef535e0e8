"""Ladder and lines of ``shardex watch``."""

from __future__ import annotations

from marketdata.feed_codec import (
    BboMessage,
    DepthMessage,
    LastSeqs,
    SnapshotMessage,
    TradesMessage,
    TradeText,
)
from marketdata.replica import MarketReplica
from ops.watch import ladder_lines, message_lines

TS_US = 1_700_000_000_123_456


def snapshot() -> SnapshotMessage:
    return SnapshotMessage(
        symbol="BTC-USD",
        seq=7,
        ts=TS_US,
        written=TS_US,
        incarnation="i",
        rules=1,
        tick_size="0.01",
        lot_size="0.1",
        last_seq=LastSeqs(6, 7, 7, 0),
        bid_price="9.99",
        bid_qty="1.0",
        ask_price="10.01",
        ask_qty="4.0",
        complete=True,
        levels_max=100,
        phase="continuous",
        bids=[("9.99", "1.0", 1), ("9.98", "8.0", 3)],
        asks=[("10.01", "4.0", 2), ("10.02", "2.0", 1)],
        trades=[TradeText("t1", "10.00", "0.5", "buy"), TradeText("t2", "9.99", "0.3", "sell")],
    )


def test_the_ladder_has_asks_above_bids_and_the_tape_beside_them() -> None:
    replica = MarketReplica("BTC-USD")
    assert ladder_lines(replica, 2)[0] == "BTC-USD  seq 0  (rejoining)"
    replica.load(snapshot())
    lines = ladder_lines(replica, 2)
    assert lines[0] == "BTC-USD  seq 7"
    assert [line.split()[:3] for line in lines[3:]] == [
        ["2.0", "10.02", "1"],
        ["4.0", "10.01", "2"],
        ["-" * 30],
        ["1.0", "9.99", "1"],
        ["8.0", "9.98", "3"],
    ]
    assert lines[3].endswith("sell        0.3 @ 9.99")
    assert lines[4].endswith("buy         0.5 @ 10.00")
    # The longest bar is the largest quantity's.
    assert [line.count("█") for line in lines[3:]] == [4, 8, 0, 2, 16]


def test_fewer_levels_are_the_best_ones() -> None:
    replica = MarketReplica("BTC-USD")
    replica.load(snapshot())
    ask, _, bid = ladder_lines(replica, 1)[3:]
    assert (ask.split()[1], bid.split()[1]) == ("10.01", "9.99")


def test_trades_and_quotes_are_lines() -> None:
    trades = TradesMessage("BTC-USD", 8, 6, TS_US, [TradeText("BTC-USD-8-0", "10", "0.5", "buy")])
    assert message_lines(trades) == ["22:13:20.123 BTC-USD trade 0.5 @ 10 buy BTC-USD-8-0"]
    quote = BboMessage("BTC-USD", 8, 7, TS_US, "9.99", "1.0", None, None)
    assert message_lines(quote) == ["22:13:20.123 BTC-USD bid 1.0 @ 9.99  ask -"]
    assert message_lines(DepthMessage("BTC-USD", 8, 7, TS_US, [], [])) == []
