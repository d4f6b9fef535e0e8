"""The writer while PostgreSQL or Redis go away, and what it trims when they do not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import redis.asyncio

from engine.events import OrderRefilled, PhaseChanged, SymbolDefined
from ops.data_dir import DataDirectory
from ops.embedded_postgres import EmbeddedPostgres
from ops.embedded_redis import EmbeddedRedis, RedisBinary
from router.errors import StreamGap
from tests.exchange_process import FIRST_PORT
from tests.helpers import eventually_async
from tests.persistence_events import (
    SYMBOL,
    random_outputs,
    scenario,
)
from tests.persistence_servers import (
    LEDGER,
    dump,
    kill,
    publish,
    query,
    running,
    service,
    until_written,
)


@pytest.fixture
async def own_postgres(tmp_path: Path) -> AsyncIterator[EmbeddedPostgres]:
    with DataDirectory.open(tmp_path / "postgres") as directory:
        server = EmbeddedPostgres(directory, port=FIRST_PORT + 12)
        server.start()
        yield server
        server.stop()


@pytest.fixture
async def own_redis(tmp_path: Path, redis_binary: RedisBinary) -> AsyncIterator[EmbeddedRedis]:
    with DataDirectory.open(tmp_path / "redis") as directory:
        server = EmbeddedRedis(directory, binary=redis_binary, port=FIRST_PORT + 8)
        server.start()
        yield server
        server.stop()


async def test_postgres_that_dies_in_the_middle_is_waited_for(
    redis_url: str, postgres_url: str, own_postgres: EmbeddedPostgres
) -> None:
    outputs = random_outputs(4, 3_000)
    await publish(redis_url, outputs[:1_000], ledger=LEDGER)
    writer = service(redis_url, own_postgres.url, batch_rows_max=50)
    async with running(writer):
        await eventually_async(lambda: writer.stats()["entries"] > 100)
        kill(own_postgres)
        # Published first: it may have written all that was there.
        await publish(redis_url, outputs[1_000:])
        await eventually_async(lambda: not writer.stats()["postgres_available"])
        # Two batches and a read are in memory; the rest waits in Redis.
        await eventually_async(lambda: writer.stats()["last_error"])
        assert writer.stats()["read"][SYMBOL] < 2_000
        own_postgres.spawn()
        await asyncio.to_thread(own_postgres.wait_until_accepting)
        await until_written(writer, ALFA=3_000)
        assert writer.stats()["postgres_available"]
    async with running(service(redis_url, postgres_url)) as undisturbed:
        await until_written(undisturbed, ALFA=3_000)
    assert dump(own_postgres.url) == dump(postgres_url)


async def test_redis_that_dies_in_the_middle_is_waited_for(
    own_redis: EmbeddedRedis, postgres_url: str
) -> None:
    outputs = random_outputs(5, 1_000)
    await publish(own_redis.url, outputs[:500], ledger=LEDGER)
    writer = service(own_redis.url, postgres_url, batch_rows_max=50)
    async with running(writer):
        await eventually_async(lambda: writer.stats()["entries"] > 100)
        kill(own_redis)
        await eventually_async(lambda: not writer.stats()["redis_available"])
        own_redis.spawn()
        await asyncio.to_thread(own_redis.wait_until_accepting)
        await publish(own_redis.url, outputs[500:])
        await until_written(writer, ALFA=1_000)
        assert writer.stats()["redis_available"]
    reports = sum(
        not isinstance(event, SymbolDefined | PhaseChanged | OrderRefilled)
        for output in outputs
        for event in output.events
    )
    assert query(postgres_url, "SELECT count(*) FROM executions") == [(reports,)]


async def test_events_are_trimmed_below_writer_and_market_data(
    redis_url: str, postgres_url: str
) -> None:
    await publish(redis_url, random_outputs(6, 2_000), ledger=LEDGER)
    async with (
        redis.asyncio.Redis.from_url(redis_url, db=0) as accounts,
        redis.asyncio.Redis.from_url(redis_url, db=1) as shard,
        running(service(redis_url, postgres_url)) as writer,
    ):
        await until_written(writer, ALFA=2_000, ledger=6)

        async def position_is_published() -> bool:
            position = await accounts.hgetall("position:writer")
            return bool(position == {SYMBOL.encode(): b"2000", b"ledger": b"6"})

        await eventually_async(position_is_published)
        assert writer.stats()["trimmed"] == 0
        await accounts.hset("position:marketdata", SYMBOL, "1000")
        await eventually_async(lambda: writer.stats()["trimmed"])
        first = (await shard.xrange(f"events:{SYMBOL}", count=1))[0][0]
        assert 900 < int(first.split(b"-")[0]) <= 1_000
        await accounts.hset("position:marketdata", SYMBOL, "2000")
        await eventually_async(lambda: writer.stats()["trimmed"] > 1_900)
        assert (await shard.xrevrange(f"events:{SYMBOL}", count=1))[0][0] == b"2000-0"
        await eventually_async(lambda: writer.stats()["lag"] == {SYMBOL: 0, "ledger": 0})


async def test_stream_trimmed_before_it_was_written_stops_the_writer(
    redis_url: str, postgres_url: str
) -> None:
    await publish(redis_url, scenario()[3:], ledger=LEDGER)
    with pytest.raises(ExceptionGroup) as caught:
        await service(redis_url, postgres_url).run()
    assert caught.group_contains(StreamGap, match=f"events:{SYMBOL}: expected 1, received 4")


async def test_stream_that_ends_before_the_rows_is_waited_for(
    redis_url: str, postgres_url: str
) -> None:
    await publish(redis_url, scenario()[:10], ledger=LEDGER)
    async with running(service(redis_url, postgres_url)) as writer:
        await until_written(writer, ALFA=10, ledger=6)
    async with redis.asyncio.Redis.from_url(redis_url) as client:
        await client.flushall()
    await publish(redis_url, scenario()[:5], ledger=LEDGER[:3])
    async with running(service(redis_url, postgres_url)) as writer:
        await eventually_async(lambda: writer.stats()["positions"])
        await publish(redis_url, scenario()[5:], ledger=LEDGER[3:])
        await until_written(writer, ALFA=11, ledger=6)
        assert writer.stats()["entries"] == 1
