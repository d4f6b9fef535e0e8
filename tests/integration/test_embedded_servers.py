"""The private servers: start, stop, crash, start again, and end with their parent."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import redis
import redis.asyncio

from ops.append_only import newest_file
from ops.data_dir import DataDirectory
from ops.embedded_postgres import EmbeddedPostgres
from ops.embedded_redis import EmbeddedRedis, RedisBinary, find_redis_server
from ops.errors import DataDirectoryLocked, DataDirectoryMismatch, EmbeddedServerFailed
from tests.exchange_process import FIRST_PORT
from tests.helpers import DEADLINE_S
from tests.persistence_servers import kill

MULTI = b"*1\r\n$5\r\nMULTI\r\n"
SET_HALF = b"*3\r\n$3\r\nSET\r\n$4\r\nhalf\r\n$1\r\n1\r\n"


@pytest.fixture
def own_directory(tmp_path: Path) -> Iterator[DataDirectory]:
    with DataDirectory.open(tmp_path / "var") as directory:
        yield directory


@pytest.fixture
def own_redis(own_directory: DataDirectory, redis_binary: RedisBinary) -> Iterator[EmbeddedRedis]:
    # It is started again at its port: one that nobody's connection gets meanwhile.
    server = EmbeddedRedis(own_directory, binary=redis_binary, port=FIRST_PORT + 8)
    yield server
    server.stop()


async def test_fixtures_give_an_empty_redis_and_an_empty_database(
    redis_client: redis.asyncio.Redis, postgres_url: str
) -> None:
    assert await redis_client.dbsize() == 0
    async with await psycopg.AsyncConnection.connect(postgres_url) as db:
        cursor = await db.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'")
        assert await cursor.fetchone() == (0,)


def test_redis_runs_with_the_settings_of_redis_conf(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        settings = client.config_get()
    expected = {
        "databases": "64",
        "appendonly": "yes",
        "appendfsync": "always",
        "no-appendfsync-on-rewrite": "no",
        "maxmemory-policy": "noeviction",
        "protected-mode": "yes",
        "bind": "127.0.0.1",
    }
    assert {name: settings[name] for name in expected} == expected


def test_redis_killed_keeps_every_answered_write_and_its_port(own_redis: EmbeddedRedis) -> None:
    own_redis.start()
    port = own_redis.port
    with redis.Redis.from_url(own_redis.url, db=5) as client:
        client.set("written", "once")
    kill(own_redis)
    assert own_redis.pid is None
    own_redis.spawn()
    own_redis.wait_until_accepting()
    assert own_redis.port == port
    with redis.Redis.from_url(own_redis.url, db=5) as client:
        assert client.get("written") == b"once"


def test_redis_starts_from_an_append_only_file_with_a_torn_tail(
    own_directory: DataDirectory, own_redis: EmbeddedRedis
) -> None:
    tear(own_directory, own_redis, b"*3\r\n$3\r\nSET\r\n$4\r\nto")
    own_redis.start()
    with redis.Redis.from_url(own_redis.url) as client:
        assert client.keys() == [b"whole"]


def test_half_a_transaction_never_counts_and_swallows_nothing(
    own_directory: DataDirectory, own_redis: EmbeddedRedis
) -> None:
    """Redis itself would leave its finished commands there, for the next start to run."""
    tear(own_directory, own_redis, MULTI + SET_HALF + b"*3\r\n$3\r\nSE")
    for written in ("first", "second"):
        own_redis.start_again()
        with redis.Redis.from_url(own_redis.url) as client:
            assert client.get("half") is None
            client.set(written, "1")
        kill(own_redis)
    own_redis.start_again()
    with redis.Redis.from_url(own_redis.url) as client:
        assert sorted(client.keys()) == [b"first", b"second", b"whole"]


def test_an_append_only_file_that_is_damaged_before_its_end_is_left_alone(
    own_directory: DataDirectory, own_redis: EmbeddedRedis
) -> None:
    tear(own_directory, own_redis, MULTI + SET_HALF + MULTI + b"*3\r\n$3\r\nSE")
    path = newest_file(own_directory.path / "redis")
    before = path.read_bytes()
    with pytest.raises(EmbeddedServerFailed, match="is damaged, and not at its end alone"):
        own_redis.start()
    assert path.read_bytes() == before
    with pytest.raises(EmbeddedServerFailed, match="there is no append-only file"):
        newest_file(own_directory.path)


def tear(directory: DataDirectory, server: EmbeddedRedis, data: bytes) -> None:
    """Start a Redis, have it write once, kill it, and leave this at the end of its file."""
    server.start()
    with redis.Redis.from_url(server.url) as client:
        client.set("whole", "1")
    kill(server)
    with newest_file(directory.path / "redis").open("ab") as file:
        file.write(data)


def test_redis_takes_the_next_port_when_the_preferred_one_is_taken(
    own_directory: DataDirectory, redis_binary: RedisBinary
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        preferred = taken.getsockname()[1]
        server = EmbeddedRedis(own_directory, binary=redis_binary, port=preferred)
        server.start()
        try:
            assert server.port > preferred
        finally:
            server.stop()


def test_redis_that_refuses_its_settings_is_reported_with_its_own_words(
    own_directory: DataDirectory, redis_binary: RedisBinary
) -> None:
    server = EmbeddedRedis(
        own_directory, binary=redis_binary, port=0, overrides={"appendfsync": "sometimes"}
    )
    with pytest.raises(EmbeddedServerFailed, match="appendfsync"):
        server.start()
    assert server.pid is None


def test_data_of_another_redis_version_is_refused_by_name(
    own_directory: DataDirectory, own_redis: EmbeddedRedis
) -> None:
    own_directory.record_version("redis", "99.0")
    with pytest.raises(DataDirectoryMismatch, match=r"redis version 99\.0"):
        own_redis.start()


def test_a_missing_redis_server_says_how_to_get_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(EmbeddedServerFailed, match=r"redis\.binary = path.*redis_url"):
        find_redis_server("path")


def test_postgres_killed_keeps_committed_rows_password_and_port(
    own_directory: DataDirectory,
) -> None:
    server = EmbeddedPostgres(own_directory, port=FIRST_PORT + 12)
    try:
        server.start()
        url = server.url
        with psycopg.connect(url) as db:
            db.execute("CREATE TABLE kept (id int)")
            db.execute("INSERT INTO kept VALUES (1)")
        # Its session outlives the server a little: `kill` waits for that.
        with contextlib.closing(psycopg.connect(url)) as idle:
            idle.execute("SELECT 1")
            kill(server)
            server.start()
        assert server.url == url
        with psycopg.connect(url) as db:
            assert db.execute("SELECT id FROM kept").fetchall() == [(1,)]
            assert db.execute("SHOW synchronous_commit").fetchone() == ("on",)
    finally:
        server.stop()
    assert server.poll() == 0


def test_postgres_refuses_a_wrong_password(embedded_postgres: EmbeddedPostgres) -> None:
    host_and_more = embedded_postgres.url.partition("@")[2]
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(f"postgresql://shardex:wrong@{host_and_more}")


def test_servers_are_not_run_by_root(
    embedded_redis: EmbeddedRedis, embedded_postgres: EmbeddedPostgres
) -> None:
    for server in (embedded_redis, embedded_postgres):
        assert Path(f"/proc/{server.pid}").stat().st_uid != 0


PARENT = """
import sys, time
from pathlib import Path
from ops.data_dir import DataDirectory
from ops.embedded_postgres import EmbeddedPostgres
from ops.embedded_redis import EmbeddedRedis

