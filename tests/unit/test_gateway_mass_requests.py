"""Mass requests: each line of their table at the head of orders_in.py."""

from __future__ import annotations

import pytest

from engine.commands import MassCancel
from engine.enums import (
    BusinessRejectReason,
    MassCancelRejectReason,
    MassCancelRequestType,
    SelfTradePrevention,
    Side,
)
from engine.errors import DecodeError
from engine.events import BusinessRejected, MassCancelReported
from gateway.mass_requests import decode_query, encode_query, mass_cancel_accepted
from gateway.orders_in import OrderReader
from gateway.refusals import MassStatusQuery, Request
from gateway.symbol_texts import SymbolTable
from tests.unit.test_gateway_orders_in import ORIGIN, TIME, fix, rules_of

ALL, SECURITY = MassCancelRequestType.ALL, MassCancelRequestType.SECURITY


def read(text: str) -> Request:
    table = SymbolTable([rules_of(), rules_of("ETH-USD")])
    reader = OrderReader(table, default_stp=SelfTradePrevention.NONE, protection_ppm=0)
    return reader.read(fix(text), ORIGIN)


def cancel(fields: str) -> Request:
    return read(f"35=q|11=c1|60={TIME.decode()}|{fields}")


def status(fields: str) -> Request:
    return read(f"35=AF|584=s1|{fields}")


@pytest.mark.parametrize(
    ("fields", "symbol", "request_type", "side"),
    [
        ("530=7", "", ALL, None),
        ("530=7|54=2", "", ALL, Side.SELL),
        ("530=1|55=ETH-USD", "ETH-USD", SECURITY, None),
        ("530=1|55=BTC-USD|54=1", "BTC-USD", SECURITY, Side.BUY),
    ],
)
def test_mass_cancel_becomes_a_command(
    fields: str, symbol: str, request_type: MassCancelRequestType, side: Side | None
) -> None:
    assert cancel(fields) == Request(symbol, MassCancel(1001, 7, 42, "c1", request_type, side))


@pytest.mark.parametrize(
    ("fields", "symbol", "side"),
    [
        ("585=7", "", None),
        ("585=7|54=1|1=1001", "", Side.BUY),
        ("585=1|55=ETH-USD|54=2", "ETH-USD", Side.SELL),
    ],
)
def test_mass_status_becomes_a_query(fields: str, symbol: str, side: Side | None) -> None:
    assert status(fields) == Request(symbol, MassStatusQuery("s1", symbol, side))


@pytest.mark.parametrize(
    ("fields", "reason", "words"),
    [
        ("530=6", 0, "MassCancelRequestType (530): expected 1 (of a security) or 7 (all)"),
        ("530=1|55=XRP-USD", 1, "Symbol (55): unknown symbol XRP-USD"),
        ("530=7|55=BTC-USD", 0, "Symbol (55): expected none in a request for all orders"),
        ("530=7|54=5", 0, "Side (54): expected 1 (buy) or 2 (sell), received 5"),
    ],
)
def test_mass_cancel_is_refused_by_a_report(fields: str, reason: int, words: str) -> None:
    event = cancel(fields).content
    assert isinstance(event, MassCancelReported)
    assert (event.account, event.cl_ord_id, event.affected) == (1001, "c1", None)
    assert event.request_type == int(fields[4]) and event.response == 0
    assert event.reason is MassCancelRejectReason(reason)
    assert words in event.text


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ("585=8", BusinessRejectReason.OTHER),
        ("585=7|55=BTC-USD", BusinessRejectReason.OTHER),
        ("585=7|54=5", BusinessRejectReason.OTHER),
        ("585=1|55=XRP-USD", BusinessRejectReason.UNKNOWN_SECURITY),
        ("585=7|1=9", BusinessRejectReason.NOT_AUTHORIZED),
        ("585=1", BusinessRejectReason.CONDITIONALLY_REQUIRED_FIELD_MISSING),
    ],
)
def test_mass_status_is_refused_by_a_business_reject(
    fields: str, reason: BusinessRejectReason
) -> None:
    event = status(fields).content
    assert isinstance(event, BusinessRejected)
    assert (event.ref_msg_type, event.ref_id, event.reason) == ("AF", "s1", reason)


def test_mass_status_request_whose_id_is_too_long_to_be_repeated_is_refused() -> None:
    event = read(f"35=AF|584={'s' * 65}|585=7").content
    assert isinstance(event, BusinessRejected)
    assert event.reason is BusinessRejectReason.OTHER
    assert event.text == "MassStatusReqID (584): at most 64 characters"
    assert isinstance(read(f"35=AF|584={'s' * 64}|585=7").content, MassStatusQuery)


def test_mass_cancel_of_a_security_names_it() -> None:
    event = cancel("530=1").content
    assert isinstance(event, BusinessRejected)
    assert event.reason is BusinessRejectReason.CONDITIONALLY_REQUIRED_FIELD_MISSING


def test_accepted_mass_cancel_says_what_it_was() -> None:
    event = mass_cancel_accepted(MassCancel(1001, 7, 42, "c1", ALL, Side.SELL))
    assert (event.request_type, event.response, event.side) == (ALL, ALL, Side.SELL)
    assert (event.cl_ord_id, event.affected, event.text) == ("c1", None, "")


def test_query_survives_its_codec() -> None:
    query = MassStatusQuery("s1", "BTC-USD", Side.BUY)
    assert decode_query(encode_query(query)) == query
    with pytest.raises(DecodeError):
        decode_query(b"no")
