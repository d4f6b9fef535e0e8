"""Journals that are cut to an earlier moment, and places that cannot be restored to."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.journal import Record
from engine.journal_archive import archive_closed_segments
from engine.journal_file import JournalFile
from engine.journal_reader import JournalReader, read_header, segment_paths
from ops.backup import only_one
from ops.errors import CommandFailed
from ops.restore import cut_journal, cut_messages_of

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


def write_messages(directory: Path) -> list[Record]:
    """Write one segment for each two messages, one a ns; begin each with the clock of its first."""
    clock = 0
    messages = [Record("7", seq % 5, seq, 0, b"message %d" % seq) for seq in range(1, 21)]
    file = JournalFile(
        directory,
        kind="fix",
        owner="gateway-1",
        incarnations={},
        keeps_positions=False,
        now_ns=lambda: clock,
        segment_bytes_max=150,
    )
    for one in messages:
        clock = one.ts_ns
        file.append([one])
    file.close()
    assert len(segment_paths(directory)) > 4
    return messages


@pytest.mark.parametrize("moment", [0, 1, 7, 8, 20, 30])
def test_messages_are_cut_by_their_time(tmp_path: Path, moment: int) -> None:
    messages = write_messages(tmp_path)
    archive_closed_segments(tmp_path, should_stop=lambda: False)
    kept = [one for one in messages if one.ts_ns <= moment]
    assert cut_messages_of(tmp_path, moment) == len(messages) - len(kept)
    assert list(JournalReader(tmp_path)) == kept
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]


def test_messages_whose_beginning_is_elsewhere_keep_their_numbers(tmp_path: Path) -> None:
    messages = write_messages(tmp_path)
    gone, first = segment_paths(tmp_path)[:2]
    gone.unlink()
    number = read_header(first).first_record
    cut_messages_of(tmp_path, 1)
    assert [read_header(path).first_record for path in segment_paths(tmp_path)] == [number]
    cut_messages_of(tmp_path, 1)
    assert list(JournalReader(tmp_path).remaining()) == []
    assert number < len(messages)
    assert cut_messages_of(tmp_path / "none", 1) == 0


def test_a_second_one_is_refused_while_a_first_is_at_it(tmp_path: Path) -> None:
    with only_one(tmp_path, "backup"):
        with pytest.raises(CommandFailed, match=f"{tmp_path}: another backup is under way"):
            with only_one(tmp_path, "backup"):
                raise AssertionError("never got here")
    with only_one(tmp_path, "backup"):
        assert not list(tmp_path.iterdir())
