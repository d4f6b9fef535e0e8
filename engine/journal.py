"""The record codec of the journals: bytes of append-only segments to records and back. Pure.

Layout of a segment, integers little-endian:

    header   magic 8 bytes | version u16 | length u32 | crc32 u32 (over the body) | body
    record   marker 2 bytes | length u32 | crc32 u32 (over the body) | body
    record   …

Both bodies are msgpack arrays (SegmentHeader, Record). A record's crc32 starts from the crc32 of
its segment's header instead of 0. So bytes of another segment, and bytes that a client hides in a
message to look like a record, do not pass as a record of this one.

The torn-tail rule. A segment is only ever appended to, so what a crash leaves behind is whole
records and then at most one unfinished write. Bytes that are not a record, with no valid record
anywhere behind them, are that write: torn, to be cut off. With a valid record behind them they are
damage to what was once whole: corrupt, and never cut, because good records would go with it. The
marker exists for this search only: two bytes that ASCII text does not contain, found at the speed
of memory.
"""

from __future__ import annotations

import enum
import struct
import zlib
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import msgspec

from engine.errors import DecodeError, JournalMismatch
from engine.limits import JOURNAL_RECORD_BYTES_MAX

FORMAT_VERSION = 1

_MAGIC = b"SHARDEXJ"
_HEADER_PREFIX = struct.Struct("<8sHII")
_MARKER = b"\xa5\xfe"
_RECORD_PREFIX = struct.Struct("<2sII")


