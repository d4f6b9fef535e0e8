"""Appending to a journal: roll, reopening, locks, and a disk that refuses."""

from __future__ import annotations

import errno
import os
import resource
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from engine.errors import (
    JournalCorrupt,
    JournalLocked,
    JournalMismatch,
    JournalSyncFailed,
    JournalWriteFailed,
)
from engine.journal import Record
from engine.journal_file import JournalFile
from engine.journal_reader import JournalReader, SegmentFile, segment_paths
from tests.helpers import DEADLINE_S

NOW_NS = 1_790_000_000_000_000_000


def open_journal(
    directory: Path,
    *,
    kind: str = "commands",
    owner: str = "1",
    incarnations: dict[str, str] | None = None,
    keeps_positions: bool = True,
    segment_bytes_max: int = 4_096,
) -> JournalFile:
    return JournalFile(
        directory,
        kind=kind,
        owner=owner,
        incarnations={"BTC-USD": "a1"} if incarnations is None else incarnations,
        keeps_positions=keeps_positions,
        now_ns=lambda: NOW_NS,
        segment_bytes_max=segment_bytes_max,
    )


def batch(first: int, count: int, *, key: str = "BTC-USD", size: int = 50) -> list[Record]:
    return [
        Record(key=key, seq=seq, ts_ns=seq, flags=0, payload=bytes(size))
        for seq in range(first, first + count)
    ]


