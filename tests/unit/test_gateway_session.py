"""The session's contract with its shell, and its limits. What it says on the wire:
tests/fix_scripts."""

from __future__ import annotations

import pytest

from gateway.errors import LocalFixError
from gateway.fix_message import encode_fields, frame, split_fields
from gateway.fix_tags import SessionRejectReason
from gateway.fix_time import NS_PER_SECOND
from gateway.session import FixSession
from gateway.session_events import (
    AdminMessage,
    AppMessage,
    Closed,
    IgnoredMessage,
    LogonRequested,
    NeedOutLimit,
    RejectedMessage,
    ResendRequested,
    SessionRules,
)

_NOW_NS = 1_704_196_800 * NS_PER_SECOND
_TIME = b"20240102-12:00:00.000"
_ORDER = b"11=a1\x0155=X\x0154=1\x0138=1\x0140=2\x0144=1\x0160=" + _TIME + b"\x01"


def message(msg_type: bytes, number: int, body: bytes = b"", header: bytes = b"") -> bytes:
    fields = [(b"35", msg_type), (b"49", b"7"), (b"56", b"SHARDEX"), (b"34", b"%d" % number)]
    return frame(encode_fields([*fields, (b"52", _TIME)]) + header + body)


def connected(**rules: int) -> FixSession:
    return FixSession(SessionRules(comp_id=b"SHARDEX", **rules), now_ns=_NOW_NS)


def logged_on(out_limit: int = 1_000, **rules: int) -> FixSession:
    session = connected(**rules)
    receive(session, message(b"A", 1, b"98=0\x01108=30\x01"))
    session.accept_logon(next_in=1, next_out=1, out_limit=out_limit, now_ns=_NOW_NS)
    session.data_to_send()
    session.events_received()
    return session


def receive(session: FixSession, data: bytes, max_messages: int | None = None) -> list[object]:
    session.receive_data(data, now_ns=_NOW_NS, max_messages=max_messages)
    return list(session.events_received())


def sent_types(session: FixSession) -> list[bytes]:
    return [outbound.msg_type for outbound in session.data_to_send()]


def test_logon_request_carries_everything_and_no_secret_in_raw() -> None:
    body = b"98=0\x01108=30\x01141=Y\x01553=al\x01554=pw1\x01789=1\x01"
    (event,) = receive(connected(), message(b"A", 1, body))
    assert isinstance(event, LogonRequested)
    assert (event.sender_comp_id, event.username, event.password) == (7, "al", b"pw1")
    assert (event.heart_bt_int_s, event.reset, event.msg_seq_num) == (30, True, 1)
    assert (event.next_expected_seq_num, event.in_session) == (1, False)
    assert b"pw1" not in event.raw


@pytest.mark.parametrize(
    ("msg_type", "header"), [(b"A", b"43=Y\x01122=" + _TIME + b"\x01"), (b"5", b"")]
)
def test_no_secret_is_passed_on_with_what_needs_no_answer(msg_type: bytes, header: bytes) -> None:
    body = b"98=0\x01108=30\x01553=al\x01554=pw1\x0195=3\x0196=sig\x01"
    event, *_ = receive(logged_on(), message(msg_type, 2, body, header))
    assert isinstance(event, AdminMessage)
    assert b"pw1" not in event.raw and b"sig" not in event.raw
    assert b"98=0\x01" in event.raw


def test_app_message_carries_flags_and_times() -> None:
    session = logged_on()
    plain = message(b"D", 2, _ORDER)
    again = message(b"D", 3, _ORDER, b"43=Y\x0197=Y\x01122=20240102-11:59:59.500\x01")
    first, second = receive(session, plain + again)
    assert isinstance(first, AppMessage)
    assert (first.raw, first.msg_seq_num, first.message.fields[b"11"]) == (plain, 2, b"a1")
    assert (first.poss_dup, first.poss_resend, first.orig_sending_time_ns) == (False, False, None)
    assert isinstance(second, AppMessage)
    assert (second.poss_dup, second.poss_resend) == (True, True)
    assert second.orig_sending_time_ns == _NOW_NS - NS_PER_SECOND // 2


