"""The writer: follows all streams, fills batches, and writes one while the next fills up.

    events:{symbol} of shard 1 ─▶ follow ─┐
    events:{symbol} of shard 2 ─▶ follow ─┴▶ batch ─┐
    ledger ─────────────────────────────────────────┴▶ write ─▶ PostgreSQL ─▶ publish, trim

A user exists before its first order: the user's ledger entry is in Redis before the order can be
admitted. So before a batch of events is written, the ledger is read to its present end and written;
then every row that refers to a user finds it.

PostgreSQL away: the batch at hand is written again and again, the next one fills up, then reading
stops. Redis away: reading waits. Nothing is lost either way, because the streams are trimmed only
below what is on disk in PostgreSQL, and the position is there too. A Redis that took over and has
lost what is written here already gets it again from the engine: the writer waits for that.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

from engine.events import decode_output
from engine.ledger_entries import decode_ledger_entry
from engine.limits import READ_BATCH_MAX
from persistence.batch import LEDGER_STREAM, Batch, BatchBuilder
from persistence.errors import PostgresUnavailable
from persistence.settings import WriterSettings
from persistence.writer import PostgresWriter, Stored
from router import keys
from router.errors import OutOfMemory
from router.redis_client import RedisLink, retry_while_away
from router.shards import Shard
from router.streams import StreamReader
from router.trimming import EventStreams

T = TypeVar("T")

_READ_BLOCK_MS = 1_000
_RETRY_DELAY_MIN_MS = 50
# Outputs decoded at a stretch, some 0.5 ms: between, the statements under way go on.
_SLICE = 64

logger = logging.getLogger("persistence")


class WriterService:
    """The writer process without its process: `run` until cancelled.

    Args:
        link: accounts database, for nothing else; closed at the end, as the writer is.
        shards: whose events are written.
        incarnations: symbol → incarnation of its home, of all shards' symbols.
        scales: asset → scale, of every asset of the venue.
        writer: the way into PostgreSQL.
        settings: sizes and ages of batches.
        now_ns: a monotonic clock.
    """

    def __init__(
        self,
        *,
        link: RedisLink,
        shards: Sequence[Shard],
        incarnations: Mapping[str, str],
        scales: Mapping[str, int],
        writer: PostgresWriter,
        settings: WriterSettings,
        now_ns: Callable[[], int],
    ) -> None:
        self._link = link
        self._shards = shards
        self._incarnations = incarnations
        self._scales = scales
        self._writer = writer
        self._settings = settings
        self._now_ns = now_ns
        self._streams = EventStreams(link, shards)
        self._readers: list[StreamReader] = []
        self._written: dict[str, int] = {}
        self._ends: dict[str, int] = {}
        self._behind: set[str] = set()
        self._full = asyncio.Event()
        self._taken = asyncio.Event()
        self._postgres_available = True
        self._redis_has_memory = True
        self._last_error = ""
        self._batches = self._entries = self._rows = self._trimmed = 0

    async def run(self) -> None:
        """Load the positions, then follow, write and publish until cancelled.

        Raises:
            SchemaMismatch, VenueMismatch: the database is not this venue's.
            ExceptionGroup: of StreamGap (entries were trimmed or lost before they were written),
                PositionConflict (a second writer), WriteFailed or DecodeError.
        """
        links = [self._link.sibling(shard.db, name=f"writer-{shard.id}") for shard in self._shards]
        ledger_link = self._link.sibling(keys.ACCOUNTS_DB, name="writer-ledger")
        try:
            stored = await self._while_postgres_is_away(
                lambda: self._writer.load(self._incarnations, self._scales)
            )
            self._written = stored.positions
            await retry_while_away(self._read_ends, what="writer")
            builder = self._builder(stored)
            async with asyncio.TaskGroup() as tasks:
                for shard, link in zip(self._shards, links, strict=True):
                    streams = {symbol: keys.events(symbol) for symbol in shard.symbols}
                    reader = StreamReader(
                        link,
                        streams,
                        stored.positions,
                        interval_ms=self._settings.read_interval_ms,
                    )
                    self._readers.append(reader)
                    tasks.create_task(self._follow(reader, builder))
                ledger = StreamReader(ledger_link, {LEDGER_STREAM: keys.LEDGER}, stored.positions)
                tasks.create_task(self._write(builder, ledger, self._builder(stored)))
                tasks.create_task(self._publish())
        finally:
            for link in (*links, ledger_link, self._link):
                await link.close()
            await self._streams.close()
            await self._writer.close()

    def stats(self) -> dict[str, Any]:
        """Return counters since the start, positions, and lag in entries, for the registry."""
        return {
            "read": {
                stream: n for reader in self._readers for stream, n in reader.positions.items()
            },
            "positions": dict(self._written),
            "lag": {
                stream: max(0, end - self._written.get(stream, 0))
                for stream, end in self._ends.items()
            },
            "batches": self._batches,
            "entries": self._entries,
            "rows": self._rows,
            "trimmed": self._trimmed,
            "postgres_available": self._postgres_available,
            "redis_available": all(reader.available for reader in self._readers),
            "redis_has_memory": self._redis_has_memory,
            "last_error": self._last_error,
        }

    def _builder(self, stored: Stored) -> BatchBuilder:
        return BatchBuilder(
            rows_max=self._settings.batch_rows_max,
            age_ns_max=self._settings.batch_age_ms_max * 1_000_000,
            positions=stored.positions,
            formats=stored.formats,
            scales=stored.scales,
        )

    async def _read_ends(self) -> None:
        """Look how far the streams go, and say which have lost what is written, once each.

        Nothing is read of such a stream before it has got there again: the engine publishes the
        same bytes once more, and ``shardex repair`` restores the ledger.
        """
        self._ends = await self._streams.ends()
        behind = {stream for stream, end in self._ends.items() if end < self._written[stream]}
        for stream in sorted(behind - self._behind):
            logger.warning(
                "writer: %s ends at %d in Redis, PostgreSQL has it up to %d: Redis has lost the"
                " rest, waiting until it is there again",
                stream,
                self._ends[stream],
                self._written[stream],
            )
        for stream in sorted(self._behind - behind):
            logger.warning("writer: %s is whole again", stream)
        self._behind = behind

    async def _follow(self, reader: StreamReader, builder: BatchBuilder) -> None:
        """Read a shard's events into the batch; stop while it is full."""
        while True:
            while builder.is_full:
                self._taken.clear()
                await self._taken.wait()
            entries = await reader.read(block_ms=_READ_BLOCK_MS)
            for start in range(0, len(entries), _SLICE):
                now_ns = self._now_ns()
                for symbol, _, values in entries[start : start + _SLICE]:
                    output = decode_output(values[0])
                    assert output.symbol == symbol, "Invariant: an output is in its symbol's stream"
                    builder.add_output(output, now_ns=now_ns)
                if builder.is_full:
                    self._full.set()
                await asyncio.sleep(0)

    async def _write(
        self, events: BatchBuilder, ledger: StreamReader, ledger_builder: BatchBuilder
    ) -> None:
        """Write what is due: first the ledger to its end, then the events read before that."""
        while True:
            await self._wait_until_due(events)
            batch = events.take()
            self._full.clear()
            self._taken.set()
            await self._write_ledger(ledger, ledger_builder)
            if batch.entries:
                await self._write_batch(batch)

    async def _wait_until_due(self, builder: BatchBuilder) -> None:
        """Return when the batch is full or old, and no later than an empty one would be old."""
        due_in_ns = builder.due_in_ns(self._now_ns())
        if due_in_ns is None:
            due_in_ns = self._settings.batch_age_ms_max * 1_000_000
        try:
            async with asyncio.timeout(due_in_ns / 1e9):
                await self._full.wait()
        except TimeoutError:
            return

    async def _write_ledger(self, reader: StreamReader, builder: BatchBuilder) -> None:
        at_end = False
        while not at_end:
            entries = await reader.read(block_ms=0)
            for _, n, values in entries:
                entry = decode_ledger_entry(values[0])
                builder.add_ledger_entry(n, int(values[1]), entry, now_ns=0)
            at_end = len(entries) < READ_BATCH_MAX
            if builder.is_full or (at_end and not builder.is_empty):
                await self._write_batch(builder.take())

    async def _write_batch(self, batch: Batch) -> None:
        await self._while_postgres_is_away(lambda: self._writer.write(batch))
        self._written.update({stream: after for stream, (_, after) in batch.positions.items()})
        self._batches += 1
        self._entries += batch.entries
        self._rows += batch.rows

    async def _while_postgres_is_away(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Repeat an attempt until PostgreSQL carries it out; loss and return are logged once."""
        delay_ms = _RETRY_DELAY_MIN_MS
        while True:
            try:
                result = await attempt()
            except PostgresUnavailable as e:
                self._last_error = str(e)
                if self._postgres_available:
                    logger.warning("writer: PostgreSQL is away, trying again: %s", e)
                self._postgres_available = False
                await asyncio.sleep(delay_ms / 1000)
                delay_ms = min(2 * delay_ms, self._settings.retry_delay_ms_max)
                continue
            if not self._postgres_available:
                logger.warning("writer: PostgreSQL is back")
            self._postgres_available = True
            return result

    async def _publish(self) -> None:
        """Trim and publish, again and again; what is on disk may go from Redis."""
        while True:
            await retry_while_away(self._publish_once, what="writer positions")
            await asyncio.sleep(self._settings.publish_interval_ms / 1000)

    async def _publish_once(self) -> None:
        written = dict(self._written)
        self._trimmed += await self._streams.trim(written)
        await self._read_ends()
        try:
            await self._streams.publish(written)
        except OutOfMemory as e:
            if self._redis_has_memory:
                logger.warning("writer: Redis has no memory for positions: %s", e)
            self._last_error = str(e)
            self._redis_has_memory = False
        else:
            self._redis_has_memory = True
