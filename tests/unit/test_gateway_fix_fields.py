"""The fields of the dictionary agree with the enumerations that the engine and gateways use."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable
from enum import IntEnum

import pytest

from engine.enums import (
    BusinessRejectReason,
    CxlRejReason,
    CxlRejResponseTo,
    MassCancelRejectReason,
    OrdRejReason,
    OrdType,
    SelfTradePrevention,
    Side,
    TimeInForce,
)
from engine.limits import CL_ORD_ID_LENGTH_MAX
from gateway import market_requests, report_fields, reports_out, security_texts
from gateway.fix_fields import FIELDS, FORMATS
from gateway.fix_tags import SESSION_REJECT_TEXTS, SessionRejectReason

_ENUMERATIONS: dict[str, type[IntEnum]] = {
    "40": OrdType,
    "54": Side,
    "59": TimeInForce,
    "7928": SelfTradePrevention,
}
"""Of fields that clients send too, with whatever else FIX 4.4 has."""


def _values_in_templates(tag: str) -> set[str]:
    """Return the values that the templates of reports give a tag."""
    source = inspect.getsource(reports_out) + inspect.getsource(report_fields)
    return set(re.findall(rf'(?:\\x01|"){tag}=(\w+)\\x01', source))


_SENT: dict[str, Iterable[object]] = {
    "39": report_fields.STATUS_TEXTS.values(),
    "102": CxlRejReason,
    "103": OrdRejReason,
    "139": _values_in_templates("139"),
    "281": [
        *(market_requests.UNKNOWN_SYMBOL, market_requests.DUPLICATE_REQ_ID),
        *(market_requests.BANDWIDTH, market_requests.UNSUPPORTED_DEPTH),
        *(market_requests.UNSUPPORTED_UPDATE, market_requests.UNSUPPORTED_ENTRY),
    ],
    "326": [*security_texts._SECURITY_STATUS.values(), security_texts._UNKNOWN_SECURITY],
    "340": [*security_texts._SESSION_STATUS.values(), security_texts._REQUEST_REJECTED],
    "373": SessionRejectReason,
    "378": _values_in_templates("378"),
    "380": BusinessRejectReason,
    "434": CxlRejResponseTo,
    "532": MassCancelRejectReason,
    "560": [
        *(security_texts.VALID, security_texts.INVALID),
        *(security_texts.NONE_FOUND, security_texts.TEMPORARILY_UNAVAILABLE),
    ],
    "567": [security_texts._UNKNOWN_SESSION],
    "851": _values_in_templates("851"),
}
"""Of fields that only we send, and of reasons in Rejects, where any is taken of a client: the
values that our code can send."""


@pytest.mark.parametrize("tag", _ENUMERATIONS)
def test_every_value_of_ours_has_a_meaning(tag: str) -> None:
    meanings = dict(FIELDS[tag.encode()].values)
    ours = {f"{member:d}" for member in _ENUMERATIONS[tag]}
    assert ours <= {value for value, meaning in meanings.items() if meaning}


@pytest.mark.parametrize("tag", _SENT)
def test_values_of_what_we_send_are_those_that_the_code_sends(tag: str) -> None:
    sent = {one.decode() if isinstance(one, bytes) else f"{one}" for one in _SENT[tag]}
    assert sent
    assert {value for value, meaning in FIELDS[tag.encode()].values if meaning} == sent
    assert len(FIELDS[tag.encode()].values) == len(sent)


def test_every_reject_reason_has_a_text() -> None:
    assert set(SESSION_REJECT_TEXTS) == set(SessionRejectReason)


def test_values_are_values_and_have_the_format() -> None:
    for field in FIELDS.values():
        for value, _ in field.values:
            assert field.is_valid(value.encode()), f"{field.name}={value}"
            assert field.has_format(value.encode()), f"{field.name}={value}"


def test_patterns_have_no_groups() -> None:
    # A compiled layout takes one group per field.
    for pattern in [*FORMATS.values(), *(field.valid for field in FIELDS.values())]:
        assert re.compile(pattern).groups == 0, pattern


@pytest.mark.parametrize("tag", [b"11", b"41"])
def test_ids_of_orders_have_a_length(tag: bytes) -> None:
    longest = b"x" * CL_ORD_ID_LENGTH_MAX
    assert FIELDS[tag].is_valid(longest)
    assert not FIELDS[tag].is_valid(longest + b"x")
    assert FIELDS[tag].has_format(longest + b"x")
    assert not FIELDS[tag].has_format("ä".encode())


@pytest.mark.parametrize(
    ("tag", "good", "bad"),
    [
        (b"60", b"20240102-23:59:60", b"20240102-24:00:00"),
        (b"60", b"20240102-12:00:00.123456789", b"20240102-12:00:00.12"),
        (b"432", b"20241231", b"20241301"),
        (b"200", b"202412w5", b"202412w6"),
        (b"38", b".5", b"."),
        (b"43", b"N", b"n"),
        (b"18", b"6 1", b"6  1"),
        (b"34", b"0", b"-1"),
    ],
)
def test_formats(tag: bytes, good: bytes, bad: bytes) -> None:
    assert FIELDS[tag].is_valid(good)
    assert not FIELDS[tag].is_valid(bad)


def test_a_reject_is_taken_whatever_reason_it_gives() -> None:
    assert FIELDS[b"373"].is_valid(b"1234")
    assert FIELDS[b"380"].is_valid(b"1234")
