"""The ledger in an engine's journal: followed, durable before it is said to be, waited for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
import redis.asyncio

from engine.errors import JournalWriteFailed
from engine.journal_file import JournalFile
from engine.journal_keys import LEDGER
from engine.journal_reader import JournalReader
from engine.journal_writer import FsyncPolicy, JournalWriter
from engine.ledger_entries import Deposited, LedgerEntry, UserCreated, decode_ledger_entry
from router import keys
from router.ledger_journal import LedgerJournal, read_ledger_end, wait_until_journalled
from router.process_registry import PROCESS_KEPT_S
from router.redis_client import RedisLink
from router.shards import Shard
from tests.helpers import DEADLINE_MS, DEADLINE_S, eventually_async
from tests.persistence_servers import publish

ENTRIES: list[LedgerEntry] = [UserCreated(1, "carol", "hash"), Deposited(1, "USD", 5, "d1")]
PROCESS = "engine-1"


@asynccontextmanager
async def journal_in(directory: Path) -> AsyncIterator[tuple[JournalWriter, int]]:
    """A journal to write to, and the last entry of the ledger that it has."""
    file = JournalFile(
        directory,
        kind="commands",
        owner="shard-1",
        incarnations={},
        keeps_positions=True,
        now_ns=time.time_ns,
    )
    position = file.positions.get(LEDGER, 0)
    writer = JournalWriter(file, policy=FsyncPolicy.OVERLAPPED)
    try:
        yield writer, position
    finally:
        await writer.close()


@asynccontextmanager
async def following(redis_url: str, directory: Path) -> AsyncIterator[LedgerJournal]:
    """A ledger that is journalled."""
    async with journal_in(directory) as (writer, position):
        link = RedisLink(redis_url, db=0, name="test", timeout_ms=DEADLINE_MS)
        ledger = LedgerJournal(link, writer, process=PROCESS, position=position)
        task = asyncio.create_task(ledger.run())
        try:
            yield ledger
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


async def published(client: redis.asyncio.Redis) -> int:
    value = await client.hget(keys.position_engine(PROCESS), LEDGER)
    return int(value or 0)


def entries_in(directory: Path) -> list[tuple[int, LedgerEntry]]:
    return [
        (record.seq, decode_ledger_entry(record.payload))
        for record in JournalReader(directory)
        if record.key == LEDGER
    ]


async def test_entries_are_journalled_once_and_then_said_to_be_durable(
    redis_url: str, redis_client: redis.asyncio.Redis, tmp_path: Path
) -> None:
    await publish(redis_url, [], ledger=ENTRIES[:1])
    async with following(redis_url, tmp_path) as ledger:
        await eventually_async(lambda: _is(published(redis_client), 1))
        await publish(redis_url, [], ledger=ENTRIES[1:])
        await eventually_async(lambda: _is(published(redis_client), 2))
        assert ledger.position == 2
    await publish(redis_url, [], ledger=ENTRIES[1:])
    async with following(redis_url, tmp_path):
        await eventually_async(lambda: _is(published(redis_client), 3))
    assert entries_in(tmp_path) == [(1, ENTRIES[0]), (2, ENTRIES[1]), (3, ENTRIES[1])]


async def test_a_server_that_forgot_the_position_learns_it_again(
    redis_url: str, redis_client: redis.asyncio.Redis, tmp_path: Path
) -> None:
    await publish(redis_url, [], ledger=ENTRIES)
    async with following(redis_url, tmp_path):
        await eventually_async(lambda: _is(published(redis_client), 2))
        await redis_client.delete(keys.position_engine(PROCESS))
        await eventually_async(lambda: _is(published(redis_client), 2))


class FullDisk:
    """A journal that refuses twice: the write, and then the sync."""

    def __init__(self) -> None:
        self.durable_positions: dict[str, int] = {}
        self.seqs: list[int] = []
        self.refusals = ["append", "sync"]

    async def append(self, records: list[object]) -> None:
        self._refuse("append")
        self.seqs += [record.seq for record in records]  # type: ignore[attr-defined]

    async def sync(self) -> None:
        self._refuse("sync")
        self.durable_positions = {LEDGER: self.seqs[-1]}

    def _refuse(self, what: str) -> None:
        if self.refusals and self.refusals[0] == what:
            self.refusals.pop(0)
            raise JournalWriteFailed("no space left on device")


async def test_a_full_disk_is_waited_for_and_no_entry_is_written_twice(
    redis_url: str, redis_client: redis.asyncio.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("router.ledger_journal._DISK_RETRY_S", 0.01)
    await publish(redis_url, [], ledger=ENTRIES)
    disk = FullDisk()
    link = RedisLink(redis_url, db=0, name="test", timeout_ms=DEADLINE_MS)
    ledger = LedgerJournal(link, disk, process=PROCESS, position=0)  # type: ignore[arg-type]
    task = asyncio.create_task(ledger.run())
    await eventually_async(lambda: _is(published(redis_client), 2))
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert disk.seqs == [1, 2]
    assert disk.refusals == []


async def test_a_command_waits_for_the_journal_of_the_engine_that_leads(
    redis_url: str, redis_client: redis.asyncio.Redis
) -> None:
    shard = Shard(1, redis_url, 1, ("ALFA-USD",))
    await publish(redis_url, [], ledger=ENTRIES)
    async with RedisLink(redis_url, db=0, name="test", timeout_ms=DEADLINE_MS) as link:
        entry = await read_ledger_end(link)
        nobody = await wait_until_journalled(link, shard, entry)
        assert (nobody.entry, nobody.engine, nobody.live) == (2, "", [])

        state = b'{"name":"engine-1","pid":1,"version":"","started_us":0,"now_us":0,"counters":{}}'
        # Silent since a time to come: it counts as live, however slow the machine is.
        await redis_client.set(keys.process(PROCESS), state, ex=2 * PROCESS_KEPT_S)
        late = await wait_until_journalled(link, shard, entry, timeout_s=0.05)
        assert (late.engine, late.live) == ("", [PROCESS])

        async with redis.asyncio.Redis.from_url(redis_url, db=1) as shard_client:
            lease = {"owner": "engine-1-standby:7:ab", "epoch": 3, "until_ms": 9_999_999_999_999}
            await shard_client.hset(keys.LEASE, mapping=lease)
        # The one that follows has it: that is not enough.
        await redis_client.hset(keys.position_engine(PROCESS), LEDGER, 2)
        waiting = asyncio.create_task(
            wait_until_journalled(link, shard, entry, timeout_s=DEADLINE_S)
        )
        await redis_client.hset(keys.position_engine("engine-1-standby"), LEDGER, 1)
        await redis_client.hset(keys.position_engine("engine-1-standby"), LEDGER, 2)
        assert (await waiting).engine == "engine-1-standby"


async def _is(answer: object, wanted: int) -> bool:
    return await answer == wanted  # type: ignore[misc, no-any-return]
