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


def segment(*batches: list[Record]) -> bytes:
    return HEAD + b"".join(encode_records(batch, seed=header_seed(HEAD)) for batch in batches)


ONE, TWO, THREE = [RECORDS[:1], RECORDS[1:2], RECORDS[2:]]


@pytest.mark.parametrize("batches", [[RECORDS], [ONE, TWO, THREE], [ONE, [], TWO + THREE]])
def test_segment_comes_back_as_it_was_written(batches: list[list[Record]]) -> None:
    data = segment(*batches)
    assert scan(data) == (HEADER, RECORDS, len(data), Tail.CLEAN, "")


def test_segment_without_records_is_clean() -> None:
    assert scan(HEAD) == (HEADER, [], len(HEAD), Tail.CLEAN, "")


def test_batch_without_records_is_no_bytes() -> None:
    assert encode_records([], seed=1) == b""


def test_scan_goes_record_by_record_and_counts_whole_frames() -> None:
    segment_scan = SegmentScan(segment(ONE + TWO, THREE))
    assert segment_scan.header == HEADER
    records = iter(segment_scan)
    assert next(records) == RECORDS[0]
    assert next(records) == RECORDS[1]
    assert segment_scan.valid_bytes == len(HEAD)
    assert next(records) == RECORDS[2]
    assert segment_scan.valid_bytes == len(segment(ONE + TWO))


def test_unfinished_last_frame_is_torn_as_a_whole() -> None:
    result = scan(segment(ONE, TWO + THREE)[:-1])
    assert result.records == ONE
    assert result.valid_bytes == len(segment(ONE))
    assert result.tail is Tail.TORN


def test_zeros_behind_the_last_frame_are_torn() -> None:
    result = scan(segment(RECORDS) + bytes(4096))
    assert result.records == RECORDS
    assert result.tail is Tail.TORN
    assert result.reason == "4096 bytes that are no whole frame"


def test_damage_before_a_valid_frame_is_corrupt() -> None:
    data = bytearray(segment(ONE, TWO, THREE))
    second = len(segment(ONE))
    third = len(segment(ONE, TWO))
    data[third - 1] ^= 1
    result = scan(bytes(data))
    assert result.records == ONE
    assert result.valid_bytes == second
    assert result.tail is Tail.CORRUPT
    assert result.reason == f"no valid frame here, but one follows at byte {third}"


def test_frame_that_claims_to_reach_beyond_the_end_is_corrupt_when_others_follow() -> None:
    data = bytearray(segment(ONE, TWO, THREE))
    struct.pack_into("<I", data, len(segment(ONE)) + 4, 1_000)
    assert scan(bytes(data)).tail is Tail.CORRUPT


def test_frame_inside_a_torn_message_does_not_make_it_corrupt() -> None:
    """What a client hides in a message cannot know the segment's seed."""
    hidden = encode_records(ONE, seed=0)
    data = segment([Record(key="7", seq=1, ts_ns=1, flags=0, payload=hidden * 2)])
    result = scan(data[:-1])
    assert result.tail is Tail.TORN
    assert result.records == []


def test_frames_of_another_segment_are_not_accepted() -> None:
    other = encode_header(msgspec.structs.replace(HEADER, created_ns=1))
    data = segment(ONE) + encode_records(TWO + THREE, seed=header_seed(other))
    result = scan(data)
    assert result.records == ONE
    assert result.tail is Tail.TORN


def test_whole_frame_that_does_not_decode_is_corrupt() -> None:
    body = msgspec.msgpack.encode([["BTC-USD", "not a number"]])
    seed = header_seed(HEAD)
    data = HEAD + struct.pack("<III", seed, len(body), zlib.crc32(body, seed)) + body
    result = scan(data)
    assert result.tail is Tail.CORRUPT
    assert result.reason.startswith("frame with a good checksum does not decode")
    assert result.valid_bytes == len(HEAD)


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
