"""The inbound half: the expected number, and the queue behind a gap."""

from __future__ import annotations

import pytest

from gateway.fix_message import FixMessage
from gateway.session_inbound import InboundSide
from gateway.session_state import Gap


def message(number: int) -> FixMessage:
    return FixMessage(b"x" * 100, b"%d" % number, {})


@pytest.fixture
def inbound() -> InboundSide:
    side = InboundSide(max_queued_bytes=1_000)
    side.open(5)
    return side


def test_gap_is_asked_for_once_and_filled_in_order(inbound: InboundSide) -> None:
    assert inbound.take_too_high(7, message(7), now_ns=1) == (True, True)
    assert inbound.take_too_high(8, message(8), now_ns=2) == (True, False)
    assert (inbound.gap, inbound.moved_ns) == (Gap.AWAITING_RESEND, 1)
    assert inbound.advance(6, now_ns=3) == [] and not inbound.has_expected
    assert inbound.advance(7, now_ns=4) == [] and inbound.gap is Gap.IN_SEQUENCE
    for number in (7, 8):
        assert inbound.has_expected
        taken = inbound.take_expected()
        assert taken is not None and taken.msg_type == b"%d" % number
        inbound.advance(number + 1, now_ns=5)
    assert not inbound.has_expected


def test_gap_fill_over_queued_messages_makes_them_void(inbound: InboundSide) -> None:
    for number in (7, 8, 10):
        inbound.take_too_high(number, message(number), now_ns=1)
    void = inbound.advance(9, now_ns=2)
    assert [one.msg_type for one in void] == [b"7", b"8"]
    assert inbound.drop_queue()[0].msg_type == b"10"


def test_queue_is_limited_and_gets_free_again(inbound: InboundSide) -> None:
    number, was_queued = 7, True
    while was_queued:
        was_queued, _ = inbound.take_too_high(number, message(number), now_ns=1)
        number += 1
    assert 7 < number < 20
    assert inbound.take_too_high(7, message(7), now_ns=1) == (False, False), "has it already"
    assert len(inbound.drop_queue()) == number - 8
    assert inbound.take_too_high(7, message(7), now_ns=1) == (True, False)


def test_number_of_a_message_that_is_dealt_with_is_kept_without_it(inbound: InboundSide) -> None:
    assert inbound.take_too_high(6, None, now_ns=1) == (True, True)
    inbound.advance(6, now_ns=2)
    assert inbound.has_expected and inbound.take_expected() is None
