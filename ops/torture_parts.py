"""The parts of a running venue from outside: which processes `up` has, and which of them serve.

Processes are found through /proc, as children of `up`, so that a Redis that is down hides nobody.
Whether they serve they say themselves: process:{name} for our own, an answer for the servers.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from ops.append_only import newest_file
from ops.private_venue import PrivateVenue
from ops.wiring import wall_us
from persistence.errors import PostgresUnavailable
from persistence.schema import read_versions
from router.errors import RedisUnavailable
from router.keys import ACCOUNTS_DB
from router.lease import Leader, ask_to_hand_over, read_leader
from router.process_registry import ProcessState, read_processes
from router.redis_client import RedisLink

REDIS = "redis"
POSTGRES = "postgres"

CALL_TIMEOUT_MS = 1_000
FRESH_US = 3_000_000
"""Age of a process's sign of life, given every second, up to which it counts."""

END_WITHIN_S = 2.0
"""Longest wait for the end of a server that is killed."""

_EXIT_POLL_S = 0.001
_PROC = Path("/proc")
_READY_COUNTERS = {"gateway": "port", "engine": "is_live", "marketdata": "symbols"}
_WRITER_COUNTER = "positions"
_EXEC = b"*1\r\n$4\r\nEXEC\r\n"
_TORN = (
    b"*1\r\n$5\r\nMULTI\r\n*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n"
    b"*4\r\n$7\r\nHINCRBY\r\n$5\r\nbal:1\r\n$5\r\nUSD:a\r\n$1\r\n1\r\n"
    b"*4\r\n$4\r\nHSET\r\n$7\r\nsettled\r\n$8\r\nALFA"
)
"""Half of a transaction: money from nowhere, if a part of it ever counted."""


def part_names(gateways: int, shards: int, *, standby: bool) -> list[str]:
    """Return the names of all parts that a venue with private servers has."""
    engines = [f"engine-{shard}" for shard in range(1, shards + 1)]
    standbys = [f"{engine}-standby" for engine in engines] if standby else []
    names = [f"gateway-{number}" for number in range(1, gateways + 1)]
    return [*names, *engines, *standbys, "writer", "marketdata", REDIS, POSTGRES]


def kind_of(name: str) -> str:
    """Return what a part is: gateway, engine, standby, writer, marketdata, redis or postgres."""
    return "standby" if name.endswith("-standby") else name.partition("-")[0]


class Parts:
    """Looks at the parts of one venue.

    Args:
        venue: it runs.
        names: of its parts.

    Attributes:
        pids: name → pid, of those that run.
        ready: names of those that serve, as of the last look.
        leaders: shard → name of the engine that led it when that was last known.
        epochs: shard → epoch of that lead; each new lead has a higher one.
    """

    def __init__(self, venue: PrivateVenue, names: list[str]) -> None:
        self._venue = venue
        self._names = names
        self._accounts = RedisLink(
            venue.endpoints.redis_url,
            db=ACCOUNTS_DB,
            name="torture-parts",
            timeout_ms=CALL_TIMEOUT_MS,
        )
        self._shards = {
            shard.id: self._accounts.sibling(shard.db) for shard in venue.settings.shards
        }
        self._since_us: dict[str, int] = {}
        self._postgres_pid = 0
        self.pids: dict[str, int] = {}
        self.ready: set[str] = set()
        self.leaders: dict[int, str] = {}
        self.epochs: dict[int, int] = {}

    async def look(self) -> None:
        """Find out who runs, serves and leads; takes seconds where a server hangs."""
        pids = running_parts(self._venue.pid)
        states, _ = await asyncio.gather(self._read_redis(), self._ask_postgres(pids))
        ready = {name for name, state in (states or {}).items() if self._is_ready(state, pids)}
        if states is not None:
            ready.add(REDIS)
        if self._postgres_pid == pids.get(POSTGRES):
            ready.add(POSTGRES)
        self.pids, self.ready = pids, ready & pids.keys()

    def doubt(self, name: str) -> None:
        """Take a part for down until it has said something new: it has just been disturbed."""
        self._since_us[name] = wall_us()
        self.ready.discard(name)
        if name == POSTGRES:
            self._postgres_pid = 0

    async def hand_over(self, shard: int) -> Leader | None:
        """Ask a shard's leader to hand over; None if that is not clear, or nobody to be asked.

        Returns:
            Whose lead is to end.

        Raises:
            RedisUnavailable, OutOfMemory: not asked.
        """
        link = self._shards[shard]
        leader = await read_leader(link)
        if leader is None or not await ask_to_hand_over(link, leader.epoch):
            return None
        return leader

    async def close(self) -> None:
        """Close the connections."""
        for link in (self._accounts, *self._shards.values()):
            await link.close()

    async def _read_redis(self) -> Mapping[str, ProcessState] | None:
        try:
            states = await read_processes(self._accounts, self._names)
            for shard, link in self._shards.items():
                leader = await read_leader(link)
                if leader is not None:
                    self.leaders[shard] = engine_of(leader)
                    self.epochs[shard] = leader.epoch
        except RedisUnavailable:
            return None
        return states

    async def _ask_postgres(self, pids: Mapping[str, int]) -> None:
        """Ask a PostgreSQL that has not answered yet since it was started, or disturbed."""
        pid = pids.get(POSTGRES, 0)
        if self._postgres_pid == pid:
            return
        with suppress(PostgresUnavailable, TimeoutError):
            async with asyncio.timeout(CALL_TIMEOUT_MS / 1000):
                await read_versions(self._venue.endpoints.postgres_url, connect_timeout_s=2)
            self._postgres_pid = pid

    def _is_ready(self, state: ProcessState, pids: Mapping[str, int]) -> bool:
        counter = _READY_COUNTERS.get(state.name.partition("-")[0], _WRITER_COUNTER)
        since_us = max(self._since_us.get(state.name, 0), wall_us() - FRESH_US)
        is_fresh = state.now_us > since_us and pids.get(state.name) == state.pid
        return is_fresh and bool(state.counters[counter])


