"""Append to a journal from asyncio: group commit, with the waiting on the disk in one thread.

Theory. The writer is either idle, when all that was written is durable, or busy with one job in its
thread. What arrives while it is busy waits; when the job ends, all of it is written at once, by one
write, and one fdatasync follows. So groups form by themselves, as long as the disk is slow.

    append ──▶ pending ──(idle)──▶ write ──▶ fdatasync in the thread ──▶ idle
       add ──▶    │                   ▲
                  └─(no room)─▶ roll ─┘

`strict`: an append returns when its fdatasync has ended. `overlapped`: it returns when it is
written; because the write waited for the fdatasync before it, no more than one group is ever in
doubt. The write itself runs in the loop: it is a copy into the page cache, and the thread has no
write of this file to compete with.

What nobody waits for is written at once too, but its fdatasync may wait for the next append's, at
most ADDED_SYNC_DELAY_S: an append that comes right behind would have to wait for it.

When the disk refuses a write (it is full), whoever waits is told so, and decides. What nobody waits
for stays in memory, up to the limit, and is tried again every WRITE_RETRY_DELAY_S.
"""

from __future__ import annotations

import asyncio
import enum
import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from engine.errors import JournalSyncFailed, JournalWriteFailed
from engine.journal import Record
from engine.journal_archive import archive_closed_segments, yield_to_others
from engine.journal_file import JournalFile
from engine.limits import JOURNAL_PENDING_RECORDS_MAX

WRITE_RETRY_DELAY_S = 0.2
"""Between two tries to write records that nobody waits for, while the disk refuses them."""

logger = logging.getLogger("engine")

ADDED_SYNC_DELAY_S = 0.02
"""Longest time from the write of records that nobody waits for to their fdatasync."""


class FsyncPolicy(enum.Enum):
    """When an append returns: durable, or written and at most one group behind."""

    STRICT = "strict"
    OVERLAPPED = "overlapped"


class _Pending(NamedTuple):
    """Records that wait to be written; `until_durable` says what `waiter`, if any, waits for."""

    records: Sequence[Record]
    waiter: asyncio.Future[None] | None
    until_durable: bool