class Record(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One entry of a journal.

    Args:
        key: The stream that the record belongs to: a symbol, or a FIX session's CompID.
        seq: Its number in that stream, not negative.
        ts_ns: Its time stamp, nanoseconds since 1970 UTC.
        flags: What else the journal's owner needs to say about it, such as the direction.
        payload: The message as it stood on the wire or in the stream.
    """

    key: str
    seq: int
    ts_ns: int
    flags: int
    payload: bytes


class SegmentHeader(msgspec.Struct, frozen=True, array_like=True):
    """What a segment says about itself.

    Args:
        kind: What the payloads are, e.g. `commands` or `fix`.
        owner: Whose journal it is: the shard or the gateway.
        incarnations: Key to the incarnation of its stream. Two journals with different incarnations
            of a key hold different histories.
        first_record: How many records stand in all segments before this one.
        created_ns: When the segment was begun, nanoseconds since 1970 UTC.
        positions: Key to the last seq before this segment, in a journal in which the seq of each
            key only grows; None in one where it need not (FIX: two directions, resets).
    """

    kind: str
    owner: str
    incarnations: dict[str, str]
    first_record: int
    created_ns: int
    positions: dict[str, int] | None


class Tail(enum.Enum):
    """How a segment ends."""

    CLEAN = "clean"
    TORN = "torn"
    CORRUPT = "corrupt"


class ScanResult(NamedTuple):
    """All of a segment at once; the fields are those of SegmentScan."""

    header: SegmentHeader
    records: list[Record]
    valid_bytes: int
    tail: Tail
    reason: str


_encoder = msgspec.msgpack.Encoder()
_header_decoder = msgspec.msgpack.Decoder(SegmentHeader)
_record_decoder = msgspec.msgpack.Decoder(Record)


def encode_header(header: SegmentHeader) -> bytes:
    """Return the bytes that a segment begins with."""
    body = _encoder.encode(header)
    return _HEADER_PREFIX.pack(_MAGIC, FORMAT_VERSION, len(body), zlib.crc32(body)) + body


def header_seed(encoded: bytes) -> int:
    """Return the number that the crc32 of every record under this encoded header starts from."""
    _, _, _, seed = _HEADER_PREFIX.unpack_from(encoded)
    return int(seed)


def encode_records(records: Iterable[Record], *, seed: int) -> bytes:
    """Return the bytes of a batch of records, ready for one write.

    Args:
        records: The batch, in order.
        seed: `header_seed` of the segment that they go to.
    """
    parts: list[bytes] = []
    append, encode, crc32, pack = parts.append, _encoder.encode, zlib.crc32, _RECORD_PREFIX.pack
    for record in records:
        body = encode(record)
        assert len(body) <= JOURNAL_RECORD_BYTES_MAX, "Invariant: a record fits in the journal"
        append(pack(_MARKER, len(body), crc32(body, seed)))
        append(body)
    return b"".join(parts)


class SegmentScan:
    """The records of one segment, one at a time; how it ended stands in the attributes after that.

    Iterate once. `valid_bytes` begins behind the header and grows with each record; `tail` and
    `reason` hold when it is over. `seed` is what `encode_records` needs to go on behind the tail.

    Args:
        data: The whole segment.

    Raises:
        DecodeError: There is no whole header.
        JournalMismatch: The segment is of another format version.
    """

    def __init__(self, data: bytes) -> None:
        self.header, self.valid_bytes = _decode_header(data)
        self.tail = Tail.CLEAN
        self.reason = ""
        self.seed = header_seed(data)
        self._data = data

    def __iter__(self) -> Iterator[Record]:
        data = self._data
        end = len(data)
        while self.valid_bytes < end:
            body = self._body_at(self.valid_bytes)
            if body is None:
                self._judge_tail()
                return
            try:
                record = _record_decoder.decode(body)
            except msgspec.MsgspecError as error:
                # The checksum is right, so it was written like this: not a torn write.
                self.tail = Tail.CORRUPT
                self.reason = f"record with a good checksum does not decode: {error}"
                return
            self.valid_bytes += _RECORD_PREFIX.size + len(body)
            yield record

    def _body_at(self, offset: int) -> bytes | None:
        """Return the body of the whole, valid record at `offset`, or None if there is none."""
        start = offset + _RECORD_PREFIX.size
        if start > len(self._data):
            return None
        marker, length, crc = _RECORD_PREFIX.unpack_from(self._data, offset)
        if marker != _MARKER or length > JOURNAL_RECORD_BYTES_MAX:
            return None
        body = self._data[start : start + length]
        if len(body) < length or zlib.crc32(body, self.seed) != crc:
            return None
        return body

    def _judge_tail(self) -> None:
        candidate = self._data.find(_MARKER, self.valid_bytes + 1)
        while candidate >= 0:
            if self._body_at(candidate) is not None:
                self.tail = Tail.CORRUPT
                self.reason = f"no valid record here, but one follows at byte {candidate}"
                return
            candidate = self._data.find(_MARKER, candidate + 1)
        self.tail = Tail.TORN
        self.reason = f"{len(self._data) - self.valid_bytes} bytes that are no whole record"


def scan(data: bytes) -> ScanResult:
    """Decode one whole segment.

    Returns:
        Header, all records before the first damage, the bytes that they and the header take, and
        how the segment ends: `clean`, `torn` (cut at `valid_bytes` and go on) or `corrupt` (stop).

    Raises:
        DecodeError: There is no whole header.
        JournalMismatch: The segment is of another format version.
    """
    segment = SegmentScan(data)
    records = list(segment)
    return ScanResult(segment.header, records, segment.valid_bytes, segment.tail, segment.reason)


def _decode_header(data: bytes) -> tuple[SegmentHeader, int]:
    """Return the header and the number of bytes that it takes."""
    start = _HEADER_PREFIX.size
    if len(data) < start:
        raise DecodeError(f"segment header: expected {start} bytes or more, found {len(data)}")
    magic, version, length, crc = _HEADER_PREFIX.unpack_from(data)
    if magic != _MAGIC:
        raise DecodeError(f"segment header: expected {_MAGIC!r}, found {magic!r}")
    if version != FORMAT_VERSION:
        raise JournalMismatch(f"journal format {version}, expected {FORMAT_VERSION}")
    body = data[start : start + length]
    if len(body) < length or zlib.crc32(body) != crc:
        raise DecodeError("segment header: wrong checksum")
    try:
        return _header_decoder.decode(body), start + length
    except msgspec.MsgspecError as error:
        raise DecodeError(f"segment header: {error}") from error
