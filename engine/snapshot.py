"""The codec of snapshots: one symbol's state to bytes and back. Pure.

Layout, integers little-endian:

    magic 8 bytes | version u16 | length u64 | crc32 u32 (over the body) | body

The body is a msgpack `_Body`. Nothing follows it. Orders stand in their priority (bids before asks,
best price first, oldest first) and ClOrdIDs in the order in which they went out of use, so that
putting them back one after the other gives the queues they came from.

A snapshot is taken for good only if the state that was made from it has the digest of the state
that it was made of (`SymbolState.digest`). The checksum finds damage before anything is decoded;
the digest finds everything else, a mistake of ours in here included.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable

import msgspec

from engine.enums import Side
from engine.errors import SnapshotCorrupt, SnapshotVersion
from engine.instrument import SymbolRules
from engine.matching import DoneOfAccount, Matcher
from engine.open_order import AccountOrders, OpenOrder, SavedOrder
from engine.shard import SymbolState

FORMAT_VERSION = 1

_MAGIC = b"SHARDEXS"
_PREFIX = struct.Struct("<8sHQI")


class _Body(msgspec.Struct, frozen=True, array_like=True):
    symbol: str
    incarnation: str
    seq: int
    ts_us: int
    rules: SymbolRules
    digest: str
    orders: list[SavedOrder]
    done: list[DoneOfAccount]


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Body)


def encode_snapshot(symbol: str, state: SymbolState) -> bytes:
    """Return a symbol's state as bytes; it must not change meanwhile."""
    matcher = state.matcher
    body = _encoder.encode(
        _Body(
            symbol,
            state.incarnation,
            state.seq,
            state.ts_us,
            matcher.rules,
            state.digest(),
            [order.save() for order in matcher.book.by_priority()],
            matcher.done(),
        )
    )
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
    body = _decode_body(data, name)
    matcher = _restore_matcher(body.rules, body.orders, body.done)
    state = SymbolState(body.incarnation, matcher, body.seq, body.ts_us)
    digest = state.digest()
    if digest != body.digest:
        raise SnapshotCorrupt(name, "digest of the state", body.digest, digest)
    return body.symbol, state


def _decode_body(data: bytes, name: str) -> _Body:
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
    try:
        return _decoder.decode(body)
    except msgspec.MsgspecError as error:
        raise SnapshotCorrupt(name, "body", "a symbol's state", error) from error


def _restore_matcher(
    rules: SymbolRules, orders: Iterable[SavedOrder], done: Iterable[DoneOfAccount]
) -> Matcher:
    matcher = Matcher(rules)
    book, accounts = matcher.book, matcher.accounts
    for account, items in done:
        accounts[account] = AccountOrders.restore(items)
    for saved in orders:
        order = OpenOrder.restore(saved)
        book.rest(book.bids if order.side == Side.BUY else book.asks, order.price_ticks, order)
        owned = accounts.get(order.owner)
        if owned is None:
            owned = accounts[order.owner] = AccountOrders()
        owned.open[order.cl_ord_id] = order
    return matcher
