"""What a client's message becomes: a command for an engine, or the event that refuses it. Pure."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from engine.commands import (
    CancelOrder,
    MassCancel,
    NewOrder,
    QueryOrder,
    ReplaceOrder,
    ResentRefusal,
)
from engine.enums import (
    BusinessRejectReason,
    CxlRejReason,
    CxlRejResponseTo,
    MassCancelRejectReason,
    MassCancelRequestType,
    OrdRejReason,
    OrdStatus,
    OrdType,
    Side,
    TimeInForce,
)
from engine.events import BusinessRejected, CancelRejected, MassCancelReported, OrderRejected
from gateway.fix_message import FixMessage
from gateway.fix_tags import (
    NEW_ORDER_SINGLE,
    ORDER_CANCEL_REPLACE_REQUEST,
    ORDER_CANCEL_REQUEST,
    ORDER_MASS_CANCEL_REQUEST,
    ORDER_STATUS_REQUEST,
    TAG_CL_ORD_ID,
    TAG_MASS_CANCEL_REQUEST_TYPE,
    TAG_MASS_STATUS_REQ_ID,
    TAG_ORIG_CL_ORD_ID,
    TAG_SIDE,
    TAG_SYMBOL,
)


class MassStatusQuery(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """OrderMassStatusRequest (35=AF), answered from ``open:{account}``.

    ``symbol`` empty: of all symbols. ``side`` None: of both.
    """

    mass_status_req_id: str
    symbol: str
    side: Side | None


NewCommand = NewOrder | CancelOrder | ReplaceOrder | QueryOrder | MassCancel
Refusal = OrderRejected | CancelRejected | BusinessRejected | MassCancelReported

SIDES = {b"1": Side.BUY, b"2": Side.SELL}

SYMBOL_AWAY = "The order stream of this symbol is not open yet; try again"

_MSG_TYPES = {
    NewOrder: NEW_ORDER_SINGLE,
    CancelOrder: ORDER_CANCEL_REQUEST,
    ReplaceOrder: ORDER_CANCEL_REPLACE_REQUEST,
    QueryOrder: ORDER_STATUS_REQUEST,
    MassCancel: ORDER_MASS_CANCEL_REQUEST,
}
_RESPONSES_TO = {
    ORDER_CANCEL_REQUEST: CxlRejResponseTo.CANCEL,
    ORDER_CANCEL_REPLACE_REQUEST: CxlRejResponseTo.REPLACE,
}
_BUSINESS_REASONS = {
    OrdRejReason.UNKNOWN_SYMBOL: BusinessRejectReason.UNKNOWN_SECURITY,
    OrdRejReason.UNKNOWN_ORDER: BusinessRejectReason.UNKNOWN_ID,
    OrdRejReason.UNKNOWN_ACCOUNT: BusinessRejectReason.NOT_AUTHORIZED,
}
_MASS_CANCEL_REASONS = {
    OrdRejReason.UNKNOWN_SYMBOL: MassCancelRejectReason.UNKNOWN_SECURITY,
    OrdRejReason.UNSUPPORTED_CHARACTERISTIC: MassCancelRejectReason.NOT_SUPPORTED,
}


class Request(NamedTuple):
    """One message, understood: ``content`` is a command for the symbol's engine, or its refusal.

    A mass request for all symbols has an empty one.
    """

    symbol: str
    content: NewCommand | MassStatusQuery | Refusal


class Origin(NamedTuple):
    """Where a message comes from, and how it came.

    Args:
        account: the session's SenderCompID.
        session: the incarnation number of the session.
        msg_seq_num: the message's MsgSeqNum.
        stale: a resend (PossDupFlag=Y) of something too old to be still wanted.
        received_ns: when the gateway got it: what is to expire before is refused.
        poss_resend: it may have been sent before under another MsgSeqNum (PossResend=Y).
    """

    account: int
    session: int
    msg_seq_num: int
    stale: bool
    received_ns: int = 0
    poss_resend: bool = False


class Problem(NamedTuple):
    """Why a message is refused, in the words of 103 or 380; a G's 102 follows from it."""

    reason: OrdRejReason | BusinessRejectReason
    text: str


def readable(value: bytes) -> str:
    """Return a value that a peer sent as text, whatever bytes stand in it."""
    return value.decode("ascii", "backslashreplace")


def refuse(message: FixMessage, origin: Origin, problem: Problem) -> Request:
    """Return the refusal of a message in the form that its type asks for.

    D: ExecutionReport; F and G: OrderCancelReject; q: OrderMassCancelReport; the other types, and
    whatever is refused for a BusinessRejectReason: BusinessMessageReject.
    """
    symbol = readable(message.fields.get(TAG_SYMBOL, b""))
    reason, text = problem
    content: Refusal
    if isinstance(reason, BusinessRejectReason):
        content = _business_rejected(message, origin, reason, text)
    elif message.msg_type == NEW_ORDER_SINGLE:
        content = _new_order_rejected(message, origin, reason, text)
    elif message.msg_type in _RESPONSES_TO:
        unknown = reason in (OrdRejReason.UNKNOWN_ORDER, OrdRejReason.UNKNOWN_SYMBOL)
        content = cancel_rejected(
            account=origin.account,
            cl_ord_id=readable(message.fields[TAG_CL_ORD_ID]),
            orig_cl_ord_id=readable(message.fields[TAG_ORIG_CL_ORD_ID]),
            response_to=_RESPONSES_TO[message.msg_type],
            reason=CxlRejReason.UNKNOWN_ORDER if unknown else CxlRejReason.OTHER,
            text=text,
        )
    elif message.msg_type == ORDER_MASS_CANCEL_REQUEST:
        content = _mass_cancel_rejected(message, origin, reason, text)
    else:
        business_reason = _BUSINESS_REASONS.get(reason, BusinessRejectReason.OTHER)
        content = _business_rejected(message, origin, business_reason, text)
    return Request(symbol, content)


