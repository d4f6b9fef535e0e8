"""Our FIX codec against simplefix, and its ways of reading against each other."""

from __future__ import annotations

import pytest
import simplefix
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.fix_framer import FixFramer
from gateway.fix_message import (
    DATA_TAG_OF_LENGTH,
    as_poss_dup,
    encode_fields,
    frame,
    split_fields,
)
from gateway.validate import LAYOUT_SIGHTINGS, MessageReader

_VALUES = st.binary(min_size=1, max_size=30).filter(lambda value: b"\x01" not in value)
_TAGS = st.one_of(
    st.sampled_from([b"1", b"11", b"37", b"44", b"58", b"60", b"112"]),
    st.integers(5_000, 9_999).map(lambda tag: b"%d" % tag),
)
"""No lengths of data fields, which both sides read in their own way (their own test is below)."""
_PAIRS = st.lists(st.tuples(_TAGS, _VALUES), max_size=12)


def _frame_one(raw: bytes) -> bytes:
    framer = FixFramer(max_message_bytes=10_000, max_garbled_bytes=0)
    framer.receive_data(raw)
    message = framer.next_message()
    assert message is not None
    assert framer.buffered_bytes == 0
    return message


@settings(max_examples=150, deadline=None)
@given(_PAIRS)
def test_what_simplefix_builds_is_framed_and_split_alike(pairs: list[tuple[bytes, bytes]]) -> None:
    built = simplefix.FixMessage()
    built.append_pair(8, "FIX.4.4")
    built.append_pair(35, "D")
    for tag, value in pairs:
        built.append_pair(tag, value)
    raw = built.encode()
    assert split_fields(_frame_one(raw)) == [(b"35", b"D"), *pairs]


@settings(max_examples=150, deadline=None)
@given(_PAIRS)
def test_what_we_build_is_what_simplefix_builds_and_reads(
    pairs: list[tuple[bytes, bytes]],
) -> None:
    ours = frame(encode_fields([(b"35", b"8"), *pairs]))
    theirs = simplefix.FixMessage()
    theirs.append_pair(8, "FIX.4.4")
    theirs.append_pair(35, "8")
    for tag, value in pairs:
        theirs.append_pair(tag, value)
    assert ours == theirs.encode()
    parser = simplefix.FixParser()
    parser.append_buffer(ours)
    parsed = parser.get_message()
    assert parsed is not None
    assert parsed.pairs[3:-1] == pairs


@settings(max_examples=100, deadline=None)
@given(st.binary(min_size=1, max_size=40), _VALUES)
def test_data_fields_with_soh_are_cut_by_their_length(data: bytes, text: bytes) -> None:
    built = simplefix.FixMessage()
    built.append_pair(8, "FIX.4.4")
    built.append_pair(35, "A")
    built.append_data(95, 96, data)
    built.append_pair(58, text)
    fields = split_fields(_frame_one(built.encode()))
    assert fields == [(b"35", b"A"), (b"95", b"%d" % len(data)), (b"96", data), (b"58", text)]


@settings(max_examples=100, deadline=None)
@given(_PAIRS)
def test_a_resend_differs_in_header_fields_only(pairs: list[tuple[bytes, bytes]]) -> None:
    header = [(b"35", b"8"), (b"49", b"X"), (b"56", b"7"), (b"34", b"9")]
    sent = frame(encode_fields([*header, (b"52", b"20240102-12:00:00.000"), *pairs]))
    again = split_fields(_frame_one(as_poss_dup(sent, b"20240102-12:00:09.000")))
    assert again == [
        *header,
        (b"43", b"Y"),
        (b"52", b"20240102-12:00:09.000"),
        (b"122", b"20240102-12:00:00.000"),
        *pairs,
    ]


_ORDER = {
    b"49": b"1001",
    b"56": b"SHARDEX",
    b"34": b"12",
    b"52": b"20240102-12:00:00.123",
    b"11": b"a-1",
    b"55": b"AAPL-USD",
    b"54": b"1",
    b"38": b"100",
    b"40": b"2",
    b"44": b"101.25",
    b"60": b"20240102-12:00:00",
}
_BAD_VALUES = st.sampled_from(
    [b"", b"X", b"0", b"-1", b"1.5", b"20240132-12:00:00", b"a" * 37, b"Y", b"\xff", b"1=2", b"12 "]
)


_MORE = {
    "": {},
    "group": {b"453": b"1", b"448": b"x", b"447": b"D", b"452": b"1"},
    "data": {b"354": b"3", b"355": b"abc", b"58": b"y"},
    "data with delimiters": {b"354": b"7", b"355": b"a\x01b=c\x01d", b"58": b"y"},
}
_ONE_WAY_OR_ANOTHER = st.one_of(_BAD_VALUES, _VALUES, st.sampled_from([b"2", b"01", b"=", b"a=b"]))


@pytest.mark.parametrize("more", _MORE)
@settings(max_examples=100, deadline=None)
@given(st.data())
def test_all_ways_of_reading_agree_on_every_value(more: str, data: st.DataObject) -> None:
    order = _ORDER | _MORE[more]
    tag, value = data.draw(st.sampled_from(sorted(order))), data.draw(_ONE_WAY_OR_ANOTHER)
    good = frame(b"35=D\x01" + encode_fields(order.items()))
    changed = frame(b"35=D\x01" + encode_fields((order | {tag: value}).items()))
    expected = MessageReader().read(changed)
    for sightings in range(1, LAYOUT_SIGHTINGS + 2):
        reader = MessageReader()
        for _ in range(sightings):
            assert reader.read(good).fault is None
        assert reader.read(changed) == expected


_PIECES = st.lists(st.sampled_from([b"38", b"100", b"40", b"2", b"44", b"=", b"\x01"]), max_size=12)


@settings(max_examples=200, deadline=None)
@given(_PIECES)
def test_pieces_that_only_look_like_a_known_layout_are_told_from_it(pieces: list[bytes]) -> None:
    head = b"35=D\x01" + encode_fields((tag, _ORDER[tag]) for tag in list(_ORDER)[:7])
    tail = b"60=20240102-12:00:00\x01"
    reader = MessageReader()
    for _ in range(2):
        known = reader.read(frame(head + b"38=100\x0140=2\x0144=1\x01" + tail))
        assert known.fault is None
    changed = frame(head + b"".join(pieces) + b"\x01" + tail)
    assert reader.read(changed) == MessageReader().read(changed)


def test_no_length_of_data_is_overlooked() -> None:
    for length, data in DATA_TAG_OF_LENGTH.items():
        raw = frame(b"35=D\x01%b=3\x01%b=a\x01b\x0158=x\x01" % (length, data))
        assert split_fields(raw) == [
            (b"35", b"D"),
            (length, b"3"),
            (data, b"a\x01b"),
            (b"58", b"x"),
        ]
