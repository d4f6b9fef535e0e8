"""Every script says its contract, and spells key names as the register does."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

import router
from router import keys
from router.scripts import Script, pack

FOLDER = Path(router.__file__).parent / "scripts"
NAMES = sorted(path.stem for path in FOLDER.glob("*.lua"))


@pytest.mark.parametrize("name", NAMES)
def test_head_states_the_contract(name: str) -> None:
    head = Script(name).source.decode().partition("\nlocal ")[0]
    for part in ("-- KEYS ", "-- ARGV ", "-- Returns ", "tomic"):
        assert part in head, f"{name}.lua does not say {part.strip('- ')}"


@pytest.mark.parametrize("name", NAMES)
def test_digest_is_that_of_the_text(name: str) -> None:
    script = Script(name)
    assert script.digest == hashlib.sha1(script.source).hexdigest()


def test_scripts_spell_key_names_as_the_register_does() -> None:
    text = "\n".join(Script(name).source.decode() for name in NAMES)
    for made in (
        keys.home(""),
        keys.balances(0)[:-1],
        keys.open_orders(0)[:-1],
        keys.outbox(0)[:-1],
        keys.session(0)[:-1],
        keys.user(0)[:-1],
        keys.sent(0, 0)[:-3],
        keys.orders(""),
        keys.events(""),
        keys.phase(""),
        keys.USERNAMES,
        keys.USER_IDS,
        keys.LEDGER,
        keys.LEDGER_REFS,
        keys.TOTALS,
        keys.SETTLED,
        keys.BBO,
        keys.LEASE,
        keys.WAKE_CHANNEL,
        keys.CONTROL_CHANNEL,
        keys.available(""),
        keys.pending(""),
    ):
        assert f"'{made}'" in text, f"no script uses {made!r}"


def test_packed_lists_are_flat_msgpack() -> None:
    assert pack(["a", 1, 300]) == b"\x93\xa1a\x01\xcd\x01\x2c"
