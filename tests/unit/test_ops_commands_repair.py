"""What a repair reads of a shard's journals."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.commands import DefineSymbol, encode_command
from engine.errors import JournalGap
from engine.journal import Record
from engine.journal_file import JournalFile
from engine.journal_reader import segment_paths
from ops.commands_repair import records_of
from ops.settings import load_settings
from ops.wiring import journal_directory
from router.homes import Home
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
