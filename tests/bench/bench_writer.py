"""What the writer does while catching up: `python -m tests.bench.bench_writer`.

A real shard makes the outputs: limit orders of 1,000 accounts in four symbols, half of them trading
at once with one that rests: two reports and 3.5 rows per order. All of them stand in Redis before
the writer starts, on servers with their default durability; a run ends when PostgreSQL has the last
one. The writer runs in this process, Redis and PostgreSQL beside it. The rows are counted and the
money is added up afterwards.

Left out: engines, gateways and market data, which share the machine in operation.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
import statistics
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import psycopg
import redis
import uvloop

from engine.commands import Command, DefineSymbol, NewOrder
from engine.enums import OrdType, SelfTradePrevention, Side, TimeInForce
from engine.events import OrderFilled, Output, encode_output
from engine.ledger_entries import UserCreated, encode_ledger_entry
from engine.shard import Shard as EngineShard
from ops.data_dir import DataDirectory
from ops.embedded_postgres import EmbeddedPostgres
from ops.embedded_redis import EmbeddedRedis
from persistence.service import WriterService
from persistence.settings import PostgresSettings, WriterSettings
from persistence.writer import PostgresWriter
from router.redis_client import RedisLink
from router.shards import Shard
from tests.bench.machine import cpu_s
from tests.persistence_events import INCARNATION, TS_US, rules

SHARDS = {1: ("ALFA-USD", "BETA-USD"), 2: ("GAMMA-USD", "DELTA-USD")}
SCALES = {"USD": 6, "ALFA": 0, "BETA": 0, "GAMMA": 0, "DELTA": 0}
EVENTS_PER_SYMBOL = 30_000
ACCOUNTS = 1_000
RUNS = 3
_PUBLISH_CHUNK = 2_000


@dataclass(frozen=True)
class Run:
    """One catch-up.

    Attributes:
        events_per_s: events are outputs, one per order here.
        writer_us, postgres_us, redis_us: CPU per event.
    """

    events_per_s: float
    writer_us: float
    postgres_us: float
    redis_us: float
    batches: int


def commands_of(symbol: str, count: int, incarnation: str = INCARNATION) -> list[Command]:
    """Return a symbol's definition, buys that rest and sells that meet them."""
    choice = random.Random(symbol)
    of = rules(symbol)
    commands: list[Command] = [DefineSymbol(incarnation, of)]
    for seq in range(2, count + 1):
        sells = seq % 2 == 0 and seq > 1_000
        side, price_ticks = (
            (Side.SELL, 4_900) if sells else (Side.BUY, choice.randint(4_950, 5_000))
        )
        qty_lots = 10
        commands.append(
            NewOrder(
                *(choice.randint(1, ACCOUNTS), 1, seq, f"{symbol}-client-{seq:09d}", side),
                *(OrdType.LIMIT, TimeInForce.GTC, False, SelfTradePrevention.NONE),
                *(price_ticks, qty_lots, 1, of.hold_of(side, price_ticks, qty_lots)),
            )
        )
    return commands


def outputs_of(symbol: str, count: int, incarnation: str = INCARNATION) -> list[Output]:
    """Return what an engine says about these commands."""
    shard = EngineShard()
    return [
        shard.apply(symbol, seq, TS_US + 50 * seq, command).output
        for seq, command in enumerate(commands_of(symbol, count, incarnation), start=1)
    ]


def publish(url: str, outputs: dict[str, list[Output]]) -> None:
    """Empty Redis, and append users and outputs as the scripts do."""
    with redis.Redis.from_url(url) as client:
        client.flushall()
        pipeline = client.pipeline()
        for n in range(1, ACCOUNTS + 1):
            entry = encode_ledger_entry(UserCreated(n, f"user{n}", "hash"))
            pipeline.xadd("ledger", {b"e": entry, b"t": str(TS_US)}, id=f"{n}-0")
        pipeline.execute()
    for db, symbols in SHARDS.items():
        with redis.Redis.from_url(url, db=db) as client:
            for symbol in symbols:
                for start in range(0, len(outputs[symbol]), _PUBLISH_CHUNK):
                    pipeline = client.pipeline(transaction=False)
                    for output in outputs[symbol][start : start + _PUBLISH_CHUNK]:
                        fields = {b"e": encode_output(output)}
                        pipeline.xadd(f"events:{symbol}", fields, id=f"{output.seq}-0")
                    pipeline.execute()


