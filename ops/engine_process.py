"""The engine of a shard, put together: recovery, then the shard's loop with what runs beside it.

Two of them may run, ``engine-{id}`` and ``engine-{id}-standby``; both are the same but for their
names. Whoever has the lease leads, the other follows.

    journal, skips ▸ newest good snapshot ▸ journals where the stream is trimmed ▸ the stream
    beside the loop: leadership, snapshots and trimming, ticks and schedule while it leads, the
    ledger's journal (lowest shard)

Whatever goes wrong ends the process with one line. The next start recovers what there is.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import time
from collections.abc import Coroutine, Mapping
from contextlib import AsyncExitStack, suppress
from typing import Any

from engine.errors import PoisonCommand, RecoveryGap
from engine.journal import Record
from engine.journal_file import JournalFile
from engine.journal_keys import LEDGER, hash_key
from engine.journal_reader import JournalReader
from engine.journal_writer import FsyncPolicy, JournalWriter
from engine.recovery import RecoverySource, restorable, restore
from engine.runner import ShardRunner
from engine.shard import Shard as MatchingShard
from engine.snapshot_keeper import SnapshotKeeper
from engine.snapshot_store import SnapshotStore
from ops.data_dir import begin_layout
from ops.engine_server import DIFFERENCE_MARK, ServerCheck, leave_mark
from ops.errors import CommandFailed, EngineDiffered
from ops.schedule_keeper import ScheduleKeeper
from ops.settings import Settings
from ops.wiring import (
    FAREWELL_TIMEOUT_S,
    accounts_link,
    define_venue,
    journal_directory,
    reported,
    shard_map,
    snapshot_directory,
    until_cancelled,
    wall_us,
)
from router import keys
from router.clearance import has_ledger
from router.commit import Committer
from router.errors import HandedOver, OutOfMemory, OutputDiffers, RedisUnavailable, RouterError
from router.homes import Home
from router.leadership import Leadership
from router.lease import Lease
from router.ledger_journal import LedgerJournal
from router.redis_client import RedisLink, retry_while_away
from router.shards import Shard
from router.skips import read_skips
from router.standby import PublishedReader, RoleCommitter
from router.streams import CommandSource
from router.ticks import Ticker
from router.trimming import OrderStreams

logger = logging.getLogger("ops")

CLEAR_TIMEOUT_S = 5.0
"""Longest wait of an engine that cannot go on for its server to be cleared."""


async def run_engine(
    settings: Settings, redis_url: str, shard_id: int, *, standby: bool = False
) -> None:
    """Be an engine of a shard until cancelled; then commit what was read.

    Ends by itself, without an error, when an operator has it hand over the shard.

    Args:
        standby: be the second one, under a name, journal and snapshots of its own.

    Raises:
        CommandFailed: the venue has no such shard, or nothing is traded there.
        HomeMismatch, VenueRefused: see ``define_venue``.
        EngineDiffered: its outputs were not the published ones, and nobody has looked since.
        LostWrites, HistoryDiffers: the server lacks what a journal has, or has something else.
        ExchangeError: see ``ShardRunner.run``, ``Leadership.keep`` and ``RecoverySource``.
    """
    shard = _find_shard(settings, redis_url, shard_id)
    name = keys.engine_name(shard_id, standby=standby)
    mark = snapshot_directory(settings, name) / DIFFERENCE_MARK
    async with AsyncExitStack() as stack:
        link = await stack.enter_async_context(accounts_link(settings, redis_url, name=name))
        venue = await define_venue(settings, link)
        homes = {symbol: venue[symbol] for symbol in shard.symbols}
        begin_layout(settings.var_dir)
        file = JournalFile(
            journal_directory(settings, name),
            kind="commands",
            owner=f"shard-{shard_id}",
            incarnations={symbol: home.incarnation for symbol, home in homes.items()},
            keeps_positions=True,
            now_ns=time.time_ns,
        )
        journal = JournalWriter(
            file,
            policy=FsyncPolicy(settings.engine.journal_fsync),
            compresses=settings.engine.journal_compressed,
        )
        stack.push_async_callback(journal.close)
        engine = _Engine(settings, link, shard, homes, standby=standby, stack=stack)
        await engine.recover(journal, journalled=file.positions)
        if mark.exists():
            await engine.clear_before_end()
            raise EngineDiffered(mark, mark.read_text())
        await engine.hold_back_trimming()
        try:
            await reported(name, link, until_cancelled(engine.runner), engine.counters)
        except HandedOver as error:
            logger.warning("%s", error)
        except PoisonCommand:
            await engine.clear_before_end()
            raise
        except RecoveryGap:
            await engine.need_nothing()
            raise
        except OutputDiffers as error:
            # An input that was skipped meanwhile gives another output, and that is right.
            await engine.check_skips()
            leave_mark(mark, error)
            raise


def _find_shard(settings: Settings, redis_url: str, shard_id: int) -> Shard:
    shards = shard_map(settings, redis_url)
    if shard_id not in [shard.id for shard in shards.shards]:
        raise CommandFailed(f"shard {shard_id}: no [[shards]] block has this id")
    shard = shards.by_id(shard_id)
    if not shard.symbols:
        raise CommandFailed(f"shard {shard_id}: it has no symbols")
    return shard


class _Engine:
    """What `run_engine` keeps in hand.

    Args:
        link: accounts database; settles and publishes.
        stack: closes what is opened here.
    """

    runner: ShardRunner

    def __init__(
        self,
        settings: Settings,
        link: RedisLink,
        shard: Shard,
        homes: Mapping[str, Home],
        *,
        standby: bool,
        stack: AsyncExitStack,
    ) -> None:
        self._settings = settings
        self._link = link
        self._shard = shard
        self._homes = homes
        self._stack = stack
        self._name = keys.engine_name(shard.id, standby=standby)
        self._other = keys.engine_name(shard.id, standby=not standby)
        self._ledger: LedgerJournal | None = None
        self._has_ledger = has_ledger(shard, shard_map(settings, link.url).shards)

    async def recover(self, journal: JournalWriter, *, journalled: Mapping[str, int]) -> None:
        """Restore the shard and put its loop together; it has not begun.

        Args:
            journalled: key → the last seq that the journal has.

        Raises:
            LostWrites: a stream ends before the journal.
        """
        settings, name = self._settings, self._name
        self._journal = journal
        shard_link = await self._sibling("control")
        skips = await retry_while_away(lambda: read_skips(shard_link, self._homes), what=name)
        owner = f"{name}:{os.getpid()}:{secrets.token_hex(4)}"
        ttl_ms = settings.engine.lease_ttl_ms
        self._lease = Lease(await self._sibling("lease"), owner=owner, ttl_ms=ttl_ms)
        self._stack.push_async_callback(_release, self._lease)
        committer = Committer(self._link, self._lease, self._homes)
        positions = await retry_while_away(committer.positions, what=name)
        committed = {symbol: min(p.settled, p.published) for symbol, p in positions.items()}
        incarnations = {symbol: home.incarnation for symbol, home in self._homes.items()}
        store = SnapshotStore(snapshot_directory(settings, name), incarnations)
        matching = restore(store, restorable(committed, journalled))
        position = {symbol: matching.position(symbol) for symbol in self._homes}
        stream = await self._commands(position)
        journals = self._journals()
        self._server = ServerCheck(
            self._link,
            shard_link,
            self._lease,
            self._shard,
            with_ledger=self._has_ledger,
            skips=skips,
            own=journals[name],
            journalled=journalled,
            other=journals.get(self._other),
            written=self._written,
            committed=lambda: self.runner.committed,
            on_cleared=self._define,
        )
        self._server.check_ends(await stream.ends())
        self._leadership = Leadership(
            self._lease, check=self._server.check, ready=lambda: self.runner.has_rebuilt
        )
        published = PublishedReader(await self._sibling("published"))
        follow_ms = settings.engine.follow_interval_ms
        self._role = RoleCommitter(committer, self._leadership, published, interval_ms=follow_ms)
        self.runner = ShardRunner(
            shard=matching,
            source=RecoverySource(journals, stream, position),
            journal=journal,
            journalled=journalled,
            skips=skips,
            committer=self._role,
            committed=committed,
            keep_lease=self._run_beside,
            now_ns=time.time_ns,
        )
        self._keep_snapshots_of(matching, store)
        self._keep_time_of(matching)

    async def _commands(self, position: Mapping[str, int]) -> CommandSource:
        settings, link = self._settings.engine, await self._sibling("reader")
        return CommandSource(
            link,
            position,
            block_ms=settings.read_block_ms,
            interval_ms=lambda: 0 if self._leadership.is_leading else settings.follow_interval_ms,
        )

    def _written(self) -> dict[str, Record]:
        """Return the last record of each key that was written since the start."""
        tail = self._ledger.tail if self._ledger is not None else None
        return dict(self.runner.tails) if tail is None else {**self.runner.tails, LEDGER: tail}

    async def _define(self) -> None:
        """Make the changes of rules that waited until the server was cleared."""
        await define_venue(self._settings, self._link)

    def _keep_snapshots_of(self, matching: MatchingShard, store: SnapshotStore) -> None:
        settings = self._settings.engine
        self._keeper = SnapshotKeeper(
            matching,
            store,
            committed=lambda: self.runner.committed,
            durable=self._durable,
            on_saved=self._publish_floors,
            interval_s=settings.snapshot_interval_s,
            inputs_min=settings.snapshot_inputs_min,
            timeout_s=settings.snapshot_timeout_s,
        )
        self._orders = OrderStreams(
            self._link.sibling(keys.ACCOUNTS_DB, name=f"{self._name}-trimming"),
            self._shard,
        )
        self._stack.push_async_callback(self._orders.close)

    def _keep_time_of(self, matching: MatchingShard) -> None:
        links = [
            self._link.sibling(keys.ACCOUNTS_DB, name=f"{self._name}-{use}")
            for use in ("ticks", "schedule")
        ]
        for link in links:
            self._stack.push_async_callback(link.close)
        self._matching = matching
        self._ticker = Ticker(
            links[0], self._lease, self._leadership, self._homes, matching, now_ns=time.time_ns
        )
        timetables = self._settings.timetables()
        self._schedule = ScheduleKeeper(
            links[1], self._leadership, self._homes, timetables, now_us=wall_us
        )

    def counters(self) -> dict[str, Any]:
        """Return what the engine has done since it was started; for the register of processes.

        It is live once it has applied everything and the shard has a leader.
        """
        is_live = self.runner.is_live and self._leadership.knows_leader
        counters = self.runner.counters() | self._role.counters() | self._keeper.counters()
        phases = {
            symbol: self._matching.matcher(symbol).phase.name for symbol in self._matching.symbols()
        }
        return counters | {
            "is_live": int(is_live),
            "phases": phases,
            "ticks": self._ticker.appended,
        }

    async def clear_before_end(self) -> None:
        """Have the server cleared although this engine ends, unless another one leads.

        A poison command, or an engine that differed, stops its shard alone: the others need the
        ledger's database cleared.
        """
        with suppress(RouterError, TimeoutError):
            async with asyncio.timeout(CLEAR_TIMEOUT_S):
                if self._leadership.is_leading or await self._lease.try_acquire() is None:
                    await self._server.check()

    async def check_skips(self) -> None:
        """Find out whether inputs have been skipped since the start.

        Raises:
            SkipsChanged: they have; the engine starts again.
        """
        with suppress(RedisUnavailable):
            await self._server.check_skips()

    async def _sibling(self, use: str) -> RedisLink:
        link = self._link.sibling(self._shard.db, name=f"{self._name}-{use}")
        return await self._stack.enter_async_context(link)

    def _journals(self) -> dict[str, JournalReader]:
        """Return the shard's journals on this machine, our own first."""
        directories = {
            name: journal_directory(self._settings, name) for name in (self._name, self._other)
        }
        return {name: JournalReader(path) for name, path in directories.items() if path.is_dir()}

    async def _run_beside(self) -> None:
        """Run everything beside the loop; the first failure ends all of it."""
        beside: list[Coroutine[Any, Any, None]] = [
            self._leadership.keep(),
            self._keeper.run(),
            self._ticker.run(),
            self._schedule.run(),
        ]
        if self._has_ledger:
            self._ledger = LedgerJournal(
                self._link.sibling(keys.ACCOUNTS_DB, name=f"{self._name}-ledger"),
                self._journal,
                process=self._name,
                position=self._server.ledger_position,
            )
            beside.append(self._ledger.run())
        try:
            async with asyncio.TaskGroup() as tasks:
                for one in beside:
                    tasks.create_task(one)
        except BaseExceptionGroup as group:
            # The first one stopped the others.
            raise group.exceptions[0] from group

    async def hold_back_trimming(self) -> None:
        """Say what of the streams this engine needs, before it reads where they begin."""
        await self._publish_floors(self._keeper.floors())

    async def need_nothing(self) -> None:
        """Hold back no trimming for a second engine that cannot begin: nobody would end that."""
        if self._name == keys.engine_name(self._shard.id, standby=True):
            with suppress(RedisUnavailable):
                await self._orders.forget(self._name)

    async def _publish_floors(self, floors: Mapping[str, int]) -> None:
        needless = {**dict.fromkeys(self._homes, 0), **floors}

        async def publish() -> None:
            if self._leadership.is_leading:
                await self._orders.trim({self._name: needless})
            await self._orders.publish(self._name, needless)

        await retry_while_away(publish, what=f"{self._name} trimming", out_of_memory_too=True)

    def _durable(self) -> dict[str, int]:
        """Return symbol → the last seq that is durable in the journal, with its hash."""
        durable = self._journal.durable_positions
        return {
            symbol: min(durable.get(symbol, 0), durable.get(hash_key(symbol), 0))
            for symbol in self._homes
        }


async def _release(lease: Lease) -> None:
    """Give the lease up; where Redis does not take that, it runs out by itself."""
    with suppress(RedisUnavailable, OutOfMemory, TimeoutError):
        async with asyncio.timeout(FAREWELL_TIMEOUT_S):
            await lease.release()
