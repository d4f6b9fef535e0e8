"""UTCTimestamp values: reading them from peers, writing SendingTime. Pure.

Both remember the last second they met, because on a busy session nearly every message carries the
same one: the calendar is computed once a second, the rest is a slice and a look-up.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime

NS_PER_SECOND = 1_000_000_000
NS_PER_MS = 1_000_000

_SECONDS_REMEMBERED = 64
"""Seconds kept by a reader; when there are more, all are forgotten and computed again."""

_EPOCH_DAY = date(1970, 1, 1).toordinal()
_TO_THE_SECOND = re.compile(rb"(\d{4})(\d\d)(\d\d)-(\d\d):(\d\d):(\d\d)").fullmatch
_FRACTION = re.compile(rb"\.(\d{3}|\d{6}|\d{9})").fullmatch


class UtcTimestampReader:
    """Read ``YYYYMMDD-HH:MM:SS`` with 0, 3, 6 or 9 digits after the second.

    FIX 4.4 knows no or 3 digits; many clients send more, and nothing is lost by taking them.
    """

    __slots__ = ("_seconds",)

    def __init__(self) -> None:
        self._seconds: dict[bytes, int] = {}

    def read_ns(self, text: bytes) -> int:
        """Return the time as nanoseconds since 1970.

        Raises:
            ValueError: the text is no UTCTimestamp, or names a day that does not exist.
        """
        to_the_second = text[:17]
        start_ns = self._seconds.get(to_the_second)
        if start_ns is None:
            start_ns = _second_ns(to_the_second)
            if len(self._seconds) >= _SECONDS_REMEMBERED:
                self._seconds.clear()
            self._seconds[to_the_second] = start_ns
        if len(text) == 17:
            return start_ns
        fraction = _FRACTION(text, 17)
        if fraction is None:
            raise ValueError(f"not a UTCTimestamp: {text!r}")
        return start_ns + int(fraction[1].ljust(9, b"0"))


def _second_ns(text: bytes) -> int:
    match = _TO_THE_SECOND(text)
    if match is None:
        raise ValueError(f"not a UTCTimestamp: {text!r}")
    year, month, day, hour, minute, second = map(int, match.groups())
    if hour > 23 or minute > 59 or second > 60:  # 60: a leap second is allowed by FIX
        raise ValueError(f"not a time of day: {text!r}")
    days = date(year, month, day).toordinal() - _EPOCH_DAY
    return (days * 86_400 + hour * 3_600 + minute * 60 + second) * NS_PER_SECOND


class UtcTimestampWriter:
    """Write times as ``YYYYMMDD-HH:MM:SS.mmm``, rounded down."""

    __slots__ = ("_ms", "_second", "_second_text", "_text")

    def __init__(self) -> None:
        self._ms = -1
        self._text = b""
        self._second = -1
        self._second_text = b""

    def write(self, now_ns: int) -> bytes:
        """Return the text for nanoseconds since 1970."""
        ms = now_ns // NS_PER_MS
        if ms != self._ms:
            second, millisecond = divmod(ms, 1_000)
            if second != self._second:
                moment = datetime.fromtimestamp(second, UTC)
                self._second_text = moment.strftime("%Y%m%d-%H:%M:%S").encode("ascii")
                self._second = second
            self._text = b"%b.%03d" % (self._second_text, millisecond)
            self._ms = ms
        return self._text
