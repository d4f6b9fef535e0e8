"""What a flow should do, worked out by the naive book. Pure.

The naive book shares no code with the engine's, so a flow that was made here is checked against an
independent opinion.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from engine.book_naive import NaiveBook
from engine.enums import Side
from ops.errors import FlowFileError
from ops.flow import CANCEL, IOC, REDUCE, REPLACE, ExpectedRow, FlowRow, Maker, Quote
from ops.flow_check import merge


def expected_rows(rows: Iterable[FlowRow]) -> Iterator[ExpectedRow]:
    """Yield the expected outcome of each row.

    Raises:
        FlowFileError: a row names an order that does not rest, or one that does already.
    """
    book = NaiveBook()
    for row in rows:
        try:
            fills = _apply(book, row)
        except ValueError as error:
            raise FlowFileError(f"row {row.seq}: {error}") from error
        makers = merge(Maker(order_id, lots, price) for order_id, price, lots in fills)
        yield ExpectedRow(row.seq, _quote(book), makers)


def _apply(book: NaiveBook, row: FlowRow) -> list[tuple[int, int, int]]:
    order_id, price, qty = row.order_id, row.price_ticks, row.qty_lots
    if row.action == IOC:
        return book.new_ioc(order_id, row.side, price, qty)
    if row.action == REPLACE:
        fills = book.replace(row.orig_id, order_id, price, qty)
        if fills is None:
            raise ValueError(f"no order {row.orig_id} rests")
        return fills
    if row.action not in (CANCEL, REDUCE):
        return book.new_limit(order_id, row.side, price, qty)
    order = book.find(order_id)
    if order is None:
        raise ValueError(f"no order {order_id} rests")
    if row.action == REDUCE and qty < order.leaves_qty_lots:
        book.reduce(order_id, qty)
    else:
        book.cancel(order_id)
    return []


def _quote(book: NaiveBook) -> Quote:
    bid, ask = book.best_bid(), book.best_ask()
    return Quote(
        bid or 0,
        0 if bid is None else book.depth_at(Side.BUY, bid),
        ask or 0,
        0 if ask is None else book.depth_at(Side.SELL, ask),
    )
