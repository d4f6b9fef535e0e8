"""Closed segments that are compressed: the same records, whenever one looks."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from engine.errors import JournalCorrupt
from engine.journal import Record
from engine.journal_archive import archive_closed_segments
from engine.journal_file import JournalFile
from engine.journal_reader import (
    JournalReader,
    SegmentFile,
    archived_path,
    is_archived,
    read_header,
    segment_paths,
)
from engine.journal_writer import FsyncPolicy, JournalWriter
from tests.helpers import eventually_async

RECORDS = [Record("A-USD", seq, seq, 0, b"order %d" % seq * 5) for seq in range(1, 61)]


def open_journal(directory: Path) -> JournalFile:
    return JournalFile(
        directory,
        kind="commands",
        owner="shard-1",
        incarnations={"A-USD": "a"},
        keeps_positions=True,
        now_ns=lambda: 1,
        segment_bytes_max=500,
    )


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """A journal of several segments."""
    file = open_journal(tmp_path)
    for record in RECORDS:
        file.append([record])
    file.close()
    assert len(segment_paths(tmp_path)) > 4
    return tmp_path


def never() -> bool:
    return False


def test_all_but_the_last_segment_are_compressed_and_read_as_before(journal: Path) -> None:
    plain = segment_paths(journal)
    assert archive_closed_segments(journal, should_stop=never) == len(plain) - 1
    paths = segment_paths(journal)
    assert paths == [*map(archived_path, plain[:-1]), plain[-1]]
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in paths)
    reader = JournalReader(journal)
    assert list(reader) == RECORDS
    assert reader.positions() == {"A-USD": 60}
    assert reader.tails(["A-USD"]) == {"A-USD": RECORDS[-1]}
    assert list(reader.read_from({"A-USD": 33})) == RECORDS[33:]
    assert read_header(paths[1]).first_record == SegmentFile(paths[0]).header.first_record + len(
        list(SegmentFile(paths[0]))
    )
    assert archive_closed_segments(journal, should_stop=never) == 0
    file = open_journal(journal)
    assert file.positions == {"A-USD": 60}
    file.close()


def test_a_reader_that_found_the_segment_before_reads_it_after(journal: Path) -> None:
    found = segment_paths(journal)[0]
    archive_closed_segments(journal, should_stop=never)
    assert next(iter(SegmentFile(found))) == RECORDS[0]


def test_a_crash_between_the_two_leaves_one_segment_and_is_made_good(journal: Path) -> None:
    first = segment_paths(journal)[0]
    data = first.read_bytes()
    archive_closed_segments(journal, should_stop=never)
    first.write_bytes(data)
    archived_path(first).with_suffix(".gz.new").write_bytes(b"torn")
    assert list(JournalReader(journal)) == RECORDS
    assert archive_closed_segments(journal, should_stop=never) == 1
    assert not first.exists() and list(JournalReader(journal)) == RECORDS


def test_segments_that_are_compressed_while_they_are_looked_for_are_found(
    journal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    look = Path.glob

    def compress_behind(directory: Path, pattern: str) -> list[Path]:
        found = list(look(directory, pattern))
        with monkeypatch.context() as meanwhile:
            meanwhile.setattr(Path, "glob", look)
            archive_closed_segments(directory, should_stop=never)
        return found

    monkeypatch.setattr(Path, "glob", compress_behind)
    assert list(JournalReader(journal)) == RECORDS


def test_a_stop_leaves_the_segment_as_it_was(journal: Path) -> None:
    before = sorted(journal.iterdir())
    assert archive_closed_segments(journal, should_stop=lambda: True) == 0
    assert sorted(journal.iterdir()) == before


def test_a_full_disk_leaves_the_segment_as_it_was(journal: Path) -> None:
    before = sorted(journal.iterdir())
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20, hard))
        with pytest.raises(OSError, match="too large"):
            archive_closed_segments(journal, should_stop=never)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert sorted(journal.iterdir()) == before


@pytest.mark.parametrize("keeps", [0, 10, 60])
def test_a_damaged_compressed_segment_is_refused(journal: Path, keeps: int) -> None:
    archive_closed_segments(journal, should_stop=never)
    second = segment_paths(journal)[1]
    second.write_bytes(second.read_bytes()[:keeps])
    reader = JournalReader(journal)
    with pytest.raises(JournalCorrupt):
        list(reader)


def test_a_journal_whose_last_segment_is_compressed_goes_on_behind_it(journal: Path) -> None:
    archive_closed_segments(journal, should_stop=never)
    segment_paths(journal)[-1].unlink()
    kept = list(JournalReader(journal))
    file = open_journal(journal)
    assert file.record_count == len(kept)
    file.append([RECORDS[-1]])
    file.close()
    assert list(JournalReader(journal)) == [*kept, RECORDS[-1]]


async def test_a_writer_compresses_what_it_has_closed_and_goes_on(tmp_path: Path) -> None:
    writer = JournalWriter(open_journal(tmp_path), policy=FsyncPolicy.OVERLAPPED, compresses=True)
    for record in RECORDS:
        await writer.append([record])
    await writer.sync()

    def is_compressed() -> bool:
        return all(map(is_archived, segment_paths(tmp_path)[:-1]))

    await eventually_async(is_compressed)
    await writer.close()
    assert list(JournalReader(tmp_path)) == RECORDS
