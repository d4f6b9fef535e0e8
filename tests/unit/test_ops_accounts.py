"""Usernames, amounts and times on the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from ops.accounts import asset_grid, check_username, parse_amount
from ops.commands_fixlog import parse_time
from ops.errors import CommandFailed, WrongUsage
from ops.settings import load_settings

SETTINGS = load_settings(Path(__file__).resolve().parents[2] / "exchange.toml", {})


@pytest.mark.parametrize("username", ["a", "alice", "x" * 64, "desk-1", "1a"])
def test_usernames_that_fix_can_carry_are_fine(username: str) -> None:
    check_username(username)


@pytest.mark.parametrize(
    ("username", "reason"),
    [
        ("", "printable ASCII"),
        ("x" * 65, "printable ASCII"),
        ("a b", "printable ASCII"),
        ("a\x01b", "printable ASCII"),
        ("ä", "printable ASCII"),
        ("12", "digits alone would be a SenderCompID"),
    ],
)
def test_others_are_refused(username: str, reason: str) -> None:
    with pytest.raises(CommandFailed, match=reason):
        check_username(username)


def test_amounts_are_exact() -> None:
    assert parse_amount(SETTINGS, "USD", "12.5") == 12_500_000
    assert parse_amount(SETTINGS, "USD", "0.000001") == 1
    assert parse_amount(SETTINGS, "ALFA", "7") == 7
    assert asset_grid(SETTINGS, "USD").format(12_500_000) == "12.500000"


@pytest.mark.parametrize(
    ("asset", "amount", "reason"),
    [
        ("USD", "0.0000001", r"a multiple of 0\.000001 USD"),
        ("USD", "-1", "expected a plain decimal"),
        ("USD", "1e3", "expected a plain decimal"),
        ("ALFA", "1.5", "a multiple of 1 ALFA"),
        ("EUR", "1", r"EUR: no \[\[assets\]\] block has this name"),
    ],
)
def test_other_amounts_are_refused(asset: str, amount: str, reason: str) -> None:
    with pytest.raises(CommandFailed, match=reason):
        parse_amount(SETTINGS, asset, amount)


def test_times_are_utc_unless_they_say_otherwise() -> None:
    assert parse_time("1970-01-02") == 86_400 * 10**9
    assert parse_time("1970-01-01T00:00:00.000001") == 1_000
    assert parse_time("1970-01-01T01:00:00+01:00") == 0
    with pytest.raises(WrongUsage, match="expected a time"):
        parse_time("yesterday")
