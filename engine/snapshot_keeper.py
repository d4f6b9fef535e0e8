"""Save a running shard now and then: the state of a moment, written by a child process.

Theory. A fork is a copy of the whole state at one moment, and costs the shard the copying of its
page tables, not of its memory. The child encodes the copy and writes it beside its place, at a low
priority, while the shard goes on. What it wrote may be ahead of what is settled, published and
durable in the journal; so it is put in its place only when these have passed the moment of the
fork. A snapshot never knows an input whose outputs could still be missing after a crash.

The child is on thin ice: it has this process's memory and descriptors, but only the thread that
forked. It logs nothing, awaits nothing, imports nothing, takes no lock of another thread (what it
calls is ours, msgspec, zlib, hashlib and system calls), closes every descriptor that it inherited
(sockets, and the lock of the journal, would outlive this process in it), takes no signal of ours
(its handlers would write to the loop's descriptors), and leaves by `os._exit`. It ends with this
process. Its exit status says what went wrong: 0, the errno of a system call, or BUG.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import gc
import logging
import os
import signal
import time
import traceback
import warnings
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, NoReturn, TypeVar

from engine.shard import Shard
from engine.snapshot import encode_snapshot
from engine.snapshot_store import SnapshotStore

T = TypeVar("T")

CHILD_NICENESS = 10
"""Added to the child's nice value: on a busy core the shard gets nine tenths of it."""

_BUG_STATUS = 255
_POLL_S = 0.02
_PR_SET_PDEATHSIG = 1
_STDERR = 2
_FIRST_INHERITED = 3

_prctl = ctypes.CDLL(None, use_errno=True).prctl

logger = logging.getLogger("engine")


class SnapshotKeeper:
    """Saves a shard's symbols every so often.

    Args:
        shard: As it was restored from the store. Changed from the loop that `run` runs in only.
        store: Its snapshots.
        committed: Gives symbol → the older of the last settled and the last published seq.
        durable: Gives symbol → the last seq that is durable in the journal, with its hash.
        on_saved: Called after each save with symbol → the seq up to which this engine needs no
            commands any more; what it raises ends `run`.
        interval_s: Between two saves.
        inputs_min: A save is left out when fewer inputs have come since the last one.
        timeout_s: Longest time of a save; then it is given up and tried again after the interval.

    Attributes:
        saved: symbol → the seq of its newest good snapshot.
        pause_us: How long the last fork stopped the shard.
    """

    def __init__(
        self,
        shard: Shard,
        store: SnapshotStore,
        *,
        committed: Callable[[], Mapping[str, int]],
        durable: Callable[[], Mapping[str, int]],
        on_saved: Callable[[dict[str, int]], Awaitable[None]],
        interval_s: float,
        inputs_min: int,
        timeout_s: float,
    ) -> None:
        self._shard = shard
        self._store = store
        self._committed = committed
        self._durable = durable
        self._on_saved = on_saved
        self._interval_s = interval_s
        self._inputs_min = inputs_min
        self._timeout_s = timeout_s
        self.saved = {symbol: shard.position(symbol) for symbol in shard.symbols()}
        self._saves = 0
        self._failures = 0
        self.pause_us = 0

    async def run(self) -> None:
        """Save every interval, for ever."""
        while True:
            await asyncio.sleep(self._interval_s)
            due = self._unsaved()
            inputs = sum(seq - self.saved.get(symbol, 0) for symbol, seq in due.items())
            if inputs >= self._inputs_min:
                await self.save()

    async def save(self) -> bool:
        """Save all symbols that have changed, and return whether that worked.

        What fails (disk, memory, a time-out, a killed child) is logged and leaves no file behind.
        One save at a time.
        """
        positions = self._unsaved()
        if not positions:
            return True
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._write_and_adopt(positions)
        except (OSError, ChildProcessFailed) as error:
            self._failures += 1
            reason = str(error) or f"not within {self._timeout_s:g} s"
            logger.error("No snapshot at %s, trying again later: %s", positions, reason)
            return False
        self._saves += 1
        self.saved.update(positions)
        logger.info("Snapshot at %s, paused for %d us", positions, self.pause_us)
        await self._on_saved(self.floors())
        return True

    def floors(self) -> dict[str, int]:
        """Return symbol → the seq up to which this engine needs no commands any more."""
        durable = self._durable()
        return {
            symbol: min(self._store.floor(symbol), durable.get(symbol, 0))
            for symbol in self._shard.symbols()
        }

    def counters(self) -> dict[str, int | dict[str, int]]:
        """Return what was done since the start; for the register of processes."""
        return {
            "snapshots": self._saves,
            "snapshots_failed": self._failures,
            "snapshot_pause_us": self.pause_us,
            "snapshot_seq": dict(self.saved),
        }

    def _unsaved(self) -> dict[str, int]:
        positions = {symbol: self._shard.position(symbol) for symbol in self._shard.symbols()}
        return {symbol: seq for symbol, seq in positions.items() if seq > self.saved.get(symbol, 0)}

    async def _write_and_adopt(self, positions: Mapping[str, int]) -> None:
        try:
            # No await between reading the positions and the fork.
            started_ns = time.perf_counter_ns()
            pid = self._fork(positions)
            self.pause_us = (time.perf_counter_ns() - started_ns) // 1_000
            await _wait_for(pid)
            await self._until_passed(positions)
            await _finish(asyncio.to_thread(self._store.adopt, positions, writer=pid))
        finally:
            self._store.discard_new()

    async def _until_passed(self, positions: Mapping[str, int]) -> None:
        """Wait until nothing of these inputs could still be missing after a crash."""
        while True:
            committed, durable = self._committed(), self._durable()
            if all(
                committed.get(symbol, 0) >= seq and durable.get(symbol, 0) >= seq
                for symbol, seq in positions.items()
            ):
                return
            await asyncio.sleep(_POLL_S)

    def _fork(self, positions: Mapping[str, int]) -> int:
        parent = os.getpid()
        with warnings.catch_warnings():
            # CPython 3.12 warns of a fork beside other threads; the child keeps to the rules above.
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
        if pid == 0:
            _be_child(parent, self._shard, self._store, positions)
        return pid


