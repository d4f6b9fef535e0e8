"""Token buckets against a plain count of the window, and waits that double."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.throttle import NS_PER_SECOND, BackoffTable, TokenBucket


def test_bucket_lets_the_burst_through_and_then_the_rate() -> None:
    bucket = TokenBucket(5, period_ns=NS_PER_SECOND)
    start_ns = 1_000 * NS_PER_SECOND
    assert [bucket.take(start_ns) for _ in range(7)] == [True] * 5 + [False] * 2
    assert not bucket.take(start_ns + NS_PER_SECOND // 5 - 1)
    assert bucket.take(start_ns + NS_PER_SECOND // 5)
    assert not bucket.take(start_ns + NS_PER_SECOND // 5)


def test_bucket_is_full_again_after_a_period_of_silence() -> None:
    bucket = TokenBucket(3, period_ns=NS_PER_SECOND)
    assert [bucket.take(0) for _ in range(4)] == [True, True, True, False]
    assert [bucket.take(NS_PER_SECOND) for _ in range(4)] == [True, True, True, False]


def test_events_that_are_one_go_where_a_single_one_may_and_count_in_full() -> None:
    bucket = TokenBucket(5, period_ns=NS_PER_SECOND)
    assert [bucket.take(0) for _ in range(4)] == [True] * 4
    assert bucket.take(0, 3)
    step_ns = NS_PER_SECOND // 5
    assert [bucket.take(number * step_ns) for number in range(5)] == [False] * 3 + [True] * 2
    # However many: no more than a period's worth.
    assert bucket.take(10 * NS_PER_SECOND, 1_000_000)
    assert not bucket.take(10 * NS_PER_SECOND + step_ns - 1)
    assert bucket.take(10 * NS_PER_SECOND + step_ns)


@given(st.lists(st.integers(0, NS_PER_SECOND), max_size=60), st.integers(1, 10))
def test_no_period_ever_sees_more_than_twice_the_count(steps_ns: list[int], count: int) -> None:
    bucket = TokenBucket(count, period_ns=NS_PER_SECOND)
    now_ns, taken = 0, []
    for step_ns in steps_ns:
        now_ns += step_ns
        if bucket.take(now_ns):
            taken.append(now_ns)
    for start_ns in taken:
        in_period = [t for t in taken if start_ns <= t < start_ns + NS_PER_SECOND]
        assert len(in_period) <= 2 * count


@pytest.mark.parametrize("count", [0, 11])
def test_bucket_that_lets_nothing_through_cannot_be_made(count: int) -> None:
    with pytest.raises(AssertionError):
        TokenBucket(count, period_ns=10)


def table(*, failures_free: int = 1, wait_max_s: int = 8, keys_max: int = 10) -> BackoffTable:
    return BackoffTable(
        failures_free=failures_free, wait_max_ns=wait_max_s * NS_PER_SECOND, keys_max=keys_max
    )


def waits_s(backoff: BackoffTable, key: str, *, failures: int) -> list[int]:
    """Let a key fail again as soon as it may, and return its waits."""
    now_ns, waits = 0, []
    for _ in range(failures):
        backoff.fail(key, now_ns)
        wait_ns = backoff.wait_ns(key, now_ns)
        waits.append(wait_ns // NS_PER_SECOND)
        now_ns += wait_ns
    return waits


def test_wait_doubles_with_each_failure_up_to_the_longest() -> None:
    assert waits_s(table(wait_max_s=300), "a", failures=12) == [
        *(0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300),
    ]


def test_wait_ends_and_success_clears_it() -> None:
    backoff = table()
    backoff.fail("a", 0)
    backoff.fail("a", 0)
    assert backoff.wait_ns("a", 0) == NS_PER_SECOND
    assert backoff.wait_ns("a", NS_PER_SECOND - 1) == 1
    assert backoff.wait_ns("a", NS_PER_SECOND) == 0
    backoff.clear("a")
    assert waits_s(backoff, "a", failures=2) == [0, 1]


def test_each_key_waits_alone() -> None:
    backoff = table(failures_free=0)
    backoff.fail("a", 0)
    assert backoff.wait_ns("a", 0) and not backoff.wait_ns("b", 0)


def test_attempt_that_is_taken_back_costs_nothing() -> None:
    backoff = table(failures_free=0)
    for _ in range(5):
        backoff.fail("a", 0)
        backoff.forgive("a")
    assert not backoff.wait_ns("a", 0)
    backoff.fail("a", 0)
    assert backoff.wait_ns("a", 0) == NS_PER_SECOND
    backoff.forgive("b")


def test_time_forgives_one_failure_after_the_other() -> None:
    backoff = table(wait_max_s=8)
    for _ in range(3):
        backoff.fail("a", 0)
    later_ns = 2 * NS_PER_SECOND + 2 * 8 * NS_PER_SECOND
    backoff.fail("a", later_ns)
    assert backoff.wait_ns("a", later_ns) == NS_PER_SECOND, "two of three are forgiven"
    rare = table(wait_max_s=8)
    for number in range(20):
        rare.fail("a", number * 8 * NS_PER_SECOND)
        assert not rare.wait_ns("a", number * 8 * NS_PER_SECOND)


@given(st.lists(st.integers(0, 40 * NS_PER_SECOND), max_size=40), st.integers(0, 5))
def test_who_never_fails_during_a_wait_never_waits_longer_than_the_limit(
    steps_ns: list[int], failures_free: int
) -> None:
    backoff, now_ns = table(failures_free=failures_free), 0
    for step_ns in steps_ns:
        now_ns += step_ns
        if not backoff.wait_ns("a", now_ns):
            backoff.fail("a", now_ns)
        assert backoff.wait_ns("a", now_ns) <= 8 * NS_PER_SECOND


def test_table_forgets_the_key_that_failed_longest_ago() -> None:
    backoff = table(failures_free=0, keys_max=2)
    backoff.fail("a", 0)
    backoff.fail("b", 0)
    backoff.fail("a", 0)
    backoff.fail("c", 0)
    assert len(backoff) == 2
    assert backoff.wait_ns("a", 0) and backoff.wait_ns("c", 0) and not backoff.wait_ns("b", 0)
