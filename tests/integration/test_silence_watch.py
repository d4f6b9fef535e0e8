"""`up` says of a child that it is stuck: once, and when it is over."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from ops.silence_watch import LOOK_INTERVAL_S, SILENT_SAID_MS, SilenceWatch
from router import keys
from router.process_registry import PROCESS_KEPT_S, ProcessRegistry
from router.redis_client import RedisLink
from tests.router_helpers import LossyProxy, make_link

LOOKS_BEFORE = int(SILENT_SAID_MS / 1_000 / LOOK_INTERVAL_S)
"""Looks before anybody is called silent."""


class Watched:
    """Two processes that are watched, in Redis alone."""

    def __init__(self, link: RedisLink, watching: RedisLink) -> None:
        self.link = link
        self.pids = {"engine-1": 11, "writer": 12}
        self.said: list[str] = []
        self.watch = SilenceWatch(watching, lambda: self.pids, self.said.append)

    async def sign(self, name: str, pid: int, *, silent_ms: int = 0) -> None:
        """Give a sign of life; or have given it a while ago."""
        registry = ProcessRegistry(
            self.link, name=name, pid=pid, version="1", now_us=lambda: 5, counters=dict
        )
        await registry.refresh()
        await self.link.call("PEXPIRE", keys.process(name), PROCESS_KEPT_S * 1_000 - silent_ms)

    async def look(self, count: int = 1) -> list[str]:
        """Look so often, and return what was said."""
        for _ in range(count):
            await self.watch.look()
        said, self.said[:] = self.said[:], []
        return said


@pytest.fixture
async def link(redis_url: str) -> AsyncIterator[RedisLink]:
    async with make_link(redis_url) as link:
        yield link


async def test_a_stuck_child_is_named_once_and_so_is_its_return(link: RedisLink) -> None:
    watched = Watched(link, link)
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


async def test_a_child_that_ended_or_has_just_been_started_is_not_silent(link: RedisLink) -> None:
    watched = Watched(link, link)
    await watched.sign("writer", 7, silent_ms=SILENT_SAID_MS)
    await watched.sign("engine-1", 11, silent_ms=SILENT_SAID_MS)
    del watched.pids["engine-1"]
    assert await watched.look(LOOKS_BEFORE + 2) == []


async def test_nobody_is_silent_because_redis_was_away(link: RedisLink, redis_url: str) -> None:
    async with LossyProxy(redis_url) as proxy, make_link(proxy.url) as watching:
        watched = Watched(link, watching)
        await watched.sign("engine-1", 11)
        await watched.look(LOOKS_BEFORE + 1)
        proxy.cut()
        assert await watched.look() == []
        proxy.refused = False
        await watched.sign("engine-1", 11, silent_ms=SILENT_SAID_MS)
        assert await watched.look(LOOKS_BEFORE) == []
        assert len(await watched.look(2)) == 1
