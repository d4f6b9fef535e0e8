"""Journals that are cut to an earlier moment."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.journal import Record
from engine.journal_file import JournalFile
from engine.journal_reader import JournalReader, segment_paths
from ops.restore import cut_journal

SEGMENT_BYTES = 300


def record(key: str, seq: int) -> Record:
    return Record(key, seq, seq, 0, b"payload %d" % seq)


RECORDS = [
    record(key, seq)
    for seq in range(1, 41)
    for key in ("A-USD", "hash:A-USD", "B-USD", "ledger")
    if key != "B-USD" or seq <= 10
]


def write(directory: Path) -> None:
    file = JournalFile(
        directory,
        kind="commands",
        owner="shard-1",
        incarnations={"A-USD": "a", "B-USD": "b"},
        keeps_positions=True,
        now_ns=lambda: 1,
        segment_bytes_max=SEGMENT_BYTES,
    )
    for one in RECORDS:
        file.append([one])
    file.close()


@pytest.mark.parametrize("last", [0, 1, 17, 39, 40, 50])
def test_a_cut_journal_has_what_was_there_and_can_be_gone_on_with(
    tmp_path: Path, last: int
) -> None:
    write(tmp_path)
    segments = len(segment_paths(tmp_path))
    positions = {"A-USD": last, "B-USD": last, "ledger": last + 1}
    kept = [one for one in RECORDS if one.seq <= last + (one.key == "ledger")]

    assert cut_journal(tmp_path, positions) == len(RECORDS) - len(kept)
    assert list(JournalReader(tmp_path)) == kept
    assert len(segment_paths(tmp_path)) <= segments
    file = JournalFile(
        tmp_path,
        kind="commands",
        owner="shard-1",
        incarnations={"A-USD": "a", "B-USD": "b"},
        keeps_positions=True,
        now_ns=lambda: 1,
    )
    assert file.record_count == len(kept)
    file.append([record("A-USD", 99)])
    file.close()
    assert [one.seq for one in JournalReader(tmp_path)][-1] == 99
    assert sorted(path.suffix for path in tmp_path.iterdir() if path.is_dir()) == []


def test_a_symbol_that_redis_does_not_know_goes_whole(tmp_path: Path) -> None:
    write(tmp_path)
    cut_journal(tmp_path, {"A-USD": 40, "ledger": 40})
    assert {one.key for one in JournalReader(tmp_path)} == {"A-USD", "hash:A-USD", "ledger"}
