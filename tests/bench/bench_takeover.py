"""How soon a standby takes over, and what it costs: `python -m tests.bench.bench_takeover`.

Takeover: a private venue with a standby trades at a steady rate while the engine that leads is
killed with SIGKILL again and again, each time once the other one follows. Measured is the longest
silence that clients see after a kill: from the last report before it to the first after it. The
results are checked as in bench_end_to_end: every order acknowledged and filled once, money
conserved, PostgreSQL the same.

Cost: the load of bench_end_to_end with standby off and on in turns, on the same machine.

Left out: a machine or network that dies with the engine; clients' own work.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import signal
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import uvloop

from gateway.fix_message import FixMessage
from ops.endpoints import Credentials
from ops.engine_roles import LeaderReader, owns
from ops.private_venue import PrivateSymbol, PrivateVenue, private_venue
from ops.wiring import accounts_link, shard_map
from router import keys
from router.lease import Leader
from router.process_registry import read_processes
from router.redis_client import RedisLink
from tests.bench import bench_end_to_end
from tests.bench.load import Bodies, LoadSession, connect_all, finish, with_bodies
from tests.helpers import eventually_async

SYMBOLS = ("ALFA-USD", "BETA-USD")
SHARD = 1
KILLS, QUICK_KILLS = 9, 5
ROUNDS, QUICK_ROUNDS = 3, 1
SECONDS, QUICK_SECONDS = 15.0, 5.0
"""Of sending orders at full speed, per run."""

ORDERS_PER_TURN, TURN_S = 5, 0.02
"""Steady rate of each of the four sessions while engines are killed."""

_PAIR_TIMEOUT_S = 60.0


class TimedSession(LoadSession):
    """Notes when reports came.

    Attributes:
        arrivals_s: on the clock of time.monotonic.
    """

    def __init__(self, user: Credentials, target_comp_id: str) -> None:
        super().__init__(user, target_comp_id)
        self.arrivals_s: list[float] = []

    def receive(self, data: bytes) -> list[FixMessage]:
        """Do as LoadSession does, and note the time if it was a report."""
        before = self.tally.reports
        messages = super().receive(data)
        if self.tally.reports > before:
            self.arrivals_s.append(time.monotonic())
        return messages


async def measure_takeovers(kills: int, parent: Path) -> list[float]:
    """Return the silence after each kill, in s; every check has held."""
    symbols = [PrivateSymbol(name, maker_fee_ppm=100, taker_fee_ppm=200) for name in SYMBOLS]
    async with private_venue(symbols, parent=parent, standby=True) as venue:
        sessions = await connect_all(venue.endpoints, TimedSession)
        pairs = with_bodies(sessions, SYMBOLS)
        enough = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            for session, bodies in pairs:
                tasks.create_task(trade(session, bodies, enough))
            killed_at_s = await kill_leaders(venue, sessions, kills)
            enough.set()
        await finish(pairs)
        await bench_end_to_end.check(venue, sessions, sum(session.sent for session in sessions))
        for session in sessions:
            await session.logout()
    return silences(killed_at_s, sorted(at for one in sessions for at in one.arrivals_s))


async def trade(session: LoadSession, bodies: Bodies, enough: asyncio.Event) -> None:
    """Send orders at a steady rate; while no report comes, at most a window of them."""
    while not enough.is_set():
        await session.run(bodies, until_s=float("inf"), most=session.sent + ORDERS_PER_TURN)
        await asyncio.sleep(TURN_S)


async def kill_leaders(
    venue: PrivateVenue, sessions: Sequence[TimedSession], kills: int
) -> list[float]:
    """Kill the engine that leads whenever it trades and the other one follows; return when, in s.

    An engine may be back, and follow, before the other one leads: only a report says that it does.
    """
    url = venue.endpoints.redis_url
    killed_at_s = []
    async with accounts_link(venue.settings, url, name="bench") as link:
        leaders = LeaderReader(link, shard_map(venue.settings, url).shards)
        leader = await paired(link, leaders, after_epoch=0)
        for _ in range(kills):
            paired_at_s = time.monotonic()
            await eventually_async(
                lambda since_s=paired_at_s: any(
                    one.arrivals_s and one.arrivals_s[-1] > since_s for one in sessions
                ),
                _PAIR_TIMEOUT_S,
            )
            killed_at_s.append(time.monotonic())
            os.kill(int(leader.owner.split(":")[1]), signal.SIGKILL)
            leader = await paired(link, leaders, after_epoch=leader.epoch)
        await leaders.close()
    return killed_at_s


async def paired(link: RedisLink, leaders: LeaderReader, *, after_epoch: int) -> Leader:
    """Wait until an engine leads in a later epoch, and another live one follows; return the first.

    A process that was killed is in the register for some seconds yet: its heartbeat tells.
    """

    async def look() -> Leader | None:
        leader = (await leaders.read())[SHARD]
        if leader is None or leader.epoch <= after_epoch:
            return None
        processes = await read_processes(link, keys.engine_names(SHARD))
        followers = [one for one in processes.values() if not owns(one, leader)]
        alive = [one for one in followers if one.counters.get("is_live") and is_running(one.pid)]
        return leader if alive else None

    found = await eventually_async(look, _PAIR_TIMEOUT_S)
    assert found is not None, "Invariant: eventually returns what is true"
    return found


def is_running(pid: int) -> bool:
    """Tell whether a process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def silences(killed_at_s: Sequence[float], arrivals_s: Sequence[float]) -> list[float]:
    """Return the longest gap between two reports after each kill, up to the next one.

    Args:
        killed_at_s, arrivals_s: in order, on one clock.
    """
    gaps = list(itertools.pairwise(arrivals_s))
    ends_s = [*killed_at_s[1:], float("inf")]
    return [
        max(after - before for before, after in gaps if start < after and before < end)
        for start, end in zip(killed_at_s, ends_s, strict=True)
    ]


