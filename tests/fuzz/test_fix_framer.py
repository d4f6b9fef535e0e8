"""Any bytes make messages or RemoteFixError, and the same ones however they are cut."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import RemoteFixError
from gateway.fix_framer import FixFramer, check_sum
from gateway.fix_message import frame
from gateway.validate import MessageReader

_GOOD = [
    frame(b"35=0\x0149=1\x0156=X\x0134=2\x0152=20240102-12:00:00\x01"),
    frame(b"35=D\x0158=8=FIX.4.4\x019=20\x0135=0\x01"),
    frame(b"35=A\x0195=4\x0196=a\x01=b\x01" + b"58=" + b"x" * 300 + b"\x01"),
]
_PIECES = st.one_of(
    st.sampled_from(_GOOD),
    st.sampled_from(
        [
            b"8=FIX",
            b"8=FIX.4.4\x01",
            b"8=FIX.4.4\x019=5\x0135=",
            b"9=12\x01",
            b"8=FIX.4.4\x019=400\x0135=0\x01",
            b"8=FIX.4.4\x019=00005\x0135=0\x0110=161\x01",
            b"8=FIX.4.4\x019=99999\x0135=0\x01",
            b"10=123\x01",
            b"\x01",
            b"8=",
        ]
    ),
    st.binary(max_size=40),
    st.builds(
        lambda good, at, byte: good[: at % len(good)] + bytes([byte]) + good[at % len(good) + 1 :],
        st.sampled_from(_GOOD),
        st.integers(0, 1000),
        st.integers(0, 255),
    ),
)


def _frame_all(chunks: list[bytes]) -> tuple[list[bytes], bool]:
    framer = FixFramer(max_message_bytes=1_000, max_garbled_bytes=600)
    messages: list[bytes] = []
    try:
        for chunk in chunks:
            framer.receive_data(chunk)
            while (message := framer.next_message()) is not None:
                messages.append(message)
    except RemoteFixError:
        return messages, True
    return messages, False


@settings(max_examples=200, deadline=None)
@given(st.lists(_PIECES, max_size=12).map(b"".join), st.lists(st.integers(0, 4_000), max_size=6))
def test_any_bytes_give_the_same_messages_whole_split_and_byte_by_byte(
    data: bytes, cuts: list[int]
) -> None:
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    pieces = [data[start:end] for start, end in pairwise(edges)]
    whole = _frame_all([data])
    assert _frame_all(pieces) == whole
    assert _frame_all([data[i : i + 1] for i in range(len(data))]) == whole


@settings(max_examples=200, deadline=None)
@given(st.lists(_PIECES, max_size=8).map(b"".join))
def test_each_message_stands_in_the_input_and_has_the_right_length_and_sum(data: bytes) -> None:
    messages, _ = _frame_all([data])
    position = 0
    for message in messages:
        position = data.index(message, position) + len(message)
        begin, length, _ = message.split(b"\x01", 2)
        content = message[len(begin) + len(length) + 2 : -7]
        assert int(length[2:]) == len(content)
        assert message[-7:] == b"10=%03d\x01" % (sum(message[:-7]) % 256)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from(_GOOD), min_size=1, max_size=5), st.binary(max_size=30))
def test_good_messages_behind_garbage_are_all_found(good: list[bytes], garbage: bytes) -> None:
    messages, failed = _frame_all([garbage + b"".join(good)])
    assert not failed
    assert messages == good


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=700))
def test_the_reader_never_raises_on_a_framed_message(content: bytes) -> None:
    raw = frame(b"35=D\x01" + content + b"\x01")
    message = MessageReader().read(raw)
    assert message.raw == raw
    assert message.fault is not None


@settings(max_examples=100, deadline=None)
@given(st.one_of(st.binary(max_size=1_000), st.text(max_size=900).map(str.encode)))
def test_check_sum_is_the_sum_of_the_bytes(data: bytes) -> None:
    assert check_sum(data) == sum(data) % 256


def test_every_split_in_two_gives_the_same_messages() -> None:
    garbage = b"8=FIX.4.4\x019=5\x0135=0\x0110=000\x01x8=FI\x01"
    data = garbage.join([b"", *_GOOD, b"8=FIX.4.4\x019=12\x0135="])
    whole = _frame_all([data])
    assert whole[0] == _GOOD
    for position in range(len(data)):
        assert _frame_all([data[:position], data[position:]]) == whole, position
