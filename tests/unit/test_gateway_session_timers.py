"""Heartbeats, silence and gaps by the clock."""

from __future__ import annotations

from gateway.fix_time import NS_PER_SECOND
from gateway.session_timers import ActiveTimers, Due


def started(heart_bt_int_s: int = 10) -> ActiveTimers:
    timers = ActiveTimers(resend_timeout_s=30)
    timers.start(heart_bt_int_s, now_ns=0)
    return timers


def due_at(
    timers: ActiveTimers, seconds: int, *, sent_s: int = 0, gap_s: int | None = None
) -> Due | None:
    gap_ns = None if gap_s is None else gap_s * NS_PER_SECOND
    return timers.take_due(
        now_ns=seconds * NS_PER_SECOND, sent_ns=sent_s * NS_PER_SECOND, gap_ns=gap_ns
    )


def test_heartbeat_then_test_request_then_close() -> None:
    timers = started()
    assert due_at(timers, 9) is None
    assert due_at(timers, 10) is Due.HEARTBEAT
    assert due_at(timers, 12, sent_s=10) is Due.TEST_REQUEST
    assert due_at(timers, 23, sent_s=20) is None
    assert due_at(timers, 24, sent_s=20) is Due.CLOSE


def test_a_late_test_request_leaves_as_much_time_to_answer() -> None:
    timers = started()
    assert due_at(timers, 100, sent_s=100) is Due.TEST_REQUEST
    next_ns = timers.next_ns(sent_ns=110 * NS_PER_SECOND, gap_ns=None)
    assert next_ns == 112 * NS_PER_SECOND
    assert due_at(timers, 111, sent_s=110) is None
    assert due_at(timers, 112, sent_s=110) is Due.CLOSE


def test_what_is_heard_counts_and_what_is_not_read_might_be() -> None:
    timers = started()
    assert not timers.heard_since(0)
    timers.received(5)
    assert timers.heard_since(4) and not timers.heard_since(5)
    timers.pause(6)
    assert timers.heard_since(5)


def test_a_session_that_was_dead_starts_anew() -> None:
    timers = started()
    for seconds in (12, 24):
        due_at(timers, seconds, sent_s=20)
    timers.start(10, now_ns=30 * NS_PER_SECOND)
    assert due_at(timers, 41, sent_s=40) is None
    assert due_at(timers, 42, sent_s=40) is Due.TEST_REQUEST


def test_a_message_answers_the_test_request() -> None:
    timers = started()
    assert due_at(timers, 12, sent_s=12) is Due.TEST_REQUEST
    timers.received(13 * NS_PER_SECOND)
    assert due_at(timers, 24, sent_s=20) is None
    assert due_at(timers, 25, sent_s=20) is Due.TEST_REQUEST


def test_next_is_the_earliest_of_all() -> None:
    timers = started()
    second = NS_PER_SECOND
    assert timers.next_ns(sent_ns=0, gap_ns=None) == 10 * second
    assert timers.next_ns(sent_ns=5 * second, gap_ns=None) == 12 * second
    assert timers.next_ns(sent_ns=5 * second, gap_ns=-20 * second) == 10 * second
    timers.pause(second)
    assert timers.next_ns(sent_ns=5 * second, gap_ns=-20 * second) == 15 * second


def test_what_waits_for_the_peer_stands_still_while_paused() -> None:
    timers = started()
    timers.pause(8 * NS_PER_SECOND)
    timers.pause(9 * NS_PER_SECOND)
    assert due_at(timers, 100, sent_s=99, gap_s=1) is None
    assert timers.resume(100 * NS_PER_SECOND) == 92 * NS_PER_SECOND
    assert timers.resume(101 * NS_PER_SECOND) == 0
    assert due_at(timers, 103, sent_s=99) is None
    assert due_at(timers, 104, sent_s=99) is Due.TEST_REQUEST


def test_a_gap_that_does_not_move_is_given_up() -> None:
    timers = started(heart_bt_int_s=60)
    assert due_at(timers, 39, sent_s=39, gap_s=10) is None
    assert due_at(timers, 40, sent_s=39, gap_s=10) is Due.GIVE_UP_GAP