async def measure_cost(rounds: int, seconds: float, parent: Path) -> tuple[float, float]:
    """Return the median orders/s with standby off and on, measured in turns."""
    rates: dict[bool, list[float]] = {False: [], True: []}
    for _ in range(rounds):
        for standby in rates:
            result = await bench_end_to_end.measure(seconds, parent, standby=standby)
            rates[standby].append(result["orders_per_s"])
    return statistics.median(rates[False]), statistics.median(rates[True])


async def measure(
    *, kills: int, rounds: int, seconds: float, parent: Path
) -> dict[str, int | float]:
    """Return all figures."""
    found = await measure_takeovers(kills, parent)
    off, on = await measure_cost(rounds, seconds, parent)
    return {
        "kills": kills,
        "p50_ms": statistics.median(found) * 1_000,
        "max_ms": max(found) * 1_000,
        "orders_per_s_off": off,
        "orders_per_s_on": on,
        "standby_percent": 100 * on / off,
    }


def describe(result: dict[str, Any]) -> list[str]:
    """Return the result as lines."""
    return [
        f"standby, Python {sys.version.split()[0]}:",
        f"  {result['p50_ms']:>10,.0f} ms from the last report before a kill to the first after"
        f" it, p50 of {result['kills']}",
        f"  {result['max_ms']:>10,.0f} ms the longest",
        f"  {result['orders_per_s_off']:>10,.0f} orders/s with standby off",
        f"  {result['orders_per_s_on']:>10,.0f} orders/s with standby on",
        f"  {result['standby_percent']:>10,.0f} % of that",
    ]


def main(arguments: list[str] | None = None) -> dict[str, int | float]:
    """Measure, check, print, and return the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=KILLS)
    parser.add_argument("--quick", action="store_true", help="fewer kills, shorter runs")
    args = parser.parse_args(arguments)
    parent = Path("var")
    parent.mkdir(exist_ok=True)
    result = uvloop.run(
        measure(
            kills=QUICK_KILLS if args.quick else args.kills,
            rounds=QUICK_ROUNDS if args.quick else ROUNDS,
            seconds=QUICK_SECONDS if args.quick else SECONDS,
            parent=parent,
        )
    )
    print("\n".join(describe(result)))
    return result


if __name__ == "__main__":
    main()
