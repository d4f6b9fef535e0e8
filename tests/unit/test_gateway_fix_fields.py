"""The fields of the dictionary agree with the enumerations that the engine and gateways use."""

from __future__ import annotations

import re
from enum import IntEnum

import pytest

from engine.enums import (
    BusinessRejectReason,
    CxlRejReason,
    CxlRejResponseTo,
    Liquidity,
    MassCancelRejectReason,
    OrdRejReason,
    OrdStatus,
    OrdType,
    SelfTradePrevention,
    Side,
    TimeInForce,
)
from engine.limits import CL_ORD_ID_LENGTH_MAX
from gateway.fix_fields import FIELDS, FORMATS
from gateway.fix_tags import SESSION_REJECT_TEXTS, SessionRejectReason

_ENUMERATIONS: dict[str, type[IntEnum]] = {
    "39": OrdStatus,
    "40": OrdType,
    "54": Side,
    "59": TimeInForce,
    "102": CxlRejReason,
    "103": OrdRejReason,
    "373": SessionRejectReason,
    "380": BusinessRejectReason,
    "434": CxlRejResponseTo,
    "532": MassCancelRejectReason,
    "851": Liquidity,
    "7928": SelfTradePrevention,
}
_NOT_IN_FIX = {("39", 12), ("851", Liquidity.AUCTION)}
"""OrdStatus 12 is written C; an auction's fills have no LastLiquidityInd."""


@pytest.mark.parametrize("tag", _ENUMERATIONS)
def test_every_value_of_ours_has_a_meaning(tag: str) -> None:
    meanings = dict(FIELDS[tag.encode()].values)
    ours = {f"{member:d}" for member in _ENUMERATIONS[tag] if (tag, member) not in _NOT_IN_FIX}
    assert ours <= {value for value, meaning in meanings.items() if meaning}


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
