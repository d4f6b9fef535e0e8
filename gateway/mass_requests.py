"""OrderMassCancelRequest (35=q) and OrderMassStatusRequest (35=AF) to commands and queries. Pure.

Of the types that FIX has (530, 585), 1 (the orders of one security) and 7 (all orders) are done.
Symbol (55) goes with 1 and not with 7: whoever names a symbol does not mean all of them. Side (54)
narrows either.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from engine.commands import MassCancel
from engine.enums import (
    BusinessRejectReason,
    MassCancelRejectReason,
    MassCancelRequestType,
    Side,
)
from engine.errors import DecodeError
from engine.events import MassCancelReported
from gateway.fix_message import FixMessage
from gateway.fix_tags import (
    TAG_CL_ORD_ID,
    TAG_MASS_CANCEL_REQUEST_TYPE,
    TAG_MASS_STATUS_REQ_ID,
    TAG_MASS_STATUS_REQ_TYPE,
    TAG_SIDE,
    TAG_SYMBOL,
)
from gateway.market_requests import REQ_ID_LENGTH_MAX
from gateway.order_terms import problem_of_account, unknown_symbol
from gateway.order_values import Fields, absent, unsupported
from gateway.refusals import SIDES, MassStatusQuery, Origin, Problem, Request
from gateway.symbol_texts import SymbolTexts

_TYPES = {b"1": MassCancelRequestType.SECURITY, b"7": MassCancelRequestType.ALL}

Symbols = Mapping[bytes, SymbolTexts]


encode_query = msgspec.msgpack.Encoder().encode
_QUERIES = msgspec.msgpack.Decoder(MassStatusQuery)


def decode_query(data: bytes) -> MassStatusQuery:
    """Decode a query that admission has put into an outbox.

    Raises:
        DecodeError: the bytes are no query of this version.
    """
    try:
        return _QUERIES.decode(data)
    except msgspec.DecodeError as error:
        raise DecodeError(f"not a mass status query: {error} ({data[:80]!r})") from error


def read_mass_cancel(message: FixMessage, origin: Origin, symbols: Symbols) -> Request | Problem:
    """Return what an OrderMassCancelRequest asks for, or why it is refused."""
    fields = message.fields
    scope = _read_scope(fields, symbols, TAG_MASS_CANCEL_REQUEST_TYPE)
    if isinstance(scope, Problem):
        return scope
    symbol, side = scope
    command = MassCancel(
        origin.account,
        origin.session,
        origin.msg_seq_num,
        fields[TAG_CL_ORD_ID].decode("ascii"),
        MassCancelRequestType.SECURITY if symbol else MassCancelRequestType.ALL,
        side,
    )
    return Request(symbol, command)


def read_mass_status(message: FixMessage, origin: Origin, symbols: Symbols) -> Request | Problem:
    """Return what an OrderMassStatusRequest asks for, or why it is refused."""
    fields = message.fields
    request_id = fields[TAG_MASS_STATUS_REQ_ID].decode("ascii")
    if len(request_id) > REQ_ID_LENGTH_MAX:
        # Each order of the list repeats it.
        text = f"MassStatusReqID (584): at most {REQ_ID_LENGTH_MAX} characters"
        return Problem(BusinessRejectReason.OTHER, text)
    scope = problem_of_account(fields, origin) or _read_scope(
        fields, symbols, TAG_MASS_STATUS_REQ_TYPE
    )
    if isinstance(scope, Problem):
        return scope
    symbol, side = scope
    query = MassStatusQuery(request_id, symbol, side)
    return Request(symbol, query)


def mass_cancel_accepted(command: MassCancel) -> MassCancelReported:
    """Return the answer to a mass cancel of all symbols, whose engines will cancel."""
    return MassCancelReported(
        index=0,
        account=command.account,
        cl_ord_id=command.cl_ord_id,
        request_type=command.request_type,
        response=command.request_type,
        affected=None,
        reason=MassCancelRejectReason.OTHER,
        text="",
        side=command.side,
    )


def _read_scope(
    fields: Fields, symbols: Symbols, type_tag: bytes
) -> tuple[str, Side | None] | Problem:
    """Return the symbol (empty = all) and the side (None = both) that a mass request is for."""
    request_type = _TYPES.get(fields[type_tag])
    if request_type is None:
        return unsupported(type_tag, "1 (of a security) or 7 (all)", fields)
    side = None
    if TAG_SIDE in fields:
        side = SIDES.get(fields[TAG_SIDE])
        if side is None:
            return unsupported(TAG_SIDE, "1 (buy) or 2 (sell)", fields)
    if request_type is MassCancelRequestType.ALL:
        if TAG_SYMBOL in fields:
            return unsupported(TAG_SYMBOL, "none in a request for all orders", fields)
        return "", side
    if TAG_SYMBOL not in fields:
        return absent(TAG_SYMBOL, "a request for the orders of a security")
    texts = symbols.get(fields[TAG_SYMBOL])
    return unknown_symbol(fields) if texts is None else (texts.rules.symbol, side)
