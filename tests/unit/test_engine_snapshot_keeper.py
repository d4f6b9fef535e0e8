"""engine.snapshot_keeper with real forks: what is saved, when it counts, and what goes wrong."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from engine.commands import CancelAll
from engine.journal_file import JournalFile
from engine.shard import Shard
from engine.snapshot_keeper import CHILD_NICENESS, SnapshotKeeper
from engine.snapshot_store import SnapshotStore
from tests.helpers import DEADLINE_S, eventually_async
from tests.matching_world import SYMBOL, World
from tests.unit.test_engine_snapshot_store import (
    INCARNATION,
    file_size_limit,
    grow,
    names,
    newest,
    store_in,
)


class WaitingStore(SnapshotStore):
    """A disk that never answers."""

    def write_new(self, symbol: str, seq: int, data: bytes, *, writer: int) -> None:
        super().write_new(symbol, seq, data, writer=writer)
        signal.pause()


class BrokenStore(SnapshotStore):
    """A bug in what the child does."""

    def write_new(self, symbol: str, seq: int, data: bytes, *, writer: int) -> None:
        raise ZeroDivisionError("broken store")


class Kept:
    """A symbol, its keeper, and what its engine would say of commits and journal."""

    def __init__(
        self,
        store: SnapshotStore,
        *,
        interval_s: float = 3_600,
        inputs_min: int = 1,
        timeout_s: float = DEADLINE_S,
    ) -> None:
        self.world = World()
        self.store = store
        self.committed: dict[str, int] = {}
        self.looks = 0
        self.durable: dict[str, int] = {}
        self.floors: list[dict[str, int]] = []
        self.keeper = SnapshotKeeper(
            self.world.shard,
            store,
            committed=self._read_committed,
            durable=lambda: self.durable,
            on_saved=self._on_saved,
            interval_s=interval_s,
            inputs_min=inputs_min,
            timeout_s=timeout_s,
        )

    def _read_committed(self) -> dict[str, int]:
        self.looks += 1
        return self.committed

    async def _on_saved(self, floors: dict[str, int]) -> None:
        self.floors.append(floors)

    def grow(self, until: int, *, settle: bool = True) -> None:
        grow(self.world, until)
        if settle:
            self.committed[SYMBOL] = self.durable[SYMBOL] = until


def children() -> list[int]:
    path = Path(f"/proc/self/task/{os.getpid()}/children")
    return [int(pid) for pid in path.read_text().split()]


def descriptors(pid: int) -> set[int]:
    return {int(link.name) for link in Path(f"/proc/{pid}/fd").iterdir()}


def open_journal(directory: Path) -> JournalFile:
    return JournalFile(
        directory,
        kind="commands",
        owner="1",
        incarnations={},
        keeps_positions=True,
        now_ns=time.time_ns,
    )


@asynccontextmanager
async def forked(kept: Kept) -> AsyncIterator[tuple[asyncio.Task[bool], int]]:
    """Begin a save whose child waits for ever, once it has written its file."""
    before = set(children())
    saving = asyncio.create_task(kept.keeper.save())
    (pid,) = await eventually_async(lambda: set(children()) - before)
    yield saving, pid
    if not saving.done():
        saving.cancel()
        await asyncio.wait([saving])
    assert set(children()) == before, "no child is left, not even a dead one"


async def test_saves_what_was_there_at_the_fork(tmp_path: Path) -> None:
    kept = Kept(store_in(tmp_path))
    kept.grow(5)
    expected = kept.world.shard.state_hash(SYMBOL)
    saving = asyncio.create_task(kept.keeper.save())
    await eventually_async(lambda: kept.keeper.counters()["snapshot_pause_us"])
    kept.grow(9)
    assert await saving

    state = store_in(tmp_path).newest_good(SYMBOL, at_most=9)
    assert state is not None
    shard = Shard()
    shard.restore_symbol(SYMBOL, state)
    assert (shard.position(SYMBOL), shard.state_hash(SYMBOL)) == (5, expected)
    assert names(tmp_path) == [f"{SYMBOL}.0000000000000005.snapshot"]


async def test_floor_is_the_older_snapshot(tmp_path: Path) -> None:
    kept = Kept(store_in(tmp_path))
    assert kept.keeper.floors() == {SYMBOL: 0}
    for seq in (5, 9, 20):
        kept.grow(seq)
        assert await kept.keeper.save()
    assert kept.floors == [{SYMBOL: 0}, {SYMBOL: 5}, {SYMBOL: 9}]
    kept.durable[SYMBOL] = 7
    assert kept.keeper.floors() == {SYMBOL: 7}
    counters = kept.keeper.counters()
    assert (counters["snapshots"], counters["snapshots_failed"]) == (3, 0)
    assert counters["snapshot_seq"] == {SYMBOL: 20}


@pytest.mark.parametrize("late", ["committed", "durable"])
async def test_snapshot_ahead_of_what_is_settled_or_journalled_does_not_count(
    tmp_path: Path, late: str
) -> None:
    kept = Kept(store_in(tmp_path))
    kept.grow(5)
    positions: dict[str, int] = getattr(kept, late)
    positions[SYMBOL] = 4
    saving = asyncio.create_task(kept.keeper.save())
    # It looks at the positions only once its child has written and is gone.
    await eventually_async(lambda: saving.done() or kept.looks >= 3)
    assert (saving.done(), newest(kept.store)) == (False, None)
    assert [name.endswith(".new") for name in names(tmp_path)] == [True]
    positions[SYMBOL] = 5
    assert await saving
    assert newest(kept.store) == 5


async def test_snapshot_of_what_is_never_settled_is_given_up(tmp_path: Path) -> None:
    kept = Kept(store_in(tmp_path), timeout_s=0.2)
    kept.grow(5, settle=False)
    assert not await kept.keeper.save()
    assert (names(tmp_path), kept.floors) == ([], [])
    later = Kept(kept.store)
    later.grow(6)
    assert await later.keeper.save()
    assert newest(kept.store) == 6


async def test_state_that_an_assertion_left_half_changed_is_never_saved(tmp_path: Path) -> None:
    kept = Kept(store_in(tmp_path), timeout_s=0.2)
    kept.grow(5)
    with pytest.raises(AssertionError, match="stamps never fall"):
        kept.world.shard.apply(SYMBOL, 6, 0, CancelAll(1))
    assert not await kept.keeper.save()
    assert names(tmp_path) == []


async def test_killed_child_is_a_failed_save(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kept = Kept(WaitingStore(tmp_path, {SYMBOL: INCARNATION}))
    kept.grow(5)
    async with forked(kept) as (saving, pid):
        await eventually_async(lambda: names(tmp_path))
        os.kill(pid, signal.SIGKILL)
        assert not await saving
    assert names(tmp_path) == []
    assert "killed by SIGKILL" in caplog.text
    assert kept.keeper.counters()["snapshots_failed"] == 1
    again = Kept(store_in(tmp_path))
    again.grow(5)
    assert await again.keeper.save()


async def test_child_that_takes_too_long_is_killed(tmp_path: Path) -> None:
    kept = Kept(WaitingStore(tmp_path, {SYMBOL: INCARNATION}), timeout_s=0.3)
    kept.grow(5)
    before = children()
    assert not await kept.keeper.save()
    assert children() == before, "no child is left, not even a dead one"
    assert names(tmp_path) == []
    assert kept.keeper.counters()["snapshots_failed"] == 1


async def test_save_that_is_cancelled_when_its_child_has_just_ended_is_cancelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended, noticed, wait = threading.Event(), threading.Event(), os.waitpid

    def notice_late(pid: int, options: int) -> tuple[int, int]:
        found = wait(pid, options)
        ended.set()
        assert noticed.wait(DEADLINE_S)
        return found

    monkeypatch.setattr(os, "waitpid", notice_late)
    kept = Kept(store_in(tmp_path))
    kept.grow(5)
    saving = asyncio.create_task(kept.keeper.save())
    await eventually_async(ended.is_set)
    saving.cancel()
    await asyncio.sleep(0)
    noticed.set()
    with pytest.raises(asyncio.CancelledError):
        await saving


async def test_cancelled_save_takes_its_child_along(tmp_path: Path) -> None:
    kept = Kept(WaitingStore(tmp_path, {SYMBOL: INCARNATION}))
    kept.grow(5)
    async with forked(kept) as (saving, _):
        saving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await saving
    assert names(tmp_path) == []


async def test_child_keeps_no_socket_and_no_lock_of_its_parent(tmp_path: Path) -> None:
    journal = open_journal(tmp_path / "journal")
    kept = Kept(WaitingStore(tmp_path / "snapshots", {SYMBOL: INCARNATION}))
    kept.grow(5)
    async with forked(kept) as (_, pid):
        await eventually_async(lambda: descriptors(pid) <= {0, 1, 2})
        journal.close()
        open_journal(tmp_path / "journal").close()


async def test_child_steps_back_and_has_no_handlers(tmp_path: Path) -> None:
    kept = Kept(WaitingStore(tmp_path, {SYMBOL: INCARNATION}))
    kept.grow(5)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, print)
    try:
        async with forked(kept) as (saving, pid):
            await eventually_async(lambda: names(tmp_path))
            niceness = min(19, os.getpriority(os.PRIO_PROCESS, 0) + CHILD_NICENESS)
            assert os.getpriority(os.PRIO_PROCESS, pid) == niceness
            os.kill(pid, signal.SIGTERM)
            assert not await saving
    finally:
        asyncio.get_running_loop().remove_signal_handler(signal.SIGTERM)


async def test_full_disk_is_a_failed_save_that_leaves_nothing_behind(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kept = Kept(store_in(tmp_path))
    kept.grow(40)
    with file_size_limit(100):
        assert not await kept.keeper.save()
    assert names(tmp_path) == []
    assert "File too large" in caplog.text
    assert await kept.keeper.save()
    assert newest(kept.store) == 40


async def test_bug_in_the_child_is_a_failed_save_with_its_traceback(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    kept = Kept(BrokenStore(tmp_path, {SYMBOL: INCARNATION}))
    kept.grow(5)
    assert not await kept.keeper.save()
    assert "ZeroDivisionError: broken store" in capfd.readouterr().err


async def test_runs_when_enough_has_come(tmp_path: Path) -> None:
    kept = Kept(store_in(tmp_path), interval_s=0.01, inputs_min=10)
    restored_at = 1
    kept.grow(restored_at + 9)
    running = asyncio.create_task(kept.keeper.run())
    loop = asyncio.get_running_loop()
    later = loop.create_future()
    loop.call_later(0.1, later.set_result, None)
    await later
    assert names(tmp_path) == []
    kept.grow(restored_at + 10)
    await eventually_async(lambda: kept.floors)
    assert newest(kept.store) == 11
    kept.grow(25)
    await eventually_async(lambda: len(kept.floors) == 2)
    assert kept.floors == [{SYMBOL: 0}, {SYMBOL: 11}]
    running.cancel()
    await asyncio.wait([running])


async def test_what_has_not_changed_is_not_saved_again(tmp_path: Path) -> None:
    kept = Kept(store_in(tmp_path))
    kept.grow(5)
    assert await kept.keeper.save()
    assert await kept.keeper.save()
    assert kept.keeper.counters()["snapshots"] == 1
