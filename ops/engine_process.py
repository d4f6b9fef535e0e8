"""The engine of a shard, put together.

Two of them may run, ``engine-{id}`` and ``engine-{id}-standby``; both are the same but for their
names. Whoever has the lease leads, the other follows.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from contextlib import AsyncExitStack, suppress

from engine.journal_file import JournalFile
from engine.journal_writer import FsyncPolicy, JournalWriter
from engine.runner import ShardRunner
from engine.shard import Shard as MatchingShard
from ops.errors import CommandFailed
from ops.settings import Settings
from ops.wiring import (
    FAREWELL_TIMEOUT_S,
    accounts_link,
    define_venue,
    journal_directory,
    reported,
    shard_map,
    until_cancelled,
)
from router.commit import Committer
from router.errors import OutOfMemory, RedisUnavailable
from router.lease import Lease
from router.redis_client import retry_while_away
from router.streams import CommandSource


def engine_name(shard_id: int, *, standby: bool) -> str:
    """Return the name of an engine's process, under which its journal and snapshots stand."""
    return f"engine-{shard_id}-standby" if standby else f"engine-{shard_id}"


async def run_engine(
    settings: Settings, redis_url: str, shard_id: int, *, standby: bool = False
) -> None:
    """Be an engine of a shard until cancelled; then commit what was read.

    Args:
        standby: be the second one, under a name, journal and snapshots of its own.

    Raises:
        CommandFailed: the venue has no such shard, or nothing is traded there.
        HomeMismatch, VenueRefused: see ``define_venue``.
        ExchangeError: see ``ShardRunner.run``.
    """
    name = engine_name(shard_id, standby=standby)
    shards = shard_map(settings, redis_url)
    if shard_id not in [shard.id for shard in shards.shards]:
        raise CommandFailed(f"shard {shard_id}: no [[shards]] block has this id")
    shard = shards.by_id(shard_id)
    if not shard.symbols:
        raise CommandFailed(f"shard {shard_id}: it has no symbols")
    async with AsyncExitStack() as stack:
        link = await stack.enter_async_context(accounts_link(settings, redis_url, name=name))
        lease_link, source_link = [
            await stack.enter_async_context(link.sibling(shard.db, name=f"{name}-{use}"))
            for use in ("lease", "reader")
        ]
        venue = await define_venue(settings, link)
        homes = {symbol: venue[symbol] for symbol in shard.symbols}
        file = JournalFile(
            journal_directory(settings, name),
            kind="commands",
            owner=f"shard-{shard_id}",
            incarnations={symbol: home.incarnation for symbol, home in homes.items()},
            keeps_positions=True,
            now_ns=time.time_ns,
        )
        journalled = file.positions
        journal = JournalWriter(file, policy=FsyncPolicy(settings.engine.journal_fsync))
        stack.push_async_callback(journal.close)
        owner = f"{name}:{os.getpid()}:{secrets.token_hex(4)}"
        lease = Lease(lease_link, owner=owner, ttl_ms=settings.engine.lease_ttl_ms)
        await lease.acquire()
        stack.push_async_callback(_release, lease)
        committer = Committer(link, lease, homes)
        positions = await retry_while_away(committer.positions, what=name)
        runner = ShardRunner(
            shard=MatchingShard(),
            source=CommandSource(
                source_link, dict.fromkeys(homes, 0), block_ms=settings.engine.read_block_ms
            ),
            journal=journal,
            journalled=journalled,
            skips={},
            committer=committer,
            committed={symbol: min(p.settled, p.published) for symbol, p in positions.items()},
            keep_lease=lease.keep,
            now_ns=time.time_ns,
        )
        await reported(name, link, until_cancelled(runner), runner.counters)


async def _release(lease: Lease) -> None:
    """Give the lease up; where Redis does not take that, it runs out by itself."""
    with suppress(RedisUnavailable, OutOfMemory, TimeoutError):
        async with asyncio.timeout(FAREWELL_TIMEOUT_S):
            await lease.release()
