"""Rows of recorded flow as the FIX requests that have their effect. Pure.

A row's ClOrdID is ``{run}-{seq}``, so each report tells which row its order stands in, and a file
can be replayed again under another run. Requests are sent without waiting for answers; what an
order has been filled meanwhile (OrderQty counts it) is known from a book that is kept beside. So
the venue must not have orders of others in the symbol.

    N, A   D, GTC          I      D, IOC
    X      F               R      G with less quantity; F where nothing is left
    U      G; but F and D where price and size would let it keep its place in the queue
"""

from __future__ import annotations

from engine.book import OrderBook
from engine.enums import TimeInForce
from ops.fix_orders import Message, OrderBodies
from ops.flow import CANCEL, IOC, REDUCE, REPLACE, FlowRow, apply_row

CANCEL_SUFFIX = b"X"
"""Of the ClOrdID of a cancel that comes before the order of the same row."""

_END_SUFFIX = b"E"
"""Of the ClOrdIDs of cancels at the end, which belong to no row."""


class FlowRequests:
    """Translate the rows of one file, in order.

    Args:
        bodies: of the symbol.
        run: makes ClOrdIDs unique; short ASCII without ``-``.
    """

    def __init__(self, bodies: OrderBodies, *, run: bytes) -> None:
        self._bodies = bodies
        self._run = run
        self._book = OrderBook()
        # OrderQty and ClOrdID in force of each order that may rest.
        self._total_lots: dict[int, int] = {}
        self._cl_ord_ids: dict[int, bytes] = {}

    def cl_ord_id(self, seq: int) -> bytes:
        """Return the ClOrdID of a row."""
        return b"%b-%d" % (self._run, seq)

    def requests(self, row: FlowRow, *, time: bytes) -> list[Message]:
        """Return the requests of the next row.

        Raises:
            FlowFileError: the row names an order that does not rest.
        """
        if row.action in (CANCEL, REDUCE):
            messages = self._reduce(row, time)
        elif row.action == REPLACE:
            messages = self._replace(row, time)
        else:
            messages = [self._new(row, time)]
        apply_row(self._book, row)
        return messages

    def _new(self, row: FlowRow, time: bytes) -> Message:
        cl_ord_id = self.cl_ord_id(row.seq)
        self._cl_ord_ids[row.order_id] = cl_ord_id
        self._total_lots[row.order_id] = row.qty_lots
        ioc = row.action == IOC
        return self._bodies.new(
            cl_ord_id,
            row.side,
            price_ticks=row.price_ticks,
            qty_lots=row.qty_lots,
            time_in_force=TimeInForce.IOC if ioc else TimeInForce.GTC,
            time=time,
        )

    def _reduce(self, row: FlowRow, time: bytes) -> list[Message]:
        order = self._book.orders.get(row.order_id)
        if order is None:
            return []
        cl_ord_id = self.cl_ord_id(row.seq)
        orig = self._cl_ord_ids[row.order_id]
        if row.action == CANCEL or row.qty_lots >= order.leaves_qty_lots:
            del self._cl_ord_ids[row.order_id]
            return [self._bodies.cancel(cl_ord_id, orig, row.side, time=time)]
        self._cl_ord_ids[row.order_id] = cl_ord_id
        self._total_lots[row.order_id] -= row.qty_lots
        return [
            self._bodies.replace(
                cl_ord_id,
                orig,
                row.side,
                price_ticks=order.level.price_ticks,
                total_lots=self._total_lots[row.order_id],
                time=time,
            )
        ]

    def _replace(self, row: FlowRow, time: bytes) -> list[Message]:
        order = self._book.orders.get(row.orig_id)
        if order is None:
            return []
        orig = self._cl_ord_ids.pop(row.orig_id)
        if order.level.price_ticks == row.price_ticks and row.qty_lots <= order.leaves_qty_lots:
            cancel_id = self.cl_ord_id(row.seq) + CANCEL_SUFFIX
            cancel = self._bodies.cancel(cancel_id, orig, row.side, time=time)
            return [cancel, self._new(row, time)]
        cl_ord_id = self.cl_ord_id(row.seq)
        filled = self._total_lots.pop(row.orig_id) - order.leaves_qty_lots
        self._cl_ord_ids[row.order_id] = cl_ord_id
        self._total_lots[row.order_id] = filled + row.qty_lots
        return [
            self._bodies.replace(
                cl_ord_id,
                orig,
                row.side,
                price_ticks=row.price_ticks,
                total_lots=filled + row.qty_lots,
                time=time,
            )
        ]

    def cancel_rest(self, *, time: bytes) -> list[Message]:
        """Return cancels of everything that rests, so that the book is empty again."""
        cancels = [
            self._bodies.cancel(
                self._cl_ord_ids[order_id] + _END_SUFFIX,
                self._cl_ord_ids[order_id],
                order.level.side,
                time=time,
            )
            for order_id, order in self._book.orders.items()
        ]
        self._book = OrderBook()
        return cancels
