"""A whole exchange as an operator has it: ``shardex up`` as a child, and commands beside it."""

from __future__ import annotations

import asyncio
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import psycopg
import redis
from psycopg import sql

from ops.__main__ import main
from ops.embedded import free_port
from router import keys
from router.ledger_journal import wait_until_journalled
from tests.helpers import DEADLINE_MS, DEADLINE_S, eventually, eventually_async
from tests.venue import Peer

ROOT = Path(__file__).resolve().parent.parent
FIRST_PORT = 10_000 + os.getpid() * 16 % 20_000
"""Below those that connections get, so that a port is still free at the next start; two runs of the
tests at once have others."""
_HEART_BT_INT_S = 600
"""Of peers, which say nothing while a test looks elsewhere: longer than any test."""


_WAIT_UNTIL_JOURNALLED = partial(wait_until_journalled, timeout_s=DEADLINE_S)

Row = tuple[Any, ...]


class Done(NamedTuple):
    """What became of a command."""

    code: int
    out: str
    err: str


def own_servers(redis_url: str, postgres_url: str, database: str) -> dict[str, str]:
    """Empty a Redis, make a database, and return the settings of an exchange that uses both."""
    with redis.Redis.from_url(redis_url) as client:
        client.flushall()
    with psycopg.connect(postgres_url, autocommit=True) as db:
        db.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(database)))
    return {
        "SHARDEX_REDIS_URL": redis_url,
        "SHARDEX_POSTGRES_URL": f"{postgres_url.rpartition('/')[0]}/{database}",
    }


