"""Records of an engine's journal that are no commands."""

from __future__ import annotations

import pytest

from engine import journal_keys
from engine.errors import DecodeError


def test_keys_name_their_symbol_and_nothing_else() -> None:
    assert journal_keys.hashed_symbol(journal_keys.hash_key("BTC-USD")) == "BTC-USD"
    assert journal_keys.skipped_symbol(journal_keys.skip_key("BTC-USD")) == "BTC-USD"
    for key in ("BTC-USD", journal_keys.LEDGER, journal_keys.skip_key("BTC-USD")):
        assert journal_keys.hashed_symbol(key) is None
    assert journal_keys.skipped_symbol(journal_keys.hash_key("BTC-USD")) is None


def test_hash_covers_a_range_and_tells_other_outputs() -> None:
    record = journal_keys.hash_record("BTC-USD", 5, [b"one", b"two", b"three"], 7)

    one = journal_keys.decode_hash(record.payload)

    assert (record.seq, record.ts_ns) == (7, 7)
    assert (one.first, one.last) == (5, 7)
    assert one.digest == journal_keys.digest_of([b"one", b"two", b"three"])
    assert one.digest != journal_keys.digest_of([b"one", b"two", b"four"])


def test_payload_that_is_no_hash_is_refused() -> None:
    with pytest.raises(DecodeError, match="not a hash of outputs"):
        journal_keys.decode_hash(b"\xc1")


def test_skip_says_why() -> None:
    record = journal_keys.skip_record("BTC-USD", 9, "überlaufen", 1)

    assert (record.key, record.seq, record.payload.decode()) == ("skip:BTC-USD", 9, "überlaufen")
