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

batch_lists = st.lists(
    st.lists(
        st.builds(
            Record,
            key=st.text(max_size=12),
            seq=st.integers(0, 2**63 - 1),
            ts_ns=st.integers(0, 2**63 - 1),
            flags=st.integers(0, 255),
            payload=st.binary(max_size=40),
        ),
        min_size=1,
        max_size=3,
    ),
    max_size=5,
)
HEAD = encode_header(
    SegmentHeader(
        kind="fix", owner="gw1", incarnations={}, first_record=0, created_ns=7, positions=None
    )
)


def encode(batches: list[list[Record]]) -> bytes:
    return b"".join(encode_records(batch, seed=header_seed(HEAD)) for batch in batches)


def ends_of(batches: list[list[Record]]) -> list[int]:
    """Return the offset behind the header and behind each frame."""
    return [len(HEAD) + len(encode(batches[:count])) for count in range(len(batches) + 1)]


def flat(batches: list[list[Record]]) -> list[Record]:
    return [record for batch in batches for record in batch]


@given(batch_lists)
@settings(max_examples=200, deadline=None)
def test_round_trip(batches: list[list[Record]]) -> None:
    data = HEAD + encode(batches)
    result = scan(data)
    assert result.records == flat(batches)
    assert result.valid_bytes == len(data)
    assert result.tail is Tail.CLEAN


@given(batch_lists)
@settings(max_examples=50, deadline=None)
def test_cut_at_every_byte_keeps_the_whole_frames_and_is_never_corrupt(
    batches: list[list[Record]],
) -> None:
    data = HEAD + encode(batches)
    ends = ends_of(batches)
    for cut in range(len(HEAD), len(data) + 1):
        result = scan(data[:cut])
        whole = sum(end <= cut for end in ends) - 1
        assert result.records == flat(batches[:whole])
        assert result.valid_bytes == ends[whole]
        assert result.tail is (Tail.CLEAN if cut == ends[whole] else Tail.TORN)


@given(batch_lists.filter(bool), st.integers(0, 7))
@settings(max_examples=50, deadline=None)
def test_flipped_bit_is_corrupt_unless_it_is_in_the_last_frame(
    batches: list[list[Record]], bit: int
) -> None:
    data = bytearray(HEAD + encode(batches))
    ends = ends_of(batches)
    for offset in range(len(HEAD), len(data)):
        data[offset] ^= 1 << bit
        result = scan(bytes(data))
        data[offset] ^= 1 << bit
        damaged = sum(end <= offset for end in ends) - 1
        assert result.records == flat(batches[:damaged])
        assert result.valid_bytes == ends[damaged]
        last = damaged == len(batches) - 1
        assert result.tail is (Tail.TORN if last else Tail.CORRUPT)


@given(batch_lists, st.binary(min_size=1, max_size=200))
@settings(max_examples=200, deadline=None)
def test_noise_behind_the_frames_is_torn(batches: list[list[Record]], noise: bytes) -> None:
    result = scan(HEAD + encode(batches) + noise)
    assert result.records == flat(batches)
    assert result.tail is Tail.TORN


@given(batch_lists, st.binary(min_size=1, max_size=50), batch_lists.filter(bool))
@settings(max_examples=200, deadline=None)
def test_noise_between_frames_is_corrupt(
    before: list[list[Record]], noise: bytes, behind: list[list[Record]]
) -> None:
    result = scan(HEAD + encode(before) + noise + encode(behind))
    assert result.records == flat(before)
    assert result.tail is Tail.CORRUPT


@given(st.binary(max_size=300))
@settings(max_examples=200, deadline=None)
def test_noise_alone_holds_no_record(noise: bytes) -> None:
    result = scan(HEAD + noise)
    assert result.records == []
    assert result.tail is (Tail.TORN if noise else Tail.CLEAN)
