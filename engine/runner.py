"""The shard's loop: a ring between the streams of its symbols and what is committed of them.

    source ──▶ cursor ─┬─▶ journal ─┐
                       └─▶ match  ──┴─▶ commit   (gates the source)

Each stage is a task that takes all that is ready, up to its limit; so reading, writing and matching
go on while a commit is under way. Commit follows both others: nothing is settled that the journal
does not have (written, or durable: the journal's own policy) or that tripped an assertion.

There is no separate start-up. The source begins behind what the shard was restored with (a
snapshot, or nothing); journal and commit pass over what they have already. So the same loop
rebuilds the books, appends what the journal lacks, commits again from the older of the two
positions, and goes on live. Everything it commits is the same, byte for byte, each time (the shard
is deterministic, committing is idempotent): a crash between any two steps costs nothing but time.

The journal is given a digest of the outputs too, before they are committed (``journal_keys``), and
may write it a group later; what a crash takes is made again. Whoever replays the journal can tell
whether the same came out.

Who leads the shard is the committer's business: that of a follower compares what the leader has
published, and commits only once it leads itself.

Who is at fault decides. Redis or the disk is away: the ports wait, or the stage does. A command
that the shard cannot apply: it commits what came before, stops, and would stop there again. The
lease is lost: it stops, another engine goes on.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any, Protocol

from engine.commands import decode_command
from engine.errors import DecodeError, JournalWriteFailed, PoisonCommand, SequenceGap
from engine.histogram import Histogram
from engine.journal import Record
from engine.journal_keys import hash_key, hash_record, skip_key, skip_record
from engine.limits import COMMIT_BATCH_MAX, READ_BATCH_MAX, RING_SLOTS
from engine.ring import RingBuffer
from engine.ring_loop import run_consumer, wait_for_capacity
from engine.settlement import Settlement, encode_settlement
from engine.shard import Applied, Shard

MATCH_BATCH_MAX = 128
"""Commands matched before other tasks get a turn: some 2 ms at 15 µs each."""

JOURNAL_RETRY_DELAY_S = 1
"""Between two tries to write a batch that the disk refused (full): nothing is lost meanwhile."""

DRAIN_TIMEOUT_S = 5
"""Longest wait of a clean stop for what was read; the next start commits the rest."""

logger = logging.getLogger("engine")


class CommandSource(Protocol):
    """The streams of a shard's symbols, read from behind what the shard was restored with."""

    async def ends(self) -> Mapping[str, int]:
        """Return the last seq of each symbol's stream."""

    async def read_batch(self, count: int) -> list[Record]:
        """Return the next commands, at most ``count``, in order per symbol; none if none came."""


class Journal(Protocol):
    """Where commands are written before they count: a JournalWriter."""

    def append(self, records: Sequence[Record]) -> Awaitable[None]:
        """Write a batch and wait as the journal's policy says."""

    def add(self, records: Sequence[Record]) -> None:
        """Write records with the next group, without waiting for it."""


class Committer(Protocol):
    """Where outputs go."""

    async def commit(self, batch: Sequence[Settlement]) -> None:
        """Settle and publish, idempotently; return when it will not be lost.

        Or, in an engine that follows: return when the leader has done so with the same outputs.
        """


class _Step:
    """One command on its way through the ring."""

    __slots__ = ("poison", "record", "settlement")

    def __init__(self, record: Record) -> None:
        self.record = record
        self.settlement: Settlement | None = None
        self.poison: PoisonCommand | None = None


