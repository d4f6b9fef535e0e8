"""Group commit: what an append waits for, what becomes one group, what a failing disk does.

`Disk` stands in the way of the real calls: it holds each fdatasync until the test lets it go, and
notes the order of writes and fdatasyncs.
"""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from engine import journal_writer
from engine.errors import JournalSyncFailed, JournalWriteFailed
from engine.journal import Record
from engine.journal_file import JournalFile
from engine.journal_reader import JournalReader, segment_paths
from engine.journal_writer import FsyncPolicy, JournalWriter
from tests.helpers import DEADLINE_S, eventually_async


class Disk:
    """The real calls, with a gate before each fdatasync and errors on demand."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.write_error = 0
        self.sync_error = 0
        self._allowed = threading.Semaphore(0)
        self._arrived = threading.Semaphore(0)
        self._write = os.write
        self._fdatasync = os.fdatasync
        self.is_open = False

    def write(self, fd: int, data: bytes) -> int:
        if self.write_error:
            raise OSError(self.write_error, os.strerror(self.write_error))
        self.calls.append("write")
        return self._write(fd, data)

    def fdatasync(self, fd: int) -> None:
        self._arrived.release()
        if not self.is_open and not self._allowed.acquire(timeout=DEADLINE_S):
            raise TimeoutError("the test did not let the fdatasync go")
        if self.sync_error:
            raise OSError(self.sync_error, os.strerror(self.sync_error))
        self._fdatasync(fd)
        self.calls.append("sync")

    async def sync_arrives(self) -> None:
        """Wait until an fdatasync stands at the gate."""
        assert await asyncio.to_thread(self._arrived.acquire, timeout=DEADLINE_S)

    def let_one_sync_go(self) -> None:
        self._allowed.release()

    def open_gate(self) -> None:
        self.is_open = True
        self._allowed.release()


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    gate = Disk()
    yield gate
    gate.open_gate()


@asynccontextmanager
async def writer_on(
    disk: Disk,
    directory: Path,
    policy: FsyncPolicy = FsyncPolicy.OVERLAPPED,
    *,
    segment_bytes_max: int = 100_000,
    pending_records_max: int = 100,
) -> AsyncIterator[JournalWriter]:
    """Open a journal, put the disk's gate in, and close everything with the gate open."""
    file = JournalFile(
        directory,
        kind="fix",
        owner="gw1",
        incarnations={},
        keeps_positions=True,
        now_ns=lambda: 1,
        segment_bytes_max=segment_bytes_max,
    )
    writer = JournalWriter(file, policy=policy, pending_records_max=pending_records_max)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "write", disk.write)
        patch.setattr(os, "fdatasync", disk.fdatasync)
        async with asyncio.timeout(DEADLINE_S):
            try:
                yield writer
            finally:
                disk.open_gate()
                disk.write_error = 0
                await close_quietly(writer)


async def close_quietly(writer: JournalWriter) -> None:
    """Close; a journal that the test has broken says so again."""
    try:
        await writer.close()
    except JournalSyncFailed:
        assert isinstance(writer.failure, JournalSyncFailed)


def batch(first: int, count: int = 1) -> list[Record]:
    return [
        Record(key="7", seq=seq, ts_ns=seq, flags=0, payload=b"8=FIX.4.4")
        for seq in range(first, first + count)
    ]


def seqs(directory: Path) -> list[int]:
    return [record.seq for record in JournalReader(directory)]