@contextmanager
def file_size_limit(limit_bytes: int) -> Iterator[None]:
    """Let the system refuse (EFBIG) what this process writes beyond `limit_bytes` of a file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_new_journal_has_one_private_segment_that_says_whose_it_is(tmp_path: Path) -> None:
    directory = tmp_path / "journals" / "engine-1"
    open_journal(directory).close()
    (path,) = segment_paths(directory)
    header = SegmentFile(path).header
    assert (header.kind, header.owner, header.incarnations) == ("commands", "1", {"BTC-USD": "a1"})
    assert (header.first_record, header.created_ns, header.positions) == (0, NOW_NS, {})
    assert path.stat().st_mode & 0o777 == 0o600
    assert directory.stat().st_mode & 0o777 == 0o700


def test_reopened_journal_goes_on_where_it_stopped(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    journal.append(batch(1, 3))
    journal.append(batch(1, 2, key="ETH-USD"))
    journal.close()
    journal = open_journal(tmp_path)
    assert journal.record_count == 5
    assert journal.positions == {"BTC-USD": 3, "ETH-USD": 2}
    assert journal.cut_bytes == 0
    journal.append(batch(4, 1))
    journal.close()
    assert [(record.key, record.seq) for record in JournalReader(tmp_path)] == [
        *(("BTC-USD", seq) for seq in (1, 2, 3)),
        *(("ETH-USD", seq) for seq in (1, 2)),
        ("BTC-USD", 4),
    ]
    assert len(segment_paths(tmp_path)) == 1


def test_segments_stay_within_their_limit_and_carry_the_positions(tmp_path: Path) -> None:
    journal = open_journal(tmp_path, segment_bytes_max=1_000)
    for first in range(1, 101, 5):
        journal.append(batch(first, 5))
    journal.close()
    paths = segment_paths(tmp_path)
    assert len(paths) > 5
    assert all(path.stat().st_size <= 1_000 for path in paths)
    for path in paths:
        header = SegmentFile(path).header
        assert header.positions == ({"BTC-USD": header.first_record} if path != paths[0] else {})
    assert [record.seq for record in JournalReader(tmp_path)] == list(range(1, 101))
    assert JournalReader(tmp_path).positions() == {"BTC-USD": 100}


def test_batch_longer_than_a_segment_gets_one_of_its_own(tmp_path: Path) -> None:
    journal = open_journal(tmp_path, segment_bytes_max=1_000)
    journal.append(batch(1, 1))
    assert not journal.append_if_room(batch(2, 100))
    journal.append(batch(2, 100))
    journal.append(batch(102, 1))
    journal.close()
    counts = [int(path.name.split(".")[0]) for path in segment_paths(tmp_path)]
    assert counts == [0, 1, 101]
    assert len(list(JournalReader(tmp_path))) == 102


def test_each_batch_is_one_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = open_journal(tmp_path)
    real_write, sizes = os.write, []

    def count_write(fd: int, data: bytes) -> int:
        sizes.append(len(data))
        return real_write(fd, data)

    monkeypatch.setattr(os, "write", count_write)
    journal.append(batch(1, 20))
    journal.append(batch(21, 1))
    journal.close()
    assert len(sizes) == 2


@pytest.mark.parametrize("torn", [1, 30, 100])
def test_torn_tail_is_cut_off_when_opened(tmp_path: Path, torn: int) -> None:
    journal = open_journal(tmp_path)
    journal.append(batch(1, 2))
    (path,) = segment_paths(tmp_path)
    whole = path.stat().st_size
    journal.append(batch(3, 2))
    journal.close()
    os.truncate(path, whole + torn)
    journal = open_journal(tmp_path)
    assert (journal.cut_bytes, journal.record_count) == (torn, 2)
    assert path.stat().st_size == whole
    journal.append(batch(3, 1))
    journal.close()
    assert [record.seq for record in JournalReader(tmp_path)] == [1, 2, 3]


def test_corrupt_journal_is_refused_with_its_place_and_left_as_it_is(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    (path,) = segment_paths(tmp_path)
    start = path.stat().st_size
    journal.append(batch(1, 1))
    journal.append(batch(2, 1))
    journal.close()
    data = bytearray(path.read_bytes())
    data[start + 30] ^= 1
    path.write_bytes(data)
    with pytest.raises(JournalCorrupt) as raised:
        open_journal(tmp_path)
    assert (raised.value.path, raised.value.offset_bytes) == (str(path), start)
    assert path.read_bytes() == data


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"kind": "fix"}, "kind: expected fix, found commands"),
        ({"owner": "2"}, "owner: expected 2, found 1"),
        ({"keeps_positions": False}, "keeps positions: expected False, found True"),
        ({"incarnations": {"BTC-USD": "b2"}}, "incarnation of BTC-USD: expected b2, found a1"),
    ],
)
def test_other_journal_is_refused(tmp_path: Path, changed: dict[str, object], reason: str) -> None:
    open_journal(tmp_path).close()
    with pytest.raises(JournalMismatch, match=reason):
        open_journal(tmp_path, **changed)  # type: ignore[arg-type]
    open_journal(tmp_path).close()


@pytest.mark.parametrize("records", [0, 2])
def test_new_incarnation_begins_a_segment_that_knows_both(tmp_path: Path, records: int) -> None:
    journal = open_journal(tmp_path)
    journal.append(batch(1, records))
    journal.close()
    journal = open_journal(tmp_path, incarnations={"ETH-USD": "c3"})
    journal.append(batch(1, 1, key="ETH-USD"))
    journal.close()
    paths = segment_paths(tmp_path)
    assert len(paths) == (2 if records else 1)
    assert SegmentFile(paths[-1]).header.incarnations == {"BTC-USD": "a1", "ETH-USD": "c3"}
    assert len(list(JournalReader(tmp_path))) == records + 1
    with pytest.raises(JournalMismatch, match="incarnation of BTC-USD"):
        open_journal(tmp_path, incarnations={"BTC-USD": "b2"})


def test_second_process_is_refused_by_the_name_of_the_first(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    with pytest.raises(JournalLocked, match=f"is written by process {os.getpid()}$"):
        open_journal(tmp_path)
    journal.close()
    open_journal(tmp_path).close()


def test_lock_ends_with_a_killed_process(tmp_path: Path) -> None:
    program = (
        "import os, pathlib, signal, sys\n"
        "from tests.unit.test_engine_journal_file import batch, open_journal\n"
        "journal = open_journal(pathlib.Path(sys.argv[1]))\n"
        "journal.append(batch(1, 4))\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        cwd=Path(__file__).parents[2],
        check=False,
        timeout=DEADLINE_S,
    )
    assert done.returncode == -9
    journal = open_journal(tmp_path)
    assert journal.positions == {"BTC-USD": 4}
    journal.close()


def test_write_beyond_the_limit_leaves_nothing_and_can_be_tried_again(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    journal.append(batch(1, 2))
    (path,) = segment_paths(tmp_path)
    before = path.stat().st_size
    # The system takes 100 bytes of the batch before it refuses the rest.
    with (
        file_size_limit(before + 100),
        pytest.raises(JournalWriteFailed, match="File too large"),
    ):
        journal.append(batch(3, 10))
    assert path.stat().st_size == before
    assert (journal.record_count, journal.positions) == (2, {"BTC-USD": 2})
    journal.append(batch(3, 10))
    journal.sync()
    journal.close()
    assert [record.seq for record in JournalReader(tmp_path)] == list(range(1, 13))


def test_full_disk_at_the_start_is_said_and_the_next_start_goes_on(tmp_path: Path) -> None:
    with file_size_limit(0), pytest.raises(JournalWriteFailed, match="too large"):
        open_journal(tmp_path)
    journal = open_journal(tmp_path)
    journal.append(batch(1, 3))
    journal.close()
    with file_size_limit(0), pytest.raises(JournalWriteFailed, match="too large"):
        open_journal(tmp_path)
    journal = open_journal(tmp_path)
    assert journal.positions == {"BTC-USD": 3}
    journal.close()


def test_full_disk_while_rolling_leaves_the_old_segment_going(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = open_journal(tmp_path, segment_bytes_max=1_000)
    journal.append(batch(1, 10))

    def refuse(fd: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", refuse)
        with pytest.raises(JournalWriteFailed, match="No space left"):
            journal.append(batch(11, 10))
    assert len(segment_paths(tmp_path)) == 1
    journal.append(batch(11, 1))
    journal.append(batch(12, 10))
    journal.close()
    assert [record.seq for record in JournalReader(tmp_path)] == list(range(1, 22))


def fail(*_: object) -> None:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


def assert_broken_for_good(journal: JournalFile) -> None:
    with pytest.raises(JournalSyncFailed, match="failed before"):
        journal.append(batch(900, 1))
    with pytest.raises(JournalSyncFailed, match="failed before"):
        journal.sync()
    with pytest.raises(JournalSyncFailed, match="failed before"):
        journal.roll()
    journal.close()


def test_refused_name_of_a_new_segment_leaves_no_open_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = open_journal(tmp_path)
    journal.append(batch(1, 3))
    before = len(os.listdir("/proc/self/fd"))
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", fail)
        with pytest.raises(JournalWriteFailed, match="Input/output"):
            journal.roll()
    assert len(os.listdir("/proc/self/fd")) == before
    journal.roll()
    assert len(segment_paths(tmp_path)) == 2
    journal.close()


def test_failed_fdatasync_breaks_the_journal_for_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = open_journal(tmp_path)
    journal.append(batch(1, 10))
    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", fail)
        with pytest.raises(JournalSyncFailed, match="Input/output error"):
            journal.sync()
    assert_broken_for_good(journal)


def test_write_that_cannot_be_cut_off_breaks_the_journal_for_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = open_journal(tmp_path)
    journal.append(batch(1, 10))
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", fail)
        patch.setattr(os, "ftruncate", fail)
        with pytest.raises(JournalSyncFailed, match="Input/output error"):
            journal.append(batch(11, 1))
    assert_broken_for_good(journal)


def test_new_segment_whose_name_may_be_lost_breaks_the_journal_for_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = open_journal(tmp_path)
    journal.append(batch(1, 10))
    real_fsync = os.fsync

    def fail_for_directories(fd: int) -> None:
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            fail()
        real_fsync(fd)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail_for_directories)
        with pytest.raises(JournalSyncFailed, match="Input/output error"):
            journal.roll()
    assert_broken_for_good(journal)
    journal = open_journal(tmp_path)
    journal.append(batch(11, 1))
    journal.close()
    assert [record.seq for record in JournalReader(tmp_path)] == list(range(1, 12))


def test_seq_that_does_not_grow_is_our_bug_where_positions_are_kept(tmp_path: Path) -> None:
    journal = open_journal(tmp_path / "commands")
    journal.append(batch(1, 2))
    with pytest.raises(AssertionError, match="only grows"):
        journal.append(batch(2, 1))
    journal.close()
    journal = open_journal(tmp_path / "fix", keeps_positions=False)
    journal.append(batch(2, 1) + batch(2, 1) + batch(1, 1))
    assert (journal.record_count, journal.positions) == (3, {})
    journal.close()
