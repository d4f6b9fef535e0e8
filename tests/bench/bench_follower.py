"""What an order costs a standby that follows: `python -m tests.bench.bench_follower`.

The commands of two symbols, half of the orders crossing, and what a leader has published for them
stand in Redis. An engine's loop follows as a standby does: reads the commands, journals them (with
fdatasync), applies them, reads what was published, and compares. Measured is CPU time, of this
process and of Redis, from the first command until the last output has been compared.

Left out: the fixed cost of a process (lease, register, snapshots), and being woken for few orders.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import statistics
import sys
import tempfile
import time
from pathlib import Path

import redis
import uvloop

from engine.commands import encode_command
from engine.events import encode_output
from engine.journal_file import JournalFile
from engine.journal_writer import FsyncPolicy, JournalWriter
from engine.runner import ShardRunner
from engine.shard import Shard
from ops.data_dir import DataDirectory
from ops.embedded_redis import EmbeddedRedis
from router import keys
from router.redis_client import RedisLink
from router.standby import PublishedReader, RoleCommitter
from router.streams import CommandSource
from tests.bench.bench_writer import commands_of
from tests.bench.machine import cpu_s
from tests.helpers import eventually_async
from tests.persistence_events import TS_US

SYMBOLS = ("ALFA-USD", "BETA-USD")
ORDERS_PER_SYMBOL = 30_000
RUNS = 5
_DB = 1
_CHUNK = 2_000
_COLLECT_AFTER = 50_000
_TIMEOUT_S = 120.0


class Follows:
    """The leadership of an engine that never comes to lead."""

    is_leading = False

    async def wait_until_leading(self) -> None:
        """Wait for ever."""
        await asyncio.Event().wait()


class NoCommitter:
    """What a follower does not use."""

    async def commit(self, batch: object) -> None:
        """Fail."""
        raise AssertionError("Invariant: a follower commits nothing")


def fill(url: str) -> None:
    """Append the commands, and what a leader publishes for them."""
    shard = Shard()
    with redis.Redis.from_url(url, db=_DB) as client:
        for symbol in SYMBOLS:
            commands = list(enumerate(commands_of(symbol, ORDERS_PER_SYMBOL), start=1))
            for start in range(0, len(commands), _CHUNK):
                pipeline = client.pipeline(transaction=False)
                for seq, command in commands[start : start + _CHUNK]:
                    ts_us = TS_US + 50 * seq
                    output = encode_output(shard.apply(symbol, seq, ts_us, command).output)
                    entry = {b"c": encode_command(command), b"t": str(ts_us)}
                    pipeline.xadd(keys.orders(symbol), entry, id=f"{seq}-0")
                    pipeline.xadd(keys.events(symbol), {b"e": output}, id=f"{seq}-0")
                pipeline.execute()


async def follow(server: EmbeddedRedis, directory: Path) -> tuple[float, float]:
    """Follow from the first command to the last; return own and Redis' CPU per order, in µs."""
    file = JournalFile(
        directory,
        kind="commands",
        owner="shard-1",
        incarnations=dict.fromkeys(SYMBOLS, "bench"),
        keeps_positions=True,
        now_ns=time.time_ns,
    )
    journal = JournalWriter(file, policy=FsyncPolicy.OVERLAPPED)
    start = dict.fromkeys(SYMBOLS, 0)
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(journal.close)
        links = [
            await stack.enter_async_context(
                RedisLink(server.url, db=_DB, name="bench", timeout_ms=10_000)
            )
            for _ in range(2)
        ]
        role = RoleCommitter(NoCommitter(), Follows(), PublishedReader(links[1]))
        runner = ShardRunner(
            shard=Shard(),
            source=CommandSource(links[0], start, block_ms=1_000),
            journal=journal,
            journalled={},
            skips={},
            committer=role,
            committed=start,
            keep_lease=_for_ever,
            now_ns=time.time_ns,
        )
        orders = ORDERS_PER_SYMBOL * len(SYMBOLS)
        before = (time.process_time(), cpu_s(server.pid))
        running = asyncio.create_task(runner.run())
        await eventually_async(lambda: role.compared == orders or running.done(), _TIMEOUT_S)
        after = (time.process_time(), cpu_s(server.pid))
        runner.stop()
        await running
    assert role.compared == orders, "every output is compared"
    own_us, redis_us = ((b - a) / orders * 1e6 for a, b in zip(before, after, strict=True))
    return own_us, redis_us


async def _for_ever() -> None:
    await asyncio.Event().wait()


def main() -> dict[str, float]:
    """Measure, check, print, and return the figures."""
    runs: list[tuple[float, float]] = []
    with (
        tempfile.TemporaryDirectory() as directory,
        DataDirectory.open(Path(directory) / "var") as data,
        EmbeddedRedis(data, port=0) as server,
    ):
        fill(server.url)
        gc.freeze()
        gc.set_threshold(_COLLECT_AFTER)
        for number in range(RUNS):
            runs.append(uvloop.run(follow(server, Path(directory) / f"journal-{number}")))
    orders = ORDERS_PER_SYMBOL * len(SYMBOLS)
    print(
        f"a standby that follows, Python {sys.version.split()[0]}, {orders:,} orders per run, "
        "µs of CPU per order:"
    )
    for own_us, redis_us in runs:
        print(f"  {own_us:>6.1f} standby  {redis_us:>6.1f} redis")
    own, of_redis = (statistics.median(values) for values in zip(*runs, strict=True))
    print(f"  median: {own:.1f} and {of_redis:.1f}")
    return {"standby_us": own, "redis_us": of_redis}


if __name__ == "__main__":
    main()
