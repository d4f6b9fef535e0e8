"""How a request for market data is refused that is not looked at, or cannot be served. Pure."""

from __future__ import annotations

from typing import Final

from engine.enums import BusinessRejectReason
from engine.events import BusinessRejected
from gateway.fix_message import FixMessage
from gateway.fix_tags import (
    BUSINESS_MESSAGE_REJECT,
    MARKET_DATA_REQUEST,
    MARKET_DATA_REQUEST_REJECT,
    SECURITY_LIST,
    SECURITY_LIST_REQUEST,
    SECURITY_STATUS_REQUEST,
    TRADING_SESSION_STATUS_REQUEST,
)
from gateway.market_requests import (
    BANDWIDTH,
    REQ_ID_LENGTH_MAX,
    UNSUBSCRIBE,
    MarketRefusal,
    market_refusal_body,
)
from gateway.refusals import readable
from gateway.reports_out import business_reject_body
from gateway.security_texts import TEMPORARILY_UNAVAILABLE, no_securities_body
from gateway.session_events import AppMessage

_REQ_IDS: Final = {
    MARKET_DATA_REQUEST: b"262",
    SECURITY_LIST_REQUEST: b"320",
    SECURITY_STATUS_REQUEST: b"324",
    TRADING_SESSION_STATUS_REQUEST: b"335",
}


def symbols_asked_for(message: FixMessage, *, symbols: int) -> int:
    """Return of how many symbols a request wants something; 0 where it ends a subscription.

    Args:
        message: a V, x, e or g without session-level faults.
        symbols: of the venue, which is what a list of all asks for.
    """
    fields = message.fields
    if message.msg_type == SECURITY_LIST_REQUEST:
        return symbols if fields[b"559"] == b"4" else 1
    if fields[b"263"] == UNSUBSCRIBE:
        return 0
    if message.msg_type == MARKET_DATA_REQUEST:
        return max(1, int(fields[b"146"]))
    is_of_all = message.msg_type == TRADING_SESSION_STATUS_REQUEST and b"336" not in fields
    return symbols if is_of_all else 1


def business_refusal(
    event: AppMessage, account: int, reason: BusinessRejectReason, text: str
) -> tuple[bytes, bytes]:
    """Return MsgType and body of the BusinessMessageReject (35=j) of a request."""
    message = event.message
    req_id = message.fields[_REQ_IDS[message.msg_type]]
    rejected = BusinessRejected(
        index=0,
        account=account,
        ref_seq_num=event.msg_seq_num,
        ref_msg_type=readable(message.msg_type),
        ref_id=readable(req_id[:REQ_ID_LENGTH_MAX]),
        reason=reason,
        text=text,
    )
    return BUSINESS_MESSAGE_REJECT, business_reject_body(rejected)


def rate_refusal(
    event: AppMessage, account: int, response_id: bytes, text: str
) -> tuple[bytes, bytes]:
    """Return MsgType and body of the answer to a request that came too soon.

    Y with 281=2, y with 560=4, or j with 380=0.

    Args:
        event: the request.
        account: of the session.
        response_id: SecurityResponseID (322), for the answer to an x.
        text: what the limit is; a y has no place for it.
    """
    message = event.message
    req_id = message.fields[_REQ_IDS[message.msg_type]][:REQ_ID_LENGTH_MAX]
    if message.msg_type == MARKET_DATA_REQUEST:
        body = market_refusal_body(MarketRefusal(req_id, BANDWIDTH, text))
        return MARKET_DATA_REQUEST_REJECT, body
    if message.msg_type == SECURITY_LIST_REQUEST:
        return SECURITY_LIST, no_securities_body(req_id, response_id, TEMPORARILY_UNAVAILABLE)
    return business_refusal(event, account, BusinessRejectReason.OTHER, text)
