"""A writer on the servers of the tests, what it reads, and what it wrote."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import psycopg
import redis.asyncio

from engine.events import Output, encode_output
from engine.ledger_entries import Deposited, LedgerEntry, UserCreated, encode_ledger_entry
from ops.embedded import EmbeddedServer
from persistence.service import WriterService
from persistence.settings import PostgresSettings, WriterSettings
from persistence.writer import PostgresWriter
from router.redis_client import RedisLink
from router.shards import Shard
from tests.helpers import DEADLINE_MS, eventually, eventually_async
from tests.persistence_events import (
    INCARNATION,
    SCALES,
    SYMBOL,
    TS_US,
)

CONNECT_TIMEOUT_S = DEADLINE_MS // 1_000
PATIENT = PostgresSettings(connect_timeout_s=CONNECT_TIMEOUT_S)
"""Of a writer for which a slow PostgreSQL is not away."""

SECOND = "BETA-USD"
ALL_SCALES = {**SCALES, "BETA": 0}
TABLES = (
    "symbols",
    "users",
    "user_settings",
    "transfers",
    "orders",
    "trades",
    "executions",
    "balances",
    "ledger",
)
USERS: list[LedgerEntry] = [UserCreated(n, f"user{n}", f"hash{n}") for n in range(1, 5)]
LEDGER: list[LedgerEntry] = [
    *USERS,
    Deposited(1, "USD", 1_000_000_000, "d1"),
    Deposited(2, "ALFA", 100, "d2"),
]


def service(
    redis_url: str, postgres_url: str, *, symbols: Sequence[str] = (SYMBOL,), **changes: Any
) -> WriterService:
    """A writer of one shard in DB 1, quick to write and to publish."""
    values = {"batch_age_ms_max": 10, "publish_interval_ms": 10, "retry_delay_ms_max": 50}
    return WriterService(
        link=RedisLink(redis_url, db=0, name="writer", timeout_ms=DEADLINE_MS),
        shards=[Shard(1, redis_url, 1, tuple(symbols))],
        incarnations=dict.fromkeys(symbols, INCARNATION),
        scales=ALL_SCALES,
        writer=PostgresWriter(postgres_url, PATIENT),
        settings=WriterSettings(**(values | changes)),
        now_ns=time.monotonic_ns,
    )


@contextlib.asynccontextmanager
async def running(writer: WriterService) -> AsyncIterator[WriterService]:
    task = asyncio.create_task(writer.run())
    try:
        yield writer
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def until_written(writer: WriterService, **positions: int) -> None:
    """Wait until the writer is at the positions: ALFA and BETA are symbols, the rest streams."""
    wanted = {{"ALFA": SYMBOL, "BETA": SECOND}.get(name, name): n for name, n in positions.items()}

    def is_there() -> bool:
        written = writer.stats()["positions"]
        return all(written.get(stream) == n for stream, n in wanted.items())

    await eventually_async(is_there)


async def publish(
    url: str, outputs: Sequence[Output], *, ledger: Sequence[LedgerEntry] = ()
) -> None:
    """Append ledger entries and outputs as the scripts do."""
    async with redis.asyncio.Redis.from_url(url, db=0) as client:
        n = await client.xlen("ledger")
        for entry in ledger:
            n += 1
            fields = {b"e": encode_ledger_entry(entry), b"t": str(TS_US)}
            await client.xadd("ledger", fields, id=f"{n}-0")
    async with redis.asyncio.Redis.from_url(url, db=1) as client, client.pipeline() as pipeline:
        for output in outputs:
            key = f"events:{output.symbol}"
            pipeline.xadd(key, {b"e": encode_output(output)}, id=f"{output.seq}-0")
        await pipeline.execute()


def query(url: str, text: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url) as db:
        return db.execute(text.encode()).fetchall()


def dump(url: str) -> dict[str, list[str]]:
    """Every row of every table, as text that can be compared."""
    return {
        table: sorted(str(row) for row in query(url, f"SELECT * FROM {table}")) for table in TABLES
    }


def kill(server: EmbeddedServer) -> None:
    """Kill a server, and wait until none of its processes runs.

    Those of PostgreSQL outlive it a little, and as long its next start is refused.
    """
    pid = server.pid
    assert pid is not None
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: server.poll() is not None)
    eventually(lambda: not any(map(_runs, children)))


def _runs(pid: str) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    # The name, in parentheses, may have some itself.
    return stat.rpartition(")")[2].split()[0] != "Z"
