"""What the venue answered to recorded flow, against what is true. Pure.

Makers: both sides of a trade carry the same SecondaryExecID (527); the resting side's ClOrdID names
the row that its order stands in. Quotes and depth: the public feed tells the state after each
input, and the input of a row is the seq in the ExecID of its answer.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import NamedTuple

import msgspec

from engine.enums import Side
from gateway.fix_message import FixMessage
from gateway.fix_tags import (
    BUSINESS_MESSAGE_REJECT,
    EXECUTION_REPORT,
    ORDER_CANCEL_REJECT,
    REJECT,
    TAG_CL_ORD_ID,
)
from marketdata.feed_codec import BboMessage, DepthMessage, Message, SnapshotMessage
from marketdata.replica import MarketReplica
from ops.fix_orders import OrderBodies
from ops.flow import CANCEL, REDUCE, REPLACE, DepthRow, ExpectedRow, FlowRow, Maker, Quote
from ops.flow_requests import CANCEL_SUFFIX

_TAG_EXEC_ID = b"17"
_TAG_LAST_PX = b"31"
_TAG_LAST_QTY = b"32"
_TAG_REF_SEQ_NUM = b"45"
_TAG_TEXT = b"58"
_TAG_EXEC_TYPE = b"150"
_TAG_TRADE_ID = b"527"
_TAG_REF_ID = b"379"
_TAG_LIQUIDITY = b"851"
_MAKER = b"1"
_ANSWERS = {
    # ExecType that answers a row, by action.
    CANCEL: (b"4",),
    REDUCE: (b"5", b"4"),
    REPLACE: (b"5", b"0"),
}
_ANSWERS_NEW = (b"0",)


class Mismatch(msgspec.Struct, frozen=True):
    """One difference: ``what`` is makers, quote, depth, trade, answer or feed."""

    seq: int
    what: str
    expected: str
    received: str


class Refusal(NamedTuple):
    """A row that was refused; seq 0: the message names no row."""

    seq: int
    text: str


class _TradeSide(NamedTuple):
    lots: int | None
    price_ticks: int | None
    liquidity: bytes


class FlowAnswers:
    """Collect the reports of one run.

    Args:
        rows: the flow, in order.
        run: as given to ``FlowRequests``.
        bodies: of the symbol.

    Attributes:
        answered: rows that are answered, refusals included.
        refusals: rows that were refused.
        trades: pairs of reports with the same trade id.
        input_seqs: input of each answered row.
        last_input: newest input seen in any report.
        barrier: whether the status request behind the last row is answered.
    """

    def __init__(self, rows: Sequence[FlowRow], *, run: bytes, bodies: OrderBodies) -> None:
        self._rows = rows
        self._prefix = run + b"-"
        self._bodies = bodies
        self._unpaired: dict[bytes, _TradeSide] = {}
        self._makers: dict[int, list[Maker]] = {}
        self._mismatches: list[Mismatch] = []
        self.answered = 0
        self.refusals: list[Refusal] = []
        self.trades = 0
        self.input_seqs: dict[int, int] = {}
        self.last_input = 0
        self.barrier = False

    @property
    def barrier_id(self) -> bytes:
        """ClOrdID of the status request whose answer comes behind everything else."""
        return self._prefix + b"0"

    def receive(self, message: FixMessage) -> None:
        """Take a message of the session; what belongs to no row of this run is ignored."""
        fields = message.fields
        if message.msg_type == EXECUTION_REPORT:
            seq = self._row_seq(fields.get(TAG_CL_ORD_ID, b""))
            if seq is not None:
                self._on_report(seq, fields)
        elif message.msg_type == ORDER_CANCEL_REJECT:
            cl_ord_id = fields.get(TAG_CL_ORD_ID, b"")
            seq = self._row_seq(cl_ord_id.removesuffix(CANCEL_SUFFIX))
            if seq is not None:
                self._refused(seq, fields, answers=not cl_ord_id.endswith(CANCEL_SUFFIX))
        elif message.msg_type in (REJECT, BUSINESS_MESSAGE_REJECT):
            seq = self._row_seq(fields.get(_TAG_REF_ID, b""))
            self._refused(seq or 0, fields, answers=True)

    def _row_seq(self, cl_ord_id: bytes) -> int | None:
        if not cl_ord_id.startswith(self._prefix):
            return None
        number = cl_ord_id[len(self._prefix) :]
        # What answers the cancel before the order of the same row (CANCEL_SUFFIX) is not the row's.
        return int(number) if number.isdigit() else None

    def _on_report(self, seq: int, fields: Mapping[bytes, bytes]) -> None:
        exec_type = fields[_TAG_EXEC_TYPE]
        if exec_type == b"8":
            self._refused(seq, fields, answers=True)
            return
        input_seq = int(fields[_TAG_EXEC_ID].rsplit(b"-", 2)[1])
        self.last_input = max(self.last_input, input_seq)
        if exec_type == b"F":
            self._on_fill(seq, input_seq, fields)
        elif seq == 0:
            self.barrier = True
        elif exec_type in _ANSWERS.get(self._rows[seq - 1].action, _ANSWERS_NEW):
            self.input_seqs[seq] = input_seq
            self.answered += 1

    def _on_fill(self, seq: int, input_seq: int, fields: Mapping[bytes, bytes]) -> None:
        trade_id = fields[_TAG_TRADE_ID]
        side = _TradeSide(
            self._bodies.quantities.steps(fields[_TAG_LAST_QTY]),
            self._bodies.prices.steps(fields[_TAG_LAST_PX]),
            fields[_TAG_LIQUIDITY],
        )
        if side.liquidity == _MAKER:
            maker = Maker(self._rows[seq - 1].order_id, side.lots or 0, side.price_ticks or 0)
            self._makers.setdefault(input_seq, []).append(maker)
        other = self._unpaired.pop(trade_id, None)
        if other is None:
            self._unpaired[trade_id] = side
            return
        self.trades += 1
        if other[:2] != side[:2] or other.liquidity == side.liquidity:
            self._mismatches.append(Mismatch(seq, "trade", str(other), str(side)))

    def _refused(self, seq: int, fields: Mapping[bytes, bytes], *, answers: bool) -> None:
        text = fields.get(_TAG_TEXT, b"").decode("ascii", "replace")
        if seq == 0:
            text = f"{text} (RefSeqNum {fields.get(_TAG_REF_SEQ_NUM, b'?').decode()})"
        self.refusals.append(Refusal(seq, text))
        self.answered += answers

    # ------------------------------------------------------------ verdict

    def mismatches(self, expected: Iterable[ExpectedRow], market: Market | None) -> list[Mismatch]:
        """Compare with the truth.

        Args:
            expected: rows to compare; those beyond the flow that was played are ignored.
            market: the public feed over the run; None compares no quotes.
        """
        found = list(self._mismatches)
        refused = {refusal.seq: refusal.text for refusal in self.refusals}
        for trade_id, side in self._unpaired.items():
            found.append(Mismatch(0, "trade", f"two reports of {trade_id.decode()}", str(side)))
        for row in expected:
            if row.seq > len(self._rows):
                break
            input_seq = self.input_seqs.get(row.seq)
            if input_seq is None:
                answer = refused.get(row.seq, "no answer")
                found.append(Mismatch(row.seq, "answer", "an accepted request", answer))
                continue
            makers = merge(self._makers.get(input_seq, ()))
            if makers != row.makers:
                found.append(Mismatch(row.seq, "makers", _text(row.makers), _text(makers)))
            if market is not None and row.quote is not None:
                quote = market.quote_at(input_seq)
                if quote != row.quote:
                    found.append(Mismatch(row.seq, "quote", _text(row.quote), _text(quote)))
        return found


def merge(makers: Iterable[Maker]) -> tuple[Maker, ...]:
    """Return the makers with consecutive fills of one order as one."""
    merged = []
    for (order_id, price_ticks), fills in groupby(makers, lambda one: (one.order_id, one[2])):
        merged.append(Maker(order_id, sum(fill.qty_lots for fill in fills), price_ticks))
    return tuple(merged)


def _text(value: object) -> str:
    if isinstance(value, Quote):
        return f"bid {value.bid_lots} @ {value.bid_ticks}, ask {value.ask_lots} @ {value.ask_ticks}"
    if isinstance(value, tuple):
        return "|".join(":".join(map(str, one)) for one in value) or "none"
    return str(value)


class Market:
    """The public feed over a run: quotes by input, and depth at chosen inputs.

    The messages go through a replica, which finds what is missing or out of order.

    Args:
        snapshot: as it was before the run.
        messages: of bbo and depth since the subscription, which came before the snapshot was read.
        depth_at: inputs after which the depth is wanted.
        levels: how many levels of each side.
        bodies: of the symbol.

    Attributes:
        gaps: messages that were lost; quotes behind a gap count for nothing.
    """

    def __init__(
        self,
        snapshot: SnapshotMessage,
        messages: Iterable[Message],
        *,
        depth_at: Iterable[int],
        levels: int,
        bodies: OrderBodies,
    ) -> None:
        self._bodies = bodies
        self._replica = MarketReplica(snapshot.symbol)
        self._replica.load(snapshot)
        self._seqs = [0]
        self._quotes = [self._quote(snapshot)]
        self._levels = levels
        self._wanted = sorted(depth_at, reverse=True)
        self._depths: dict[int, DepthRow] = {}
        for message in messages:
            if isinstance(message, DepthMessage):
                self._note_depths(before=message.seq)
            for applied in self._replica.receive(message):
                if isinstance(applied, BboMessage):
                    self._seqs.append(applied.seq)
                    self._quotes.append(self._quote(applied))
        self._note_depths(before=None)
        self.gaps = self._replica.gaps

    def quote_at(self, input_seq: int) -> Quote:
        """Return the best bid and offer after an input."""
        return self._quotes[bisect_right(self._seqs, input_seq) - 1]

    def depth_after(self, input_seq: int) -> DepthRow:
        """Return the best levels after one of the inputs that were asked for."""
        return self._depths[input_seq]

    def _quote(self, message: BboMessage | SnapshotMessage) -> Quote:
        prices, quantities = self._bodies.prices, self._bodies.quantities
        bid = (message.bid_price or "0", message.bid_qty or "0")
        ask = (message.ask_price or "0", message.ask_qty or "0")
        bid_ticks, ask_ticks = prices.steps(bid[0].encode()), prices.steps(ask[0].encode())
        bid_lots, ask_lots = quantities.steps(bid[1].encode()), quantities.steps(ask[1].encode())
        return Quote(bid_ticks or 0, bid_lots or 0, ask_ticks or 0, ask_lots or 0)

    def _note_depths(self, *, before: int | None) -> None:
        """Note the depth for every wanted input that the next message comes behind."""
        while self._wanted and (before is None or self._wanted[-1] < before):
            seq = self._wanted.pop()
            self._depths[seq] = DepthRow(seq, self._top(Side.BUY), self._top(Side.SELL))

    def _top(self, side: Side) -> tuple[tuple[int, int], ...]:
        book = self._replica
        levels = (book.bids if side == Side.BUY else book.asks).top(self._levels)
        return tuple((level.price_ticks, level.qty_lots) for level in levels)


def depth_mismatches(
    rows: Iterable[DepthRow], market: Market, input_seqs: Mapping[int, int]
) -> list[Mismatch]:
    """Compare the depth after rows; rows that were not answered have been counted already."""
    found = []
    for row in rows:
        input_seq = input_seqs.get(row.seq)
        if input_seq is None:
            continue
        seen = market.depth_after(input_seq)
        for name, expected, received in (
            ("bids", row.bids, seen.bids[: len(row.bids)]),
            ("asks", row.asks, seen.asks[: len(row.asks)]),
        ):
            if expected != received:
                text = f"{name} {_text(received)}"
                found.append(Mismatch(row.seq, "depth", f"{name} {_text(expected)}", text))
    return found