async def catch_up(server: EmbeddedRedis, postgres: EmbeddedPostgres, url: str) -> Run:
    """Run a writer on an empty database until it has written everything."""
    writer = WriterService(
        link=RedisLink(server.url, db=0, name="writer", timeout_ms=10_000),
        shards=[Shard(db, server.url, db, symbols) for db, symbols in SHARDS.items()],
        incarnations={symbol: INCARNATION for symbols in SHARDS.values() for symbol in symbols},
        scales=SCALES,
        writer=PostgresWriter(url, PostgresSettings()),
        settings=WriterSettings(),
        now_ns=time.monotonic_ns,
    )
    events = EVENTS_PER_SYMBOL * sum(map(len, SHARDS.values()))
    before = (time.process_time(), cpu_s(postgres.pid), cpu_s(server.pid))
    start = time.perf_counter()
    task = asyncio.create_task(writer.run())
    while writer.stats()["entries"] < events + ACCOUNTS:
        assert not task.done(), task
        await asyncio.sleep(0.005)
    elapsed_s = time.perf_counter() - start
    after = (time.process_time(), cpu_s(postgres.pid), cpu_s(server.pid))
    batches = writer.stats()["batches"]
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    used_us = [(b - a) / events * 1e6 for a, b in zip(before, after, strict=True)]
    return Run(events / elapsed_s, *used_us, batches)


def check(url: str, outputs: dict[str, list[Output]]) -> None:
    """Assert that nothing is missing or double, and that the money adds up."""
    everything = [output for of_symbol in outputs.values() for output in of_symbol]
    fills = [e for output in everything for e in output.events if isinstance(e, OrderFilled)]
    orders = len(everything) - len(outputs)
    with psycopg.connect(url) as db:
        for query, expected in (
            ("SELECT count(*) FROM orders", orders),
            ("SELECT count(*) FROM trades", len(fills) // 2),
            ("SELECT count(*) FROM executions", orders + len(fills)),
            ("SELECT max(abs(total)) FROM (SELECT sum(available + held) AS total FROM balances "
             "GROUP BY asset) AS totals", 0),
            ("SELECT (available * 1000000)::bigint FROM balances WHERE user_id = 0",
             sum(fill.fee for fill in fills)),
        ):  # fmt: skip
            found = db.execute(query.encode()).fetchone()
            assert found == (expected,), f"{query}: expected {expected}, found {found}"


def main() -> dict[str, object]:
    """Measure, check, print the table, and return the figures."""
    outputs = {s: outputs_of(s, EVENTS_PER_SYMBOL) for symbols in SHARDS.values() for s in symbols}
    runs: list[Run] = []
    # The collector need not walk what a writer's process does not hold.
    gc.freeze()
    with (
        tempfile.TemporaryDirectory() as directory,
        DataDirectory.open(Path(directory) / "var") as data,
        EmbeddedRedis(data, port=0) as server,
        EmbeddedPostgres(data, port=0) as postgres,
    ):
        for number in range(RUNS):
            publish(server.url, outputs)
            with psycopg.connect(postgres.url, autocommit=True) as db:
                db.execute(f"CREATE DATABASE run_{number}".encode())
            url = f"{postgres.url.rpartition('/')[0]}/run_{number}"
            runs.append(uvloop.run(catch_up(server, postgres, url)))
            check(url, outputs)
    events = EVENTS_PER_SYMBOL * len(outputs)
    print(f"writer catching up, Python {sys.version.split()[0]}, {events:,} events per run:")
    print(f"  {'events/s':>10} {'writer':>8} {'postgres':>8} {'redis':>8}  µs of CPU per event")
    for run in runs:
        print(
            f"  {run.events_per_s:>10,.0f} {run.writer_us:>8.1f} {run.postgres_us:>8.1f} "
            f"{run.redis_us:>8.1f}  {run.batches} batches"
        )
    median = statistics.median(run.events_per_s for run in runs)
    print(f"  median: {median:,.0f} events/s")
    return {"rows": [asdict(run) for run in runs], "median": median}


if __name__ == "__main__":
    main()
