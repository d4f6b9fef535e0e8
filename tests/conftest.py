"""Private servers for the tests: one Redis and one PostgreSQL per run, started on first use."""

from __future__ import annotations

import itertools
import os
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path
from typing import cast, get_args

import hypothesis
import psycopg
import pytest
import redis
import redis.asyncio
from psycopg import sql

from ops.data_dir import DataDirectory
from ops.embedded_postgres import EmbeddedPostgres
from ops.embedded_redis import EmbeddedRedis, RedisBinary
from tests.helpers import DEADLINE_S

# No deadline per example, nor for drawing them: a test does not depend on how busy the machine is.
hypothesis.settings.register_profile(
    "shardex",
    deadline=None,
    max_examples=100,
    print_blob=True,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("shardex")

# redis-py by itself gives up, or asks again, after 5 s without an answer: a machine may stand still
# for as long.
for _client in (redis.Redis, redis.asyncio.Redis):
    _client.from_url = partial(  # type: ignore[method-assign]
        _client.from_url, socket_timeout=DEADLINE_S, socket_connect_timeout=DEADLINE_S
    )

_database_numbers = itertools.count(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest, so that of several workers none has much left at the end."""
    items.sort(key=lambda item: item.path.parent.name not in ("integration", "simulation"))


@pytest.fixture(scope="session")
def redis_binary() -> RedisBinary:
    """Which redis-server to test with; continuous integration sets `wheel`."""
    binary = os.environ.get("SHARDEX_REDIS__BINARY", "auto")
    assert binary in get_args(RedisBinary), f"SHARDEX_REDIS__BINARY is {binary!r}"
    return cast(RedisBinary, binary)


@pytest.fixture(scope="session")
def data_directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DataDirectory]:
    """The locked data directory of this run's servers."""
    with DataDirectory.open(Path(tmp_path_factory.mktemp("servers"))) as directory:
        yield directory


@pytest.fixture(scope="session")
def embedded_redis(
    data_directory: DataDirectory, redis_binary: RedisBinary
) -> Iterator[EmbeddedRedis]:
    """A redis-server with the project's redis.conf, `appendfsync always` included."""
    server = EmbeddedRedis(data_directory, binary=redis_binary, port=0)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def embedded_postgres(data_directory: DataDirectory) -> Iterator[EmbeddedPostgres]:
    """A PostgreSQL that does not wait for the disk; tests of durability start their own."""
    server = EmbeddedPostgres(data_directory, port=0, overrides={"fsync": "off"})
    server.start()
    yield server
    server.stop()


@pytest.fixture
def redis_url(embedded_redis: EmbeddedRedis) -> str:
    """The URL, without a database index, of a Redis that is empty and has no scripts."""
    with redis.Redis.from_url(embedded_redis.url) as client:
        client.flushall()
        client.script_flush()
    return embedded_redis.url


@pytest.fixture
async def redis_client(redis_url: str) -> AsyncIterator[redis.asyncio.Redis]:
    """An asyncio client of DB 0 of that Redis; replies are bytes."""
    async with redis.asyncio.Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
def postgres_url(embedded_postgres: EmbeddedPostgres) -> Iterator[str]:
    """The URL of a new, empty database."""
    name = f"test_{next(_database_numbers)}"
    with psycopg.connect(embedded_postgres.url, autocommit=True) as db:
        db.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    yield embedded_postgres.url.rpartition("/")[0] + f"/{name}"
    with psycopg.connect(embedded_postgres.url, autocommit=True) as db:
        db.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
