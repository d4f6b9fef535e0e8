"""What the venue says about its symbols: SecurityList, SecurityStatus, TradingSessionStatus. Pure.

FIX 4.4 has no session of one symbol, so TradingSessionID (336) is the symbol, and
TradingSessionSubID (625) the name of its phase. It has no tick size either: what has no field of
its own is an attribute of the instrument (871=99, 872=Name=value).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from gateway.fix_message import encode_fields
from gateway.fix_tags import SECURITY_STATUS
from gateway.fix_time import UtcTimestampWriter
from gateway.symbol_texts import SymbolTexts
from router.market_state import PhaseStatus

SYMBOLS_PER_MESSAGE_MAX: Final = 50
"""Symbols of one SecurityList, some 15 kB; a longer list is cut (893)."""

_NS_PER_US: Final = 1_000

_SECURITY_STATUS: Final = {
    "continuous": b"17",
    "pre_open": b"21",
    "opening_auction": b"22",
    "halted": b"2",
    "cancel_only": b"18",
    "closed": b"18",
}
"""SecurityTradingStatus (326): 17 ready to trade, 21 pre-open, 22 opening rotation, 2 trading halt,
18 not available for trading."""
_SESSION_STATUS: Final = {
    "continuous": b"2",
    "pre_open": b"4",
    "opening_auction": b"4",
    "halted": b"1",
    "cancel_only": b"1",
    "closed": b"3",
}
"""TradSesStatus (340): 2 open, 4 pre-open, 1 halted, 3 closed."""
_UNKNOWN_SECURITY: Final = b"20"
_REQUEST_REJECTED: Final = b"6"
_UNKNOWN_SESSION: Final = b"1"

VALID, INVALID, NONE_FOUND, TEMPORARILY_UNAVAILABLE = b"0", b"1", b"2", b"4"
"""SecurityRequestResult (560)."""


def status_body(msg_type: bytes, req_id: bytes, status: PhaseStatus, *, unsolicited: bool) -> bytes:
    """Return the body of a SecurityStatus (35=f) or TradingSessionStatus (35=h).

    Args:
        msg_type: which of them.
        req_id: of the request that it answers.
        status: the phase.
        unsolicited: the phase has changed since the request was answered.
    """
    if msg_type == SECURITY_STATUS:
        return _security_status_body(req_id, status, unsolicited)
    return _session_status_body(req_id, status, unsolicited)


def _security_status_body(req_id: bytes, status: PhaseStatus, unsolicited: bool) -> bytes:
    symbol = status.symbol.encode()
    return encode_fields(
        [
            (b"324", req_id),
            (b"55", symbol),
            *_session_fields(symbol, status, unsolicited),
            (b"326", _SECURITY_STATUS[status.phase]),
            *_transact_time(status),
            (b"58", _text(status)),
        ]
    )


def unknown_security_body(req_id: bytes, symbol: bytes) -> bytes:
    """Return the body of a SecurityStatus (35=f) about a symbol that is none."""
    text = b"Symbol (55): unknown symbol"
    return encode_fields(
        [(b"324", req_id), (b"55", symbol), (b"326", _UNKNOWN_SECURITY), (b"58", text)]
    )


def _session_status_body(req_id: bytes, status: PhaseStatus, unsolicited: bool) -> bytes:
    symbol = status.symbol.encode()
    return encode_fields(
        [
            (b"335", req_id),
            *_session_fields(symbol, status, unsolicited),
            (b"340", _SESSION_STATUS[status.phase]),
            (b"58", _text(status)),
        ]
    )


def unknown_session_body(req_id: bytes, session: bytes) -> bytes:
    """Return the body of a TradingSessionStatus (35=h) that refuses a request."""
    text = b"TradingSessionID (336): expected a symbol"
    return encode_fields(
        [
            (b"335", req_id),
            (b"336", session),
            (b"340", _REQUEST_REJECTED),
            (b"567", _UNKNOWN_SESSION),
            (b"58", text),
        ]
    )


def security_list_bodies(
    req_id: bytes,
    response_id: bytes,
    symbols: Iterable[SymbolTexts],
    phases: Mapping[str, PhaseStatus],
) -> list[bytes]:
    """Return the bodies of a SecurityList (35=y), in as many fragments as it takes.

    Args:
        req_id: SecurityReqID (320).
        response_id: SecurityResponseID (322).
        symbols: to be listed; at least one.
        phases: of those whose trading phase is known.
    """
    entries = [_security(texts, phases.get(texts.rules.symbol)) for texts in symbols]
    bodies = []
    for start in range(0, len(entries), SYMBOLS_PER_MESSAGE_MAX):
        part = entries[start : start + SYMBOLS_PER_MESSAGE_MAX]
        is_last = start + len(part) == len(entries)
        head = [
            *((b"320", req_id), (b"322", response_id), (b"560", VALID)),
            *((b"393", b"%d" % len(entries)), (b"893", b"Y" if is_last else b"N")),
            (b"146", b"%d" % len(part)),
        ]
        bodies.append(encode_fields(head) + b"".join(part))
    return bodies


def no_securities_body(req_id: bytes, response_id: bytes, result: bytes) -> bytes:
    """Return the body of a SecurityList (35=y) that says why there is none."""
    return encode_fields([(b"320", req_id), (b"322", response_id), (b"560", result)])


def _security(texts: SymbolTexts, status: PhaseStatus | None) -> bytes:
    rules, prices, quantities = texts.rules, texts.prices.text, texts.quantities.text
    attributes = [
        (b"TickSize", prices(1)),
        (b"MinPrice", prices(rules.min_price_ticks)),
        (b"MaxPrice", prices(rules.max_price_ticks)),
        (b"MaxQty", quantities(rules.max_qty_lots)),
        (b"MinNotional", texts.amounts.text(rules.min_notional)),
        (b"MakerFeePpm", b"%d" % rules.maker_fee_ppm),
        (b"TakerFeePpm", b"%d" % rules.taker_fee_ppm),
        (b"BandPpm", b"%d" % rules.band_ppm),
    ]
    fields = [(b"55", texts.name), (b"870", b"%d" % len(attributes))]
    for name, value in attributes:
        fields += [(b"871", b"99"), (b"872", b"%b=%b" % (name, value))]
    fields += [(b"15", texts.quote), (b"561", quantities(1))]
    fields.append((b"562", quantities(rules.min_qty_lots)))
    if status is not None:
        fields += [(b"336", texts.name), (b"625", status.phase.upper().encode())]
    return encode_fields(fields)


def _session_fields(
    symbol: bytes, status: PhaseStatus, unsolicited: bool
) -> list[tuple[bytes, bytes]]:
    return [
        (b"336", symbol),
        (b"625", status.phase.upper().encode()),
        (b"325", b"Y" if unsolicited else b"N"),
    ]


def _transact_time(status: PhaseStatus) -> list[tuple[bytes, bytes]]:
    """Return when the phase began; nothing where it has never changed."""
    if not status.changed_us:
        return []
    return [(b"60", UtcTimestampWriter().write(status.changed_us * _NS_PER_US))]


def _text(status: PhaseStatus) -> bytes:
    text = f"{status.phase}: {status.reason}".replace("_", " ")
    if status.auction_price is not None:
        text += f"; auction of {status.auction_qty} at {status.auction_price}"
    return text.encode()
