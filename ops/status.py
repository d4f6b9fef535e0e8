"""What `shardex status` says: who runs, who leads, how far everything is, and what grows.

Problems are what keeps somebody from trading or from being persisted; warnings are what will.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from engine.enums import TradingPhase
from engine.limits import OUTBOX_WITH_COPIES_MAX, SENT_MESSAGES_KEPT
from ops.engine_roles import (
    EngineRole,
    LeaderReader,
    absence,
    engine_roles,
    held_back,
    missing_standbys,
    phase_name,
    phases_of,
    read_positions,
)
from ops.engine_roles import lags as engine_lags
from ops.lost_writes import without_leader
from ops.progress import Progress, ProgressReader
from ops.settings import Settings
from ops.wiring import shard_map, wall_us
from persistence.errors import PostgresUnavailable
from persistence.schema import SCHEMA_VERSION, Versions, read_versions
from router import keys
from router.lease import Leader
from router.process_registry import SILENT_AFTER_MS, ProcessState, read_processes
from router.redis_client import Argument, RedisLink, scan_keys
from router.shards import Shard
from router.user_settings import CopiesLost, read_lost_copies

OUTBOX_LENGTH_WARNED = OUTBOX_WITH_COPIES_MAX
"""Reports of an account that nobody has fetched: it has not logged on for long."""

STORE_LENGTH_WARNED = SENT_MESSAGES_KEPT + SENT_MESSAGES_KEPT // 2
"""Stored batches of messages of a FIX session; more means that trimming does not keep up."""

LAG_WARNED = 50_000
"""Entries that a consumer is behind, some seconds of full load."""

MEMORY_WARNED_PERCENT = 70
"""Of Redis' maxmemory; gateways refuse new orders at gateway.memory_used_percent_max."""

HEARTBEAT_WARNED_S = 3
"""Age of a process' last sign of life, which it should give every second."""

_HALTED = TradingPhase.HALTED
_LENGTHS_PER_CALL = 1_000


class ProcessStatus(msgspec.Struct, frozen=True):
    """One live process. ``heartbeat_age_s``: since its last sign of life."""

    name: str
    pid: int
    version: str
    uptime_s: int
    heartbeat_age_s: int
    counters: dict[str, Any]


class StreamLengths(msgspec.Struct, frozen=True):
    """How many streams of a kind there are, their entries in all, and the longest one."""

    streams: int
    entries: int
    longest: str
    longest_entries: int


class Status(msgspec.Struct, frozen=True):
    """Everything; printed as JSON field by field.

    ``phases``: of the symbols whose shard has a leader.
    """

    problems: list[str]
    warnings: list[str]
    processes: list[ProcessStatus]
    leaders: dict[str, Leader | None]
    engines: list[EngineRole]
    progress: Progress
    phases: dict[str, str]
    lags: dict[str, int]
    outboxes: StreamLengths
    session_stores: StreamLengths
    redis_version: str
    redis_used_memory: int
    redis_maxmemory: int
    postgres_version: str
    schema_version: int | None


async def read_status(settings: Settings, link: RedisLink, postgres_url: str) -> Status:
    """Read the status of the whole venue; scans the accounts database once.

    Args:
        link: accounts database.
        postgres_url: where the writer writes.

    Raises:
        RedisUnavailable: no reply.
    """
    shards = shard_map(settings, link.url).shards
    known = await read_processes(link, with_silent=True)
    processes = {name: one for name, one in known.items() if one.silent_ms < SILENT_AFTER_MS}
    leaders, progress = await _read_shards(link, shards)
    engines = engine_roles(processes, leaders, progress)
    phases = phases_of(processes, leaders)
    positions = await read_positions(link, leaders)
    lags = engine_lags(progress, engines)
    outboxes = await _lengths(link, keys.outbox_pattern())
    stores = await _lengths(link, keys.sent_pattern())
    info = _parse_info(await link.call("INFO"))
    postgres, problems = await _postgres(settings, postgres_url)
    # Causes before what comes of them.
    problems += (
        await without_leader(settings, link, shards, leaders)
        + _reported(processes)
        + _missing(settings, known)
        + missing_standbys(leaders, known, positions)
        + lost_copies(await read_lost_copies(link), now_us=wall_us())
    )
    used, limit = int(info["used_memory"]), int(info["maxmemory"])
    states = list(map(_process, processes.values()))
    return Status(
        problems=problems,
        warnings=[
            *_heartbeat_warnings(states),
            *(f"{name} is halted" for name, phase in phases.items() if phase is _HALTED),
            *_length_warnings(outboxes, stores),
            *_lag_warnings(lags),
            *held_back(positions, progress),
            *_memory_warnings(used, limit),
        ],
        processes=states,
        leaders={f"shard-{shard}": leader for shard, leader in leaders.items()},
        engines=engines,
        progress=progress,
        phases={symbol: phase_name(phase) for symbol, phase in phases.items()},
        lags=lags,
        outboxes=outboxes,
        session_stores=stores,
        redis_version=info["redis_version"],
        redis_used_memory=used,
        redis_maxmemory=limit,
        postgres_version=postgres.server,
        schema_version=postgres.schema,
    )


