"""How soon an engine process is back after kill -9: `python -m tests.bench.bench_restart`.

A shard with 100,000 resting orders. Measured from the start of the process until it leads, on a
real Redis with the project's configuration:

- without replay: the newest snapshot has everything.
- with replay: 1,000,000 commands came since the newest snapshot, half of them crossing; all of them
  were committed before the kill.

The commands are appended as admission appends them, their reservations given beforehand. Checked:
everything is settled and published before a restart counts, and nothing is settled twice. Left out:
a stream that is trimmed (then the journal is read, see bench_recovery), and Redis' own start.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import uvloop

from engine.commands import NewOrder, encode_command
from engine.enums import OrdType, SelfTradePrevention, Side, TimeInForce
from engine.instrument import SymbolRules
from ops.data_dir import DataDirectory
from ops.embedded_redis import EmbeddedRedis
from ops.private_venue import PrivateSymbol, venue_text
from ops.settings import Settings, load_settings
from ops.wiring import accounts_link, define_venue
from router import keys
from router.dense_ids import last_entry, last_number
from router.lease import read_leader
from router.process_registry import ProcessState, read_processes
from router.redis_client import RedisLink
from tests.helpers import eventually_async

SYMBOL = "ALFA-USD"
RESTING, REPLAYED = 100_000, 1_000_000
QUICK_REPLAYED = 50_000
ACCOUNTS = 100
RUNS = 3
APPEND_BATCH = 1_000
TIMEOUT_S = 600.0

PARENT = Path("var")
"""Where its directory is made: on the disk whose speed counts."""

_ENGINE = "engine-1"
_ROOT = Path(__file__).resolve().parents[2]
_MIDDLE_TICKS = 5_000
_GIVEN = 10**17
"""Pending from the start, in smallest units: more than all commands reserve together."""


def new_orders(
    rules: SymbolRules, first_seq: int, terms: Iterator[tuple[int, Side, int]]
) -> list[bytes]:
    """Return encoded orders of one lot: account, side and price each."""
    return [
        encode_command(
            NewOrder(
                account,
                1,
                seq,
                f"order-{seq:012d}",
                side,
                OrdType.LIMIT,
                TimeInForce.GTC,
                False,
                SelfTradePrevention.NONE,
                price_ticks,
                1,
                1,
                rules.hold_of(side, price_ticks, 1),
            )
        )
        for seq, (account, side, price_ticks) in enumerate(terms, first_seq)
    ]


def resting() -> Iterator[tuple[int, Side, int]]:
    """Yield orders that do not cross, on 2,000 prices of each side."""
    for number in range(RESTING):
        offset = 1 + number % 2_000
        side = Side.SELL if number % 2 else Side.BUY
        yield 1 + number % ACCOUNTS, side, _MIDDLE_TICKS + (offset if number % 2 else -offset)


def crossing(count: int) -> Iterator[tuple[int, Side, int]]:
    """Yield orders of which every second one fills the one before it."""
    for number in range(count):
        side = Side.SELL if number % 2 else Side.BUY
        yield 1 + number % ACCOUNTS, side, _MIDDLE_TICKS


class Restarts:
    """A shard in a Redis of its own, and its engine."""

    def __init__(self, settings: Settings, config: Path, link: RedisLink) -> None:
        self._settings = settings
        self._config = config
        self._link = link
        self._rules = settings.rules_of(settings.symbols[0], version=1)
        self._process: asyncio.subprocess.Process | None = None

    async def append(self, terms: Iterator[tuple[int, Side, int]]) -> None:
        """Append orders to the stream."""
        async with self._link.sibling(1) as link:
            key = keys.orders(SYMBOL)
            seq = last_number(await link.call(*last_entry(key)))
            while batch := list(itertools.islice(terms, APPEND_BATCH)):
                commands = new_orders(self._rules, seq + 1, iter(batch))
                stamp = time.time_ns() // 1_000
                await link.pipeline(
                    [
                        ("XADD", key, f"{seq + place}-0", "c", command, "t", stamp)
                        for place, command in enumerate(commands, 1)
                    ]
                )
                seq += len(commands)

    async def start(self, *, saves: bool) -> float:
        """Start the engine, and return the seconds until it leads."""
        interval_s = "1" if saves else "86400"
        began_s = time.monotonic()
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "ops", "engine", "--shard", "1", "--config", str(self._config)),
            env={
                **os.environ,
                "PYTHONPATH": str(_ROOT),
                "SHARDEX_REDIS_URL": self._link.url,
                "SHARDEX_ENGINE__SNAPSHOT_INTERVAL_S": interval_s,
                "SHARDEX_ENGINE__SNAPSHOT_INPUTS_MIN": "1",
            },
            stderr=asyncio.subprocess.DEVNULL,
        )
        owner = f"{_ENGINE}:{self._process.pid}:"
        async with self._link.sibling(1) as link:

            async def leads() -> bool:
                leader = await read_leader(link)
                return leader is not None and leader.owner.startswith(owner)

            await eventually_async(leads, TIMEOUT_S)
        took_s = time.monotonic() - began_s
        await self.state(is_live=1, is_leading=1)
        return took_s

    async def state(self, **least: int) -> ProcessState:
        """Wait until the engine says so of itself."""
        process = self._process
        assert process is not None
        found: list[ProcessState] = []

        async def is_so() -> bool:
            assert process.returncode is None, "the engine ended"
            state = (await read_processes(self._link, [_ENGINE])).get(_ENGINE)
            found[:] = [state] if state is not None and state.pid == process.pid else []
            return bool(found) and all(state.counters[k] >= v for k, v in least.items())

        await eventually_async(is_so, TIMEOUT_S)
        return found[0]

    async def committed(self) -> int:
        """Wait until all that was appended is settled and published; return the last seq."""
        async with self._link.sibling(1) as link:
            streams = (keys.orders(SYMBOL), keys.events(SYMBOL))
            found: list[int] = []

            async def is_so() -> bool:
                ends = await link.pipeline([last_entry(stream) for stream in streams])
                settled = int(await self._link.call("HGET", keys.SETTLED, SYMBOL) or 0)
                found[:] = [settled, *map(last_number, ends)]
                return len(set(found)) == 1

            await eventually_async(is_so, TIMEOUT_S)
        return found[0]

    async def saved(self, seq: int) -> None:
        """Wait until a snapshot has everything."""

        async def is_so() -> bool:
            return (await self.state()).counters["snapshot_seq"].get(SYMBOL) == seq

        await eventually_async(is_so, TIMEOUT_S)

    async def kill(self) -> None:
        """Kill the engine, and wait until its lease is free."""
        assert self._process is not None
        self._process.kill()
        await self._process.wait()
        async with self._link.sibling(1) as link:
            await link.call("HSET", keys.LEASE, "until_ms", 0)


async def measure(restarts: Restarts, *, replayed: int, runs: int) -> dict[str, float]:
    """Return the seconds of both restarts: the median of some runs."""
    without, with_replay = [], []
    await restarts.start(saves=True)
    await restarts.append(resting())
    seq = await restarts.committed()
    assert seq == RESTING + 1
    await restarts.saved(seq)
    await restarts.kill()
    for _ in range(runs):
        without.append(await restarts.start(saves=False))
        await restarts.kill()
    await restarts.start(saves=False)
    await restarts.append(crossing(replayed))
    assert await restarts.committed() == seq + replayed
    await restarts.kill()
    for _ in range(runs):
        with_replay.append(await restarts.start(saves=False))
        assert await restarts.committed() == seq + replayed, "nothing is settled twice"
        await restarts.kill()
    return {
        "without_replay_s": sorted(without)[runs // 2],
        "with_replay_s": sorted(with_replay)[runs // 2],
        "replayed": replayed,
    }


@asynccontextmanager
async def running(parent: Path) -> AsyncIterator[Restarts]:
    """Run a Redis with one symbol defined, whose accounts have all money they may need."""
    with (
        tempfile.TemporaryDirectory(dir=parent) as name,
        DataDirectory.open(Path(name) / "server") as data,
        EmbeddedRedis(data, port=0) as server,
    ):
        directory = Path(name)
        config = directory / "exchange.toml"
        symbols = [PrivateSymbol(SYMBOL)]
        config.write_text(venue_text(symbols, shards=1, gateways=1, directory=directory))
        settings = load_settings(config, {})
        async with accounts_link(settings, server.url, name="bench") as link:
            await define_venue(settings, link)
            symbol = settings.symbols[0]
            for account in range(1, ACCOUNTS + 1):
                pending = [keys.pending(asset) for asset in (symbol.base, symbol.quote)]
                given = [part for field in pending for part in (field, _GIVEN)]
                await link.call("HSET", keys.balances(account), *given)
            yield Restarts(settings, config, link)


async def bench(*, replayed: int, runs: int) -> dict[str, float]:
    """Run the benchmark."""
    async with running(PARENT) as restarts:
        return await measure(restarts, replayed=replayed, runs=runs)


def main() -> dict[str, float]:
    """Measure, print, and return the figures."""
    parser = argparse.ArgumentParser(description="How soon an engine is back after kill -9.")
    parser.add_argument("--quick", action="store_true", help="replay less, once")
    quick = parser.parse_args().quick
    PARENT.mkdir(exist_ok=True)
    replayed, runs = (QUICK_REPLAYED, 1) if quick else (REPLAYED, RUNS)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        figures = runner.run(bench(replayed=replayed, runs=runs))
    print(f"restart without replay: {figures['without_replay_s']:.2f} s", file=sys.stderr)
    print(f"restart with {replayed:,} to replay: {figures['with_replay_s']:.2f} s", file=sys.stderr)
    return figures


if __name__ == "__main__":
    main()
