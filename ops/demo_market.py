"""One symbol of the demo: a generator whose book is kept by the reports of the participants. Pure.

The book holds what rests of the participants' orders and nothing else: visitors may trade with them
and rest orders of their own, which the generator does not see. Every report tells the order's
LeavesQty, so what it says is put into the book as it is, whatever was known before; a report that
comes again changes nothing.

The owner of an order is one of the participants; rows about an order are its owner's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from engine.enums import Side, TimeInForce
from engine.level import RestingOrder
from gateway.fix_message import FixMessage
from gateway.fix_tags import (
    BUSINESS_MESSAGE_REJECT,
    EXECUTION_REPORT,
    ORDER_CANCEL_REJECT,
    TAG_CL_ORD_ID,
    TAG_ORIG_CL_ORD_ID,
)
from ops.fix_orders import Message, OrderBodies
from ops.flow import CANCEL, IOC, REDUCE, REPLACE, FlowRow
from ops.flow_generator import FlowGenerator, FlowShape

TAG_BUSINESS_REJECT_REF_ID = b"379"
"""The ClOrdID (11) of what is refused."""

_TAG_ORD_STATUS = b"39"
_TAG_ORDER_QTY = b"38"
_TAG_LEAVES_QTY = b"151"
_OPEN = (b"0", b"1")


class _Order(msgspec.Struct):
    """What is known of an order besides the book. ``total_lots``: OrderQty in force."""

    order_id: int
    owner: int
    side: Side
    price_ticks: int
    total_lots: int


class Request(msgspec.Struct, frozen=True):
    """A message that a participant shall send, and its ClOrdID."""

    owner: int
    cl_ord_id: bytes
    message: Message


class DemoMarket:
    """What the participants do in one symbol.

    Args:
        shape: kind of market.
        bodies: of the symbol.
        uniform: random numbers from 0 up to but not including 1.
        participants: how many.
        run: makes ClOrdIDs unique over restarts; different for each symbol.
    """

    def __init__(
        self,
        shape: FlowShape,
        bodies: OrderBodies,
        uniform: Callable[[], float],
        *,
        participants: int,
        run: bytes,
    ) -> None:
        self._bodies = bodies
        self._uniform = uniform
        self._participants = participants
        self._run = run
        self._generator = FlowGenerator(shape, uniform)
        self._count = 0
        # Orders by ClOrdID in force, and of requests under way; ClOrdIDs by order id.
        self._orders: dict[bytes, _Order] = {}
        self._cl_ord_ids: dict[int, bytes] = {}

    @property
    def resting(self) -> int:
        """How many orders of the participants rest."""
        return len(self._generator.book.orders)

    def adopt(
        self,
        owner: int,
        cl_ord_id: bytes,
        side: Side,
        *,
        price_ticks: int,
        leaves_lots: int,
        cum_lots: int,
    ) -> None:
        """Take over an order that rests from an earlier run."""
        order = _Order(self._generator.new_id(), owner, side, price_ticks, leaves_lots + cum_lots)
        self._orders[cl_ord_id] = order
        self._note(cl_ord_id, order, leaves_lots)
        self._generator.lean_on_book()

    def next_request(self, *, time: bytes) -> tuple[Request | None, int]:
        """Return what happens next, and when: ns on the generator's clock.

        Args:
            time: TransactTime (60).

        Returns:
            The request is None where its order is gone by now.
        """
        row = self._generator.next_row()
        self._count += 1
        cl_ord_id = b"%b-%d" % (self._run, self._count)
        if row.action in (CANCEL, REDUCE, REPLACE):
            return self._change(row, cl_ord_id, time), row.ts_ns
        owner = int(self._uniform() * self._participants)
        order = _Order(row.order_id, owner, row.side, row.price_ticks, row.qty_lots)
        self._orders[cl_ord_id] = order
        message = self._bodies.new(
            cl_ord_id,
            row.side,
            price_ticks=row.price_ticks,
            qty_lots=row.qty_lots,
            time_in_force=TimeInForce.IOC if row.action == IOC else TimeInForce.GTC,
            time=time,
        )
        return Request(owner, cl_ord_id, message), row.ts_ns

    def _change(self, row: FlowRow, cl_ord_id: bytes, time: bytes) -> Request | None:
        order_id = row.orig_id if row.action == REPLACE else row.order_id
        orig = self._cl_ord_ids.get(order_id)
        resting = self._generator.book.orders.get(order_id)
        if orig is None or resting is None:
            return None
        order = self._orders[orig]
        if row.action == CANCEL:
            message = self._bodies.cancel(cl_ord_id, orig, order.side, time=time)
            return Request(order.owner, cl_ord_id, message)
        filled_lots = order.total_lots - resting.leaves_qty_lots
        if row.action == REPLACE:
            total_lots = filled_lots + row.qty_lots
        else:
            total_lots = order.total_lots - row.qty_lots
        changed = _Order(order_id, order.owner, order.side, row.price_ticks, total_lots)
        self._orders[cl_ord_id] = changed
        message = self._bodies.replace(
            cl_ord_id,
            orig,
            order.side,
            price_ticks=row.price_ticks,
            total_lots=total_lots,
            time=time,
        )
        return Request(order.owner, cl_ord_id, message)

    def drop(self, cl_ord_id: bytes) -> None:
        """Forget a request that was not sent."""
        self._orders.pop(cl_ord_id, None)

    # ------------------------------------------------------------ reports

    def receive(self, message: FixMessage) -> None:
        """Take a report to one of the participants; what concerns none of our orders is ignored."""
        fields = message.fields
        if message.msg_type == EXECUTION_REPORT:
            self._on_report(fields)
        elif message.msg_type == ORDER_CANCEL_REJECT:
            self._orders.pop(fields.get(TAG_CL_ORD_ID, b""), None)
            if fields.get(_TAG_ORD_STATUS) not in _OPEN:
                self._forget(fields.get(TAG_ORIG_CL_ORD_ID, b""))
        elif message.msg_type == BUSINESS_MESSAGE_REJECT:
            self._forget(fields.get(TAG_BUSINESS_REJECT_REF_ID, b""))

    def _on_report(self, fields: Mapping[bytes, bytes]) -> None:
        cl_ord_id = fields.get(TAG_CL_ORD_ID, b"")
        orig = fields.get(TAG_ORIG_CL_ORD_ID)
        if orig is not None:
            self._forget(orig)
        order = self._orders.get(cl_ord_id)
        if order is None:
            return
        leaves_lots = self._bodies.quantities.steps(fields.get(_TAG_LEAVES_QTY, b""))
        if fields.get(_TAG_ORD_STATUS) in _OPEN and leaves_lots:
            order.total_lots = (
                self._bodies.quantities.steps(fields.get(_TAG_ORDER_QTY, b"")) or order.total_lots
            )
            self._note(cl_ord_id, order, leaves_lots)
        else:
            self._forget(cl_ord_id)

    def _note(self, cl_ord_id: bytes, order: _Order, leaves_lots: int) -> None:
        """Let the book have the order with these leaves."""
        book = self._generator.book
        known = book.orders.get(order.order_id)
        if known is not None and leaves_lots < known.leaves_qty_lots:
            book.reduce(known, known.leaves_qty_lots - leaves_lots)
        elif known is None:
            resting = RestingOrder()
            resting.order_id, resting.owner = order.order_id, order.owner
            resting.leaves_qty_lots = leaves_lots
            resting.hidden_lots = 0
            side = book.bids if order.side == Side.BUY else book.asks
            book.rest(side, order.price_ticks, resting)
            self._generator.note_resting(order.order_id)
        self._cl_ord_ids[order.order_id] = cl_ord_id

    def _forget(self, cl_ord_id: bytes) -> None:
        order = self._orders.pop(cl_ord_id, None)
        if order is not None and self._cl_ord_ids.get(order.order_id) == cl_ord_id:
            del self._cl_ord_ids[order.order_id]
            self._generator.book.cancel(order.order_id)