class ExchangeProcess:
    """``shardex up --demo-quiet`` in a directory, on ports that were free.

    Args:
        directory: for exchange.toml and var/.
        settings: more of its environment, such as SHARDEX_REDIS_URL.

    Attributes:
        options: more of its command line, such as --standby; for the next start.
    """

    def __init__(self, directory: Path, **settings: str) -> None:
        self.directory = directory
        self.config = directory / "exchange.toml"
        self.config.write_text((ROOT / "exchange.toml").read_text())
        self.var = directory / "var"
        self.output = directory / "up.out"
        self.options: tuple[str, ...] = ()
        self._popen: subprocess.Popen[bytes] | None = None
        self._peers: dict[int, Peer] = {}
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("SHARDEX_")}
        self.environment = {
            **inherited,
            "PYTHONPATH": str(ROOT),
            "SHARDEX_GATEWAY__PORT": str(free_port(FIRST_PORT)),
            "SHARDEX_REDIS__PORT": str(free_port(FIRST_PORT + 8)),
            "SHARDEX_POSTGRES__PORT": str(free_port(FIRST_PORT + 12)),
            # However slow the machine is, servers are not away, and clients are not gone.
            "SHARDEX_REDIS__CALL_TIMEOUT_MS": str(DEADLINE_MS),
            "SHARDEX_POSTGRES__CONNECT_TIMEOUT_S": str(DEADLINE_MS // 1_000),
            "SHARDEX_GATEWAY__HEART_BT_INT_MAX_S": str(_HEART_BT_INT_S),
            "SHARDEX_GATEWAY__LOGON_TIMEOUT_S": str(_HEART_BT_INT_S),
            **settings,
        }

    @property
    def pid(self) -> int:
        """The pid of ``up``."""
        assert self._popen is not None
        return self._popen.pid

    @property
    def endpoints(self) -> dict[str, Any]:
        """What endpoints.json says now."""
        endpoints: dict[str, Any] = json.loads((self.var / "endpoints.json").read_text())
        return endpoints

    @property
    def said(self) -> str:
        """All that ``up`` has printed, its earlier runs included."""
        return self.output.read_text()

    def start(self) -> None:
        """Start and wait until the exchange says that it is open; endpoints.json is there then."""
        self.start_until("The exchange is open")
        assert (self.var / "endpoints.json").exists()

    def start_until(self, text: str) -> None:
        """Start and wait until it has said something."""
        with self.output.open("ab") as output:
            before = output.tell()
            self._popen = subprocess.Popen(
                [sys.executable, "-m", "ops", "up", "--demo-quiet", *self.options],
                cwd=self.directory,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

        def has_said() -> bool:
            assert self._popen is not None and self._popen.poll() is None, self.said
            return text in self.said[before:]

        eventually(has_said)

    def signal(self, number: signal.Signals) -> int:
        """Send a signal and return the exit status."""
        assert self._popen is not None
        self._popen.send_signal(number)
        return self._popen.wait(DEADLINE_S)

    def stop(self) -> None:
        """Stop cleanly, if it runs."""
        if self._popen is not None and self._popen.poll() is None:
            assert self.signal(signal.SIGINT) == 0, self.said

    def run(self, *arguments: str) -> Done:
        """Run a command of the command line in the directory, in a process of its own."""
        done = subprocess.run(
            [sys.executable, "-m", "ops", *arguments],
            cwd=self.directory,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def call(self, *arguments: str, stdin: str = "") -> Done:
        """Run a command as `run` does, but in this process (a thread of it): quicker.

        It waits as long as it takes until the ledger is journalled.
        """
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(self._call, [*arguments], stdin).result()

    def _call(self, arguments: list[str], stdin: str) -> Done:
        out, err = io.StringIO(), io.StringIO()
        with (
            redirect_stdout(out),
            redirect_stderr(err),
            patch.object(sys, "stdin", io.StringIO(stdin)),
            patch.dict(os.environ, {**self.environment, "SHARDEX_VAR_DIR": str(self.var)}),
            patch("ops.journalled.wait_until_journalled", _WAIT_UNTIL_JOURNALLED),
        ):
            code = main([*arguments, "--config", str(self.config)])
        return Done(code, out.getvalue(), err.getvalue())

    @contextmanager
    def background(self, *arguments: str) -> Iterator[Callable[[], list[str]]]:
        """Run a command beside; gives a function that returns the lines printed so far.

        It is ended by SIGINT, and must exit with 0.
        """
        output = self.directory / f"{arguments[0]}.out"
        with output.open("wb") as file:
            popen = subprocess.Popen(
                [sys.executable, "-m", "ops", *arguments],
                cwd=self.directory,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
            )
        try:
            yield lambda: output.read_text().splitlines()
        finally:
            popen.send_signal(signal.SIGINT)
            status = popen.wait(DEADLINE_S)
        assert status == 0

    def json(self, *arguments: str, stdin: str = "") -> Any:
        """Run a command with --json, which must succeed, and return what it prints."""
        done = self.call(*arguments, "--json", stdin=stdin)
        assert done.code == 0, done.err
        return json.loads(done.out)

    def redis(self) -> redis.Redis:
        """Return a client of the accounts database; to be closed."""
        client: redis.Redis = redis.Redis.from_url(self.endpoints["redis_url"])
        return client

    def pid_of(self, process: str) -> int:
        """Return the pid that a process reports, 0 when it reports none."""
        with self.redis() as client:
            body = client.get(f"process:{process}")
        return int(json.loads(body)["pid"]) if body else 0

    def balances(self, account: str) -> dict[str, int]:
        """Return an account's balances as Redis has them: ASSET:a, :p and :h, smallest units."""
        with self.redis() as client:
            fields = client.hgetall(f"bal:{account}")
        return {name.decode(): int(value) for name, value in fields.items()}

    def query(self, sql: str, *parameters: object) -> list[Row]:
        """Return the rows that PostgreSQL has."""
        with psycopg.connect(self.endpoints["postgres_url"]) as db:
            return db.execute(sql.encode(), parameters).fetchall()

    async def released(self, visitor: int) -> None:
        """Wait until a session that has ended may be logged on anywhere."""
        account = int(self.endpoints["users"][visitor]["sender_comp_id"])
        with self.redis() as client:
            await eventually_async(lambda: client.hget(keys.session(account), "owner") == b"")

    async def log_on(
        self,
        visitor: int,
        *,
        gateway: int = 0,
        heart_bt_int_s: int = _HEART_BT_INT_S,
        reset: str = "",
        tail: str = "",
    ) -> Peer:
        """Log a visitor on, going on with the last session's numbers; the answer is a Logon."""
        port = self.endpoints["fix"][gateway]["port"]
        user = self.endpoints["users"][visitor]
        peer = Peer(*await asyncio.open_connection("127.0.0.1", port))
        before = self._peers.get(visitor)
        peer.next_out = before.next_out if before is not None else 1
        self._peers[visitor] = peer
        peer.logon(
            int(user["sender_comp_id"]),
            user["username"],
            user["password"].encode(),
            heart_bt_int_s=heart_bt_int_s,
            reset=reset,
            tail=tail,
        )
        await peer.expect("A")
        return peer
