"""Ledger entries: users and what they may, deposits, withdrawals: the ``ledger`` stream. Pure.

Entry ``{n}-0`` is ``{e: encoded entry, t: stamp in µs}``; n is dense over all accounts. Number and
stamp are the stream's, not the entry's: the script that appends gives them. New fields go at the
end, tags are never reused.
"""

from __future__ import annotations

import msgspec

from engine.errors import DecodeError


class UserCreated(msgspec.Struct, frozen=True, array_like=True, tag=0, gc=False):
    """A user; ``account`` is the SenderCompID and never given twice."""

    account: int
    username: str
    password_hash: str


class PasswordChanged(msgspec.Struct, frozen=True, array_like=True, tag=1, gc=False):
    """Another password; sessions that are logged on stay so."""

    account: int
    password_hash: str


class UserDisabled(msgspec.Struct, frozen=True, array_like=True, tag=2, gc=False):
    """Logged out, open orders canceled, refused from now on; it gets no copies any more."""

    account: int


class Deposited(msgspec.Struct, frozen=True, array_like=True, tag=3, gc=False):
    """Money came in: ``amount`` in the asset's smallest unit, to available. ``ref`` is unique."""

    account: int
    asset: str
    amount: int
    ref: str


class Withdrawn(msgspec.Struct, frozen=True, array_like=True, tag=4, gc=False):
    """Money went out, from available."""

    account: int
    asset: str
    amount: int
    ref: str


class UserChanged(msgspec.Struct, frozen=True, array_like=True, tag=5, gc=False):
    """Another value of one field of the user's record, such as ``keys`` or ``addresses``.

    The whole value, so that the last entry of a field is what is in force; empty: none.
    """

    account: int
    field: str
    value: str


LedgerEntry = UserCreated | PasswordChanged | UserDisabled | Deposited | Withdrawn | UserChanged


def field_set(entry: LedgerEntry) -> tuple[str, str] | None:
    """Return the field of the user's record that an entry sets, and its value; None: it sets none.

    Fields are those of UserChanged. A user that is disabled is a copy of nobody from then on.
    """
    if isinstance(entry, UserChanged):
        return entry.field, entry.value
    return ("drop_copy", "") if isinstance(entry, UserDisabled) else None


_ENCODER = msgspec.msgpack.Encoder()
_DECODER: msgspec.msgpack.Decoder[LedgerEntry] = msgspec.msgpack.Decoder(LedgerEntry)
encode_ledger_entry = _ENCODER.encode


def decode_ledger_entry(data: bytes) -> LedgerEntry:
    """Decode one ledger entry.

    Raises:
        DecodeError: the bytes are no ledger entry of this version.
    """
    try:
        return _DECODER.decode(data)
    except msgspec.DecodeError as error:
        raise DecodeError(f"not a ledger entry: {error} ({data[:80]!r})") from error
