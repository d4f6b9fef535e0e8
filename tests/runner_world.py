"""The shard's loop over ports in memory, and commands for it. The tests of the runner use it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager

from engine.commands import Command, DefineSymbol, NewOrder, encode_command
from engine.enums import OrdType, SelfTradePrevention, Side, TimeInForce
from engine.errors import JournalWriteFailed
from engine.journal import Record
from engine.journal_keys import OutputsHash, decode_hash, hashed_symbol
from engine.runner import ShardRunner
from engine.settlement import Settlement
from engine.shard import Shard
from tests.helpers import eventually_async
from tests.router_helpers import BTC, ETH, make_rules

START_NS = 1_700_000_000_000_000_000


class LeaseLost(Exception):
    """What keep_lease raises in these tests."""


class MemorySource:
    """Streams in memory; hands out at most `cut` commands per read."""

    def __init__(self, *, cut: int = 100) -> None:
        self.records: list[Record] = []
        self._next = 0
        self._cut = cut
        self._more = asyncio.Event()

    def feed(self, *records: Record) -> None:
        self.records += records
        self._more.set()

    async def ends(self) -> Mapping[str, int]:
        ends = {BTC: 0, ETH: 0}
        for record in self.records:
            ends[record.key] = record.seq
        return ends

    async def read_batch(self, count: int) -> list[Record]:
        if self._next == len(self.records):
            self._more.clear()
            await self._more.wait()
        batch = self.records[self._next : self._next + min(count, self._cut)]
        self._next += len(batch)
        return batch


class MemoryJournal:
    """Keeps records; can be closed for a while, or refuse so many times."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.open = asyncio.Event()
        self.open.set()
        self.refusals = 0

    async def append(self, records: Sequence[Record]) -> None:
        await self.open.wait()
        if self.refusals:
            self.refusals -= 1
            raise JournalWriteFailed("disk full")
        self.records += records

    def add(self, records: Sequence[Record]) -> None:
        if self.refusals:
            self.refusals -= 1
            raise JournalWriteFailed("disk full")
        self.records += records

    def commands(self) -> list[Record]:
        """Return the records that are no hashes."""
        return [one for one in self.records if hashed_symbol(one.key) is None]

    def hashes(self) -> list[tuple[str, OutputsHash]]:
        """Return what is said about outputs, by symbol."""
        return [
            (symbol, decode_hash(one.payload))
            for one in self.records
            if (symbol := hashed_symbol(one.key)) is not None
        ]


class MemoryCommitter:
    """Keeps settlements; can be closed for a while."""

    def __init__(self) -> None:
        self.batches: list[list[Settlement]] = []
        self.calls = 0
        self.open = asyncio.Event()
        self.open.set()

    async def commit(self, batch: Sequence[Settlement]) -> None:
        self.calls += 1
        await self.open.wait()
        self.batches.append(list(batch))

    @property
    def seqs(self) -> list[tuple[str, int]]:
        return [(one.symbol, one.seq) for batch in self.batches for one in batch]


class World:
    """A runner and its ports."""

    def __init__(
        self,
        *,
        cut: int = 100,
        journalled: Mapping[str, int] | None = None,
        committed: Mapping[str, int] | None = None,
        skips: Mapping[str, Mapping[int, str]] | None = None,
    ) -> None:
        self.source = MemorySource(cut=cut)
        self.journal = MemoryJournal()
        self.committer = MemoryCommitter()
        self.lease_lost = asyncio.Event()
        self.shard = Shard()
        self._journalled = journalled or {}
        self._committed = {BTC: 0, ETH: 0, **(committed or {})}
        self._skips = skips or {}
        self.restart()

    def restart(self) -> None:
        """Make the runner anew, from what the shard has by now."""
        self.runner = ShardRunner(
            shard=self.shard,
            source=self.source,
            journal=self.journal,
            journalled=self._journalled,
            skips=self._skips,
            committer=self.committer,
            committed=self._committed,
            keep_lease=self._keep_lease,
            now_ns=lambda: START_NS + 5_000_000,
        )

    async def _keep_lease(self) -> None:
        await self.lease_lost.wait()
        raise LeaseLost

    @asynccontextmanager
    async def running(self) -> AsyncIterator[asyncio.Task[None]]:
        task = asyncio.create_task(self.runner.run())
        yield task
        self.runner.stop()
        await task

    async def until(self, predicate: Callable[[], bool]) -> None:
        await eventually_async(predicate)


def record(symbol: str, seq: int, command: Command) -> Record:
    return Record(symbol, seq, START_NS + seq * 1_000, 0, encode_command(command))


def define(symbol: str) -> Record:
    return record(symbol, 1, DefineSymbol("incarnation", make_rules(symbol)))


def order(symbol: str, seq: int, *, account: int = 1, side: Side = Side.SELL) -> Record:
    rules = make_rules(symbol)
    reserved = rules.hold_of(side, 100, 2)
    command = NewOrder(
        account,
        1,
        seq,
        f"ORDER-{seq}",
        side,
        OrdType.LIMIT,
        TimeInForce.GTC,
        False,
        SelfTradePrevention.NONE,
        100,
        2,
        1,
        reserved,
    )
    return record(symbol, seq, command)


def history(count: int) -> list[Record]:
    """Return both definitions and then `count` orders, of which every second one crosses."""
    records = [define(BTC), define(ETH)]
    for number in range(count):
        symbol = (BTC, ETH)[number // 2 % 2]
        seq = 2 + sum(one.key == symbol for one in records) - 1
        side = Side.BUY if number % 2 else Side.SELL
        records.append(order(symbol, seq, account=1 + number % 2, side=side))
    return records
