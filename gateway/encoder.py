"""The encode stage of the ring: application messages to admission items, within their limits.

A market order, a replace, and the refusal of a cancel or replace need a look at Redis first; the
forward stage completes them, with ``make_item`` too. Orders and replaces keep to the limits of the
session and of the account; nothing else is limited.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from engine.commands import MassCancel, NewOrder, QueryOrder, ReplaceOrder, encode_command
from engine.enums import BusinessRejectReason, OrdRejReason, OrdType
from engine.events import (
    BusinessRejected,
    CancelRejected,
    MassCancelReported,
    OrderRejected,
    Output,
    encode_output,
)
from engine.instrument import AMOUNT_MAX
from gateway.account_limits import (
    NO_LIMITS,
    problem_of_open_orders,
    problem_of_order_value,
    rate_of,
)
from gateway.connection import Connection
from gateway.fix_tags import (
    NEW_ORDER_SINGLE,
    ORDER_CANCEL_REPLACE_REQUEST,
    ORDER_MASS_STATUS_REQUEST,
    ORDER_STATUS_REQUEST,
    TAG_ORDER_QTY,
)
from gateway.fix_time import NS_PER_SECOND
from gateway.market_requests import MARKET_REQUESTS
from gateway.mass_requests import encode_query, mass_cancel_accepted
from gateway.orders_in import OrderReader
from gateway.pipeline import Inbound
from gateway.refusals import (
    MassStatusQuery,
    Origin,
    Problem,
    Refusal,
    Request,
    ask_first,
    refuse,
)
from gateway.reservations import expected_of, refused_for_funds
from gateway.session_events import AppMessage
from gateway.settings import GatewaySettings
from gateway.symbol_texts import SymbolTable
from router.admission import (
    AdmissionItem,
    MassCancelItem,
    MassStatusItem,
    PublishItem,
    RefuseItem,
)

_ORDERS = (NewOrder, ReplaceOrder)
_REFUSED_ORDERS = (OrderRejected, CancelRejected)
_REFUSALS = (*_REFUSED_ORDERS, BusinessRejected, MassCancelReported)
_TO_COMPLETE = (ReplaceOrder, CancelRejected)
_DROP_COPY = Problem(BusinessRejectReason.NOT_AUTHORIZED, "Drop copy: this session sends no orders")
_LIMITED = (NEW_ORDER_SINGLE, ORDER_CANCEL_REPLACE_REQUEST)


class Encoder:
    """Translate what is in the ring.

    Args:
        symbols: rules and texts of every symbol.
        settings: the limits of a session.
    """

    def __init__(self, symbols: SymbolTable, settings: GatewaySettings) -> None:
        self._symbols = symbols
        self._reader = OrderReader(
            symbols,
            default_stp=settings.self_trade_prevention,
            protection_ppm=settings.market_protection_ppm,
        )
        self._resend_age_ns = settings.resend_age_max_s * NS_PER_SECOND
        self._in_flight_max = settings.orders_in_flight_max
        self._orders_per_s_max = settings.orders_per_s_max
        self._too_many = Problem(
            OrdRejReason.EXCEEDS_LIMIT,
            f"Orders in flight: at most {settings.orders_in_flight_max} may be unanswered",
        )

    def encode(self, entries: list[Inbound], *, end_of_batch: bool) -> None:
        """Handle a batch of the encode stage."""
        for entry in entries:
            event = entry.event
            if type(event) is AppMessage and event.message.msg_type not in MARKET_REQUESTS:
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
                entry.connection.answered(request.symbol, request.content.cl_ord_id)
                self._translate(entry, event)

    def _encode(self, entry: Inbound, event: AppMessage) -> None:
        connection = entry.connection
        if connection.only_reads:
            refusal = refuse(event.message, self._origin(entry, event), _DROP_COPY)
            self._set_request(entry, refusal)
            return
        problem = self._problem_of_rate(entry, event)
        if problem is not None:
            request = refuse(event.message, self._origin(entry, event), problem)
            self._set_request(entry, request)
            return
        self._translate(entry, event)

    def _problem_of_rate(self, entry: Inbound, event: AppMessage) -> Problem | None:
        """Count a message that has a rate, and say whether it came too soon; cancels have none.

        One with PossResend=Y that is too many becomes a query, and counts as one.
        """
        connection, msg_type = entry.connection, event.message.msg_type
        if msg_type in _LIMITED:
            problem = None
            if not connection.bucket.take(entry.received_ns):
                problem = self._too_fast(connection)
            elif len(connection.in_flight) >= self._in_flight_max:
                problem = self._too_many
            if problem is not None and event.poss_resend:
                return _too_many_requests(entry, 1) or problem
            return problem
        if msg_type == ORDER_STATUS_REQUEST:
            return _too_many_requests(entry, 1)
        if msg_type == ORDER_MASS_STATUS_REQUEST:
            # Its list is of the orders that are open, as far as we know.
            return _too_many_requests(entry, max(1, connection.open_orders))
        return None

    def _translate(self, entry: Inbound, event: AppMessage) -> None:
        origin = self._origin(entry, event)
        request = self._reader.read(event.message, origin)
        content = request.content
        if isinstance(content, _ORDERS):
            connection = entry.connection
            if connection.limits is not NO_LIMITS:
                problem = self._problem_of_limits(connection, request.symbol, content)
                if problem is not None:
                    self._set_request(entry, refuse(event.message, origin, problem))
                    return
            key = request.symbol, content.cl_ord_id
            rules = self._symbols.by_name[request.symbol].rules
            connection.in_flight.setdefault(key, expected_of(content, rules, None))
        self._set_request(entry, request)

    def _problem_of_limits(
        self, connection: Connection, symbol: str, order: NewOrder | ReplaceOrder
    ) -> Problem | None:
        """Check an order against the limits of its account; count a new one."""
        limits = connection.limits
        problem = problem_of_order_value(limits, self._symbols.by_name[symbol], order)
        if problem is not None or isinstance(order, ReplaceOrder):
            return problem
        unanswered = len(connection.new_in_flight)
        problem = problem_of_open_orders(
            limits, open_orders=connection.open_orders, unanswered=unanswered
        )
        if problem is None:
            connection.new_in_flight.add((symbol, order.cl_ord_id))
        return problem

    def _too_fast(self, connection: Connection) -> Problem:
        rate = rate_of(connection.limits, orders_per_s_max=self._orders_per_s_max)
        return Problem(OrdRejReason.OTHER, f"Rate limit: at most {rate} orders per second")

    def _origin(self, entry: Inbound, event: AppMessage) -> Origin:
        connection = entry.connection
        sent_ns = event.orig_sending_time_ns
        stale = sent_ns is not None and entry.received_ns - sent_ns > self._resend_age_ns
        number, received_ns = connection.number, entry.received_ns
        return Origin(
            connection.account, number, event.msg_seq_num, stale, received_ns, event.poss_resend
        )

    def ask_first(self, entry: Inbound, request: Request) -> Request:
        """Return a request, or what goes to the engine in place of a refused PossResend."""
        event = entry.event
        assert isinstance(event, AppMessage), "Invariant: only such messages become requests"
        if not event.poss_resend or request.symbol not in self._symbols.by_name:
            return request
        return ask_first(request, event.message, self._origin(entry, event))

    def _with_quantity(self, entry: Inbound, request: Request) -> Request:
        """Return a refusal; that of an order with its OrderQty (38), where that is one."""
        texts = self._symbols.by_name.get(request.symbol)
        refused, event = request.content, entry.event
        if not isinstance(refused, OrderRejected) or refused.qty_lots or texts is None:
            return request
        assert isinstance(event, AppMessage), "Invariant: only such messages become requests"
        lots = texts.quantities.steps(event.message.fields.get(TAG_ORDER_QTY, b"0"))
        if lots is None or not 0 < lots <= AMOUNT_MAX:
            return request
        return Request(request.symbol, msgspec.structs.replace(refused, qty_lots=lots))

    def _set_request(self, entry: Inbound, request: Request) -> None:
        if isinstance(request.content, _REFUSED_ORDERS):
            request = self.ask_first(entry, self._with_quantity(entry, request))
        entry.request = request
        entry.item = None if needs_lookup(request) else self.make_item(entry, request)

    def make_item(self, entry: Inbound, request: Request) -> AdmissionItem:
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
                instead=self._instead(entry, request, content),
            )
        if isinstance(content, _REFUSALS):
            return RefuseItem(
                connection.account,
                connection.epoch,
                event.msg_seq_num,
                _answer(entry, request.symbol, content),
            )
        if isinstance(content, MassStatusQuery):
            return MassStatusItem(
                connection.account,
                connection.epoch,
                event.msg_seq_num,
                encode_query(content),
                content.symbol,
                content.side or 0,
            )
        if isinstance(content, MassCancel) and not request.symbol:
            return MassCancelItem(
                connection.account,
                connection.epoch,
                event.msg_seq_num,
                _answer(entry, "", mass_cancel_accepted(content)),
                encode_command(content),
            )
        return PublishItem(
            connection.account,
            connection.epoch,
            event.msg_seq_num,
            request.symbol,
            encode_command(content),
        )

    def _instead(self, entry: Inbound, request: Request, command: NewOrder | ReplaceOrder) -> bytes:
        """Return what is published where there is no money for a command; empty: a refusal."""
        if not command.poss_resend:
            return b""
        refused = refused_for_funds(command, self._symbols.by_name[request.symbol])
        query = self.ask_first(entry, Request(request.symbol, refused)).content
        assert isinstance(query, QueryOrder), "Invariant: its symbol is one of the venue"
        return encode_command(query)


def _too_many_requests(entry: Inbound, count: int) -> Problem | None:
    text = entry.connection.problem_of_rate(count, entry.received_ns)
    return Problem(BusinessRejectReason.OTHER, text) if text else None


def _answer(entry: Inbound, symbol: str, event: Refusal) -> bytes:
    return encode_output(Output(symbol, 0, entry.received_ns // 1_000, [event], []))


def needs_lookup(request: Request) -> bool:
    """Tell whether a request cannot be admitted before something is read from Redis."""
    content = request.content
    if isinstance(content, NewOrder):
        return content.ord_type is OrdType.MARKET
    return isinstance(content, _TO_COMPLETE)
