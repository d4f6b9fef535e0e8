"""`up` says of a child that it is stuck: once, and when it is over."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable

import msgspec
import pytest

from ops import silence_watch
from ops.silence_watch import LOOK_INTERVAL_S, SILENT_SAID_MS, SilenceWatch
from router.process_registry import ProcessRegistry, ProcessState, read_processes
from router.redis_client import RedisLink
from tests.router_helpers import LossyProxy, make_link

LOOKS_BEFORE = int(SILENT_SAID_MS / 1_000 / LOOK_INTERVAL_S)
"""Looks before anybody is called silent."""


class Watched:
    """Two processes that are watched, in Redis alone; how long they are silent, the test says."""

    def __init__(self, link: RedisLink, watching: RedisLink) -> None:
        self.link = link
        self.pids = {"engine-1": 11, "writer": 12}
        self.silent_ms = {"engine-1": 0, "writer": 0}
        self.said: list[str] = []
        self.watch = SilenceWatch(watching, lambda: self.pids, self.said.append)

    async def sign(self, name: str, pid: int, *, silent_ms: int = 0) -> None:
        """Give a sign of life; or have given it a while ago."""
        registry = ProcessRegistry(
            self.link, name=name, pid=pid, version="1", now_us=lambda: 5, counters=dict
        )
        await registry.refresh()
        self.silent_ms[name] = silent_ms

    async def read(
        self, link: RedisLink, names: Iterable[str], *, with_silent: bool
    ) -> dict[str, ProcessState]:
        """Read the entries, none of which gets older while the test runs."""
        found = await read_processes(link, names, with_silent=with_silent)
        return {
            name: msgspec.structs.replace(state, silent_ms=self.silent_ms[name])
            for name, state in found.items()
        }

    async def look(self, count: int = 1) -> list[str]:
        """Look so often, and return what was said."""
        for _ in range(count):
            await self.watch.look()
        said, self.said[:] = self.said[:], []
        return said


Watch = Callable[[RedisLink, RedisLink], Watched]


@pytest.fixture
async def link(redis_url: str) -> AsyncIterator[RedisLink]:
    async with make_link(redis_url) as link:
        yield link


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Watch:
    def begin(link: RedisLink, watching: RedisLink) -> Watched:
        watched = Watched(link, watching)
        monkeypatch.setattr(silence_watch, "read_processes", watched.read)
        return watched

    return begin


async def test_a_stuck_child_is_named_once_and_so_is_its_return(
    link: RedisLink, watch: Watch
) -> None:
    watched = watch(link, link)
    await watched.sign("engine-1", 11)
    await watched.sign("writer", 12)
    assert await watched.look(LOOKS_BEFORE + 1) == []
    await watched.sign("writer", 12, silent_ms=SILENT_SAID_MS - 5_000)
    assert await watched.look() == []
    await watched.sign("writer", 12, silent_ms=SILENT_SAID_MS)
    assert await watched.look(3) == [
        "writer gives no sign of life for 10 s: process 12 is stuck or stopped; kill -CONT 12, or"
        " kill -KILL 12: it is started again"
    ]
    await watched.sign("writer", 12)
    assert await watched.look(2) == ["writer gives signs of life again"]


async def test_a_child_that_ended_or_has_just_been_started_is_not_silent(
    link: RedisLink, watch: Watch
) -> None:
    watched = watch(link, link)
    await watched.sign("writer", 7, silent_ms=SILENT_SAID_MS)
    await watched.sign("engine-1", 11, silent_ms=SILENT_SAID_MS)
    del watched.pids["engine-1"]
    assert await watched.look(LOOKS_BEFORE + 2) == []


async def test_nobody_is_silent_because_redis_was_away(
    link: RedisLink, redis_url: str, watch: Watch
) -> None:
    async with LossyProxy(redis_url) as proxy, make_link(proxy.url) as watching:
        watched = watch(link, watching)
        await watched.sign("engine-1", 11)
        await watched.look(LOOKS_BEFORE + 1)
        proxy.cut()
        assert await watched.look() == []
        proxy.refused = False
        await watched.sign("engine-1", 11, silent_ms=SILENT_SAID_MS)
        assert await watched.look(LOOKS_BEFORE) == []
        assert len(await watched.look(2)) == 1