data = DataDirectory.open(Path(sys.argv[1]))
servers = [EmbeddedRedis(data, binary=sys.argv[2], port=0), EmbeddedPostgres(data, port=0)]
for server in servers:
    server.start()
print(*(server.pid for server in servers), flush=True)
sys.stdin.read()
"""


def test_servers_end_with_a_killed_parent_and_hold_the_lock_until_then(
    tmp_path: Path, redis_binary: RedisBinary
) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path / "var"), redis_binary],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
        text=True,
    )
    with parent:
        assert parent.stdout is not None
        pids = [int(text) for text in parent.stdout.readline().split()]
        assert len(pids) == 2
        with pytest.raises(DataDirectoryLocked, match=rf"process {parent.pid}$"):
            DataDirectory.open(tmp_path / "var")
        # Redis cannot act on the end of its parent while it is stopped: the lock is still held.
        os.kill(pids[0], signal.SIGSTOP)
        parent.kill()
        parent.wait()
        with pytest.raises(DataDirectoryLocked, match="still shutting down"):
            DataDirectory.open(tmp_path / "var", wait_s=0.1)
        os.kill(pids[0], signal.SIGCONT)
        DataDirectory.open(tmp_path / "var", wait_s=DEADLINE_S).close()
        assert not any(Path(f"/proc/{pid}/exe").exists() for pid in pids)