async def _read_shards(
    link: RedisLink, shards: Sequence[Shard]
) -> tuple[dict[int, Leader | None], Progress]:
    """Return who leads each shard, and how far each symbol is."""
    leaders, progress = LeaderReader(link, shards), ProgressReader(link, shards)
    try:
        return await leaders.read(), await progress.read()
    finally:
        await leaders.close()
        await progress.close()


async def _postgres(settings: Settings, url: str) -> tuple[Versions, list[str]]:
    """Return the versions of PostgreSQL and its schema, and what is wrong with them."""
    try:
        found = await read_versions(url, connect_timeout_s=settings.postgres.connect_timeout_s)
    except PostgresUnavailable as error:
        return Versions("", None), [f"PostgreSQL is away: {error}"]
    if found.schema in (None, SCHEMA_VERSION):
        return found, []
    return found, [f"schema is version {found.schema}, expected {SCHEMA_VERSION}"]


def _missing(settings: Settings, known: Mapping[str, ProcessState]) -> list[str]:
    expected = [f"gateway-{number}" for number in range(1, settings.gateway.count + 1)]
    expected += [
        keys.engine_name(shard.id, standby=False) for shard in settings.shards if shard.symbols
    ]
    expected += ["marketdata", "writer"]
    found = [absence(name, known) for name in expected]
    return [text for text in found if text]


def _reported(processes: Mapping[str, ProcessState]) -> list[str]:
    """Return what processes say of themselves under ``problem``, such as a full disk."""
    told = [(name, state.counters.get("problem")) for name, state in processes.items()]
    return [f"{name}: {problem}" for name, problem in told if problem]


def lost_copies(lost: Iterable[CopiesLost], *, now_us: int) -> list[str]:
    """Return who gets no copies any more, because it has not fetched those that it got."""
    return [
        f"account {one.account} has lost {one.count:,} copies for"
        f" {max(0, now_us - one.since_us) // 1_000_000} s: its outbox is full; log it on, or make"
        " it a copy of nobody"
        for one in lost
    ]


def _process(state: ProcessState) -> ProcessStatus:
    return ProcessStatus(
        name=state.name,
        pid=state.pid,
        version=state.version,
        uptime_s=max(0, state.now_us - state.started_us) // 1_000_000,
        heartbeat_age_s=state.silent_ms // 1_000,
        counters=state.counters,
    )


async def _lengths(link: RedisLink, pattern: str) -> StreamLengths:
    """Return the lengths of all streams whose key matches a pattern."""
    streams = entries = longest_entries = 0
    longest = ""
    async for batch in _batches(link, pattern):
        commands: list[tuple[Argument, ...]] = [("XLEN", key) for key in batch]
        for key, length in zip(batch, await link.pipeline(commands), strict=True):
            streams += 1
            entries += length
            if length > longest_entries:
                longest, longest_entries = key, length
    return StreamLengths(streams, entries, longest, longest_entries)


async def _batches(link: RedisLink, pattern: str) -> Any:
    batch: set[str] = set()
    async for key in scan_keys(link, pattern):
        batch.add(key)
        if len(batch) == _LENGTHS_PER_CALL:
            yield sorted(batch)
            batch = set()
    if batch:
        yield sorted(batch)


def _heartbeat_warnings(processes: Iterable[ProcessStatus]) -> list[str]:
    return [
        f"{one.name} has given no sign of life for {one.heartbeat_age_s} s"
        for one in processes
        if one.heartbeat_age_s >= HEARTBEAT_WARNED_S
    ]


def _length_warnings(outboxes: StreamLengths, stores: StreamLengths) -> list[str]:
    lengths = {
        outboxes.longest: (outboxes.longest_entries, OUTBOX_LENGTH_WARNED),
        stores.longest: (stores.longest_entries, STORE_LENGTH_WARNED),
    }
    return [
        f"{key} has {length:,} entries, more than {limit:,}"
        for key, (length, limit) in lengths.items()
        if length > limit
    ]


def _lag_warnings(lags: Mapping[str, int]) -> list[str]:
    return [
        f"{name} is {lag:,} entries behind, more than {LAG_WARNED:,}"
        for name, lag in lags.items()
        if lag > LAG_WARNED
    ]


def _memory_warnings(used: int, limit: int) -> list[str]:
    if limit and 100 * used > MEMORY_WARNED_PERCENT * limit:
        return [f"Redis uses {100 * used // limit} % of its maxmemory"]
    return []


def _parse_info(reply: bytes) -> dict[str, str]:
    lines = reply.decode().splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)
