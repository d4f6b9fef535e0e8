"""What stands in an engine's journal besides commands: under keys that no symbol can have. Pure.

    {symbol}        a command, as in the symbol's stream
    ledger          an entry of the ledger
    hash:{symbol}   what the engine made of a range of commands, given before it is committed
    skip:{symbol}   an operator's word to pass over a command; it may stand behind the command

The names of symbols are upper case, so the four never meet.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import msgspec

from engine.errors import DecodeError
from engine.journal import Record

LEDGER = "ledger"
_HASH_PREFIX = "hash:"
_SKIP_PREFIX = "skip:"
_DIGEST_BYTES = 16


class OutputsHash(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The digest of the encoded outputs of the inputs from ``first`` to ``last``, joined."""

    first: int
    last: int
    digest: bytes


_encode = msgspec.msgpack.Encoder().encode
_decoder = msgspec.msgpack.Decoder(OutputsHash)


def hash_key(symbol: str) -> str:
    """Return the key of a symbol's hashes."""
    return _HASH_PREFIX + symbol


def skip_key(symbol: str) -> str:
    """Return the key of a symbol's skips."""
    return _SKIP_PREFIX + symbol


def hashed_symbol(key: str) -> str | None:
    """Return the symbol of a key of hashes; None for any other key."""
    return key.removeprefix(_HASH_PREFIX) if key.startswith(_HASH_PREFIX) else None


def skipped_symbol(key: str) -> str | None:
    """Return the symbol of a key of skips; None for any other key."""
    return key.removeprefix(_SKIP_PREFIX) if key.startswith(_SKIP_PREFIX) else None


def digest_of(outputs: Sequence[bytes]) -> bytes:
    """Return the digest of encoded outputs."""
    return hashlib.blake2b(b"".join(outputs), digest_size=_DIGEST_BYTES).digest()


def hash_record(symbol: str, first: int, outputs: Sequence[bytes], ts_ns: int) -> Record:
    """Return the record that says what the inputs from ``first`` on gave.

    Args:
        symbol: its name.
        first: the seq of the first output.
        outputs: encoded, without a gap.
        ts_ns: the stamp of the last input, ns since 1970 UTC.
    """
    last = first + len(outputs) - 1
    payload = _encode(OutputsHash(first, last, digest_of(outputs)))
    return Record(hash_key(symbol), last, ts_ns, 0, payload)


def decode_hash(payload: bytes) -> OutputsHash:
    """Decode what ``hash_record`` wrote.

    Raises:
        DecodeError: it is not that.
    """
    try:
        return _decoder.decode(payload)
    except msgspec.MsgspecError as error:
        raise DecodeError(f"not a hash of outputs: {error} ({payload[:80]!r})") from error


def skip_record(symbol: str, seq: int, reason: str, ts_ns: int) -> Record:
    """Return the record of an operator's skip."""
    return Record(skip_key(symbol), seq, ts_ns, 0, reason.encode())
