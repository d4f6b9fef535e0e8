"""The encode stage of the ring: application messages to admission items, within their limits.

A market order, a replace, and the refusal of a cancel or replace need a look at Redis first; the
forward stage completes them, with ``make_item`` too.
"""

from __future__ import annotations

from collections.abc import Iterable

from engine.commands import NewOrder, ReplaceOrder, encode_command
from engine.enums import OrdRejReason, OrdType
from engine.events import (
    BusinessRejected,
    CancelRejected,
    OrderRejected,
    Output,
    encode_output,
)
from gateway.fix_tags import NEW_ORDER_SINGLE, ORDER_CANCEL_REPLACE_REQUEST
from gateway.fix_time import NS_PER_SECOND
from gateway.orders_in import OrderReader
from gateway.pipeline import Inbound
from gateway.refusals import Origin, Problem, Request, refuse
from gateway.session_events import AppMessage
from gateway.settings import GatewaySettings
from gateway.symbol_texts import SymbolTable
from router.admission import PublishItem, RefuseItem

_ORDERS = (NewOrder, ReplaceOrder)
_REFUSALS = (OrderRejected, CancelRejected, BusinessRejected)
_TO_COMPLETE = (ReplaceOrder, CancelRejected)
_LIMITED = (NEW_ORDER_SINGLE, ORDER_CANCEL_REPLACE_REQUEST)


class Encoder:
    """Translate what is in the ring.

    Args:
        symbols: rules and texts of every symbol.
        settings: the limits of a session.
    """

    def __init__(self, symbols: SymbolTable, settings: GatewaySettings) -> None:
        self._symbols = symbols
        self._reader = OrderReader(symbols, default_stp=settings.self_trade_prevention)
        self._resend_age_ns = settings.resend_age_max_s * NS_PER_SECOND
        self._in_flight_max = settings.orders_in_flight_max
        self._too_fast = Problem(
            OrdRejReason.OTHER, f"Rate limit: at most {settings.orders_per_s_max} orders per second"
        )
        self._too_many = Problem(
            OrdRejReason.EXCEEDS_LIMIT,
            f"Orders in flight: at most {settings.orders_in_flight_max} may be unanswered",
        )

    def encode(self, entries: list[Inbound], *, end_of_batch: bool) -> None:
        """Handle a batch of the encode stage."""
        for entry in entries:
            event = entry.event
            if type(event) is AppMessage:
                self._encode(entry, event)

    def refresh(self, entries: Iterable[Inbound]) -> None:
        """Translate again what was translated under other rules than those in force now."""
        for entry in entries:
            request, event = entry.request, entry.event
            if request is None or not isinstance(request.content, _ORDERS):
                continue
            assert isinstance(event, AppMessage), "Invariant: only such messages become requests"
            rules = self._symbols.by_name[request.symbol].rules
            if request.content.rules_version != rules.version:
                self._translate(entry, event)

    def _encode(self, entry: Inbound, event: AppMessage) -> None:
        connection = entry.connection
        if event.message.msg_type in _LIMITED:
            problem = None
            if not connection.bucket.take(entry.received_ns):
                problem = self._too_fast
            elif len(connection.in_flight) >= self._in_flight_max:
                problem = self._too_many
            if problem is not None:
                request = refuse(event.message, self._origin(entry, event), problem)
                self._set_request(entry, request)
                return
        self._translate(entry, event)

    def _translate(self, entry: Inbound, event: AppMessage) -> None:
        request = self._reader.read(event.message, self._origin(entry, event))
        content = request.content
        if isinstance(content, _ORDERS):
            entry.connection.in_flight.add(content.cl_ord_id)
        self._set_request(entry, request)

    def _origin(self, entry: Inbound, event: AppMessage) -> Origin:
        connection = entry.connection
        sent_ns = event.orig_sending_time_ns
        stale = sent_ns is not None and entry.received_ns - sent_ns > self._resend_age_ns
        return Origin(connection.account, connection.number, event.msg_seq_num, stale)

    def _set_request(self, entry: Inbound, request: Request) -> None:
        entry.request = request
        entry.item = None if needs_lookup(request) else self.make_item(entry, request)

    def make_item(self, entry: Inbound, request: Request) -> PublishItem | RefuseItem:
        """Return a complete request as admission takes it."""
        connection, event = entry.connection, entry.event
        assert isinstance(event, AppMessage), "Invariant: only such messages become requests"
        content = request.content
        if isinstance(content, _ORDERS):
            rules = self._symbols.by_name[request.symbol].rules
            return PublishItem(
                connection.account,
                connection.epoch,
                event.msg_seq_num,
                request.symbol,
                encode_command(content),
                rules.hold_asset(content.side) if content.reserved else "",
                content.reserved,
                content.rules_version,
                may_wait=False,
            )
        if isinstance(content, _REFUSALS):
            return RefuseItem(
                connection.account,
                connection.epoch,
                event.msg_seq_num,
                encode_output(Output(request.symbol, 0, entry.received_ns // 1_000, [content], [])),
            )
        return PublishItem(
            connection.account,
            connection.epoch,
            event.msg_seq_num,
            request.symbol,
            encode_command(content),
        )


def needs_lookup(request: Request) -> bool:
    """Tell whether a request cannot be admitted before something is read from Redis."""
    content = request.content
    if isinstance(content, NewOrder):
        return content.ord_type is OrdType.MARKET
    return isinstance(content, _TO_COMPLETE)
