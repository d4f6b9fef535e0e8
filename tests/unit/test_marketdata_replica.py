"""MarketReplica: joining at any moment, repetitions, gaps, heartbeats, cut snapshots."""

from __future__ import annotations

import pytest

from engine.enums import Side
from engine.errors import DecodeError
from marketdata.board import Board
from marketdata.candles import CandleBook
from marketdata.feed import Checkpoint, SymbolFeed
from marketdata.feed_codec import (
    HeartbeatMessage,
    Message,
    SnapshotMessage,
    SymbolTexts,
    decode_message,
    decode_snapshot,
    encode_rules,
)
from marketdata.replica import MarketReplica
from tests.market_events import (
    INCARNATION,
    SYMBOL,
    TS_US,
    accepted,
    canceled,
    defined,
    output,
    rules,
    trade,
)

BUY, SELL = Side.BUY, Side.SELL

OUTPUTS = [
    output(1, defined()),
    output(2, accepted(2, BUY, 100, 5)),
    output(3, accepted(3, SELL, 103, 4)),
    output(4, accepted(4, BUY, 99, 5)),
    output(5, accepted(5, BUY, 103, 4), *trade(5, 3, BUY, 103, 4)),
    output(6, accepted(6, SELL, 104, 9)),
    output(7, canceled(2, BUY, 100, 5)),
]
BIDS = [("0.99", "0.5", 1)]
ASKS = [("1.04", "0.9", 1)]


def published(*, levels_max: int = 100) -> tuple[list[list[Message]], list[SnapshotMessage]]:
    """The messages of each output, and the snapshot after each."""
    feed, board = (
        SymbolFeed(Checkpoint.empty(SYMBOL)),
        Board(Checkpoint.empty(SYMBOL), CandleBook()),
    )
    texts = SymbolTexts(rules())
    messages, snapshots = [], []
    for one in OUTPUTS:
        update = feed.apply(one)
        board.apply(update)
        datas = [encode_rules(update)] if update.defined else []
        datas += [texts.trades(update)] if update.trades else []
        datas += [texts.depth(update)] if update.bids or update.asks else []
        datas += [texts.bbo(update)] if update.bbo else []
        messages.append([decode_message(data) for data in datas])
        data = board.snapshot(levels_max=levels_max, now_us=TS_US)
        assert data is not None
        snapshots.append(decode_snapshot(data))
    return messages, snapshots


def heartbeat(seq: int, channel: str, incarnation: str = INCARNATION) -> HeartbeatMessage:
    return HeartbeatMessage(SYMBOL, seq, seq, TS_US, channel, incarnation)


def is_whole(replica: MarketReplica) -> bool:
    return (
        replica.joined
        and replica.levels(BUY, 9) == BIDS
        and replica.levels(SELL, 9) == ASKS
        and replica.bbo == ("0.99", "0.5", "1.04", "0.9")
        and [one.id for one in replica.tape] == [f"{SYMBOL}-5-0"]
    )


@pytest.mark.parametrize("taken", range(len(OUTPUTS)))
@pytest.mark.parametrize("first", range(len(OUTPUTS)))
def test_subscriber_joins_at_any_moment(first: int, taken: int) -> None:
    messages, snapshots = published()
    replica = MarketReplica(SYMBOL)
    for index, batch in enumerate(messages):
        if index >= first:
            for message in batch:
                replica.receive(message)
        if index == max(first, taken):
            # What it had missed before it subscribed must be in the snapshot.
            assert (replica.load(snapshots[taken]) is None) == (taken < first - 1)
    if not replica.joined:
        assert replica.load(snapshots[-1]) == []
    assert is_whole(replica)


def test_snapshot_older_than_the_first_message_kept_is_not_taken() -> None:
    messages, snapshots = published()
    replica = MarketReplica(SYMBOL)
    replica.receive(messages[3][0])
    assert replica.load(snapshots[1]) is None
    assert not replica.joined
    assert [m.seq for m in replica.load(snapshots[2]) or []] == [4]


def test_repeated_messages_change_nothing() -> None:
    messages, snapshots = published()
    replica = MarketReplica(SYMBOL)
    replica.load(snapshots[-1])
    assert [replica.receive(m) for batch in messages for m in batch if replica.receive(m)] == []
    assert is_whole(replica)


