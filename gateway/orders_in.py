"""Application messages of clients to commands, or to the refusals that answer them. Pure.

The session layer has checked form: framing, required tags, formats. What is decided here needs the
venue's rules. Commands and refusals alike go through the admission call, so that every message is
answered once and in order. Message types that are none of these are the session's matter (380=3).

    refused because of                    D          F            G          H
    unknown symbol                        103=1      102=1        102=1      380=2
    Account (1) of somebody else          103=15     102=99       102=99     380=6
    resent too late (43=Y)                103=8      never        102=99     never
    OrdType, TimeInForce, ExecInst        103=11                  102=99
    a field that does not go with them    103=11                  102=99
    a side other than buy and sell        380=0      not read     102=99     380=0
    OrderQty, MinQty, MaxFloor: lots,
      least, most; CashOrderQty           103=13                  102=99
    Price, StopPx: ticks, range;
      notional; no day of the calendar    103=99                  102=99
    ExpireTime, ExpireDate in the past    103=4                   102=99
    price, stop price, quantity or
      expiry absent where needed          380=5                   380=5
    rate                                  103=99     never        102=99     never
    orders in flight, open orders         103=3      never        102=99     never
    value of an order                     103=3                   102=99
    OrderID (37) of another symbol                   102=1        102=1      380=1

Which field goes with which order: ``gateway/order_conditions.py``. Mass requests:

    refused because of                    q                    AF
    a type other than 1 and 7             r 531=0 532=0        380=0
    unknown symbol                        r 531=0 532=1        380=2
    a symbol with type 7                  r 531=0 532=0        380=0
    a side other than buy and sell        r 531=0 532=0        380=0
    MassStatusReqID (584) too long                             380=0
    Symbol (55) absent with type 1        380=5                380=5
    Account (1) of somebody else                               380=6
    the symbol is halted                  r 531=0 532=99       never

Source: fix-reference 3.1 and 3.2.
"""

from __future__ import annotations

from collections.abc import Callable

from engine.commands import CancelOrder, NewOrder, QueryOrder, ReplaceOrder
from engine.enums import BusinessRejectReason, OrdRejReason, OrdType, SelfTradePrevention
from gateway.fix_message import FixMessage
from gateway.fix_tags import (
    NEW_ORDER_SINGLE,
    ORDER_CANCEL_REPLACE_REQUEST,
    ORDER_CANCEL_REQUEST,
    ORDER_MASS_CANCEL_REQUEST,
    ORDER_MASS_STATUS_REQUEST,
    ORDER_STATUS_REQUEST,
    TAG_CL_ORD_ID,
    TAG_ORD_STATUS_REQ_ID,
    TAG_ORD_TYPE,
    TAG_ORIG_CL_ORD_ID,
    TAG_SELF_TRADE_PREVENTION,
    TAG_SIDE,
    TAG_SYMBOL,
)
from gateway.mass_requests import read_mass_cancel, read_mass_status
from gateway.order_terms import (
    TermsReader,
    problem_of_account,
    read_order_seq,
    unknown_symbol,
)
from gateway.order_values import unsupported
from gateway.refusals import SIDES, Origin, Problem, Request, refuse
from gateway.symbol_texts import SymbolTable

_STP = {b"%d" % mode: mode for mode in SelfTradePrevention}
_STALE = Problem(
    OrdRejReason.STALE_ORDER, "OrigSendingTime (122): resent too late, nothing was done"
)
_UNSUPPORTED = Problem(BusinessRejectReason.UNSUPPORTED_MESSAGE_TYPE, "Unsupported message type")


