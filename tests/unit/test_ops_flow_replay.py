"""A flow through the venue's own pure parts: requests, gateway's reader, shard, reports, verdict.

What is left out is sockets, admission and market data's processes; a row that is right here and
wrong over the wire is wrong in those.
"""

from __future__ import annotations

import gzip
import random
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path

import msgspec
import pytest

from engine.commands import Command, DefineSymbol, ReplaceOrder
from engine.enums import SelfTradePrevention, Side
from engine.events import Output
from engine.instrument import define_rules
from engine.shard import Shard
from gateway.fix_message import FixMessage, encode_fields, frame, split_fields
from gateway.orders_in import OrderReader
from gateway.refusals import Origin
from gateway.reports_out import ReportWriter
from gateway.symbol_texts import SymbolTable
from gateway.validate import MessageReader
from marketdata.board import Board
from marketdata.candles import CandleBook
from marketdata.feed import Checkpoint, SymbolFeed
from marketdata.feed_codec import Message as MarketMessage
from marketdata.feed_codec import SymbolTexts as PublicTexts
from marketdata.feed_codec import decode_message, decode_snapshot
from ops.fix_orders import Message, OrderBodies
from ops.flow import DepthRow, ExpectedRow, FlowRow, Maker, Quote, read_expected, read_flow
from ops.flow_check import FlowAnswers, Market, Mismatch, depth_mismatches, merge
from ops.flow_generator import FlowGenerator, FlowShape
from ops.flow_reference import expected_rows
from ops.flow_requests import FlowRequests
from tests.unit.test_ops_flow import LINES, RECORDED, flow

TIME = b"20260102-03:04:05.678"
ACCOUNT = 1001
RULES = define_rules(
    symbol="AAA-USD",
    base="AAA",
    quote="USD",
    base_scale=0,
    quote_scale=2,
    tick_size="0.01",
    lot_size="1",
    min_qty="1",
    max_qty="100000",
    max_price=None,
    min_notional="0",
    maker_fee_ppm=0,
    taker_fee_ppm=0,
    version=1,
)
SHAPE = FlowShape(
    low_ticks=1_000, high_ticks=11_000, start_ticks=5_000, qty_lots_max=500, resting=100
)


SYMBOL = "AAA-USD"


def bodies() -> OrderBodies:
    return OrderBodies(SYMBOL, tick_size="0.01", lot_size="1", stp=SelfTradePrevention.NONE)


class Venue:
    """The path of an order without anything between its parts, the public feed included."""

    def __init__(self) -> None:
        table = SymbolTable([RULES])
        self._check = MessageReader()
        self._reader = OrderReader(
            table, default_stp=SelfTradePrevention.CANCEL_NEWEST, protection_ppm=50_000
        )
        self._writer = ReportWriter(table)
        self._shard = Shard()
        start = Checkpoint.empty(SYMBOL)
        self._feed, self._board = SymbolFeed(start), Board(start, CandleBook())
        self._texts = PublicTexts(RULES)
        self._seq = 0
        self.messages: list[MarketMessage] = []
        self._apply(DefineSymbol("i", RULES))
        snapshot = self._board.snapshot(levels_max=100, now_us=0)
        assert snapshot is not None
        self.snapshot = decode_snapshot(snapshot)

    def _apply(self, command: Command) -> Output:
        self._seq += 1
        output = self._shard.apply(SYMBOL, self._seq, self._seq, command).output
        update = self._feed.apply(output)
        self._board.apply(update)
        if update.bids or update.asks:
            self.messages.append(decode_message(self._texts.depth(update)))
        if update.bbo:
            self.messages.append(decode_message(self._texts.bbo(update)))
        return output

    def answer(self, request: Message) -> list[FixMessage]:
        msg_type, body = request
        header = [(b"35", msg_type), (b"49", b"1001"), (b"56", b"SHARDEX"), (b"34", b"1")]
        raw = frame(encode_fields([*header, (b"52", TIME)]) + body)
        message = self._check.read(raw)
        assert message.fault is None, message.fault
        read = self._reader.read(message, Origin(ACCOUNT, 1, 1, False))
        assert isinstance(read.content, Command), read.content
        return [report(*one) for one in self._writer.bodies(self._apply(funded(read.content)), 1)]


def funded(command: Command) -> Command:
    """Reserve what a replace needs at most, as the gateway does when it knows no better."""
    if not isinstance(command, ReplaceOrder):
        return command
    hold = RULES.hold_of(command.side, command.price_ticks, command.qty_lots)
    return msgspec.structs.replace(command, reserved=hold)


def report(msg_type: bytes, body: bytes) -> FixMessage:
    raw = frame(b"35=%b\x01%b" % (msg_type, body))
    return FixMessage(raw, msg_type, {tag: value or b"" for tag, value in split_fields(raw)})


def replay(rows: Sequence[FlowRow], venue: Venue | None = None) -> FlowAnswers:
    venue = venue or Venue()
    requests = FlowRequests(bodies(), run=b"t")
    answers = FlowAnswers(rows, run=b"t", bodies=bodies())
    for row in rows:
        for request in requests.requests(row, time=TIME):
            for message in venue.answer(request):
                answers.receive(message)
    for message in venue.answer(bodies().status(answers.barrier_id, Side.BUY)):
        answers.receive(message)
    assert answers.barrier
    return answers


def market_of(venue: Venue, *, depth_at: Iterable[int] = (), lose: int | None = None) -> Market:
    messages = [one for index, one in enumerate(venue.messages) if index != lose]
    return Market(venue.snapshot, messages, depth_at=depth_at, levels=10, bodies=bodies())