def test_lost_message_is_noticed_at_the_next_one_and_repaired_by_a_snapshot() -> None:
    messages, snapshots = published()
    replica = MarketReplica(SYMBOL)
    replica.load(snapshots[1])
    for batch in messages[3:]:
        for message in batch:
            replica.receive(message)
    assert (replica.joined, replica.gaps) == (False, 1)
    assert replica.load(snapshots[1]) is None
    replica.load(snapshots[4])
    assert is_whole(replica)


def test_heartbeat_shows_a_loss_in_a_quiet_market() -> None:
    messages, snapshots = published()
    replica = MarketReplica(SYMBOL)
    replica.load(snapshots[5])
    replica.receive(heartbeat(6, "depth"))
    replica.receive(heartbeat(5, "trades"))
    assert replica.joined
    replica.receive(heartbeat(7, "depth"))
    assert not replica.joined
    assert replica.load(snapshots[5]) is None
    replica.load(snapshots[6])
    assert is_whole(replica)
    assert messages[6]


def test_each_channel_is_followed_for_itself() -> None:
    messages, snapshots = published()
    replica = MarketReplica(SYMBOL)
    replica.load(snapshots[3])
    trades, depth, bbo = messages[4]
    for message in (depth, bbo):
        assert replica.receive(message) == [message]
    assert replica.receive(trades) == [trades]
    assert replica.joined


def test_snapshot_is_not_taken_back_in_time() -> None:
    _, snapshots = published()
    replica = MarketReplica(SYMBOL)
    replica.load(snapshots[5])
    replica.lose()
    assert replica.load(snapshots[4]) is None
    assert replica.load(snapshots[5]) == []


def test_another_incarnation_begins_anew() -> None:
    _, snapshots = published()
    replica = MarketReplica(SYMBOL)
    replica.load(snapshots[-1])
    replica.receive(heartbeat(1, "depth", "other"))
    assert not replica.joined
    decoded = decode_snapshot(
        b'{"type":"snapshot","symbol":"BTC-USD","seq":1,"ts":1,"written":1,"incarnation":"other",'
        b'"rules":1,"tick_size":"1","lot_size":"1","last_seq":{"trades":0,"bbo":0,"depth":1,'
        b'"status":0},"phase":"continuous",'
        b'"bid_price":null,"bid_qty":null,"ask_price":null,"ask_qty":null,"complete":true,'
        b'"levels_max":9,"bids":[],"asks":[],"trades":[]}'
    )
    assert replica.load(decoded) == []
    assert (replica.seq, replica.levels(BUY, 9)) == (1, [])


def test_replica_of_a_cut_snapshot_shows_certain_levels_and_asks_for_another() -> None:
    messages, snapshots = published(levels_max=1)
    replica = MarketReplica(SYMBOL)
    replica.load(snapshots[3])
    assert replica.levels(BUY, 9) == [("1.00", "0.5", 1)]
    for batch in messages[4:]:
        for message in batch:
            replica.receive(message)
    # The one level it was given is gone, and what is behind it is not known.
    assert not replica.joined
    replica.load(snapshots[6])
    assert replica.levels(BUY, 9) == BIDS


def test_text_off_the_grid_is_refused() -> None:
    _, snapshots = published()
    replica = MarketReplica(SYMBOL)
    replica.load(snapshots[-1])
    message = decode_message(
        b'{"type":"depth","symbol":"BTC-USD","seq":8,"prev_seq":7,"ts":1,"bids":[["0.995","1",1]],'
        b'"asks":[]}'
    )
    with pytest.raises(DecodeError, match="off the grid"):
        replica.receive(message)


def test_new_rules_change_the_grid() -> None:
    _, snapshots = published()
    replica = MarketReplica(SYMBOL)
    replica.load(snapshots[-1])
    for data in (
        b'{"type":"rules","symbol":"BTC-USD","seq":9,"prev_seq":7,"ts":1,"tick_size":"0.005",'
        b'"lot_size":"0.1","version":2}',
        b'{"type":"depth","symbol":"BTC-USD","seq":10,"prev_seq":9,"ts":1,'
        b'"bids":[["0.990","0.0",0],["0.995","0.1",1]],"asks":[]}',
    ):
        replica.receive(decode_message(data))
    assert replica.bids.at(199).qty_lots == 1