def ask_first(request: Request, message: FixMessage, origin: Origin) -> Request:
    """Return what goes to the engine in place of a refusal of a message with PossResend=Y.

    The engine alone knows whether the message came before; it refuses, in the words that it is
    given, only what did not.

    Args:
        request: what the message became; returned as it is where it refuses nothing like that.
        message: with PossResend=Y, of a symbol that the venue has.
        origin: its origin.
    """
    refused = request.content
    if not isinstance(refused, OrderRejected | CancelRejected):
        return request
    side = SIDES.get(message.fields[TAG_SIDE], Side.BUY)
    query = QueryOrder(
        origin.account,
        origin.session,
        origin.msg_seq_num,
        refused.cl_ord_id,
        order_seq=0,
        side=side,
        ord_status_req_id="",
        refusal=resent_refusal(refused),
    )
    return Request(request.symbol, query)


def resent_refusal(refused: OrderRejected | CancelRejected) -> ResentRefusal:
    """Return a refusal as an engine takes it to be told if the message did not come before."""
    if isinstance(refused, OrderRejected):
        return ResentRefusal(refused.reason, refused.text, refused.qty_lots)
    orig, response_to = refused.orig_cl_ord_id, refused.response_to
    return ResentRefusal(refused.reason, refused.text, 0, orig, response_to)


def order_rejected(
    order: NewOrder, text: str, reason: OrdRejReason = OrdRejReason.OTHER
) -> OrderRejected:
    """Return the refusal of an order that was understood but never reached an engine."""
    return OrderRejected(
        index=0,
        account=order.account,
        order_seq=0,
        cl_ord_id=order.cl_ord_id,
        side=order.side,
        ord_type=order.ord_type,
        time_in_force=order.time_in_force,
        price_ticks=order.price_ticks,
        qty_lots=order.qty_lots,
        leaves_lots=0,
        cum_lots=0,
        cum_price_qty=0,
        reason=reason,
        text=text,
    )


def cancel_rejected(
    *,
    account: int,
    cl_ord_id: str,
    orig_cl_ord_id: str,
    response_to: CxlRejResponseTo,
    reason: CxlRejReason,
    text: str,
) -> CancelRejected:
    """Return the refusal of a cancel or replace, for an order that we do not know (yet)."""
    return CancelRejected(
        index=0,
        account=account,
        cl_ord_id=cl_ord_id,
        orig_cl_ord_id=orig_cl_ord_id,
        order_seq=0,
        ord_status=OrdStatus.REJECTED,
        response_to=response_to,
        reason=reason,
        text=text,
    )


def _new_order_rejected(
    message: FixMessage, origin: Origin, reason: OrdRejReason, text: str
) -> OrderRejected | BusinessRejected:
    side = SIDES.get(message.fields[TAG_SIDE])
    if side is None:
        # An ExecutionReport must name the side, and an event cannot hold this one.
        return _business_rejected(message, origin, BusinessRejectReason.OTHER, text)
    return OrderRejected(
        index=0,
        account=origin.account,
        order_seq=0,
        cl_ord_id=readable(message.fields[TAG_CL_ORD_ID]),
        side=side,
        ord_type=OrdType.LIMIT,
        time_in_force=TimeInForce.DAY,
        price_ticks=0,
        qty_lots=0,
        leaves_lots=0,
        cum_lots=0,
        cum_price_qty=0,
        reason=reason,
        text=text,
    )


def _mass_cancel_rejected(
    message: FixMessage, origin: Origin, reason: OrdRejReason, text: str
) -> MassCancelReported:
    fields = message.fields
    return MassCancelReported(
        index=0,
        account=origin.account,
        cl_ord_id=readable(fields[TAG_CL_ORD_ID]),
        request_type=MassCancelRequestType(int(fields[TAG_MASS_CANCEL_REQUEST_TYPE])),
        response=MassCancelRequestType.REJECTED,
        affected=None,
        reason=_MASS_CANCEL_REASONS.get(reason, MassCancelRejectReason.OTHER),
        text=text,
        side=SIDES.get(fields.get(TAG_SIDE, b"")),
    )


def _business_rejected(
    message: FixMessage, origin: Origin, reason: BusinessRejectReason, text: str
) -> BusinessRejected:
    fields = message.fields
    ref_id = fields.get(TAG_CL_ORD_ID) or fields.get(TAG_MASS_STATUS_REQ_ID, b"")
    return BusinessRejected(
        index=0,
        account=origin.account,
        ref_seq_num=origin.msg_seq_num,
        ref_msg_type=readable(message.msg_type),
        ref_id=readable(ref_id),
        reason=reason,
        text=text,
    )


def refused_while_away(command: NewCommand) -> BusinessRejected:
    """Return the answer to a command whose symbol's streams cannot be written now: 380=4."""
    return BusinessRejected(
        index=0,
        account=command.account,
        ref_seq_num=command.msg_seq_num,
        ref_msg_type=readable(_MSG_TYPES[type(command)]),
        ref_id=command.cl_ord_id,
        reason=BusinessRejectReason.APPLICATION_NOT_AVAILABLE,
        text=SYMBOL_AWAY,
    )


def not_available(message: FixMessage, origin: Origin, text: str) -> BusinessRejected:
    """Return the answer to a message that cannot be admitted now: 380=4."""
    return _business_rejected(message, origin, BusinessRejectReason.APPLICATION_NOT_AVAILABLE, text)
