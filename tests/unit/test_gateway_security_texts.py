"""SecurityList, SecurityStatus and TradingSessionStatus, field by field."""

from __future__ import annotations

import pytest

from gateway import security_texts
from gateway.fix_tags import SECURITY_STATUS, TRADING_SESSION_STATUS
from gateway.security_texts import security_list_bodies, status_body
from gateway.symbol_texts import SymbolTexts
from router.market_state import PhaseStatus
from tests.market_events import TS_US, rules


def status(phase: str, **more: object) -> PhaseStatus:
    return PhaseStatus("BTC-USD", 7, TS_US, phase, "auction_done", **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("phase", "security", "session"),
    [
        ("continuous", "17", "2"),
        ("pre_open", "21", "4"),
        ("opening_auction", "22", "4"),
        ("halted", "2", "1"),
        ("cancel_only", "18", "1"),
        ("closed", "18", "3"),
    ],
)
def test_every_phase_has_its_values(phase: str, security: str, session: str) -> None:
    told = status_body(SECURITY_STATUS, b"s1", status(phase), unsolicited=False).decode()
    assert f"\x01326={security}\x01" in told
    assert f"\x01625={phase.upper()}\x01325=N\x01" in told
    told = status_body(TRADING_SESSION_STATUS, b"g1", status(phase), unsolicited=True).decode()
    assert f"\x01325=Y\x01340={session}\x01" in told


def test_status_says_since_when_why_and_at_what_price() -> None:
    opened = status("continuous", auction_price="24.97", auction_qty="5.0")
    told = status_body(SECURITY_STATUS, b"s1", opened, unsolicited=True).decode()
    assert told == (
        "324=s1|55=BTC-USD|336=BTC-USD|625=CONTINUOUS|325=Y|326=17|60=20231114-22:13:20.000|"
        "58=continuous: auction done; auction of 5.0 at 24.97|"
    ).replace("|", "\x01")
    never = PhaseStatus("BTC-USD", 0, 0, "continuous", "operator", last_seq=0)
    assert b"\x0160=" not in status_body(SECURITY_STATUS, b"s1", never, unsolicited=False)


def test_long_list_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(security_texts, "SYMBOLS_PER_MESSAGE_MAX", 2)
    symbols = [SymbolTexts(rules(symbol=f"A{number}-USD")) for number in range(5)]
    bodies = [body.decode() for body in security_list_bodies(b"l1", b"1", symbols, {})]
    heads = [body.partition("\x0155=")[0].split("\x01")[3:] for body in bodies]
    assert heads == [
        ["393=5", "893=N", "146=2"],
        ["393=5", "893=N", "146=2"],
        ["393=5", "893=Y", "146=1"],
    ]


def test_symbol_names_its_steps_and_limits() -> None:
    [body] = security_list_bodies(b"l1", b"1", [SymbolTexts(rules())], {})
    _, _, entry = body.decode().partition("\x01146=1\x01")
    assert entry.split("\x01")[:2] == ["55=BTC-USD", "870=8"]
    values = [piece[4:] for piece in entry.split("\x01") if piece.startswith("872=")]
    assert values[0] == "TickSize=0.01"
    assert values[3:5] == ["MaxQty=100000.0", "MinNotional=0.00000"]
    assert entry.endswith("\x0115=USD\x01561=0.1\x01562=0.1\x01")
