"""The codec of snapshots: one symbol's state to bytes and back. Pure.

Layout, integers little-endian:

    magic 8 bytes | version u16 | length u64 | crc32 u32 (over the body) | body

The body is a msgpack `_Body`; nothing follows it. The state in it is what `SymbolState.encode`
gives: orders in their priority and ClOrdIDs in the order in which they went out of use, so that
putting them back one after the other gives the queues they came from.

A snapshot is taken for good only if the state that was made from it has the digest of the state
that it was made of. The checksum finds damage before anything is decoded; the digest finds
everything else, a mistake of ours in here included.
"""

from __future__ import annotations

import struct
import zlib

import msgspec

from engine.errors import SnapshotCorrupt, SnapshotVersion
from engine.matching import Matcher
from engine.shard import StateContent, SymbolState, digest_of

FORMAT_VERSION = 3

_MAGIC = b"SHARDEXS"
_PREFIX = struct.Struct("<8sHQI")


class _Body(msgspec.Struct, frozen=True, array_like=True):
    symbol: str
    digest: str
    state: msgspec.Raw


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Body)
_state_decoder = msgspec.msgpack.Decoder(StateContent)


def encode_snapshot(symbol: str, state: SymbolState) -> bytes:
    """Return a symbol's state as bytes; it must not change meanwhile."""
    encoded = state.encode()
    body = _encoder.encode(_Body(symbol, digest_of(encoded), msgspec.Raw(encoded)))
    return _PREFIX.pack(_MAGIC, FORMAT_VERSION, len(body), zlib.crc32(body)) + body


def decode_snapshot(data: bytes, *, name: str) -> tuple[str, SymbolState]:
    """Return the symbol and a state of its own that goes on as the encoded one would have.

    Args:
        data: The whole snapshot.
        name: What errors call it.

    Raises:
        SnapshotCorrupt: It is not whole and unchanged. Nothing of it is to be used.
        SnapshotVersion: It has another format version.
    """
    payload = _body_of(data, name)
    try:
        body = _decoder.decode(payload)
        content = _state_decoder.decode(body.state)
    except msgspec.MsgspecError as error:
        raise SnapshotCorrupt(name, "body", "a symbol's state", error) from error
    state = SymbolState(
        content.incarnation, Matcher.restore(content.matcher), content.seq, content.ts_us
    )
    digest = digest_of(state.encode())
    if digest != body.digest:
        raise SnapshotCorrupt(name, "digest of the state", body.digest, digest)
    return body.symbol, state


def _body_of(data: bytes, name: str) -> memoryview:
    if len(data) < _PREFIX.size:
        raise SnapshotCorrupt(name, "bytes", f"{_PREFIX.size} or more", len(data))
    magic, version, length, crc = _PREFIX.unpack_from(data)
    if magic != _MAGIC:
        raise SnapshotCorrupt(name, "magic", _MAGIC, magic)
    if version != FORMAT_VERSION:
        raise SnapshotVersion(name, FORMAT_VERSION, version)
    body = memoryview(data)[_PREFIX.size :]
    if len(body) != length:
        raise SnapshotCorrupt(name, "bytes of the body", length, len(body))
    found = zlib.crc32(body)
    if found != crc:
        raise SnapshotCorrupt(name, "checksum", f"{crc:08x}", f"{found:08x}")
    return body