class OrderReader:
    """Translate application messages by the rules of the venue.

    Args:
        symbols: rules and texts of every symbol.
        default_stp: self-trade prevention of orders without tag 7928.
        protection_ppm: of stop orders, see ``GatewaySettings.market_protection_ppm``.
    """

    def __init__(
        self, symbols: SymbolTable, *, default_stp: SelfTradePrevention, protection_ppm: int
    ) -> None:
        self._symbols = symbols.by_tag
        self._default_stp = default_stp
        self._terms = TermsReader(protection_ppm=protection_ppm)
        self._readers: dict[bytes, Callable[[FixMessage, Origin], Request | Problem]] = {
            NEW_ORDER_SINGLE: self._new_order,
            ORDER_CANCEL_REQUEST: self._cancel,
            ORDER_CANCEL_REPLACE_REQUEST: self._replace,
            ORDER_STATUS_REQUEST: self._query,
            ORDER_MASS_CANCEL_REQUEST: self._mass_cancel,
            ORDER_MASS_STATUS_REQUEST: self._mass_status,
        }

    def read(self, message: FixMessage, origin: Origin) -> Request:
        """Return what a D, F, G, H, q or AF asks for, or its refusal; other types are refused.

        Of a market order the price, and of a replace the reservation, are still to be filled in by
        ``gateway/reservations.py``.
        """
        reader = self._readers.get(message.msg_type)
        request = _UNSUPPORTED if reader is None else reader(message, origin)
        return refuse(message, origin, request) if isinstance(request, Problem) else request

    def _new_order(self, message: FixMessage, origin: Origin) -> Request | Problem:
        fields = message.fields
        texts = self._symbols.get(fields[TAG_SYMBOL])
        if texts is None:
            return unknown_symbol(fields)
        terms = _problem_of_origin(message, origin) or self._terms.read(
            fields, texts, origin.received_ns
        )
        if isinstance(terms, Problem):
            return terms
        kind, price_ticks, qty_lots, conditions = terms
        side, ord_type, time_in_force, post_only = kind
        rules = texts.rules
        stp = fields.get(TAG_SELF_TRADE_PREVENTION)
        return Request(
            rules.symbol,
            NewOrder(
                origin.account,
                origin.session,
                origin.msg_seq_num,
                fields[TAG_CL_ORD_ID].decode("ascii"),
                side,
                ord_type,
                time_in_force,
                post_only,
                self._default_stp if stp is None else _STP[stp],
                price_ticks,
                qty_lots,
                rules.version,
                conditions.cash
                if conditions is not None and conditions.cash
                else rules.hold_of(side, price_ticks, qty_lots),
                conditions,
                origin.poss_resend,
            ),
        )

    def _replace(self, message: FixMessage, origin: Origin) -> Request | Problem:
        fields = message.fields
        texts = self._symbols.get(fields[TAG_SYMBOL])
        if texts is None:
            return unknown_symbol(fields)
        terms = _problem_of_origin(message, origin) or self._terms.read(
            fields, texts, origin.received_ns
        )
        if isinstance(terms, Problem):
            return terms
        if terms.kind.ord_type is OrdType.MARKET:
            expected = "2 (limit), 3 (stop) or 4 (stop-limit): a market order is never open"
            return unsupported(TAG_ORD_TYPE, expected, fields)
        order_seq = read_order_seq(fields)
        if isinstance(order_seq, Problem):
            return order_seq
        stp = fields.get(TAG_SELF_TRADE_PREVENTION)
        return Request(
            texts.rules.symbol,
            ReplaceOrder(
                account=origin.account,
                session=origin.session,
                msg_seq_num=origin.msg_seq_num,
                cl_ord_id=fields[TAG_CL_ORD_ID].decode("ascii"),
                orig_cl_ord_id=fields[TAG_ORIG_CL_ORD_ID].decode("ascii"),
                order_seq=order_seq,
                side=terms.kind.side,
                ord_type=terms.kind.ord_type,
                time_in_force=terms.kind.time_in_force,
                post_only=terms.kind.post_only,
                price_ticks=terms.price_ticks,
                qty_lots=terms.qty_lots,
                rules_version=texts.rules.version,
                reserved=0,
                stp=None if stp is None else _STP[stp],
                conditions=terms.conditions,
                poss_resend=origin.poss_resend,
            ),
        )

    def _cancel(self, message: FixMessage, origin: Origin) -> Request | Problem:
        fields = message.fields
        texts = self._symbols.get(fields[TAG_SYMBOL])
        if texts is None:
            return unknown_symbol(fields)
        order_seq = problem_of_account(fields, origin) or read_order_seq(fields)
        if isinstance(order_seq, Problem):
            return order_seq
        return Request(
            texts.rules.symbol,
            CancelOrder(
                origin.account,
                origin.session,
                origin.msg_seq_num,
                fields[TAG_CL_ORD_ID].decode("ascii"),
                fields[TAG_ORIG_CL_ORD_ID].decode("ascii"),
                order_seq,
                origin.poss_resend,
            ),
        )

    def _query(self, message: FixMessage, origin: Origin) -> Request | Problem:
        fields = message.fields
        texts = self._symbols.get(fields[TAG_SYMBOL])
        side = SIDES.get(fields[TAG_SIDE])
        if texts is None:
            return unknown_symbol(fields)
        if side is None:
            return unsupported(TAG_SIDE, "1 (buy) or 2 (sell)", fields)
        order_seq = problem_of_account(fields, origin) or read_order_seq(fields)
        if isinstance(order_seq, Problem):
            return order_seq
        return Request(
            texts.rules.symbol,
            QueryOrder(
                origin.account,
                origin.session,
                origin.msg_seq_num,
                fields[TAG_CL_ORD_ID].decode("ascii"),
                order_seq,
                side,
                fields.get(TAG_ORD_STATUS_REQ_ID, b"").decode("ascii"),
            ),
        )

    def _mass_cancel(self, message: FixMessage, origin: Origin) -> Request | Problem:
        return read_mass_cancel(message, origin, self._symbols)

    def _mass_status(self, message: FixMessage, origin: Origin) -> Request | Problem:
        return read_mass_status(message, origin, self._symbols)


def _problem_of_origin(message: FixMessage, origin: Origin) -> Problem | None:
    return problem_of_account(message.fields, origin) or (_STALE if origin.stale else None)
