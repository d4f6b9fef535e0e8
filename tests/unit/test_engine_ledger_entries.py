"""Ledger entries come back as they were, and nothing else passes for one."""

from __future__ import annotations

import pytest

from engine.errors import DecodeError
from engine.ledger_entries import (
    Deposited,
    LedgerEntry,
    PasswordChanged,
    UserChanged,
    UserCreated,
    UserDisabled,
    Withdrawn,
    decode_ledger_entry,
    encode_ledger_entry,
    field_set,
)


@pytest.mark.parametrize(
    "entry",
    [
        UserCreated(1, "alice", "$argon2id$…"),
        PasswordChanged(1, "hash"),
        UserDisabled(1),
        UserChanged(1, "addresses", "192.0.2.0/24 2001:db8::/32"),
        Deposited(1, "USD", 2**62, "ref"),
        Withdrawn(2**40, "BTC", 1, "x" * 64),
    ],
)
def test_round_trip(entry: LedgerEntry) -> None:
    assert decode_ledger_entry(encode_ledger_entry(entry)) == entry


@pytest.mark.parametrize("data", [b"", b"\x93", b"\x92\x09\x01", b"\x92\x02\xa1x", b"\xc0"])
def test_other_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(DecodeError, match="not a ledger entry"):
        decode_ledger_entry(data)


def test_which_field_of_a_users_record_an_entry_sets() -> None:
    assert field_set(UserChanged(1, "keys", "k1 k2")) == ("keys", "k1 k2")
    assert field_set(UserDisabled(1)) == ("drop_copy", "")
    assert field_set(PasswordChanged(1, "hash")) is None
