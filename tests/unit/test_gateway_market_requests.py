"""MarketDataRequests: what they ask for, and why one is refused."""

from __future__ import annotations

import pytest

from engine.enums import Side
from gateway.market_requests import (
    DEPTHS,
    Kind,
    MarketRefusal,
    MarketRequest,
    market_refusal_body,
    read_market_request,
)
from gateway.symbol_texts import SymbolTable
from tests.market_events import rules
from tests.unit.test_gateway_orders_in import fix

SYMBOLS = SymbolTable([rules(), rules(symbol="ETH-USD")])
REQUEST = "35=V|262=r1|263=1|264=0|265=1|266=N|267=3|269=0|269=1|269=2|146=2|55=BTC-USD|55=ETH-USD"


def read(text: str) -> MarketRequest | MarketRefusal:
    return read_market_request(fix(text), SYMBOLS)


def test_request_says_what_is_wanted_of_which_symbols() -> None:
    kind = Kind(True, DEPTHS[-1], False, (Side.BUY, Side.SELL), True)
    assert read(REQUEST) == MarketRequest(b"r1", b"1", kind, ("BTC-USD", "ETH-USD"))


def test_levels_and_increments_are_meant_where_nothing_is_said() -> None:
    request = read("35=V|262=r1|263=1|264=5|267=1|269=1|146=2|55=BTC-USD|55=BTC-USD")
    assert isinstance(request, MarketRequest)
    assert request.kind == Kind(False, 5, False, (Side.SELL,), False)
    assert request.symbols == ("BTC-USD",)


def test_unsubscription_needs_no_known_symbol() -> None:
    request = read("35=V|262=r1|263=2|264=0|267=1|269=4|146=1|55=gone")
    assert isinstance(request, MarketRequest)
    assert (request.action, request.symbols) == (b"2", ())


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("55=ETH-USD", "55=XRP-USD", b"0"),
        ("264=0", "264=7", b"5"),
        ("264=0", "264=1001", b"5"),
        ("265=1", "265=0", b"6"),
        ("269=2", "269=7", b"8"),
        ("262=r1", f"262={'r' * 65}", None),
        ("267=3|269=0|269=1|269=2", "267=0", b"8"),
        ("146=2|55=BTC-USD|55=ETH-USD", "146=0", None),
    ],
)
def test_what_is_not_supported_is_refused(old: str, new: str, reason: bytes | None) -> None:
    refusal = read(REQUEST.replace(old, new))
    assert isinstance(refusal, MarketRefusal)
    assert refusal.reason == reason
    body = market_refusal_body(refusal)
    assert body.startswith(b"262=r")
    assert (b"\x01281=" in body) == (reason is not None)
    assert refusal.text.encode() in body


def test_snapshots_order_by_order_may_be_whole() -> None:
    request = read(REQUEST.replace("265=1", "265=0").replace("263=1", "263=0"))
    assert isinstance(request, MarketRequest)
