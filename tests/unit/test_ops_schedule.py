"""What is due at which moment: on the clock's edges, over week ends, and where clocks change."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, time, tzinfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.enums import TradingPhase
from ops.schedule import DAYS, Change, Timetable, find_zone

PRE_OPEN, OPEN, CLOSED = TradingPhase.PRE_OPEN, TradingPhase.CONTINUOUS, TradingPhase.CLOSED
NEW_YORK, KOLKATA = find_zone("America/New_York"), find_zone("Asia/Kolkata")


def timetable(
    zone: tzinfo = UTC,
    days: Sequence[str] = DAYS[:5],
    times: Sequence[tuple[str, TradingPhase]] = (
        ("08:00", PRE_OPEN),
        ("09:00", OPEN),
        ("17:00", CLOSED),
    ),
) -> Timetable:
    return Timetable(zone, days, [(time.fromisoformat(text), phase) for text, phase in times])


def us(text: str) -> int:
    """Return a moment in UTC as µs since 1970."""
    return int(datetime.fromisoformat(f"{text}+00:00").timestamp()) * 1_000_000


@pytest.mark.parametrize(
    ("now", "due", "phase", "next_due"),
    [
        # 2026-01-05 is a Monday.
        ("2026-01-05T07:59:59", "2026-01-02T17:00", CLOSED, "2026-01-05T08:00"),
        ("2026-01-05T08:00:00", "2026-01-05T08:00", PRE_OPEN, "2026-01-05T09:00"),
        ("2026-01-05T12:00:00", "2026-01-05T09:00", OPEN, "2026-01-05T17:00"),
        ("2026-01-05T17:00:00", "2026-01-05T17:00", CLOSED, "2026-01-06T08:00"),
        ("2026-01-10T12:00:00", "2026-01-09T17:00", CLOSED, "2026-01-12T08:00"),
    ],
)
def test_week(now: str, due: str, phase: TradingPhase, next_due: str) -> None:
    assert timetable().last_due(us(now)) == Change(us(due), phase)
    assert timetable().next_after(us(now)).at_us == us(next_due)


def test_one_day_a_week_is_due_all_week() -> None:
    sundays = timetable(days=["sun"])
    assert sundays.last_due(us("2026-01-10T23:00")) == Change(us("2026-01-04T17:00"), CLOSED)
    assert sundays.next_after(us("2026-01-04T17:00")).at_us == us("2026-01-11T08:00")


def test_the_day_is_that_of_the_zone() -> None:
    # Monday 08:00 at +05:30 is 02:30 UTC; in UTC it is Sunday evening until then.
    assert timetable(KOLKATA).last_due(us("2026-01-05T02:30")).phase == PRE_OPEN
    late = timetable(NEW_YORK, times=[("19:00", OPEN), ("20:00", CLOSED)])
    # Friday 19:30 in New York is Saturday in UTC.
    assert late.last_due(us("2026-01-10T00:30")).phase == OPEN


def test_summer_time_moves_the_moment_not_the_time() -> None:
    winter = timetable(NEW_YORK).last_due(us("2026-03-06T20:00")).at_us
    summer = timetable(NEW_YORK).last_due(us("2026-03-09T20:00")).at_us
    assert (winter, summer) == (us("2026-03-06T14:00"), us("2026-03-09T13:00"))


def test_a_time_that_the_day_does_not_have_is_no_later_than_the_next_change() -> None:
    # On 2026-03-08 the clock of New York goes from 02:00 to 03:00, which is 07:00 UTC.
    night = timetable(NEW_YORK, DAYS, [("02:30", PRE_OPEN), ("03:00", OPEN), ("04:00", CLOSED)])
    assert night.last_due(us("2026-03-08T06:59")).phase == CLOSED
    assert night.last_due(us("2026-03-08T07:00")) == Change(us("2026-03-08T07:00"), OPEN)


def test_of_a_time_that_comes_twice_the_first_counts() -> None:
    night = timetable(NEW_YORK, DAYS, [("01:30", OPEN), ("04:00", CLOSED)])
    assert night.last_due(us("2026-11-01T05:30")) == Change(us("2026-11-01T05:30"), OPEN)
    assert night.next_after(us("2026-11-01T05:30")).at_us == us("2026-11-01T09:00")


@given(
    st.sampled_from([UTC, NEW_YORK, KOLKATA]),
    st.sets(st.sampled_from(DAYS), min_size=1),
    st.integers(us("2025-12-01T00:00"), us("2027-01-01T00:00")),
)
def test_walking_from_change_to_change_misses_none(
    zone: tzinfo, days: set[str], start_us: int
) -> None:
    table = timetable(zone, sorted(days))
    now_us = start_us
    for _ in range(6):
        upcoming = table.next_after(now_us)
        assert table.last_due(upcoming.at_us - 1) == table.last_due(now_us)
        assert table.last_due(upcoming.at_us) == upcoming
        now_us = upcoming.at_us


@pytest.mark.parametrize("name", ["Mars/Olympus", "../etc/passwd", "", "Europe"])
def test_a_zone_that_is_none_is_refused_with_what_to_do(name: str) -> None:
    with pytest.raises(ValueError, match="expected UTC or an IANA time zone"):
        find_zone(name)
