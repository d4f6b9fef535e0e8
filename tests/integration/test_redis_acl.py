"""Each process's Redis user on a real server: what it is refused, and that its scripts run."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import redis
import redis.asyncio
from redis.exceptions import AuthenticationError, NoPermissionError, ResponseError

from ops.__main__ import main
from ops.data_dir import DataDirectory
from ops.embedded_redis import EmbeddedRedis, RedisBinary
from ops.redis_acl import (
    OPERATOR,
    SUBSCRIBER,
    USERS,
    acl_lines,
    commands_of,
    ensure_passwords,
    passwords_path,
    read_passwords,
    url_of,
)
from router.scripts import script_text

SCRIPTS = Path(__file__).resolve().parents[2] / "router" / "scripts"
BY_OPERATORS = {
    *("ledger_append", "ledger_transfer", "repair_command", "repair_ledger"),
    *("skip", "user_add", "user_disable", "user_field", "user_password", "user_set", "venue_cut"),
}
PROCESSES = [user.name for user in USERS if user.name not in (OPERATOR, SUBSCRIBER)]


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, redis_binary: RedisBinary
) -> Iterator[EmbeddedRedis]:
    directory = tmp_path_factory.mktemp("acl")
    with DataDirectory.open(directory) as data:
        passwords = ensure_passwords(directory)
        server = EmbeddedRedis(data, binary=redis_binary, port=0, passwords=passwords)
        server.start()
        yield server
        server.stop()


@pytest.fixture
async def clients(server: EmbeddedRedis) -> AsyncIterator[dict[str, redis.asyncio.Redis]]:
    """A client for each user."""
    passwords = server._passwords
    assert passwords is not None
    made = {
        user.name: redis.asyncio.Redis.from_url(url_of(server.url, user.name, passwords))
        for user in USERS
    }
    yield made
    for client in made.values():
        await client.aclose()


Clients = dict[str, redis.asyncio.Redis]


async def is_refused(client: redis.asyncio.Redis, *command: str) -> bool:
    try:
        await client.execute_command(*command)
    except NoPermissionError:
        return True
    except ResponseError:
        # Another complaint: it might, but said it wrong.
        return False
    return False


async def test_nobody_gets_in_without_a_password(server: EmbeddedRedis) -> None:
    for url in (f"redis://127.0.0.1:{server.port}", f"redis://x:y@127.0.0.1:{server.port}"):
        async with redis.asyncio.Redis.from_url(url) as client:
            with pytest.raises(AuthenticationError):
                await client.ping()


@pytest.mark.parametrize("user", [*PROCESSES, SUBSCRIBER])
@pytest.mark.parametrize(
    "command",
    [
        *("FLUSHALL", "FLUSHDB", "SHUTDOWN", "DEBUG SLEEP 0", "CONFIG SET maxmemory 1"),
        *("CONFIG GET dir", "ACL LIST", "ACL SETUSER x on", "KEYS *", "SAVE", "MONITOR"),
        *("REPLICAOF NO ONE", "MODULE LIST", "SCRIPT FLUSH", "SWAPDB 0 1", "CLIENT LIST"),
        *("GET anything", "HGETALL ledger:refs", "SET usernames x", "INCR user_ids"),
        *("EVAL return(1) 0", "RENAME settled x", "SUBSCRIBE others", "PUBLISH others x"),
    ],
)
async def test_what_no_process_may_do(clients: Clients, user: str, command: str) -> None:
    assert await is_refused(clients[user], *command.split())


@pytest.mark.parametrize(
    ("user", "command"),
    [
        ("gateway", "HSET totals USD 1"),
        ("gateway", "XADD ledger * e x"),
        ("gateway", "XRANGE ledger - +"),
        ("gateway", "HGET position:writer A"),
        ("gateway", "HSET lease owner x"),
        ("engine", "HGETALL user:1"),
        ("engine", "HGETALL session:1"),
        ("engine", "XRANGE sent:1:1 - +"),
        ("engine", "SUBSCRIBE control"),
        ("engine", "SET md:A:state x"),
        ("marketdata", "HGETALL bal:1"),
        ("marketdata", "XADD orders:A * c x"),
        ("marketdata", "XADD events:A * e x"),
        ("marketdata", "PUBLISH control x"),
        ("marketdata", "HGETALL user:1"),
        ("writer", "XADD events:A * e x"),
        ("writer", "XADD ledger * e x"),
        ("writer", "HGETALL bal:1"),
        ("writer", "HGETALL user:1"),
        ("writer", "PUBLISH wake 1"),
        (SUBSCRIBER, "SET md:A:snapshot x"),
        (SUBSCRIBER, "PUBLISH md:A:trades x"),
        (SUBSCRIBER, "XRANGE events:A - +"),
        (SUBSCRIBER, "SUBSCRIBE wake"),
        (SUBSCRIBER, "EVALSHA 0 0"),
        (OPERATOR, "FLUSHALL"),
        (OPERATOR, "SHUTDOWN"),
        (OPERATOR, "CONFIG SET maxmemory 1"),
        (OPERATOR, "ACL SETUSER x on"),
        (OPERATOR, "DEBUG SLEEP 0"),
    ],
)
async def test_what_is_not_the_business_of_a_user(
    clients: Clients, user: str, command: str
) -> None:
    assert await is_refused(clients[user], *command.split())


@pytest.mark.parametrize(
    ("user", "command"),
    [
        ("gateway", "HINCRBY bal:1 USD:a 1"),
        ("gateway", "HGETALL user:1"),
        ("gateway", "XTRIM orders:A MAXLEN 0"),
        ("gateway", "XADD events:A * e x"),
        ("gateway", "HSET user:1 password_hash x"),
        ("gateway", "DEL bal:1"),
        ("engine", "HINCRBY bal:1 USD:a 1"),
        ("engine", "XADD ledger * e x"),
        ("marketdata", "DEL orders:A"),
        ("writer", "XTRIM orders:A MAXLEN 0"),
        (SUBSCRIBER, "GET md:A:snapshot"),
        (OPERATOR, "HGETALL user:1"),
    ],
)
async def test_what_it_does_not_protect_from(clients: Clients, user: str, command: str) -> None:
    """As docs/operations.md says."""
    assert not await is_refused(clients[user], *command.split())


@pytest.mark.parametrize("script", sorted(path.stem for path in SCRIPTS.glob("*.lua")))
def test_every_script_is_some_users(script: str) -> None:
    users = [user for user in USERS if script in user.scripts]
    assert bool(users) != (script in BY_OPERATORS), "say in ops/redis_acl.py who runs it"
    for user in users:
        assert {f"+{name.lower()}" for name in commands_of(script)} <= set(user.rules())


def test_commands_are_read_off_the_scripts() -> None:
    assert commands_of("session_signed") == {"HGET", "HSET"}
    for path in SCRIPTS.glob("*.lua"):
        # `local call = redis.call` is how they all spell it; a computed name has to be listed.
        computed = re.findall(rb"\bcall\((?!')[^)]*", script_text(path.stem))
        assert not computed or path.stem in ("save_market_data",), computed


def test_passwords_are_made_once_and_kept_for_the_owner(tmp_path: Path) -> None:
    assert read_passwords(tmp_path) == {}
    made = ensure_passwords(tmp_path)
    assert sorted(made) == sorted(user.name for user in USERS)
    assert len(set(made.values())) == len(USERS)
    assert passwords_path(tmp_path).stat().st_mode & 0o777 == 0o600
    assert ensure_passwords(tmp_path) == made == read_passwords(tmp_path)
    assert not any(password in line for password in made.values() for line in acl_lines(made))


def test_url_names_the_user() -> None:
    passwords = {"gateway": "secret"}
    for url in ("redis://h:1", "redis://operator:other@h:1"):
        assert url_of(url, "gateway", passwords) == "redis://gateway:secret@h:1"


def test_printed_commands_make_the_users(
    tmp_path: Path, redis_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "exchange.toml"
    text = (SCRIPTS.parents[1] / "exchange.toml").read_text()
    config.write_text(f'var_dir = "{tmp_path / "var"}"\n{text}')
    assert main(["acl", "--config", str(config)]) == 0
    lines = capsys.readouterr().out.splitlines()
    passwords = read_passwords(tmp_path / "var")
    with redis.Redis.from_url(redis_url) as client:
        try:
            for line in lines:
                assert client.execute_command(*line.split()) in (b"OK", True)
            with redis.Redis.from_url(url_of(redis_url, "gateway", passwords)) as gateway:
                assert gateway.ping()
                with pytest.raises(NoPermissionError):
                    gateway.flushall()
        finally:
            client.execute_command("ACL", "DELUSER", *(user.name for user in USERS))
    assert main(["acl", "--file", "--config", str(config)]) == 0
    assert capsys.readouterr().out.splitlines() == acl_lines(passwords)
    assert main(["acl", "--postgres", "exchange", "--config", str(config)]) == 0
    assert 'ON DATABASE "exchange" TO "shardex_writer";' in capsys.readouterr().out
