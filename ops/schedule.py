"""When a symbol is opened and closed: the timetable of a week, in a time zone of its own. Pure.

A timetable says for any moment which change was the last one due, and when. That is all that
whoever executes it needs: a change that was missed, because nothing ran, is still the last one due
when something runs again, and the ones before it do not matter any more. What has been made is
known by the moment that it was due, so nobody makes it twice (router/scripts/set_phase.lua).

Clocks that change: a time that a day does not have counts as if the clock had not been changed yet,
but never after the change that follows it; of a time that comes twice, the first counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from engine.enums import TradingPhase

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_WEEK = len(DAYS)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Change(NamedTuple):
    """One change of a timetable; ``at_us``: µs since 1970 UTC."""

    at_us: int
    phase: TradingPhase


class Timetable:
    """The changes of a week.

    Args:
        zone: of the times.
        days: of DAYS; at least one.
        changes: of each of those days, in their order.
    """

    def __init__(
        self, zone: tzinfo, days: Iterable[str], changes: Sequence[tuple[time, TradingPhase]]
    ) -> None:
        self._zone = zone
        self._weekdays = sorted(DAYS.index(day) for day in days)
        self._changes = changes
        assert self._weekdays and changes, "Invariant: a timetable has a change"

    def last_due(self, now_us: int) -> Change:
        """Return the last change that was due at a moment, given in µs since 1970 UTC."""
        return [change for change in self._around(now_us) if change.at_us <= now_us][-1]

    def next_after(self, now_us: int) -> Change:
        """Return the first change that is due after a moment, given in µs since 1970 UTC."""
        return next(change for change in self._around(now_us) if change.at_us > now_us)

    def _around(self, now_us: int) -> list[Change]:
        """Return the changes from a week before a moment to a week after it, in their order."""
        today = (_EPOCH + now_us * _MICROSECOND).astimezone(self._zone).date()
        found: list[Change] = []
        # One day more on both sides: what today is depends on the zone.
        for offset in range(-_WEEK - 1, _WEEK + 2):
            day = today + timedelta(days=offset)
            if day.weekday() in self._weekdays:
                found += self._of_day(day)
        return found

    def _of_day(self, day: date) -> list[Change]:
        latest_us = None
        found = []
        for at, phase in reversed(self._changes):
            at_us = (datetime.combine(day, at, self._zone) - _EPOCH) // _MICROSECOND
            latest_us = at_us if latest_us is None else min(at_us, latest_us)
            found.append(Change(latest_us, phase))
        return found[::-1]


def find_zone(name: str) -> tzinfo:
    """Return a time zone of the IANA data base, which is read from the system.

    Raises:
        ValueError: there is none of that name.
    """
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(
            f"expected UTC or an IANA time zone that this machine knows, received {name!r}"
            " (the system's package tzdata, or `pip install tzdata`, has them)"
        ) from None
