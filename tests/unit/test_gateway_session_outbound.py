"""The outbound half: numbers within the lease, what is held beyond it, gap fills."""

from __future__ import annotations

import pytest

from gateway.errors import LocalFixError
from gateway.fix_message import encode_fields, frame
from gateway.session_outbound import HELD_MESSAGES_MAX, OutboundSide


@pytest.fixture
def outbound() -> OutboundSide:
    side = OutboundSide(b"SHARDEX", now_ns=0)
    side.open(b"7", next_num=4, limit=5)
    return side


def sent(outbound: OutboundSide) -> list[tuple[int, bytes]]:
    return [(one.msg_seq_num, one.msg_type) for one in outbound.drain()]


def test_no_application_message_goes_beyond_the_lease(outbound: OutboundSide) -> None:
    for _ in range(2):
        outbound.send(b"8", b"37=x\x01", now_ns=1, stored=True)
    with pytest.raises(LocalFixError, match="ends at 5"):
        outbound.send(b"8", b"37=x\x01", now_ns=1, stored=True)
    assert sent(outbound) == [(4, b"8"), (5, b"8")] and outbound.next_num == 6


def test_session_messages_beyond_the_lease_wait_for_numbers_in_order(
    outbound: OutboundSide,
) -> None:
    for text in (b"a", b"b", b"c"):
        outbound.send_heartbeat(text, now_ns=1)
    outbound.send_logout("bye", now_ns=1)
    outbound.send_heartbeat(None, now_ns=1)
    assert sent(outbound) == [(4, b"0"), (5, b"0")]
    outbound.extend(7, now_ns=2)
    assert sent(outbound) == [(6, b"0"), (7, b"5")]
    outbound.extend(8, now_ns=3)
    assert sent(outbound) == [], "a heartbeat that nobody asked for is not held"


def test_so_many_are_held_that_reading_must_stop(outbound: OutboundSide) -> None:
    outbound.open(b"7", next_num=1, limit=0)
    for _ in range(HELD_MESSAGES_MAX):
        assert not outbound.is_held_up
        outbound.send_heartbeat(b"x", now_ns=1)
    assert outbound.is_held_up
    outbound.open(b"7", next_num=1, limit=10)
    assert not outbound.is_held_up, "what was held under other numbers is dropped"


def test_numbers_are_asked_for_once_per_lease(outbound: OutboundSide) -> None:
    assert not outbound.takes_need(2)
    assert outbound.takes_need(3) and not outbound.takes_need(3)
    outbound.extend(6, now_ns=1)
    assert outbound.takes_need(4)
    with pytest.raises(LocalFixError, match="shorter"):
        outbound.extend(5, now_ns=1)


def test_resend_fills_every_number_that_is_not_stored(outbound: OutboundSide) -> None:
    raw = frame(encode_fields([(b"35", b"8"), (b"52", b"20260102-03:04:05")]))
    outbound.resend([(1, raw), (3, raw), (9, raw)], 2, 4, now_ns=1)
    messages = outbound.drain()
    assert [(one.msg_seq_num, one.msg_type) for one in messages] == [
        (2, b"4"),
        (3, b"8"),
        (4, b"4"),
    ]
    assert (
        b"\x0143=Y\x01" in messages[1].data and b"\x01122=20260102-03:04:05\x01" in messages[1].data
    )
    assert b"\x0136=3\x01" in messages[0].data and b"\x0136=5\x01" in messages[2].data
    assert outbound.next_num == 4


def test_refused_logon_is_numbered_from_outside(outbound: OutboundSide) -> None:
    outbound.send_refusal(b"7", "no\x01\xe4", msg_seq_num=9, now_ns=1)
    (message,) = outbound.drain()
    assert (message.msg_seq_num, outbound.next_num) == (9, 4)
    assert b"\x0134=9\x01" in message.data
