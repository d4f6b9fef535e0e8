"""What every process is built with: links, homes, files, and how it reports itself.

Each kind of process is put together in a module of its own (gateway_process.py and its like), so
that none loads what only another needs. All look the same from outside: they read the symbols'
homes, run until they are cancelled, and report themselves under ``process:{name}`` meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

from engine.instrument import SymbolRules
from ops.processes import single_error
from ops.settings import Settings
from router.errors import RedisUnavailable
from router.homes import Home, define_symbols, read_homes, refuse_removed_assets
from router.keys import ACCOUNTS_DB
from router.process_registry import ProcessRegistry
from router.redis_client import RedisLink, retry_while_away
from router.shards import Shard, ShardMap

logger = logging.getLogger("ops")

VERSION = version("shardex")
GATEWAY = "gateway"
"""What the names of gateways, and of their journals, begin with."""
FAREWELL_TIMEOUT_S = 1.0
"""Longest wait of a process that ends for Redis to take back its sign of life, or its lease."""


class Stoppable(Protocol):
    """What has a clean stop of its own."""

    async def run(self) -> None:
        """Run until stopped."""

    def stop(self) -> None:
        """Ask it to end ``run``."""


def wall_us() -> int:
    """Return the time, µs since 1970 UTC."""
    return time.time_ns() // 1_000


def accounts_link(settings: Settings, redis_url: str, *, name: str) -> RedisLink:
    """Return a link to the accounts database."""
    return RedisLink(
        redis_url, db=ACCOUNTS_DB, name=name, timeout_ms=settings.redis.call_timeout_ms
    )


def shard_map(settings: Settings, redis_url: str) -> ShardMap:
    """Return where each symbol lives."""
    shards = [
        Shard(shard.id, redis_url, shard.db, tuple(shard.symbols)) for shard in settings.shards
    ]
    return ShardMap(shards, accounts_url=redis_url)


def journal_directory(settings: Settings, process: str) -> Path:
    """Return where a process keeps its journal."""
    return settings.var_dir / "journals" / process


def gateway_journals(journals: Path) -> list[Path]:
    """Return the raw FIX journals among all: those of processes whose name begins with gateway."""
    return sorted(journals.glob(f"{GATEWAY}*"))


def snapshot_directory(settings: Settings, process: str) -> Path:
    """Return where an engine keeps its snapshots."""
    return settings.var_dir / "snapshots" / process


def venue_rules(settings: Settings) -> dict[str, SymbolRules]:
    """Return the rules of every symbol, as exchange.toml has them."""
    return {symbol.name: settings.rules_of(symbol, version=1) for symbol in settings.symbols}


async def define_venue(settings: Settings, link: RedisLink) -> dict[str, Home]:
    """Give new symbols a home, check the known ones, and return all homes.

    Raises:
        VenueRefused: a change of exchange.toml that orders, balances or unread events forbid; names
            the key.
        HomeMismatch: the Redis is not this venue's.
    """
    shards = shard_map(settings, link.url).shards

    async def define() -> dict[str, Home]:
        await refuse_removed_assets(link, {asset.name for asset in settings.assets})
        return await define_symbols(link, shards, venue_rules(settings))

    return await retry_while_away(define, what="symbols")


async def read_venue(settings: Settings, link: RedisLink) -> dict[str, Home]:
    """Return the homes of all symbols; waits while Redis is away.

    Raises:
        HomeMismatch: a symbol was never defined in this Redis, or is not this venue's.
    """
    shards = shard_map(settings, link.url).shards
    return await retry_while_away(lambda: read_homes(link, shards), what="symbols")


async def until_cancelled(component: Stoppable) -> None:
    """Run what has a clean stop of its own; cancelling asks for that."""
    running = asyncio.ensure_future(component.run())
    try:
        await asyncio.shield(running)
    except asyncio.CancelledError:
        component.stop()
        await running
        raise


async def reported(
    name: str,
    link: RedisLink,
    run: Coroutine[Any, Any, None],
    counters: Callable[[], dict[str, Any]],
) -> None:
    """Run a component, and report it beside until it ends."""
    registry_link = link.sibling(ACCOUNTS_DB, name=f"{name}-registry")
    registry = ProcessRegistry(
        registry_link,
        name=name,
        pid=os.getpid(),
        version=VERSION,
        now_us=wall_us,
        counters=counters,
    )
    logger.info("%s %s started", name, VERSION)
    try:
        async with registry_link, asyncio.TaskGroup() as tasks:
            reporting = tasks.create_task(registry.run())
            try:
                await run
            finally:
                reporting.cancel()
    except BaseExceptionGroup as group:
        raise single_error(group) from None
    finally:
        # It runs out by itself where this fails.
        with suppress(RedisUnavailable, TimeoutError):
            async with asyncio.timeout(FAREWELL_TIMEOUT_S), registry_link:
                await registry.remove()
        logger.info("%s stopped", name)
