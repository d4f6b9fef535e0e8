"""Which engine of a shard leads and which follows, how far behind each is, and what they trade.

An engine says in its counters what it has applied, and which trading phase each of its symbols is
in; who leads stands in the lease of its shard.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from engine.enums import TradingPhase
from ops.progress import Progress
from router import keys
from router.lease import Leader, read_leader
from router.process_registry import SILENT_AFTER_MS, ProcessState, read_processes
from router.redis_client import RedisLink
from router.shards import Shard
from router.trimming import EVENTS_KEPT_ALARM, ORDERS_KEPT_ALARM


class EngineRole(msgspec.Struct, frozen=True):
    """One live engine.

    Attributes:
        role: leads; follows; or recovers, until it has applied what stood there at its start.
        lag: commands that it has not applied.
        compared, uncompared: outputs that it compared with the leader's, or could not.
    """

    name: str
    shard: int
    role: str
    lag: int
    compared: int
    uncompared: int


class LeaderReader:
    """Reads who leads each shard, with connections of its own.

    Args:
        link: accounts database.
        shards: all of the venue; those without symbols have no engine.
    """

    def __init__(self, link: RedisLink, shards: Sequence[Shard]) -> None:
        self._links = {shard.id: link.sibling(shard.db) for shard in shards if shard.symbols}

    async def read(self) -> dict[int, Leader | None]:
        """Return the leader of each shard, None for a shard that nobody leads.

        Raises:
            RedisUnavailable: no reply.
        """
        return {shard_id: await read_leader(link) for shard_id, link in self._links.items()}

    async def close(self) -> None:
        """Close the connections."""
        for link in self._links.values():
            await link.close()


async def read_positions(link: RedisLink, shards: Iterable[int]) -> dict[str, dict[str, int]]:
    """Return what each engine that the venue counts on needs no more: name → symbol → seq.

    Args:
        link: accounts database.

    Raises:
        RedisUnavailable: no reply.
    """
    names = [name for shard_id in shards for name in keys.engine_names(shard_id)]
    found = await link.pipeline([("HGETALL", keys.position_engine(name)) for name in names])
    return {
        name: {key.decode(): int(n) for key, n in zip(fields[::2], fields[1::2], strict=True)}
        for name, fields in zip(names, found, strict=True)
        if fields
    }


def owns(state: ProcessState, leader: Leader | None) -> bool:
    """Tell whether a process is the leader: a lease's owner is ``name:pid:random``."""
    return leader is not None and leader.owner.startswith(f"{state.name}:{state.pid}:")


def engine_roles(
    processes: Mapping[str, ProcessState],
    leaders: Mapping[int, Leader | None],
    progress: Progress,
) -> list[EngineRole]:
    """Return the live engines of all shards.

    Args:
        processes: by name.
        leaders: shard → who leads it.
        progress: of all symbols, read after ``processes``.
    """
    roles = []
    for shard_id, leader in leaders.items():
        for name in keys.engine_names(shard_id):
            state = processes.get(name)
            if state is None:
                continue
            counters = state.counters
            applied = counters.get("applied_seq", {})
            is_live = counters.get("is_live")
            roles.append(
                EngineRole(
                    name,
                    shard_id,
                    "leads" if owns(state, leader) else "follows" if is_live else "recovers",
                    sum(
                        max(0, one.admitted - applied.get(symbol, 0))
                        for symbol, one in progress.symbols.items()
                        if one.shard == shard_id
                    ),
                    counters.get("compared", 0),
                    counters.get("uncompared", 0),
                )
            )
    return roles


def phase_name(phase: TradingPhase) -> str:
    """Return a phase as operators spell it."""
    return phase.name.lower().replace("_", "-")


