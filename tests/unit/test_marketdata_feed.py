"""SymbolFeed: numbering of the channels, definitions, and going on from a checkpoint."""

from __future__ import annotations

import pytest

from engine.enums import Side
from engine.errors import DecodeError, SequenceGap
from engine.events import Output, decode_output, decode_output_events, encode_output
from engine.price_levels import Bbo
from marketdata.board import Board
from marketdata.candles import CandleBook
from marketdata.errors import StateMismatch
from marketdata.feed import Checkpoint, SymbolFeed
from marketdata.updates import ChannelSeqs
from tests.market_events import SYMBOL, accepted, canceled, defined, output, rules, trade
from tests.persistence_events import scenario

BUY, SELL = Side.BUY, Side.SELL


def flow() -> list[Output]:
    """Define, quote both sides, quote behind the best, nothing, trade."""
    return [
        output(1, defined()),
        output(2, accepted(2, BUY, 100, 5)),
        output(3, accepted(3, SELL, 103, 4)),
        output(4, accepted(4, BUY, 99, 5)),
        output(5),
        output(6, accepted(6, BUY, 103, 4), *trade(6, 3, BUY, 103, 4)),
    ]


def new_feed() -> SymbolFeed:
    return SymbolFeed(Checkpoint.empty(SYMBOL))


def test_each_channel_counts_its_own_messages() -> None:
    feed = new_feed()
    after = [feed.apply(one).after for one in flow()]
    assert after == [
        ChannelSeqs(0, 0, 1, 0),
        ChannelSeqs(0, 2, 2, 0),
        ChannelSeqs(0, 3, 3, 0),
        ChannelSeqs(0, 3, 4, 0),
        ChannelSeqs(0, 3, 4, 0),
        ChannelSeqs(6, 6, 6, 0),
    ]


def test_each_update_starts_where_the_one_before_ended() -> None:
    feed = new_feed()
    updates = [feed.apply(one) for one in flow()]
    assert updates[0].before == ChannelSeqs(0, 0, 0, 0)
    assert [one.after for one in updates[:-1]] == [one.before for one in updates[1:]]


def test_quote_is_told_only_when_price_or_size_of_the_best_changes() -> None:
    feed = new_feed()
    assert [feed.apply(one).bbo for one in flow()] == [
        None,
        Bbo(100, 5, 0, 0),
        Bbo(100, 5, 103, 4),
        None,
        None,
        Bbo(100, 5, 0, 0),
    ]


def test_trade_names_the_side_that_took() -> None:
    feed = new_feed()
    [told] = [feed.apply(one) for one in flow()][-1].trades
    assert (told.seq, told.trade, told.price_ticks, told.qty_lots) == (6, 0, 103, 4)
    assert told.aggressor is BUY


def test_missing_output_is_refused_and_changes_nothing() -> None:
    feed = new_feed()
    outputs = flow()
    feed.apply(outputs[0])
    with pytest.raises(SequenceGap) as caught:
        feed.apply(outputs[2])
    assert (caught.value.expected_seq, caught.value.received_seq) == (2, 3)
    assert feed.apply(outputs[1]).seq == 2


def test_another_incarnation_is_refused() -> None:
    feed = new_feed()
    feed.apply(output(1, defined()))
    with pytest.raises(StateMismatch, match="incarnation"):
        feed.apply(output(2, defined(incarnation="other")))


def test_another_grid_under_resting_orders_is_refused() -> None:
    feed = new_feed()
    feed.apply(output(1, defined()))
    feed.apply(output(2, accepted(2, BUY, 100, 5)))
    with pytest.raises(StateMismatch, match="tick or lot"):
        feed.apply(output(3, defined(rules(tick_size="0.05", version=2))))


def test_other_fees_under_resting_orders_are_told() -> None:
    feed = new_feed()
    feed.apply(output(1, defined()))
    feed.apply(output(2, accepted(2, BUY, 100, 5)))
    update = feed.apply(output(3, defined(rules(version=2))))
    assert update.defined is not None
    assert update.after.depth == 3


@pytest.mark.parametrize("cut", range(len(flow()) + 1))
def test_feed_from_a_checkpoint_makes_the_same_updates(cut: int) -> None:
    whole = new_feed()
    updates = [whole.apply(one) for one in flow()]
    board = Board(Checkpoint.empty(SYMBOL), CandleBook())
    for update in updates[:cut]:
        board.apply(update)
    again = SymbolFeed(board.checkpoint())
    assert [again.apply(one) for one in flow()[cut:]] == updates[cut:]


def test_canceling_all_of_the_best_tells_the_next_one() -> None:
    feed = new_feed()
    for one in flow():
        feed.apply(one)
    update = feed.apply(output(7, canceled(2, BUY, 100, 5)))
    assert update.bbo == Bbo(99, 5, 0, 0)


def test_a_skipped_input_is_nothing_but_a_number() -> None:
    feed = new_feed()
    *day, last = scenario(skips=True)[:12]
    before = [feed.apply(one) for one in day][-1].after
    update = feed.apply(last)
    assert (update.seq, update.before, update.after) == (12, before, before)
    assert (update.trades, update.bids, update.asks, update.bbo) == ([], [], [], None)


def test_events_are_read_without_the_changes_of_balances() -> None:
    for whole in scenario(skips=True):
        data = encode_output(whole)
        read = decode_output_events(data)
        assert (read.symbol, read.seq, read.ts_us) == (whole.symbol, whole.seq, whole.ts_us)
        assert read.events == whole.events
        assert decode_output(data) == whole
        with pytest.raises(DecodeError):
            decode_output_events(data[: len(data) // 2])