def test_other_messages_say_what_became_of_them() -> None:
    session = logged_on()
    duplicate = message(b"0", 2, b"", b"43=Y\x01122=" + _TIME + b"\x01")
    heartbeat, ignored, rejected, unsupported = receive(
        session, message(b"0", 2) + duplicate + message(b"1", 3) + message(b"R", 4)
    )
    assert heartbeat == AdminMessage(message(b"0", 2), b"0", 2)
    assert isinstance(ignored, IgnoredMessage)
    reason = SessionRejectReason.REQUIRED_TAG_MISSING
    assert rejected == RejectedMessage(message(b"1", 3), b"1", 3, reason, b"112")
    assert unsupported == RejectedMessage(message(b"R", 4), b"R", 4, None, None)


def test_max_messages_leaves_the_rest_for_later() -> None:
    session = logged_on()
    data = b"".join(message(b"D", number, _ORDER) for number in range(2, 7))
    assert len(receive(session, data, 2)) == 2
    assert session.has_unprocessed
    assert len(receive(session, b"", 2)) == 2
    assert len(receive(session, b"", 2)) == 1
    receive(session, b"", 2)
    assert not session.has_unprocessed
    assert session.next_in == 7


def test_application_messages_are_numbered_in_the_order_of_everything_sent() -> None:
    session = logged_on()
    first = session.send_application(b"8", b"37=1\x01", now_ns=_NOW_NS)
    receive(session, message(b"1", 2, b"112=T\x01"))
    unstored = session.send_application(b"j", b"380=4\x01", now_ns=_NOW_NS, stored=False)
    out = session.data_to_send()
    assert [outbound.msg_seq_num for outbound in out] == [2, 3, 4]
    assert [outbound.stored for outbound in out] == [True, False, False]
    assert (out[0], out[2]) == (first, unstored)
    assert split_fields(first.data)[:5] == [
        (b"35", b"8"),
        (b"49", b"SHARDEX"),
        (b"56", b"7"),
        (b"34", b"2"),
        (b"52", _TIME),
    ]
    assert (session.next_out, session.out_remaining) == (5, 996)
    assert session.data_to_send() == []


def test_the_lease_is_asked_for_once_and_never_exceeded() -> None:
    session = logged_on(out_limit=4, out_low_water=3)
    assert session.out_remaining == 3
    session.send_application(b"8", b"37=1\x01", now_ns=_NOW_NS)
    assert session.events_received() == [NeedOutLimit(2)]
    session.send_application(b"8", b"37=2\x01", now_ns=_NOW_NS)
    assert session.events_received() == []
    session.send_application(b"8", b"37=3\x01", now_ns=_NOW_NS)
    with pytest.raises(LocalFixError, match="ends at 4"):
        session.send_application(b"8", b"37=4\x01", now_ns=_NOW_NS)
    assert session.next_out == 5
    session.extend_out_limit(8, now_ns=_NOW_NS)
    assert session.send_application(b"8", b"37=4\x01", now_ns=_NOW_NS).msg_seq_num == 5
    with pytest.raises(LocalFixError, match="shorter"):
        session.extend_out_limit(7, now_ns=_NOW_NS)


def test_nothing_is_read_while_too_many_answers_wait_for_numbers() -> None:
    session = logged_on(out_limit=1)
    data = b"".join(message(b"1", number, b"112=T\x01") for number in range(2, 102))
    receive(session, data)
    assert session.has_unprocessed
    assert session.next_in == 66
    assert session.data_to_send() == []
    session.extend_out_limit(1_000, now_ns=_NOW_NS)
    receive(session, b"")
    assert len(session.data_to_send()) == 100


def test_a_resend_may_come_in_parts_and_not_out_of_turn() -> None:
    session = logged_on()
    stored = [
        (n, session.send_application(b"8", b"37=%d\x01" % n, now_ns=_NOW_NS).data)
        for n in range(2, 6)
    ]
    session.data_to_send()
    events = receive(session, message(b"2", 2, b"7=1\x0116=0\x01"))
    assert ResendRequested(1, 5) in events
    session.resend(stored[1:], 3, 5, now_ns=_NOW_NS)
    assert sent_types(session) == []
    session.resend(stored[:2], 1, 3, now_ns=_NOW_NS)
    assert sent_types(session) == [b"4", b"8", b"8"]
    session.resend(stored[2:3], 4, 5, now_ns=_NOW_NS)
    assert sent_types(session) == [b"8", b"4"]
    session.resend(stored, 1, 5, now_ns=_NOW_NS)
    assert sent_types(session) == []


