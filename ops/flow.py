"""Recorded order flow: rows, the three kinds of files, and what a row means to a book. Pure.

The format (one header line, then one line per row; also gzipped)::

    flow      seq,ts_ns,action,order_id,side,price_ticks,qty,orig_id,flag
    expected  seq,best_bid,bid_sz,best_ask,ask_sz,makers,lobster_row,source
    depth     seq,ask1,asz1,bid1,bsz1,ask2,…

Actions: N new limit order that rests, A one that trades first, I immediate-or-cancel, X cancel,
R reduce by qty, U replace ``orig_id`` by ``order_id`` at another price and quantity, behind all
others of that price. ``expected`` tells the state after the row of the same seq, with the makers
``order_id:qty:price_ticks`` in the order of the fills, joined by ``|``; ``source`` none: the quote
is not known. Prices count ticks, quantities lots.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

import msgspec

from engine.book import OrderBook
from engine.enums import Side
from ops.errors import FlowFileError

FLOW_HEADER: Final = "seq,ts_ns,action,order_id,side,price_ticks,qty,orig_id,flag"
EXPECTED_HEADER: Final = "seq,best_bid,bid_sz,best_ask,ask_sz,makers,lobster_row,source"
_DEPTH_HEADER_START: Final = "seq,ask1,asz1,bid1,bsz1"

NEW: Final = "N"
AGGRESSIVE: Final = "A"
IOC: Final = "I"
CANCEL: Final = "X"
REDUCE: Final = "R"
REPLACE: Final = "U"
_ACTIONS: Final = (NEW, AGGRESSIVE, IOC, CANCEL, REDUCE, REPLACE)
_SIDES: Final = {"B": Side.BUY, "S": Side.SELL}
_SIDE_TEXTS: Final = {Side.BUY: "B", Side.SELL: "S"}
_NO_QUOTE: Final = "none"


class FlowRow(msgspec.Struct, frozen=True, gc=False):
    """One order event. ``orig_id`` 0: none. ``ts_ns``: since midnight."""

    seq: int
    ts_ns: int
    action: str
    order_id: int
    side: Side
    price_ticks: int
    qty_lots: int
    orig_id: int
    flag: str


class Maker(NamedTuple):
    """A resting order that was filled; consecutive fills of one order count as one."""

    order_id: int
    qty_lots: int
    price_ticks: int


class Quote(NamedTuple):
    """Best bid and offer; price and quantity 0 on an empty side."""

    bid_ticks: int
    bid_lots: int
    ask_ticks: int
    ask_lots: int


class ExpectedRow(msgspec.Struct, frozen=True, gc=False):
    """What is true after a row. ``quote`` None: not known, compare the makers only."""

    seq: int
    quote: Quote | None
    makers: tuple[Maker, ...]


class DepthRow(msgspec.Struct, frozen=True, gc=False):
    """The best levels after a row, as (price_ticks, qty_lots), best first."""

    seq: int
    bids: tuple[tuple[int, int], ...]
    asks: tuple[tuple[int, int], ...]


# ---------------------------------------------------------------- files


def read_flow(lines: Iterable[str]) -> Iterator[FlowRow]:
    """Yield the rows of a flow file.

    Raises:
        FlowFileError: a line is not in the format, or seq does not count 1, 2, 3…
    """
    for number, cells in _cells(lines, FLOW_HEADER):
        try:
            seq, ts_ns, action, order_id, side, price, qty, orig_id, flag = cells
            row = FlowRow(
                int(seq),
                int(ts_ns),
                action,
                int(order_id),
                _SIDES[side],
                int(price),
                int(qty),
                int(orig_id or 0),
                flag,
            )
        except (ValueError, KeyError) as error:
            raise FlowFileError(f"line {number}: not a row of order flow: {error}") from error
        if row.action not in _ACTIONS or row.seq != number - 1 or row.qty_lots < 1:
            raise FlowFileError(
                f"line {number}: expected seq {number - 1}, an action of {''.join(_ACTIONS)} and a"
                f" quantity, received {','.join(cells)}"
            )
        yield row


def format_flow_row(row: FlowRow) -> str:
    """Return the line of a row, without a newline."""
    return (
        f"{row.seq},{row.ts_ns},{row.action},{row.order_id},{_SIDE_TEXTS[row.side]},"
        f"{row.price_ticks},{row.qty_lots},{row.orig_id or ''},{row.flag}"
    )


def read_expected(lines: Iterable[str]) -> Iterator[ExpectedRow]:
    """Yield the rows of a file of expected outcomes.

    Raises:
        FlowFileError: a line is not in the format.
    """
    for number, cells in _cells(lines, EXPECTED_HEADER):
        try:
            seq, bid, bid_lots, ask, ask_lots, makers, _, source = cells
            quote = Quote(int(bid or 0), int(bid_lots), int(ask or 0), int(ask_lots))
            yield ExpectedRow(int(seq), None if source == _NO_QUOTE else quote, _makers(makers))
        except ValueError as error:
            raise FlowFileError(f"line {number}: not an expected outcome: {error}") from error


def format_expected_row(row: ExpectedRow) -> str:
    """Return the line of an expected outcome, without a newline."""
    quote = row.quote or Quote(0, 0, 0, 0)
    makers = "|".join(f"{m.order_id}:{m.qty_lots}:{m.price_ticks}" for m in row.makers)
    source = _NO_QUOTE if row.quote is None else "ref"
    return (
        f"{row.seq},{quote.bid_ticks or ''},{quote.bid_lots},{quote.ask_ticks or ''},"
        f"{quote.ask_lots},{makers},-1,{source}"
    )


def _makers(text: str) -> tuple[Maker, ...]:
    makers = []
    for part in text.split("|") if text else ():
        order_id, qty_lots, price_ticks = part.split(":")
        makers.append(Maker(int(order_id), int(qty_lots), int(price_ticks)))
    return tuple(makers)


def read_depth(lines: Iterable[str]) -> Iterator[DepthRow]:
    """Yield the rows of a depth file; levels without a quantity are left out.

    Raises:
        FlowFileError: a line is not in the format.
    """
    for number, cells in _cells(lines, _DEPTH_HEADER_START):
        try:
            values = [int(cell or 0) for cell in cells]
            if len(values) % 4 != 1:
                raise ValueError("expected a seq and four cells for each level")
        except ValueError as error:
            raise FlowFileError(f"line {number}: not a row of depth: {error}") from error
        asks = zip(values[1::4], values[2::4], strict=True)
        bids = zip(values[3::4], values[4::4], strict=True)
        yield DepthRow(
            values[0], tuple(one for one in bids if one[1]), tuple(one for one in asks if one[1])
        )


def _cells(lines: Iterable[str], header: str) -> Iterator[tuple[int, list[str]]]:
    for number, line in enumerate(lines, 1):
        text = line.rstrip("\r\n")
        if number > 1:
            yield number, text.split(",")
        elif not text.startswith(header):
            raise FlowFileError(f"line 1: expected {header}, received {text[:80]}")


# ---------------------------------------------------------------- meaning


def apply_row(book: OrderBook, row: FlowRow) -> list[Maker]:
    """Do to a book what a row does to the venue; return whom it filled, in order.

    Raises:
        FlowFileError: the row names an order that does not rest, or one that does already.
    """
    order_id, price, qty = row.order_id, row.price_ticks, row.qty_lots
    try:
        if row.action == IOC:
            fills = book.new_ioc(order_id, row.side, price, qty)
        elif row.action == REPLACE:
            replaced = book.replace(row.orig_id, order_id, price, qty)
            if replaced is None:
                raise ValueError(f"no order {row.orig_id} rests")
            fills = replaced
        elif row.action in (CANCEL, REDUCE):
            _take_out(book, row)
            fills = ()
        else:
            fills = book.new_limit(order_id, row.side, price, qty)
    except ValueError as error:
        raise FlowFileError(f"row {row.seq}: {error}") from error
    return [Maker(maker.order_id, lots, maker.level.price_ticks) for maker, lots in fills]


def _take_out(book: OrderBook, row: FlowRow) -> None:
    order = book.orders.get(row.order_id)
    if order is None:
        raise ValueError(f"no order {row.order_id} rests")
    if row.action == REDUCE and row.qty_lots < order.leaves_qty_lots:
        book.reduce(order, row.qty_lots)
    else:
        book.cancel(row.order_id)
