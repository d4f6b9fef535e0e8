"""The ledger in an engine's journal: users, credentials, deposits and withdrawals.

Both engines of the lowest shard that has symbols follow the dense ``ledger`` stream, the leader and
the one that follows, and each says up to which entry its journal is durable: ``position:{engine}``,
field ``ledger``. So an operator's command can wait until what it did would survive Redis.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from engine.errors import JournalWriteFailed
from engine.journal import Record
from engine.journal_keys import LEDGER
from router import keys
from router.dense_ids import last_entry, last_number
from router.lease import read_leader
from router.process_registry import read_processes
from router.redis_client import RedisLink, retry_while_away
from router.shards import Shard
from router.streams import StreamReader

_READ_BLOCK_MS = 1_000
_DISK_RETRY_S = 1.0
"""Between two tries while the disk refuses the journal; nothing is lost meanwhile."""

_POLL_S = 0.02
JOURNALLED_TIMEOUT_S = 3.0
"""Longest wait of an operator's command: a failover takes half of it."""

logger = logging.getLogger("router")


class Journal(Protocol):
    """Where the entries are written: a JournalWriter."""

    @property
    def durable_positions(self) -> Mapping[str, int]:
        """Key → the last seq that is durable."""

    async def append(self, records: Sequence[Record]) -> None:
        """Write a batch and wait as the journal's policy says."""

    async def sync(self) -> None:
        """Wait until all records given so far are durable."""


class LedgerJournal:
    """Follows the ledger into the journal of one engine.

    Reading an entry twice cannot happen: it goes on behind what the journal has, and an entry that
    is not durable yet is not said to be.

    Args:
        link: accounts database, for nothing else, because reading blocks it; closed at the end.
        journal: of the engine; its commands go there too.
        process: name of the engine, such as engine-1-standby.
        position: the last entry that the journal has; 0 = none.

    Attributes:
        position: the last entry that is written.
        tail: the last entry that was written since the start; None before the first.
    """

    def __init__(self, link: RedisLink, journal: Journal, *, process: str, position: int) -> None:
        self._link = link
        self._journal = journal
        self._key = keys.position_engine(process)
        self._process = process
        self.position = position
        self.tail: Record | None = None

    async def run(self) -> None:
        """Follow until cancelled; waits while Redis is away, and while the disk is full.

        Raises:
            StreamGap: an entry is missing.
            JournalSyncFailed: the journal is broken.
        """
        reader = StreamReader(self._link, {LEDGER: keys.LEDGER}, {LEDGER: self.position})
        publisher = self._link.sibling(keys.ACCOUNTS_DB, name=f"{self._link.name}-position")
        async with self._link, publisher:
            while True:
                # With every read, and so at least once a second: a Redis that lost it learns it.
                await self._publish(publisher)
                entries = await reader.read(block_ms=_READ_BLOCK_MS)
                if entries:
                    await self._write(
                        [
                            Record(LEDGER, n, int(values[1]) * 1_000, 0, values[0])
                            for _, n, values in entries
                        ]
                    )

    async def _write(self, records: Sequence[Record]) -> None:
        while True:
            try:
                await self._journal.append(records)
                break
            except JournalWriteFailed as error:
                await self._wait_for_disk(error)
        self.tail = records[-1]
        self.position = self.tail.seq
        while True:
            try:
                await self._journal.sync()
                return
            except JournalWriteFailed as error:
                await self._wait_for_disk(error)

    async def _wait_for_disk(self, error: JournalWriteFailed) -> None:
        logger.warning("%s: ledger entries are not journalled: %s", self._process, error)
        await asyncio.sleep(_DISK_RETRY_S)

    async def _publish(self, link: RedisLink) -> None:
        durable = self._journal.durable_positions.get(LEDGER, 0)
        await retry_while_away(
            lambda: link.call("HSET", self._key, LEDGER, durable),
            what=f"{self._process} ledger",
            out_of_memory_too=True,
        )


class Journalled(msgspec.Struct, frozen=True):
    """Whether a ledger entry stands in the journal of the engine that leads.

    Attributes:
        entry: its number.
        engine: name of that engine; empty while none has it.
        live: names of the shard's engines that run.
    """

    entry: int
    engine: str
    live: list[str]


async def read_ledger_end(link: RedisLink) -> int:
    """Return the number of the ledger's last entry; 0 for none.

    Args:
        link: accounts database.

    Raises:
        RedisUnavailable: no reply.
    """
    return last_number(await link.call(*last_entry(keys.LEDGER)))


async def wait_until_journalled(
    link: RedisLink, shard: Shard, entry: int, *, timeout_s: float = JOURNALLED_TIMEOUT_S
) -> Journalled:
    """Wait until the leader's journal has a ledger entry; not at all where no engine runs.

    Args:
        link: accounts database.
        shard: the lowest that has symbols.
        entry: its number.
        timeout_s: longest wait; then ``Journalled.engine`` is empty.

    Raises:
        RedisUnavailable: no reply.
    """
    names = keys.engine_names(shard.id)
    loop = asyncio.get_running_loop()
    deadline_s = loop.time() + timeout_s
    async with link.sibling(shard.db) as shard_link:
        while True:
            leader = await read_leader(shard_link)
            if leader is not None:
                engine = leader.owner.partition(":")[0]
                durable = await link.call("HGET", keys.position_engine(engine), LEDGER)
                if durable is not None and int(durable) >= entry:
                    return Journalled(entry, engine, [engine])
            live = sorted(await read_processes(link, names))
            if not live or loop.time() >= deadline_s:
                return Journalled(entry, "", live)
            await asyncio.sleep(_POLL_S)
