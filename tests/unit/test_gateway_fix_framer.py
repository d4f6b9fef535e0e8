"""Framing by BodyLength and CheckSum."""

from __future__ import annotations

import pytest

from gateway.errors import RemoteFixError
from gateway.fix_framer import FixFramer, check_sum, trailer
from gateway.fix_message import frame

_HEARTBEAT = frame(b"35=0\x0149=7\x0156=X\x0134=2\x0152=20240102-12:00:00\x01")


def framer(data: bytes = b"") -> FixFramer:
    made = FixFramer(max_message_bytes=500, max_garbled_bytes=100)
    made.receive_data(data)
    return made


def test_messages_come_out_one_by_one() -> None:
    two = framer(_HEARTBEAT * 2 + _HEARTBEAT[:10])
    assert two.next_message() == _HEARTBEAT
    assert two.next_message() == _HEARTBEAT
    assert two.next_message() is None
    assert two.buffered_bytes == 10
    two.receive_data(_HEARTBEAT[10:])
    assert two.next_message() == _HEARTBEAT
    assert two.buffered_bytes == 0


@pytest.mark.parametrize(
    "garbled",
    [
        _HEARTBEAT[:-4] + b"999\x01",
        _HEARTBEAT.replace(b"34=2", b"34=3"),
        _HEARTBEAT.replace(b"\x019=", b"\x019=0"),
        _HEARTBEAT[1:],
        b"8=FIX.4.4\x019=x\x0135=0\x01",
        b"8=FIX.4.4\x0135=0\x019=5\x01",
        b"8=FIX.4.4.4.4.4.4\x019=5\x0135=0\x0110=000\x01",
        b"8=FIX.4.4\x019=0\x0135=0\x0110=000\x01",
        b"8=FI8=F",
    ],
)
def test_garbled_bytes_are_dropped_and_the_next_message_is_found(garbled: bytes) -> None:
    both = framer(garbled + _HEARTBEAT)
    assert both.next_message() == _HEARTBEAT
    assert both.next_message() is None


def test_length_that_reaches_into_the_next_message_costs_one_message_only() -> None:
    too_long = _HEARTBEAT.replace(b"\x019=", b"\x019=1")
    waiting = framer(too_long)
    assert waiting.next_message() is None
    waiting.receive_data(_HEARTBEAT * 3)
    assert [waiting.next_message() for _ in range(4)] == [_HEARTBEAT] * 3 + [None]


def test_too_large_a_message_is_refused_before_it_has_come() -> None:
    with pytest.raises(RemoteFixError, match="limit 500"):
        framer(b"8=FIX.4.4\x019=480\x0135=D\x01").next_message()


def test_garbage_is_refused_at_its_limit_and_forgiven_by_a_message() -> None:
    patient = framer()
    for _ in range(5):
        patient.receive_data(b"x" * 60 + _HEARTBEAT)
        assert patient.next_message() == _HEARTBEAT
    patient.receive_data(b"x" * 101)
    with pytest.raises(RemoteFixError, match="no FIX message"):
        patient.next_message()


def test_check_sum_of_long_and_of_non_ascii_data() -> None:
    for data in (b"\xff" * 256, b"\xff" * 257, b"~" * 515, b"~" * 516, bytes(range(256)) * 40):
        assert check_sum(data) == sum(data) % 256
    assert trailer(b"\x05") == b"10=005\x01"
