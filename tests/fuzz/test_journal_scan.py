"""The journal scan on any bytes: it never raises, never invents a record, never cuts a good one.

A segment is cut at every byte, has every byte flipped, is followed by noise, or is noise. What the
scan returns is always a prefix of what was written, and only an unfinished end is called torn.
"""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from engine.journal import (
    Record,
    SegmentHeader,
    Tail,
    encode_header,
    encode_records,
    header_seed,
    scan,
)

records_lists = st.lists(
    st.builds(
        Record,
        key=st.text(max_size=12),
        seq=st.integers(0, 2**63 - 1),
        ts_ns=st.integers(0, 2**63 - 1),
        flags=st.integers(0, 255),
        payload=st.binary(max_size=60),
    ),
    max_size=8,
)
HEAD = encode_header(
    SegmentHeader(
        kind="fix", owner="gw1", incarnations={}, first_record=0, created_ns=7, positions=None
    )
)


def encode(records: list[Record]) -> bytes:
    return encode_records(records, seed=header_seed(HEAD))


def ends_of(records: list[Record]) -> list[int]:
    """Return the offset behind the header and behind each record."""
    ends = [len(HEAD)]
    for record in records:
        ends.append(ends[-1] + len(encode([record])))
    return ends


@given(records_lists)
@settings(max_examples=200, deadline=None)
def test_round_trip(records: list[Record]) -> None:
    data = HEAD + encode(records)
    result = scan(data)
    assert result.records == records
    assert result.valid_bytes == len(data)
    assert result.tail is Tail.CLEAN


@given(records_lists)
@settings(max_examples=50, deadline=None)
def test_cut_at_every_byte_keeps_the_whole_records_and_is_never_corrupt(
    records: list[Record],
) -> None:
    data = HEAD + encode(records)
    ends = ends_of(records)
    for cut in range(len(HEAD), len(data) + 1):
        result = scan(data[:cut])
        whole = sum(end <= cut for end in ends) - 1
        assert result.records == records[:whole]
        assert result.valid_bytes == ends[whole]
        assert result.tail is (Tail.CLEAN if cut == ends[whole] else Tail.TORN)


@given(records_lists.filter(bool), st.integers(0, 7))
@settings(max_examples=50, deadline=None)
def test_flipped_bit_is_corrupt_unless_it_is_in_the_last_record(
    records: list[Record], bit: int
) -> None:
    data = bytearray(HEAD + encode(records))
    ends = ends_of(records)
    for offset in range(len(HEAD), len(data)):
        data[offset] ^= 1 << bit
        result = scan(bytes(data))
        data[offset] ^= 1 << bit
        damaged = sum(end <= offset for end in ends) - 1
        assert result.records == records[:damaged]
        assert result.valid_bytes == ends[damaged]
        last = damaged == len(records) - 1
        assert result.tail is (Tail.TORN if last else Tail.CORRUPT)


@given(records_lists, st.binary(min_size=1, max_size=200))
@settings(max_examples=200, deadline=None)
def test_noise_behind_the_records_is_torn(records: list[Record], noise: bytes) -> None:
    result = scan(HEAD + encode(records) + noise)
    assert result.records == records
    assert result.tail is Tail.TORN


@given(records_lists, st.binary(min_size=1, max_size=50), records_lists.filter(bool))
@settings(max_examples=200, deadline=None)
def test_noise_between_records_is_corrupt(
    before: list[Record], noise: bytes, behind: list[Record]
) -> None:
    result = scan(HEAD + encode(before) + noise + encode(behind))
    assert result.records == before
    assert result.tail is Tail.CORRUPT


@given(st.binary(max_size=300))
@settings(max_examples=200, deadline=None)
def test_noise_alone_holds_no_record(noise: bytes) -> None:
    result = scan(HEAD + noise)
    assert result.records == []
    assert result.tail is (Tail.TORN if noise else Tail.CLEAN)
