"""UTCTimestamp, both ways."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from gateway.fix_time import NS_PER_MS, NS_PER_SECOND, UtcTimestampReader, UtcTimestampWriter

_NOON_NS = int(datetime(2024, 2, 29, 12, tzinfo=UTC).timestamp()) * NS_PER_SECOND


@pytest.mark.parametrize(
    ("text", "after_noon_ns"),
    [
        (b"20240229-12:00:00", 0),
        (b"20240229-12:00:01", NS_PER_SECOND),
        (b"20240229-12:00:00.007", 7 * NS_PER_MS),
        (b"20240229-12:00:00.000007", 7_000),
        (b"20240229-12:00:00.000000007", 7),
        (b"20240229-11:59:60", 0),
        (b"20240228-12:00:00", -86_400 * NS_PER_SECOND),
    ],
)
def test_reader_reads_every_precision(text: bytes, after_noon_ns: int) -> None:
    reader = UtcTimestampReader()
    assert reader.read_ns(text) == _NOON_NS + after_noon_ns
    assert reader.read_ns(text) == _NOON_NS + after_noon_ns


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"20240229",
        b"20230229-12:00:00",
        b"20240229-24:00:00",
        b"20240229-12:60:00",
        b"20240229-12:00:61",
        b"20240229-12:00:00.",
        b"20240229-12:00:00.1",
        b"20240229-12:00:00.1234",
        b"20240229-12:00:00Z",
        b"00000229-12:00:00",
        b"2024-02-29T12:00:00",
    ],
)
def test_reader_refuses_everything_else(text: bytes) -> None:
    with pytest.raises(ValueError):
        UtcTimestampReader().read_ns(text)


def test_reader_forgets_old_seconds_and_stays_right() -> None:
    reader = UtcTimestampReader()
    for second in range(3_000):
        text = b"20240229-12:%02d:%02d" % divmod(second, 60)
        assert reader.read_ns(text) == _NOON_NS + second * NS_PER_SECOND


def test_writer_cuts_to_milliseconds_and_follows_the_clock_both_ways() -> None:
    writer = UtcTimestampWriter()
    assert writer.write(_NOON_NS) == b"20240229-12:00:00.000"
    assert writer.write(_NOON_NS + 1_999_999) == b"20240229-12:00:00.001"
    assert writer.write(_NOON_NS + NS_PER_SECOND) == b"20240229-12:00:01.000"
    assert writer.write(_NOON_NS - 1) == b"20240229-11:59:59.999"