async def settle() -> None:
    """Let every task that can run do so."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_strict_append_returns_after_its_fdatasync(tmp_path: Path, disk: Disk) -> None:
    async with writer_on(disk, tmp_path, FsyncPolicy.STRICT) as writer:
        append = asyncio.create_task(writer.append(batch(1, 3)))
        await disk.sync_arrives()
        await settle()
        assert not append.done()
        assert (writer.durable_count, writer.durable_positions) == (0, {})
        disk.let_one_sync_go()
        await append
        assert disk.calls == ["write", "sync"]
        assert (writer.durable_count, writer.durable_positions) == (3, {"7": 3})


async def test_overlapped_append_returns_after_its_write_and_is_one_batch_behind(
    tmp_path: Path, disk: Disk
) -> None:
    async with writer_on(disk, tmp_path) as writer:
        await writer.append(batch(1))
        assert disk.calls == ["write"]
        await disk.sync_arrives()
        second = asyncio.create_task(writer.append(batch(2)))
        await settle()
        assert not second.done()
        assert seqs(tmp_path) == [1]
        disk.let_one_sync_go()
        await second
        assert disk.calls == ["write", "sync", "write"]
        assert (writer.durable_count, writer.durable_positions) == (1, {"7": 1})


async def test_what_comes_during_an_fdatasync_is_one_write_and_one_fdatasync(
    tmp_path: Path, disk: Disk
) -> None:
    async with writer_on(disk, tmp_path, FsyncPolicy.STRICT) as writer:
        first = asyncio.create_task(writer.append(batch(1)))
        await disk.sync_arrives()
        others = [asyncio.create_task(writer.append(batch(seq, 2))) for seq in (2, 4)]
        await settle()
        writer.add(batch(6))
        disk.open_gate()
        await asyncio.gather(first, *others)
        assert disk.calls == ["write", "sync", "write", "sync"]
        assert writer.durable_count == 6
    assert seqs(tmp_path) == [1, 2, 3, 4, 5, 6]


async def test_added_records_go_with_the_next_group_and_sync_waits_for_them(
    tmp_path: Path, disk: Disk
) -> None:
    async with writer_on(disk, tmp_path) as writer:
        await writer.sync()
        assert disk.calls == []
        writer.add(batch(1))
        assert disk.calls == ["write"]
        await disk.sync_arrives()
        writer.add(batch(2))
        writer.add(batch(3))
        synced = asyncio.create_task(writer.sync())
        await settle()
        assert disk.calls == ["write"]
        disk.let_one_sync_go()
        await disk.sync_arrives()
        assert disk.calls == ["write", "sync", "write"]
        assert not synced.done()
        disk.open_gate()
        await synced
        assert writer.durable_count == 3
    assert seqs(tmp_path) == [1, 2, 3]


async def test_roll_makes_the_old_segment_durable_before_the_new_one_is_written(
    tmp_path: Path, disk: Disk
) -> None:
    async with writer_on(disk, tmp_path, segment_bytes_max=120) as writer:
        disk.open_gate()
        for first in range(1, 20, 3):
            await writer.append(batch(first, 3))
        await writer.sync()
        assert writer.durable_count == 21
    assert len(segment_paths(tmp_path)) > 2
    assert seqs(tmp_path) == list(range(1, 22))


async def test_an_append_behind_added_records_takes_their_fsync_along(
    tmp_path: Path, disk: Disk
) -> None:
    async with writer_on(disk, tmp_path) as writer:
        disk.open_gate()
        writer.add(batch(1))
        writer.add(batch(2))
        assert disk.calls == ["write", "write"]
        await writer.append(batch(3))
        await eventually_async(lambda: writer.durable_count == 3)
        assert disk.calls == ["write", "write", "write", "sync"]


async def test_added_records_alone_become_durable_before_long(tmp_path: Path, disk: Disk) -> None:
    async with writer_on(disk, tmp_path) as writer:
        disk.open_gate()
        writer.add(batch(1))
        await eventually_async(lambda: writer.durable_count == 1)
        assert disk.calls == ["write", "sync"]


async def test_close_makes_everything_durable(tmp_path: Path, disk: Disk) -> None:
    async with writer_on(disk, tmp_path) as writer:
        await writer.append(batch(1))
        writer.add(batch(2))
    assert disk.calls == ["write", "sync", "write", "sync"]
    assert seqs(tmp_path) == [1, 2]


async def test_refused_append_leaves_nothing_and_can_be_tried_again(
    tmp_path: Path, disk: Disk
) -> None:
    async with writer_on(disk, tmp_path) as writer:
        disk.open_gate()
        disk.write_error = errno.ENOSPC
        with pytest.raises(JournalWriteFailed, match="No space left"):
            await writer.append(batch(1, 2))
        assert isinstance(writer.failure, JournalWriteFailed)
        disk.write_error = 0
        await writer.append(batch(1, 2))
        assert writer.failure is None
    assert seqs(tmp_path) == [1, 2]


async def test_a_sync_without_a_record_does_not_prove_that_the_disk_has_room(
    tmp_path: Path, disk: Disk
) -> None:
    async with writer_on(disk, tmp_path) as writer:
        disk.open_gate()
        disk.write_error = errno.ENOSPC
        with pytest.raises(JournalWriteFailed, match="No space left"):
            await writer.append(batch(1))
        # The real disk takes nothing at all without a word.
        disk.write_error = 0
        await writer.sync()
        assert isinstance(writer.failure, JournalWriteFailed)
        await writer.append(batch(1))
        assert writer.failure is None
    assert seqs(tmp_path) == [1]


async def test_added_records_survive_a_refusal_and_go_first(tmp_path: Path, disk: Disk) -> None:
    async with writer_on(disk, tmp_path) as writer:
        disk.open_gate()
        disk.write_error = errno.ENOSPC
        writer.add(batch(1))
        with pytest.raises(JournalWriteFailed, match="No space left"):
            await writer.append(batch(2))
        with pytest.raises(JournalWriteFailed, match="No space left"):
            await writer.sync()
        disk.write_error = 0
        await writer.append(batch(2))
    assert seqs(tmp_path) == [1, 2]


async def test_added_records_are_written_by_themselves_when_there_is_room_again(
    tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_writer, "WRITE_RETRY_DELAY_S", 0.001)
    async with writer_on(disk, tmp_path) as writer:
        disk.open_gate()
        disk.write_error = errno.ENOSPC
        writer.add(batch(1))
        writer.add(batch(2))
        await eventually_async(lambda: isinstance(writer.failure, JournalWriteFailed))
        disk.write_error = 0
        await eventually_async(lambda: writer.failure is None)
        assert disk.calls[0] == "write"
        await eventually_async(lambda: writer.durable_count == 2)
    assert seqs(tmp_path) == [1, 2]


async def test_roll_that_the_disk_refuses_fails_the_append_that_needed_it(
    tmp_path: Path, disk: Disk
) -> None:
    async with writer_on(disk, tmp_path, segment_bytes_max=120) as writer:
        disk.open_gate()
        await writer.append(batch(1, 3))
        await writer.sync()
        disk.write_error = errno.ENOSPC
        with pytest.raises(JournalWriteFailed, match="No space left"):
            await writer.append(batch(4, 3))
        disk.write_error = 0
        await writer.append(batch(4, 3))
    assert seqs(tmp_path) == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("policy", list(FsyncPolicy))
async def test_failed_fdatasync_fails_everyone_from_then_on(
    tmp_path: Path, disk: Disk, policy: FsyncPolicy
) -> None:
    async with writer_on(disk, tmp_path, policy) as writer:
        disk.sync_error = errno.EIO
        first = asyncio.create_task(writer.append(batch(1)))
        await disk.sync_arrives()
        second = asyncio.create_task(writer.append(batch(2)))
        await settle()
        disk.open_gate()
        outcomes = await asyncio.gather(first, second, return_exceptions=True)
        # Overlapped, the first was told "written" before; the second hears of it.
        assert isinstance(outcomes[1], JournalSyncFailed)
        assert (outcomes[0] is None) == (policy is FsyncPolicy.OVERLAPPED)
        with pytest.raises(JournalSyncFailed):
            await writer.append(batch(3))
        with pytest.raises(JournalSyncFailed):
            writer.add(batch(3))
        with pytest.raises(JournalSyncFailed):
            await writer.sync()
        assert writer.durable_count == 0


async def test_more_waiting_records_than_the_limit_are_refused(tmp_path: Path, disk: Disk) -> None:
    async with writer_on(disk, tmp_path, pending_records_max=4) as writer:
        await writer.append(batch(1))
        await disk.sync_arrives()
        writer.add(batch(2, 3))
        with pytest.raises(JournalWriteFailed, match="3 journal records wait for the disk, 2 more"):
            writer.add(batch(5, 2))
        with pytest.raises(JournalWriteFailed, match="3 journal records wait"):
            await writer.append(batch(5, 2))
        writer.add(batch(5))
    assert seqs(tmp_path) == [1, 2, 3, 4, 5]


async def test_cancelled_append_harms_nobody_else(tmp_path: Path, disk: Disk) -> None:
    async with writer_on(disk, tmp_path, FsyncPolicy.STRICT) as writer:
        first = asyncio.create_task(writer.append(batch(1)))
        await disk.sync_arrives()
        second = asyncio.create_task(writer.append(batch(2)))
        await settle()
        first.cancel()
        second.cancel()
        await asyncio.gather(first, second, return_exceptions=True)
        disk.open_gate()
        await writer.append(batch(3))
    assert seqs(tmp_path) == [1, 2, 3]