def phases_of(
    processes: Mapping[str, ProcessState], leaders: Mapping[int, Leader | None]
) -> dict[str, TradingPhase]:
    """Return the phase of each symbol whose shard has a leader, as that said last.

    Args:
        processes: by name.
        leaders: shard → who leads it.
    """
    phases: dict[str, TradingPhase] = {}
    for shard_id, leader in leaders.items():
        for name in keys.engine_names(shard_id):
            if name in processes and owns(processes[name], leader):
                said: dict[str, str] = processes[name].counters.get("phases", {})
                phases |= {symbol: TradingPhase[one] for symbol, one in said.items()}
    return phases


async def read_phases(link: RedisLink, shards: Sequence[Shard]) -> dict[str, TradingPhase]:
    """Return the phase of each symbol whose shard has a leader.

    Args:
        link: accounts database.
        shards: all of the venue.

    Raises:
        RedisUnavailable: no reply.
    """
    reader = LeaderReader(link, shards)
    try:
        leaders = await reader.read()
    finally:
        await reader.close()
    names = [name for shard in shards for name in keys.engine_names(shard.id)]
    return phases_of(await read_processes(link, names), leaders)


def lags(progress: Progress, engines: Sequence[EngineRole]) -> dict[str, int]:
    """Return the lag of each consumer, by the name of its process.

    That of a leader counts what it has not settled; that of a follower what it has not applied.
    """
    found = progress.lags()
    behind = {one.name: one.lag for one in engines if one.role != "leads"}
    for one in engines:
        if one.role == "leads":
            found[one.name] = found.pop(keys.engine_name(one.shard, standby=False))
    return dict(sorted({**behind, **found}.items()))


def absence(name: str, known: Mapping[str, ProcessState]) -> str:
    """Return that a process does not run, or is silent, and since when; empty while it lives.

    Args:
        known: by name; the silent ones too.
    """
    state = known.get(name)
    if state is None:
        return f"{name} is not running"
    if state.silent_ms < SILENT_AFTER_MS:
        return ""
    return (
        f"{name} has given no sign of life for {state.silent_ms // 1_000:,} s: process {state.pid}"
        " is stuck, or was killed"
    )


def missing_standbys(
    leaders: Mapping[int, Leader | None],
    known: Mapping[str, ProcessState],
    positions: Mapping[str, Mapping[str, int]],
) -> list[str]:
    """Return a problem for each second engine that the venue counts on and that does not run.

    Args:
        leaders: shard → who leads it. Where nobody does, that is another problem.
        known: processes by name; the silent ones too.
        positions: engine → symbol → what it needs no more; a second engine that was forgotten is
            not counted on.
    """
    problems = []
    for shard_id, leader in leaders.items():
        name = keys.engine_name(shard_id, standby=True)
        if name in positions and (text := absence(name, known)):
            lone = "" if leader is None else "nobody takes over, and "
            problems.append(f"{text}: {lone}orders are kept for it")
    return problems


def held_back(positions: Mapping[str, Mapping[str, int]], progress: Progress) -> list[str]:
    """Return a warning for each stream of orders or events that somebody keeps long.

    Args:
        positions: engine → symbol → seq up to which it needs no entries any more.
    """
    warnings = []
    for symbol, one in progress.symbols.items():
        first, second = keys.engine_names(one.shard)
        # As in trimming: a first engine that has said nothing needs everything.
        engines = {first: 0} | {
            n: positions[n].get(symbol, 0) for n in (first, second) if n in positions
        }
        readers = {"writer": one.writer, "marketdata": one.marketdata}
        for key, length, limit, needs in (
            (keys.orders(symbol), one.orders_length, ORDERS_KEPT_ALARM, engines),
            (keys.events(symbol), one.events_length, EVENTS_KEPT_ALARM, readers),
        ):
            if length > limit:
                holder = min(needs, key=needs.__getitem__)
                warnings.append(
                    f"{key} has {length:,} entries, more than {limit:,}:"
                    f" {holder} needs them from {needs[holder] + 1:,} on"
                )
    return warnings
