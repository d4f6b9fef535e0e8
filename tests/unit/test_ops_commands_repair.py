"""What a repair reads of a shard's journals."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from engine.commands import DefineSymbol, encode_command
from engine.errors import JournalGap
from engine.journal import Record
from engine.journal_file import JournalFile
from engine.journal_reader import segment_paths
from ops import commands_repair
from ops.commands_repair import led, records_of
from ops.errors import CommandFailed
from ops.settings import load_settings
from ops.wiring import journal_directory
from router.homes import Home
from router.lease import Held
from router.repair import Found, Lost
from router.shards import Shard
from tests.matching_world import rules

CONFIG = Path(__file__).resolve().parents[2] / "exchange.toml"
RULES = rules()
SYMBOL = RULES.symbol
SHARD = Shard(1, "redis://127.0.0.1:1", 1, (SYMBOL,))
HOMES = {SYMBOL: Home(SYMBOL, 1, 1, "a", RULES)}


def test_what_is_written_meanwhile_is_left_for_the_next_look(tmp_path: Path) -> None:
    settings = load_settings(CONFIG, {"SHARDEX_VAR_DIR": str(tmp_path)})
    directory = journal_directory(settings, "engine-1")
    file = JournalFile(
        directory,
        kind="commands",
        owner="shard-1",
        incarnations={SYMBOL: "a"},
        keeps_positions=True,
        now_ns=lambda: 1,
        segment_bytes_max=1,
    )
    define = encode_command(DefineSymbol(incarnation="a", rules=RULES))
    records = [Record(SYMBOL, 1, 1, 0, define), Record(SYMBOL, 2, 2, 0, b"")]
    for one in records:
        file.append([one])

    read = records_of(settings, SHARD, HOMES)
    file.append([Record("ledger", 1, 3, 0, b""), Record(SYMBOL, 3, 3, 0, b"")])
    file.close()
    # The streams' ends are read in between; they had the third when the journal got it.
    assert list(read()) == records
    assert [one.seq for one in records_of(settings, SHARD, HOMES)()] == [1, 2, 1, 3]

    segment_paths(directory)[0].unlink()
    with pytest.raises(JournalGap, match="records 0 to 0 are missing"):
        records_of(settings, SHARD, HOMES)


@pytest.mark.parametrize(
    ("owner", "lost", "told"),
    [
        ("engine-1:7:a", 0, "engine-1:7:a leads it, and nothing is lost"),
        ("engine-1:7:a", 1, "0 ledger entries and 1 commands are lost: stop its engines"),
        ("repair:7:a", 1, "another repair is under way"),
    ],
)
async def test_who_has_the_lease_is_told_and_what_is_lost_all_the_same(
    owner: str, lost: int, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def try_acquire() -> Held:
        return Held(owner, 1_000)

    monkeypatch.setattr(commands_repair, "LEASE_WAIT_S", 0.0)
    lease: Any = SimpleNamespace(try_acquire=try_acquire, ttl_ms=100)
    found = Found([Lost(SYMBOL, Record(SYMBOL, 2, 2, 0, b""), None)] * lost, {}, {})
    with pytest.raises(CommandFailed, match=told):
        async with led(lease, SHARD, found):
            raise AssertionError("somebody else has it")
