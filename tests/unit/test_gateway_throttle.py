"""Token buckets and the bounded table of them, against a plain count of the window."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.throttle import NS_PER_SECOND, AttemptTable, TokenBucket


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


def test_table_counts_each_key_alone() -> None:
    table = AttemptTable(per_minute=2, keys_max=10)
    assert [table.take("a", 0) for _ in range(3)] == [True, True, False]
    assert table.take("b", 0)


def test_table_forgets_the_key_used_longest_ago() -> None:
    table = AttemptTable(per_minute=1, keys_max=2)
    assert table.take("a", 0) and table.take("b", 0)
    assert not table.take("a", 0)
    assert table.take("c", 0)
    assert len(table) == 2
    assert table.take("b", 0)
    assert not table.take("c", 0)
