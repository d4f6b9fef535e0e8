"""The latency histogram against sorted lists."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.histogram import Histogram, LatencySummary

# Durations of every magnitude, not mostly huge ones.
durations = st.lists(
    st.integers(0, 63).flatmap(lambda bits: st.integers(0, (1 << bits) - 1)),
    min_size=1,
    max_size=60,
)


def filled(values: list[int]) -> Histogram:
    histogram = Histogram()
    for value in values:
        histogram.record(value)
    return histogram


@given(durations, st.integers(0, 1000))
@settings(max_examples=200, deadline=None)
def test_quantile_is_never_short_and_at_most_one_part_in_64_long(
    values: list[int], part: int
) -> None:
    found = filled(values).quantile_ns(part, 1000)
    rank = max(1, -(-len(values) * part // 1000))
    exact = sorted(values)[rank - 1]
    assert exact <= found <= exact + exact // 64


@given(durations, durations)
@settings(max_examples=100, deadline=None)
def test_merged_histograms_are_the_histogram_of_all(left: list[int], right: list[int]) -> None:
    merged = filled(left)
    merged.merge(filled(right))
    whole = filled(left + right)
    assert merged.summary() == whole.summary()
    assert merged.total_ns == whole.total_ns
    assert [merged.quantile_ns(part) for part in range(101)] == [
        whole.quantile_ns(part) for part in range(101)
    ]


def test_neighbouring_powers_of_two_are_told_apart_from_the_values_before_them() -> None:
    for bits in range(1, 63):
        histogram = filled([(1 << bits) - 1, 1 << bits])
        assert histogram.quantile_ns(50) == (1 << bits) - 1
        assert histogram.quantile_ns(100) == 1 << bits


def test_summary_of_one_to_one_hundred() -> None:
    assert filled(list(range(1, 101))).summary() == LatencySummary(
        count=100, mean_ns=50, p50_ns=50, p90_ns=90, p99_ns=99, p999_ns=100, max_ns=100
    )


def test_batch_counts_as_often_as_its_members() -> None:
    batched = Histogram()
    batched.record(5_000, count=3)
    assert batched.summary() == filled([5_000] * 3).summary()


def test_empty_histogram_is_all_zeros() -> None:
    assert Histogram().summary() == LatencySummary(
        count=0, mean_ns=0, p50_ns=0, p90_ns=0, p99_ns=0, p999_ns=0, max_ns=0
    )


def test_durations_out_of_range_count_at_the_ends() -> None:
    histogram = filled([-5, 1 << 70])
    assert histogram.quantile_ns(0) == 0
    assert histogram.max_ns == (1 << 63) - 1


@pytest.mark.parametrize("part", [-1, 101])
def test_quantile_outside_the_whole_is_refused(part: int) -> None:
    with pytest.raises(ValueError, match=f"quantile {part} of 100"):
        Histogram().quantile_ns(part)
