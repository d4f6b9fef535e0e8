"""Answers to mass status requests (35=AF): an account's open orders, a report each.

Nothing is read here: the orders come as arguments.
"""

from __future__ import annotations

from engine.commands import OrderConditions
from engine.enums import OrdStatus
from engine.events import OrderStatusReported
from gateway.fix_time import UtcTimestampWriter
from gateway.mass_requests import decode_query
from gateway.refusals import MassStatusQuery
from gateway.report_fields import ReportEntry, status_fields
from gateway.symbol_texts import SymbolTable
from router.outbox import ListedOrder, OrderList

_NO_ORDERS = (
    b"37=NONE\x0117=%b\x01150=I\x0139=8\x0155=%b\x0154=%d\x01151=0\x0114=0\x016=0\x0160=%b\x01"
    b"58=No open orders\x01584=%b\x01911=0\x01912=Y\x01"
)
_NO_SYMBOL = "[N/A]"
_SIDE_UNDISCLOSED = 7
"""Symbol (55) and Side (54) where the request names none; FIX wants some, and has these for it."""


class ListWriter:
    """Render the entries of an outbox that list open orders.

    Args:
        symbols: rules and texts of every symbol.
    """

    def __init__(self, symbols: SymbolTable) -> None:
        self._symbols = symbols.by_name
        self._times = UtcTimestampWriter()
        self._expiries = UtcTimestampWriter()

    def bodies(self, orders: OrderList, account: int) -> list[bytes]:
        """Return the bodies of the ExecutionReports that an entry makes.

        Each has 150=I and 584, 911 and 912 in place of 790. Without orders there is one, with
        37=NONE and 39=8.

        Args:
            orders: the entry: a part of the answer to a request, which may be all of it.
            account: whose orders they are.
        """
        query = decode_query(orders.request)
        time = self._times.write(orders.ts_us * 1_000)
        if not orders.total:
            return [_no_orders(query, account, orders.number, time)]
        request_id, bodies = query.mass_status_req_id.encode(), []
        name = _name(account)
        for index, one in enumerate(orders.orders):
            texts = self._symbols[one.symbol]
            entry = ReportEntry(one.symbol, orders.number, orders.number, texts, time, name)
            body = status_fields(entry, _status_of(one, account, index), self._expiries)
            is_last = orders.first + index + 1 == orders.total
            last = b"Y" if is_last else b"N"
            tail = b"584=%b\x01911=%d\x01912=%b\x01" % (request_id, orders.total, last)
            bodies.append(body + tail)
        return bodies


def _status_of(listed: ListedOrder, account: int, index: int) -> OrderStatusReported:
    order = listed.order
    conditions = OrderConditions(
        order.stop_ticks, order.max_floor_lots, order.min_qty_lots, order.expire_us
    )
    return OrderStatusReported(
        index=index,
        account=account,
        order_seq=order.order_seq,
        cl_ord_id=listed.cl_ord_id,
        side=order.side,
        ord_type=order.ord_type,
        time_in_force=order.time_in_force,
        price_ticks=order.price_ticks,
        qty_lots=order.leaves_lots + order.cum_lots,
        leaves_lots=order.leaves_lots,
        cum_lots=order.cum_lots,
        cum_price_qty=order.cum_price_qty,
        ord_status=OrdStatus.PARTIALLY_FILLED if order.cum_lots else OrdStatus.NEW,
        ord_status_req_id="",
        conditions=conditions,
        working=order.working,
        post_only=order.post_only,
    )


def _name(account: int) -> bytes:
    """Return the beginning of the ExecIDs of a list: no symbol has a small letter."""
    return b"m%d" % account


def _no_orders(query: MassStatusQuery, account: int, outbox_number: int, time: bytes) -> bytes:
    return _NO_ORDERS % (
        b"%b-%d-0" % (_name(account), outbox_number),
        (query.symbol or _NO_SYMBOL).encode(),
        query.side or _SIDE_UNDISCLOSED,
        time,
        query.mass_status_req_id.encode(),
    )
