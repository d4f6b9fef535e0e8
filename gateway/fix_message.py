"""A parsed FIX message, and the making of whole messages from their parts. Pure.

``FixMessage`` is what ``validate.MessageReader`` makes of a framed message. Outgoing messages are
put together here from a header and a body; ``gateway/reports_out.py`` renders the bodies of
reports by templates, the session renders its own with ``encode_fields``. Both are checked against
simplefix by tests/property/test_fix_codec.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import msgspec

from gateway.fix_framer import check_sum, trailer
from gateway.fix_tags import BEGIN_STRING, SOH, SessionRejectReason

_BEFORE_BODY = re.compile(rb"8=[^\x01]*\x019=[0-9]+\x01").match
TRAILER_BYTES = 7
"""Of CheckSum, ``10=…`` and the SOH behind it."""
_SECRET_TAGS = (b"554", b"925", b"96")
DATA_TAG_OF_LENGTH = {
    b"90": b"91",
    b"93": b"89",
    b"95": b"96",
    b"212": b"213",
    b"348": b"349",
    b"350": b"351",
    b"354": b"355",
    b"362": b"363",
    b"364": b"365",
    b"618": b"619",
    b"621": b"622",
}
"""Fields of type data follow the field that gives their length, and may contain SOH."""
_DATA = re.compile(
    b"\x01(?:%b)"
    % b"|".join(
        b"%b=([0-9]{1,9})\x01%b=" % (length, data) for length, data in DATA_TAG_OF_LENGTH.items()
    )
).search
"""A length and the beginning of the field behind it, where that is its data."""
_MAY_HAVE_DATA = re.compile(rb"\x01(?:9[035]|212|3[456][0248]|6[12][18])=").search
"""Quicker than ``_DATA``: finds every length, and some other fields."""
_FIELDS = re.compile(rb"([^\x01=]*)=([^\x01]*)\x01").findall


class Fault(msgspec.Struct, frozen=True, gc=False):
    """Why a message gets a Reject (35=3).

    Args:
        reason: SessionRejectReason (373).
        ref_tag: RefTagID (371), or None where no tag can be named.
    """

    reason: SessionRejectReason
    ref_tag: bytes | None = None


class FixMessage(msgspec.Struct, frozen=True, gc=False):
    """One framed message, parsed.

    Args:
        raw: the whole message as it came.
        msg_type: MsgType (35).
        fields: value by tag, both bytes, from MsgType to the last field before CheckSum; of a
            repeating group only the count. Where ``fault`` says that a tag is repeated, its last
            value.
        fault: the first thing that the session layer must reject, or None.
    """

    raw: bytes
    msg_type: bytes
    fields: dict[bytes, bytes]
    fault: Fault | None = None


def split_fields(raw: bytes) -> list[tuple[bytes, bytes | None]]:
    """Split a framed message into (tag, value), from MsgType to the last field before CheckSum.

    Fields of type data are cut by the length field before them. A piece without ``=`` comes as
    (piece, None): some value contained an SOH.
    """
    start, end = body_start(raw), len(raw) - TRAILER_BYTES
    fields: list[tuple[bytes, bytes | None]] = []
    found = _DATA(raw, start - 1, end) if _MAY_HAVE_DATA(raw) else None
    while found is not None:
        assert found.lastindex is not None, "Invariant: a length was found"
        data_start = found.end()
        data_end = data_start + int(found[found.lastindex])
        if data_end < end and raw[data_end] == SOH[0]:
            tag_start = raw.rindex(SOH, start, data_start) + 1
            fields += _split_pieces(raw[start:tag_start])
            fields.append((raw[tag_start : data_start - 1], raw[data_start:data_end]))
            start = data_end + 1
            found = _DATA(raw, data_end, end)
        else:
            found = _DATA(raw, data_start, end)
    fields += _split_pieces(raw[start:end])
    return fields


def _split_pieces(content: bytes) -> Sequence[tuple[bytes, bytes | None]]:
    """Split fields none of which is cut by a length; each is ended by SOH."""
    pairs = _FIELDS(content)
    if len(pairs) == content.count(SOH):
        return pairs
    parts = [piece.partition(b"=") for piece in content[:-1].split(SOH)]
    return [(tag, value if equals else None) for tag, equals, value in parts]


def without_secrets(raw: bytes) -> bytes:
    """Return the message with passwords and signatures (554, 925, 96) replaced by ``***``.

    For journals and logs; BodyLength and CheckSum stay those of the original. A piece without
    ``=`` goes too: it may be the rest of a password with an SOH in it.
    """
    pieces = [
        b"***" if value is None else b"%b=%b" % (tag, b"***" if tag in _SECRET_TAGS else value)
        for tag, value in split_fields(raw)
    ]
    return raw[: body_start(raw)] + SOH.join(pieces) + raw[-TRAILER_BYTES - 1 :]


def body_start(raw: bytes) -> int:
    """Return where MsgType begins in a framed message."""
    match = _BEFORE_BODY(raw)
    assert match is not None, "Invariant: only framed messages are parsed"
    return match.end()


def encode_fields(fields: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return ``tag=value`` fields, each ended by SOH."""
    return b"".join([b"%b=%b\x01" % field for field in fields])


class SharedFields(msgspec.Struct, frozen=True, gc=False):
    """Fields that end the bodies of many messages; their sum is made once.

    Args:
        data: each field ended by SOH.
        check_sum: of them.
    """

    data: bytes
    check_sum: int

    @classmethod
    def of(cls, data: bytes) -> SharedFields:
        """Return these fields with their sum."""
        return cls(data, check_sum(data))


Body = bytes | tuple[bytes, SharedFields]
"""The fields behind a header, each ended by SOH; those that are shared last."""


def frame(content: bytes) -> bytes:
    """Put BeginString and BodyLength before, and CheckSum behind, MsgType and all that follows.

    Args:
        content: from ``35=`` to the SOH that ends the last field.
    """
    message = b"8=" + BEGIN_STRING + b"\x019=%d\x01%b" % (len(content), content)
    return message + trailer(message)


def frame_shared(content: bytes, shared: SharedFields) -> bytes:
    """Do as ``frame`` does with a message that ends in shared fields.

    Args:
        content: from ``35=`` to the SOH that ends the last field that is not shared.
        shared: the fields behind it.
    """
    length = len(content) + len(shared.data)
    message = b"8=" + BEGIN_STRING + b"\x019=%d\x01%b" % (length, content)
    return b"".join((message, shared.data, trailer(message, shared.check_sum)))


def as_poss_dup(raw: bytes, sending_time: bytes) -> bytes:
    """Return one of our own messages as a resend: PossDupFlag=Y, OrigSendingTime, new SendingTime.

    Args:
        raw: the message as it was first sent, with SendingTime (52) in its header.
        sending_time: the new SendingTime.
    """
    content_start = raw.index(b"\x0135=") + 1
    time_start = raw.index(b"\x0152=", content_start) + 1
    time_end = raw.index(SOH, time_start)
    return frame(
        b"%b43=Y\x0152=%b\x01122=%b%b"
        % (
            raw[content_start:time_start],
            sending_time,
            raw[time_start + 3 : time_end],
            raw[time_end:-TRAILER_BYTES],
        )
    )