class ShardRunner:
    """One shard, running.

    Args:
        shard: empty, or restored; it is rebuilt from the streams.
        source: from behind what the shard has.
        journal: behind ``journalled``.
        journalled: key → the last seq that the journal has; missing = none.
        skips: symbol → seq → reason of inputs that an operator passed over.
        committer: behind ``committed``.
        committed: symbol → the older of the last settled and the last published seq.
        keep_lease: runs as long as the shard is ours; raises when it is not any more.
        now_ns: the clock, ns since 1970 UTC; for measuring only.

    Attributes:
        is_live: True once all that stood in the streams at the start has been applied.
        applied: symbol → the last seq applied.
        committed: symbol → the last seq committed.
        tails: symbol → the last record written to the journal since the start.
        commit_age: time from a command's stamp to its commit.
    """

    def __init__(
        self,
        *,
        shard: Shard,
        source: CommandSource,
        journal: Journal,
        journalled: Mapping[str, int],
        skips: Mapping[str, Mapping[int, str]],
        committer: Committer,
        committed: Mapping[str, int],
        keep_lease: Callable[[], Coroutine[Any, Any, None]],
        now_ns: Callable[[], int],
    ) -> None:
        self._shard = shard
        self._source = source
        self._journal = journal
        self._journalled = dict(journalled)
        self._skips = skips
        self._committer = committer
        self._keep_lease = keep_lease
        self._now_ns = now_ns
        self.applied = {symbol: shard.position(symbol) for symbol in committed}
        self.committed = dict(committed)
        self.tails: dict[str, Record] = {}
        self._skip_records: list[Record] = []
        self._is_poisoned = False
        self._committed_before = dict(committed)
        self._hashed = {
            symbol: max(journalled.get(hash_key(symbol), 0), seq)
            for symbol, seq in self.applied.items()
        }
        self.is_live = False
        self.commit_age = Histogram()
        self._ends: Mapping[str, int] = {}
        self._batches = 0
        self._applied_count = 0
        self._committed_count = 0
        self._journalled_count = 0
        self._problem = ""
        self._stopping = asyncio.Event()
        self._ring: RingBuffer[_Step] = RingBuffer(RING_SLOTS)
        self._journal_stage = self._ring.add_consumer("journal")
        self._match_stage = self._ring.add_consumer("match")
        self._commit_stage = self._ring.add_consumer(
            "commit", after=(self._journal_stage, self._match_stage)
        )

    async def run(self) -> None:
        """Run the shard until ``stop``, or until something ends it.

        Raises:
            SequenceGap: the source does not go on where the shard is.
            PoisonCommand: a command cannot be applied; nothing of it was committed.
            JournalSyncFailed: the journal is broken.
            ExchangeError: what the ports raise: the lease is lost, an output differs, …
        """
        self._ends = await self._source.ends()
        self._note_live()
        try:
            async with asyncio.TaskGroup() as tasks:
                reader = tasks.create_task(self._read())
                others = [
                    tasks.create_task(work)
                    for work in (
                        self._keep_lease(),
                        run_consumer(self._journal_stage, self._write, batch_max=READ_BATCH_MAX),
                        run_consumer(self._match_stage, self._match, batch_max=MATCH_BATCH_MAX),
                        run_consumer(self._commit_stage, self._commit, batch_max=COMMIT_BATCH_MAX),
                    )
                ]
                await self._stopping.wait()
                reader.cancel()
                await self._drain()
                for task in others:
                    task.cancel()
        except BaseExceptionGroup as group:
            # The first one stopped the others.
            raise group.exceptions[0] from group

    def stop(self) -> None:
        """Stop reading, commit what was read (at most DRAIN_TIMEOUT_S), and end ``run``."""
        self._stopping.set()

    @property
    def has_rebuilt(self) -> bool:
        """Whether all that was committed before the start has been applied again."""
        before = self._committed_before
        return all(self.applied[symbol] >= seq for symbol, seq in before.items())

    def counters(self) -> dict[str, int | str | dict[str, int]]:
        """Return what the shard has done since it was started; for the register of processes."""
        return {
            "problem": self._problem,
            "is_live": int(self.is_live),
            "journalled": self._journalled_count,
            "applied": self._applied_count,
            "committed": self._committed_count,
            "commit_batches": self._batches,
            "ring_used": self._ring.capacity - self._ring.remaining_capacity(),
            "commit_age_p50_us": self.commit_age.quantile_ns(50) // 1_000,
            "commit_age_p99_us": self.commit_age.quantile_ns(99) // 1_000,
            "applied_seq": dict(self.applied),
            "committed_seq": dict(self.committed),
        }

    async def _read(self) -> None:
        while True:
            await wait_for_capacity(self._ring, READ_BATCH_MAX)
            records = await self._source.read_batch(READ_BATCH_MAX)
            if records:
                self._ring.publish_many([_Step(record) for record in records])

    async def _write(self, entries: list[_Step], *, end_of_batch: bool) -> None:
        journalled, tails = self._journalled, self.tails
        lacking = [e.record for e in entries if e.record.seq > journalled.get(e.record.key, 0)]
        if not lacking:
            return
        await self._while_journal_refuses(lambda: self._journal.append(lacking))
        for record in lacking:
            journalled[record.key] = record.seq
            tails[record.key] = record
        self._journalled_count += len(lacking)

    def _match(self, entries: list[_Step], *, end_of_batch: bool) -> None:
        if self._is_poisoned:
            return
        committed, hashed, applied_seqs = self.committed, self._hashed, self.applied
        skips, apply = self._skips, self._shard.apply
        for entry in entries:
            record = entry.record
            symbol, seq = record.key, record.seq
            try:
                if symbol in skips and seq in skips[symbol]:
                    applied = self._skip(record, skips[symbol][seq])
                else:
                    command = decode_command(record.payload)
                    applied = apply(symbol, seq, record.ts_ns // 1_000, command)
                if seq > committed[symbol] or seq > hashed[symbol]:
                    entry.settlement = encode_settlement(applied)
            except (SequenceGap, MemoryError):
                raise
            except Exception as error:
                # Also a bug that no assertion has foreseen. What came before it is committed first.
                entry.poison = _poison(symbol, seq, error)
                self._is_poisoned = True
                return
            applied_seqs[symbol] = seq
        self._applied_count += len(entries)
        if not self.is_live:
            self._note_live()

    def _skip(self, record: Record, reason: str) -> Applied:
        symbol, seq = record.key, record.seq
        if seq > self._journalled.get(skip_key(symbol), 0):
            logger.warning("%s: seq %d is skipped: %s", symbol, seq, reason)
            self._journalled[skip_key(symbol)] = seq
            self._skip_records.append(skip_record(symbol, seq, reason, record.ts_ns))
        return self._shard.skip(symbol, seq, record.ts_ns // 1_000, record.payload, reason)

    async def _commit(self, entries: list[_Step], *, end_of_batch: bool) -> None:
        made: list[Settlement] = []
        for entry in entries:
            if entry.poison is not None:
                await self._commit_made(made, entry.record.ts_ns)
                raise entry.poison
            if entry.settlement is not None:
                made.append(entry.settlement)
        await self._commit_made(made, entries[-1].record.ts_ns)

    async def _commit_made(self, made: Sequence[Settlement], ts_ns: int) -> None:
        if not made:
            return
        await self._record_outcome(made, ts_ns)
        committed = self.committed
        batch = [one for one in made if one.seq > committed[one.symbol]]
        if not batch:
            return
        await self._committer.commit(batch)
        for one in batch:
            self.committed[one.symbol] = one.seq
        self._batches += 1
        self._committed_count += len(batch)
        age_ns = self._now_ns() - ts_ns
        self.commit_age.record(max(0, age_ns), len(batch))

    async def _record_outcome(self, made: Sequence[Settlement], ts_ns: int) -> None:
        """Write what came out into the journal, and what was skipped for it.

        The ranges of a symbol's hashes have no gap. All of it is one frame: there is no hash of an
        input that was skipped without the skip.
        """
        outputs: dict[str, list[bytes]] = {}
        for one in made:
            if one.seq > self._hashed[one.symbol]:
                outputs.setdefault(one.symbol, []).append(one.event)
        if not outputs and not self._skip_records:
            return
        records = self._skip_records + [
            hash_record(symbol, self._hashed[symbol] + 1, events, ts_ns)
            for symbol, events in outputs.items()
        ]
        self._skip_records = []

        async def add() -> None:
            self._journal.add(records)

        await self._while_journal_refuses(add)
        for symbol, events in outputs.items():
            self._hashed[symbol] += len(events)

    async def _while_journal_refuses(self, write: Callable[[], Awaitable[None]]) -> None:
        """Repeat a write until the disk takes it; nothing goes on meanwhile, nothing is lost."""
        refused = False
        while True:
            try:
                await write()
                break
            except JournalWriteFailed as error:
                if not refused:
                    logger.error("Nothing is committed until the journal is written: %s", error)
                refused = True
                self._problem = f"nothing is committed: {error}"
                await asyncio.sleep(JOURNAL_RETRY_DELAY_S)
        if refused:
            self._problem = ""

    async def _drain(self) -> None:
        try:
            async with asyncio.timeout(DRAIN_TIMEOUT_S):
                await wait_for_capacity(self._ring, self._ring.capacity)
        except TimeoutError:
            logger.warning("Stopped with outputs that are not committed; the next start does it")

    def _note_live(self) -> None:
        self.is_live = all(self.applied[symbol] >= end for symbol, end in self._ends.items())
        if self.is_live:
            logger.info("Live: all commands up to %s are applied", dict(self.applied))


def _poison(symbol: str, seq: int, error: Exception) -> PoisonCommand:
    known = isinstance(error, AssertionError | DecodeError)
    poison = PoisonCommand(symbol, seq, str(error) if known else f"{type(error).__name__}: {error}")
    poison.__cause__ = error
    return poison