def running_parts(up_pid: int) -> dict[str, int]:
    """Return the pids of the parts that are children of `up`, by name."""
    found = {}
    for directory in _PROC.iterdir():
        if not directory.name.isdigit():
            continue
        pid = int(directory.name)
        state, parent = _state(pid)
        if parent != up_pid or state == "Z":
            continue
        # It may have just ended.
        with suppress(FileNotFoundError, ProcessLookupError):
            words = (directory / "cmdline").read_bytes().split(b"\0")
            name = _part_name([word.decode(errors="replace") for word in words])
            if name:
                found[name] = pid
    return found


def _part_name(words: list[str]) -> str:
    """Return whose command line this is; empty for what is not, or not yet, a part."""
    if words[1:3] == ["-m", "ops"]:
        command = words[3]
        if command == "gateway":
            return words[words.index("--name") + 1]
        if command == "engine":
            name = f"engine-{words[words.index('--shard') + 1]}"
            return f"{name}-standby" if "--standby" in words else name
        return command
    # A server rewrites its command line: "redis-server 127.0.0.1:1234".
    program = Path(words[0].split(" ")[0]).name.rstrip(":")
    return {"redis-server": REDIS, "postgres": POSTGRES}.get(program, "")


def engine_of(leader: Leader) -> str:
    """Return the name of the engine that leads."""
    return leader.owner.partition(":")[0]


def send(pid: int, number: signal.Signals) -> bool:
    """Send a signal; False if the process is gone."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def kill_redis_torn(pid: int, directory: Path) -> bool:
    """Kill Redis and leave its newest file as a crash in the middle of a write does.

    What is added is half of a transaction that nobody got a reply for. Whoever would start the
    server again, its parent, stands still until the file is torn. Does not wait on the event loop.

    Args:
        pid: of the server.
        directory: its data.

    Returns:
        False if it had ended already, did not end in time, or ended in the middle of a write: the
        file was left alone.
    """
    _, parent = _state(pid)
    if not parent or not send(parent, signal.SIGSTOP):
        return False
    try:
        send(pid, signal.SIGKILL)
        deadline_s = time.monotonic() + END_WITHIN_S
        while _state(pid)[0] not in ("", "Z"):
            if time.monotonic() > deadline_s:
                return False
            time.sleep(_EXIT_POLL_S)
        with newest_file(directory).open("rb+") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - len(_EXEC)))
            if file.read() != _EXEC:
                # It is torn already.
                return False
            file.write(_TORN)
        return True
    finally:
        send(parent, signal.SIGCONT)


def _state(pid: int) -> tuple[str, int]:
    """Return the state of a process and its parent; nothing where it is gone."""
    try:
        stat = (_PROC / str(pid) / "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return "", 0
    # Behind the name, which may contain anything.
    state, parent = stat.rpartition(")")[2].split()[:2]
    return state, int(parent)
