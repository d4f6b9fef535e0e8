"""What a MarketDataRequest (35=V) asks for, or why it is refused (35=Y). Pure."""

from __future__ import annotations

from typing import Final, NamedTuple

from engine.enums import Side
from gateway.fix_message import FixMessage, encode_fields
from gateway.fix_tags import (
    MARKET_DATA_REQUEST,
    SECURITY_LIST_REQUEST,
    SECURITY_STATUS_REQUEST,
    TAG_SYMBOL,
    TRADING_SESSION_STATUS_REQUEST,
)
from gateway.refusals import readable
from gateway.symbol_texts import SymbolTable
from gateway.validate import group_entries

MARKET_REQUESTS: Final = frozenset(
    {
        MARKET_DATA_REQUEST,
        SECURITY_LIST_REQUEST,
        SECURITY_STATUS_REQUEST,
        TRADING_SESSION_STATUS_REQUEST,
    }
)
"""Messages that no engine and no account has to do with: market data answers them."""

SNAPSHOT, SUBSCRIBE, UNSUBSCRIBE = b"0", b"1", b"2"
"""SubscriptionRequestType (263)."""

REQ_ID_LENGTH_MAX: Final = 64
"""Characters of MDReqID, SecurityStatusReqID, MassStatusReqID and the like; every message of a
subscription, or of a list, repeats it. A longer one is refused."""

DEPTHS: Final = (1, 5, 10, 20, 50, 100, 200, 500, 1_000)
"""MarketDepth (264): price levels of a side that a subscription may have, and 0 means the most.
Others are refused (281=5): each is a view of its own, which costs time and memory per symbol."""

_BIDS, _OFFERS, _TRADES = b"0", b"1", b"2"

UNKNOWN_SYMBOL, DUPLICATE_REQ_ID, BANDWIDTH = b"0", b"1", b"2"
UNSUPPORTED_DEPTH, UNSUPPORTED_UPDATE, UNSUPPORTED_ENTRY = b"5", b"6", b"8"
"""MDReqRejReason (281)."""


class Kind(NamedTuple):
    """What a subscription gets; those of one kind and symbol share every message but its MDReqID.

    Args:
        by_order: order by order (266=N), else by level.
        depth: price levels of a side.
        whole: each update is a whole snapshot (265=0).
        sides: bids, offers or both.
        trades: whether trades are told.
    """

    by_order: bool
    depth: int
    whole: bool
    sides: tuple[Side, ...]
    trades: bool


class MarketRequest(NamedTuple):
    """A request that can be served; of an unsubscription (263=2) only the id matters."""

    req_id: bytes
    action: bytes
    kind: Kind
    symbols: tuple[str, ...]


class MarketRefusal(NamedTuple):
    """Why a request is refused: MDReqRejReason (281), where FIX has one, and Text (58)."""

    req_id: bytes
    reason: bytes | None
    text: str


def read_market_request(message: FixMessage, symbols: SymbolTable) -> MarketRequest | MarketRefusal:
    """Return what a V without session-level faults asks for.

    265 says incremental where it is absent; 266 by level.
    """
    fields = message.fields
    req_id, action = fields[b"262"], fields[b"263"]
    if len(req_id) > REQ_ID_LENGTH_MAX:
        text = f"MDReqID (262): at most {REQ_ID_LENGTH_MAX} characters"
        return MarketRefusal(req_id[:REQ_ID_LENGTH_MAX], None, text)
    entry_types = {entry[b"269"] for entry in group_entries(message, b"267")}
    sides = tuple(
        side for side, wanted in ((Side.BUY, _BIDS), (Side.SELL, _OFFERS)) if wanted in entry_types
    )
    depth = int(fields[b"264"])
    by_order, whole = fields.get(b"266") == b"N", fields.get(b"265") == b"0"
    kind = Kind(by_order, depth or DEPTHS[-1], whole, sides, _TRADES in entry_types)
    names = dict.fromkeys(entry.get(TAG_SYMBOL, b"") for entry in group_entries(message, b"146"))
    if action == UNSUBSCRIBE:
        return MarketRequest(req_id, action, kind, ())
    if not names:
        text = "NoRelatedSym (146): expected at least one symbol"
        return MarketRefusal(req_id, None, text)
    for name in names:
        if name not in symbols.by_tag:
            text = f"Symbol (55): unknown symbol {readable(name)}"
            return MarketRefusal(req_id, UNKNOWN_SYMBOL, text)
    if kind.depth not in DEPTHS:
        text = f"MarketDepth (264): expected one of 0, {', '.join(map(str, DEPTHS))}"
        return MarketRefusal(req_id, UNSUPPORTED_DEPTH, text)
    if by_order and whole and action == SUBSCRIBE:
        text = "MDUpdateType (265): order by order is told by increments (265=1)"
        return MarketRefusal(req_id, UNSUPPORTED_UPDATE, text)
    if not entry_types or not entry_types <= {_BIDS, _OFFERS, _TRADES}:
        text = "MDEntryType (269): expected 0 bid, 1 offer, 2 trade"
        return MarketRefusal(req_id, UNSUPPORTED_ENTRY, text)
    return MarketRequest(req_id, action, kind, tuple(symbols.by_tag[n].rules.symbol for n in names))


def market_refusal_body(refusal: MarketRefusal) -> bytes:
    """Return the body of a MarketDataRequestReject (35=Y)."""
    reason = [] if refusal.reason is None else [(b"281", refusal.reason)]
    text = refusal.text.encode("ascii", "replace")
    return encode_fields([(b"262", refusal.req_id), *reason, (b"58", text)])