class ChildProcessFailed(Exception):
    """The child that writes a snapshot did not end well; the message says how."""


async def _wait_for(pid: int) -> None:
    """Wait for the child in a thread; a cancelled wait kills it first and still waits for it.

    Raises:
        ChildProcessFailed: It was killed, or a system call of its failed.
    """
    _, found = await _finish(asyncio.to_thread(os.waitpid, pid, 0), on_cancel=lambda: _kill(pid))
    status = os.waitstatus_to_exitcode(found)
    if status < 0:
        raise ChildProcessFailed(f"its process was killed by {signal.Signals(-status).name}")
    if status == _BUG_STATUS:
        raise ChildProcessFailed("its process failed, see its traceback in the log above")
    if status:
        raise ChildProcessFailed(os.strerror(status))


def _kill(pid: int) -> None:
    # The thread may have taken leave of it already, which only the loop does not know yet.
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


async def _finish(
    work: Coroutine[Any, Any, T], *, on_cancel: Callable[[], None] | None = None
) -> T:
    """Wait for a thread's work, which cannot be left half done: cancelled or not, it is over."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        if on_cancel is not None and not task.done():
            on_cancel()
        await asyncio.wait([task])
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("A snapshot that was given up failed, too: %s", error)
        raise


def _be_child(
    parent: int, shard: Shard, store: SnapshotStore, positions: Mapping[str, int]
) -> NoReturn:
    status = _BUG_STATUS
    try:
        _leave_parent_alone(parent)
        for symbol, seq in positions.items():
            data = encode_snapshot(symbol, shard.state(symbol))
            store.write_new(symbol, seq, data, writer=os.getpid())
        status = 0
    except OSError as error:
        status = error.errno or errno.EIO
    except BaseException:
        os.write(_STDERR, traceback.format_exc().encode())
    finally:
        os._exit(status)


def _leave_parent_alone(parent: int) -> None:
    # A pass of the collector would touch, and so copy, every page that has objects.
    gc.disable()
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    os.closerange(_FIRST_INHERITED, os.sysconf("SC_OPEN_MAX"))
    if _prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")
    if os.getppid() != parent:  # it ended before it could be told
        os._exit(0)
    os.nice(CHILD_NICENESS)
