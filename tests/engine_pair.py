"""The two engines of a shard as processes of their own, for tests that kill one of them."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from ops.__main__ import main
from router import keys
from router.lease import Leader, read_leader
from router.process_registry import ProcessState, read_processes
from tests.helpers import DEADLINE_S, eventually_async
from tests.venue import Venue, running_venue

ROOT = Path(__file__).resolve().parent.parent
ENGINE, STANDBY = "engine-1", "engine-1-standby"

_LEASE_TTL_MS = 20_000
"""A leader that a busy machine lets wait goes on leading; the lease of one that is killed runs out
at once: see ``Pair.kill``."""


class Pair:
    """The two engines of shard 1, as processes that nobody starts again."""

    def __init__(self, venue: Venue, directory: Path) -> None:
        self.venue = venue
        self._directory = directory
        self._environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("SHARDEX_")},
            "PYTHONPATH": str(ROOT),
            "SHARDEX_REDIS_URL": venue.redis_url,
            "SHARDEX_ENGINE__LEASE_TTL_MS": str(_LEASE_TTL_MS),
        }
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str) -> None:
        """Start one of them."""
        options = ["--standby"] if name == STANDBY else []
        with (self._directory / f"{name}.log").open("ab") as log:
            self.running[name] = subprocess.Popen(
                [
                    *(sys.executable, "-m", "ops", "engine", "--shard", "1", *options),
                    *("--config", str(self._directory / "exchange.toml")),
                ],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    async def kill(self, name: str) -> None:
        """Kill the one that leads; its lease runs out, as it does when it is not renewed."""
        self.running[name].kill()
        self.running[name].wait(DEADLINE_S)
        async with self.venue.link.sibling(1) as link:
            leader = await read_leader(link)
            assert leader is not None and leader.owner.startswith(f"{name}:")
            await link.call("HSET", keys.LEASE, "until_ms", 0)

    def said(self, name: str) -> str:
        """Return all that an engine has logged."""
        return (self._directory / f"{name}.log").read_text()

    def stop(self) -> None:
        """Stop both, cleanly."""
        for process in self.running.values():
            process.terminate()
        for process in self.running.values():
            process.wait(DEADLINE_S)

    async def leader(self) -> Leader | None:
        """Return who leads."""
        async with self.venue.link.sibling(1) as link:
            return await read_leader(link)

    async def leads(self, name: str) -> None:
        """Wait until an engine leads."""

        async def is_so() -> bool:
            leader = await self.leader()
            return leader is not None and leader.owner.startswith(f"{name}:")

        await eventually_async(is_so)

    async def state(self, name: str, **counters: int) -> ProcessState:
        """Wait until an engine says so of itself, each counter at least; return all it says."""
        found: dict[str, ProcessState] = {}

        async def is_so() -> bool:
            found.update(await read_processes(self.venue.link, [name]))
            state = found.get(name)
            return (
                state is not None
                and state.pid == self.running[name].pid
                and all(state.counters[one] >= least for one, least in counters.items())
            )

        await eventually_async(is_so)
        return found[name]

    async def failover(self, *options: str) -> int:
        """Run ``shardex failover 1``."""
        config = str(self._directory / "exchange.toml")
        patience = ["--timeout-s", f"{DEADLINE_S:.0f}"]
        return await asyncio.to_thread(
            main, ["failover", "1", *patience, *options, "--config", config]
        )


@asynccontextmanager
async def running_pair(redis_url: str, directory: Path, *, more: str = "") -> AsyncIterator[Pair]:
    """Define the venue in an empty Redis, and run both engines of shard 1: the first one leads.

    Args:
        more: of the venue file, behind the rest.
    """
    async with running_venue(redis_url, directory, engines=False) as venue:
        with (directory / "exchange.toml").open("a") as config:
            config.write(more)
        pair = Pair(venue, directory)
        try:
            pair.start(ENGINE)
            await pair.leads(ENGINE)
            pair.start(STANDBY)
            await pair.state(STANDBY, is_live=1)
            yield pair
        finally:
            pair.stop()