def test_the_queue_behind_a_gap_is_limited_and_handed_back_at_the_end() -> None:
    session = logged_on(max_queued_bytes=500)
    events = receive(session, b"".join(message(b"0", number) for number in range(5, 10)))
    dropped = [event for event in events if isinstance(event, IgnoredMessage)]
    assert dropped
    session.receive_eof(now_ns=_NOW_NS)
    last = session.events_received()
    assert isinstance(last[-1], Closed)
    assert len(dropped) + len(last) - 1 == 5


def test_bytes_sent_ahead_of_the_decision_are_limited() -> None:
    session = connected(max_held_bytes=300)
    receive(session, message(b"A", 1, b"98=0\x01108=30\x01"))
    assert session.awaits_decision
    receive(session, message(b"D", 2, _ORDER))
    assert session.awaits_decision
    (event,) = receive(session, message(b"D", 3, _ORDER) * 2)
    assert isinstance(event, Closed)
    assert session.data_to_send() == []


def test_garbage_ends_a_session_with_a_logout_and_a_stranger_without() -> None:
    session = logged_on(max_garbled_bytes=100)
    (event,) = receive(session, b"x" * 101)
    assert isinstance(event, Closed)
    assert sent_types(session) == [b"5"]
    stranger = connected(max_garbled_bytes=100)
    receive(stranger, b"x" * 101)
    assert stranger.close_expected()
    assert stranger.data_to_send() == []


def test_a_closed_session_does_nothing_more() -> None:
    session = logged_on()
    session.receive_eof(now_ns=_NOW_NS)
    assert len(session.events_received()) == 1
    assert receive(session, message(b"1", 2, b"112=T\x01")) == []
    session.logout("again", now_ns=_NOW_NS)
    session.handle_timer(now_ns=_NOW_NS * 2)
    session.receive_eof(now_ns=_NOW_NS)
    session.resend([], 1, 1, now_ns=_NOW_NS)
    assert session.events_received() == []
    assert session.data_to_send() == []
    assert session.next_timer_ns() is None
    assert session.close_expected()


def test_end_after_our_logout_says_why_it_was_sent() -> None:
    session = logged_on()
    session.logout("Slow reader", now_ns=_NOW_NS)
    session.handle_timer(now_ns=_NOW_NS * 2)
    assert session.events_received() == [Closed("Slow reader; then Logout timed out")]


def test_misuse_is_refused_and_changes_nothing() -> None:
    session = connected()
    with pytest.raises(LocalFixError, match="no Logon"):
        session.accept_logon(next_in=1, next_out=1, out_limit=9, now_ns=_NOW_NS)
    with pytest.raises(LocalFixError, match="no Logon"):
        session.refuse_logon(None, msg_seq_num=1, now_ns=_NOW_NS)
    receive(session, message(b"A", 1, b"98=0\x01108=30\x01141=Y\x01"))
    for numbers in ((1, 2, 9), (2, 1, 9), (1, 1, 0), (0, 1, 9)):
        with pytest.raises(LocalFixError):
            session.accept_logon(
                next_in=numbers[0], next_out=numbers[1], out_limit=numbers[2], now_ns=_NOW_NS
            )
    with pytest.raises(LocalFixError, match="LOGON_PENDING"):
        session.send_application(b"8", b"", now_ns=_NOW_NS)
    session.accept_logon(next_in=1, next_out=1, out_limit=9, now_ns=_NOW_NS)
    assert session.can_send


def test_reports_wait_while_a_reset_is_decided() -> None:
    session = logged_on()
    (event,) = receive(session, message(b"A", 1, b"98=0\x01108=30\x01141=Y\x01"))
    assert isinstance(event, LogonRequested)
    assert event.in_session
    assert not session.can_send
    session.accept_logon(next_in=1, next_out=1, out_limit=50, now_ns=_NOW_NS)
    assert (session.next_in, session.next_out, session.out_remaining) == (2, 2, 49)


def test_the_answer_to_our_logout_has_its_number_counted() -> None:
    session = logged_on()
    session.logout("closing", now_ns=_NOW_NS)
    (noted, closed) = receive(session, message(b"5", 2))
    assert noted == AdminMessage(message(b"5", 2), b"5", 2)
    assert isinstance(closed, Closed)
    assert session.next_in == 3


def test_messages_not_taken_after_our_logout_stay_open() -> None:
    session = logged_on()
    session.logout("closing", now_ns=_NOW_NS)
    (ignored, _, closed) = receive(session, message(b"D", 2, _ORDER) + message(b"5", 3))
    assert isinstance(ignored, IgnoredMessage)
    assert isinstance(closed, Closed)
    assert session.next_in == 2
