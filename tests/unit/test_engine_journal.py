"""The record codec of the journals, one segment in memory."""

from __future__ import annotations

import struct
import zlib

import msgspec
import pytest

from engine.errors import DecodeError, JournalMismatch
from engine.journal import (
    Record,
    SegmentHeader,
    SegmentScan,
    Tail,
    encode_header,
    encode_records,
    header_seed,
    scan,
)
from engine.limits import JOURNAL_RECORD_BYTES_MAX

HEADER = SegmentHeader(
    kind="commands",
    owner="shard-1",
    incarnations={"BTC-USD": "a1b2"},
    first_record=40,
    created_ns=1_790_000_000_000_000_000,
    positions={"BTC-USD": 40},
)
RECORDS = [
    Record(key="BTC-USD", seq=41 + n, ts_ns=1_000 + n, flags=n & 1, payload=b"payload %d" % n)
    for n in range(3)
]
HEAD = encode_header(HEADER)


def segment(records: list[Record]) -> bytes:
    return HEAD + encode_records(records, seed=header_seed(HEAD))


def test_segment_comes_back_as_it_was_written() -> None:
    data = segment(RECORDS)
    assert scan(data) == (HEADER, RECORDS, len(data), Tail.CLEAN, "")


def test_segment_without_records_is_clean() -> None:
    assert scan(HEAD) == (HEADER, [], len(HEAD), Tail.CLEAN, "")


def test_scan_goes_record_by_record() -> None:
    data = segment(RECORDS)
    segment_scan = SegmentScan(data)
    assert segment_scan.header == HEADER
    records = iter(segment_scan)
    assert next(records) == RECORDS[0]
    assert segment_scan.valid_bytes == len(segment(RECORDS[:1]))


def test_unfinished_last_record_is_torn() -> None:
    whole = segment(RECORDS[:2])
    result = scan(segment(RECORDS)[:-1])
    assert result.records == RECORDS[:2]
    assert result.valid_bytes == len(whole)
    assert result.tail is Tail.TORN


def test_zeros_behind_the_last_record_are_torn() -> None:
    result = scan(segment(RECORDS) + bytes(4096))
    assert result.records == RECORDS
    assert result.tail is Tail.TORN
    assert result.reason == "4096 bytes that are no whole record"


def test_damage_before_a_valid_record_is_corrupt() -> None:
    data = bytearray(segment(RECORDS))
    second = len(segment(RECORDS[:1]))
    third = len(segment(RECORDS[:2]))
    data[third - 1] ^= 1
    result = scan(bytes(data))
    assert result.records == RECORDS[:1]
    assert result.valid_bytes == second
    assert result.tail is Tail.CORRUPT
    assert result.reason == f"no valid record here, but one follows at byte {third}"


def test_record_that_claims_to_reach_beyond_the_end_is_corrupt_when_others_follow() -> None:
    data = bytearray(segment(RECORDS))
    second = len(segment(RECORDS[:1]))
    struct.pack_into("<I", data, second + 2, 1_000)
    assert scan(bytes(data)).tail is Tail.CORRUPT


def test_record_inside_a_torn_message_does_not_make_it_corrupt() -> None:
    """What a client hides in a message cannot know the segment's checksum seed."""
    hidden = encode_records(RECORDS[:1], seed=0)
    data = segment([Record(key="7", seq=1, ts_ns=1, flags=0, payload=hidden * 2)])
    result = scan(data[:-1])
    assert result.tail is Tail.TORN
    assert result.records == []


def test_records_of_another_segment_are_not_accepted() -> None:
    other = encode_header(msgspec.structs.replace(HEADER, created_ns=1))
    data = segment(RECORDS[:1]) + encode_records(RECORDS[1:], seed=header_seed(other))
    result = scan(data)
    assert result.records == RECORDS[:1]
    assert result.tail is Tail.TORN


def test_whole_record_that_does_not_decode_is_corrupt() -> None:
    body = msgspec.msgpack.encode(["BTC-USD", "not a number"])
    crc = zlib.crc32(body, header_seed(HEAD))
    data = HEAD + struct.pack("<2sII", b"\xa5\xfe", len(body), crc) + body
    result = scan(data)
    assert result.tail is Tail.CORRUPT
    assert result.reason.startswith("record with a good checksum does not decode")
    assert result.valid_bytes == len(HEAD)


def test_record_beyond_the_limit_is_our_bug() -> None:
    record = Record(key="k", seq=1, ts_ns=1, flags=0, payload=bytes(JOURNAL_RECORD_BYTES_MAX))
    with pytest.raises(AssertionError, match="fits in the journal"):
        encode_records([record], seed=0)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "expected 18 bytes or more, found 0"),
        (HEAD[:17], "expected 18 bytes or more, found 17"),
        (b"x" * 40, "expected b'SHARDEXJ'"),
        (HEAD[:-1], "wrong checksum"),
        (HEAD[:-1] + b"\x00", "wrong checksum"),
    ],
)
def test_segment_without_a_whole_header_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(DecodeError, match=reason):
        scan(data)


def test_header_of_another_shape_is_refused() -> None:
    body = msgspec.msgpack.encode([1, 2])
    data = struct.pack("<8sHII", b"SHARDEXJ", 1, len(body), zlib.crc32(body)) + body
    with pytest.raises(DecodeError, match="segment header: "):
        scan(data)


def test_other_format_version_is_refused_by_name() -> None:
    data = HEAD[:8] + struct.pack("<H", 2) + HEAD[10:]
    with pytest.raises(JournalMismatch, match="journal format 2, expected 1"):
        scan(data)