def test_every_action_has_its_effect() -> None:
    rows = flow(LINES)
    answers = replay(rows)
    assert answers.answered == len(rows)
    assert answers.refusals == []
    assert answers.trades == 3
    assert answers.mismatches(expected_rows(rows), None) == []
    assert answers.last_input == len(rows) + 2


def test_a_replace_that_could_keep_its_place_loses_it() -> None:
    rows = flow(
        [
            "1,0,N,1,B,500,30,,",
            "2,0,N,2,B,500,30,,",
            "3,0,U,3,B,500,20,1,",
            "4,0,I,4,S,500,40,,",
        ]
    )
    answers = replay(rows)
    truth = [ExpectedRow(4, None, (Maker(2, 30, 500), Maker(3, 10, 500)))]
    assert answers.mismatches(truth, None) == []


def test_a_replace_of_a_filled_order_counts_what_was_filled() -> None:
    rows = flow(
        [
            "1,0,N,1,B,500,30,,",
            "2,0,I,2,S,500,10,,",
            "3,0,R,1,B,500,5,,",
            "4,0,U,3,B,499,40,1,",
            "5,0,I,4,S,499,100,,over",
        ]
    )
    answers = replay(rows)
    assert answers.mismatches(expected_rows(rows), None) == []
    assert answers.trades == 2


def test_wrong_truth_is_found() -> None:
    rows = flow(LINES)
    answers = replay(rows)
    wrong = [ExpectedRow(3, None, (Maker(102, 35, 500),)), ExpectedRow(6, None, ())]
    assert answers.mismatches(wrong, None) == [
        Mismatch(3, "makers", "102:35:500", "101:30:500|102:5:500"),
        Mismatch(6, "makers", "none", "104:6:499"),
    ]


def test_a_refused_row_is_counted_and_told() -> None:
    rows = flow(["1,0,N,1,B,500,200000,,"])
    venue, requests = Venue(), FlowRequests(bodies(), run=b"t")
    answers = FlowAnswers(rows, run=b"t", bodies=bodies())
    message = report(
        b"8",
        b"37=NONE\x0111=t-1\x0117=1001-1-R0\x01150=8\x0139=8\x0158=OrderQty (38): too much\x01",
    )
    assert venue.answer(requests.requests(flow(LINES)[0], time=TIME)[0])
    answers.receive(message)
    assert answers.answered == 1
    assert answers.refusals == [(1, "OrderQty (38): too much")]
    [mismatch] = answers.mismatches([ExpectedRow(1, None, ())], None)
    assert (mismatch.what, mismatch.received) == ("answer", "OrderQty (38): too much")


def test_reports_of_other_runs_are_ignored() -> None:
    answers = FlowAnswers(flow(LINES), run=b"t", bodies=bodies())
    answers.receive(report(b"8", b"37=A-1\x0111=u-1\x0117=A-1-0\x01150=0\x0139=0\x01"))
    assert answers.answered == 0


def test_consecutive_fills_of_one_order_count_as_one() -> None:
    fills = [Maker(1, 5, 500), Maker(1, 6, 500), Maker(2, 1, 500), Maker(1, 1, 500)]
    assert merge(fills) == (Maker(1, 11, 500), Maker(2, 1, 500), Maker(1, 1, 500))


@pytest.mark.parametrize("seed", [1, 2])
def test_a_generated_flow_comes_out_as_the_naive_book_says(seed: int) -> None:
    rows = list(FlowGenerator(SHAPE, random.Random(seed).random).rows(2_000))
    venue = Venue()
    answers = replay(rows, venue)
    assert answers.refusals == []
    assert answers.mismatches(expected_rows(rows), market_of(venue)) == []


def test_wrong_quotes_are_found() -> None:
    rows = flow(LINES)
    venue = Venue()
    answers = replay(rows, venue)
    truth = [*expected_rows(rows)]
    truth[1] = ExpectedRow(2, Quote(500, 51, 0, 0), ())
    [mismatch] = answers.mismatches(truth, market_of(venue))
    assert mismatch == Mismatch(2, "quote", "bid 51 @ 500, ask 0 @ 0", "bid 50 @ 500, ask 0 @ 0")


def test_depth_is_compared_after_the_row_that_it_belongs_to() -> None:
    rows = flow(LINES)
    venue = Venue()
    answers = replay(rows, venue)
    market = market_of(venue, depth_at=answers.input_seqs.values())
    truth = [DepthRow(2, ((500, 50),), ()), DepthRow(6, (), ((499, 3),))]
    assert depth_mismatches(truth, market, answers.input_seqs) == []
    wrong = [DepthRow(4, ((499, 11),), ()), DepthRow(99, ((1, 1),), ())]
    assert depth_mismatches(wrong, market, answers.input_seqs) == [
        Mismatch(4, "depth", "bids 499:11", "bids 499:10")
    ]


def test_a_lost_message_of_the_feed_shows_as_a_gap() -> None:
    venue = Venue()
    replay(flow(LINES), venue)
    assert market_of(venue).gaps == 0
    assert market_of(venue, lose=2).gaps == 1


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.name)
def test_recorded_flow_has_its_true_outcome(path: Path) -> None:
    with gzip.open(path, "rt") as file:
        rows = list(islice(read_flow(file), 500))
    with gzip.open(str(path).replace("_flow", "_expected"), "rt") as file:
        truth = list(islice(read_expected(file), 500))
    venue = Venue()
    answers = replay(rows, venue)
    assert answers.refusals == []
    assert answers.mismatches(truth, market_of(venue)) == []