class JournalWriter:
    """The asyncio side of a JournalFile; made, used and closed in one running loop.

    Args:
        file: The open journal. It belongs to the writer from here on; `close` closes it.
        policy: See FsyncPolicy.
        pending_records_max: Most records that wait while the disk is busy; more are refused.
        compresses: Whether closed segments are compressed, in a thread of their own.

    Attributes:
        durable_count: Records that are durable, of `file.record_count` that are written.
        durable_positions: Key to the last durable seq, in a journal that keeps positions.
        failure: Why the disk refused the last group or the journal is broken; None when the last
            write went well.
    """

    def __init__(
        self,
        file: JournalFile,
        *,
        policy: FsyncPolicy,
        pending_records_max: int = JOURNAL_PENDING_RECORDS_MAX,
        compresses: bool = False,
    ) -> None:
        self.durable_count = file.record_count
        self.durable_positions = file.positions
        self.failure: JournalWriteFailed | JournalSyncFailed | None = None
        self._file = file
        self._policy = policy
        self._pending_records_max = pending_records_max
        self._pending: list[_Pending] = []
        self._pending_count = 0
        self._durability_waiters: list[asyncio.Future[None]] = []
        self._is_busy = False
        self._delayed_sync: asyncio.TimerHandle | None = None
        self._retry: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="journal")
        self._is_rolling = False
        self._archiver: ThreadPoolExecutor | None = None
        self._is_closing = threading.Event()
        if compresses:
            self._archiver = ThreadPoolExecutor(
                max_workers=1, thread_name_prefix="archive", initializer=yield_to_others
            )
            self._archive()

    async def append(self, records: Sequence[Record]) -> None:
        """Write a batch, behind all records given before, and wait as the policy says.

        When the wait is cancelled, the batch may or may not be written.

        Raises:
            JournalWriteFailed: The disk refused it, or too many records wait already. None of the
                batch is written, and it may be tried again.
            JournalSyncFailed: The journal is broken; stop.
        """
        await self._enqueue(records, until_durable=self._policy is FsyncPolicy.STRICT)

    def add(self, records: Sequence[Record]) -> None:
        """Write records with the next group, without waiting for it.

        When the disk refuses a group, records given here stay, are tried again, and go before the
        next `append` or `sync`; `failure` says so meanwhile.

        Raises:
            JournalWriteFailed: Too many records wait already; none of these is taken.
            JournalSyncFailed: The journal is broken; stop.
        """
        self._check_room(len(records))
        self._push(_Pending(records, None, until_durable=False))

    async def sync(self) -> None:
        """Wait until all records given so far are durable.

        Raises:
            JournalWriteFailed: The disk refused to take those that were added; they stay.
            JournalSyncFailed: The journal is broken; stop.
        """
        is_idle = not self._is_busy and self._delayed_sync is None
        if not is_idle or self._pending or self.failure is not None:
            await self._enqueue((), until_durable=True)

    async def close(self) -> None:
        """Make all records durable, and close the journal whether that works or not.

        Raises:
            JournalWriteFailed: Records that were added could not be written; they are lost.
            JournalSyncFailed: The disk failed to make records durable.
        """
        try:
            await self.sync()
        finally:
            if self._retry is not None:
                self._retry.cancel()
            self._thread.shutdown()
            self._is_closing.set()
            if self._archiver is not None:
                self._archiver.shutdown()
            self._file.close()

    async def _enqueue(self, records: Sequence[Record], *, until_durable: bool) -> None:
        self._check_room(len(records))
        waiter: asyncio.Future[None] = self._loop.create_future()
        self._push(_Pending(records, waiter, until_durable))
        await waiter

    def _check_room(self, count: int) -> None:
        if isinstance(self.failure, JournalSyncFailed):
            raise self.failure
        if self._pending_count + count > self._pending_records_max:
            raise JournalWriteFailed(
                f"{self._pending_count} journal records wait for the disk, {count} more refused"
            )

    def _push(self, item: _Pending) -> None:
        self._pending.append(item)
        self._pending_count += len(item.records)
        waits_for_retry = item.waiter is None and self._retry is not None
        if not self._is_busy and not waits_for_retry:
            self._write_pending()

    def _try_again(self) -> None:
        self._retry = None
        if self._pending and not self._is_busy:
            self._write_pending()

    def _write_pending(self) -> None:
        """Write all that waits as one group and start its fdatasync, or a roll before it."""
        group = [record for item in self._pending for record in item.records]
        try:
            if not self._file.append_if_room(group):
                self._is_rolling = True
                self._start(self._file.roll)
                return
        except (JournalWriteFailed, JournalSyncFailed) as error:
            self._refuse(error)
            return
        is_awaited = False
        for item in self._pending:
            if item.waiter is None:
                continue
            is_awaited = True
            if item.until_durable:
                self._durability_waiters.append(item.waiter)
            elif not item.waiter.done():
                item.waiter.set_result(None)
        self._pending = []
        self._pending_count = 0
        # An empty group, of somebody who waits for what is written already, proves nothing.
        if self.failure is not None and group:
            logger.warning("The journal is written again")
            self.failure = None
        if is_awaited:
            self._start(self._file.sync)
        elif self._delayed_sync is None:
            self._delayed_sync = self._loop.call_later(
                ADDED_SYNC_DELAY_S, self._start, self._file.sync
            )

    def _archive(self) -> None:
        """Have closed segments compressed; what fails is tried again at the next roll."""
        if self._archiver is not None:
            self._loop.run_in_executor(self._archiver, self._compress)

    def _compress(self) -> None:
        try:
            archive_closed_segments(self._file.directory, should_stop=self._is_closing.is_set)
        except OSError as error:
            logger.warning("Closed segments stay uncompressed for now: %s", error)
        except AssertionError:
            logger.exception("Closed segments stay uncompressed")

    def _start(self, job: Callable[[], None]) -> None:
        self._is_busy = True
        if self._delayed_sync is not None:
            self._delayed_sync.cancel()
            self._delayed_sync = None
        self._loop.run_in_executor(self._thread, job).add_done_callback(self._job_done)

    def _job_done(self, job: asyncio.Future[None]) -> None:
        self._is_busy = False
        error = job.exception()
        if isinstance(error, JournalWriteFailed | JournalSyncFailed):
            self._refuse(error)
            return
        assert error is None, f"Invariant: the disk's errors are translated: {error!r}"
        # Nothing is written while the thread works: whatever is in the file is durable now.
        self.durable_count = self._file.record_count
        self.durable_positions = self._file.positions
        if self._is_rolling:
            self._is_rolling = False
            self._archive()
        waiters, self._durability_waiters = self._durability_waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)
        if self._pending:
            self._write_pending()

    def _refuse(self, error: JournalWriteFailed | JournalSyncFailed) -> None:
        """Tell everyone who waits; keep the records that nobody waits for, unless all is over."""
        if self.failure is None or isinstance(error, JournalSyncFailed):
            logger.error("%s", error)
        self.failure = error
        waiters = [item.waiter for item in self._pending if item.waiter is not None]
        if isinstance(error, JournalSyncFailed):
            waiters += self._durability_waiters
            self._durability_waiters = []
            self._pending = []
        else:
            self._pending = [item for item in self._pending if item.waiter is None]
            if self._pending and self._retry is None:
                self._retry = self._loop.call_later(WRITE_RETRY_DELAY_S, self._try_again)
        self._pending_count = sum(len(item.records) for item in self._pending)
        for waiter in waiters:
            if not waiter.done():
                waiter.set_exception(error)
