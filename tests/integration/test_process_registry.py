"""The register of processes on a real Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from router import keys
from router.errors import OutOfMemory
from router.process_registry import (
    PROCESS_KEPT_S,
    SILENT_AFTER_MS,
    ProcessRegistry,
    ProcessState,
    read_processes,
)
from router.redis_client import RedisLink
from tests.helpers import eventually_async
from tests.router_helpers import BTC, LossyProxy, make_link, no_memory


@pytest.fixture
async def link(redis_url: str) -> AsyncIterator[RedisLink]:
    async with make_link(redis_url) as link:
        yield link


async def test_processes_register_and_disappear(link: RedisLink) -> None:
    registries = [
        ProcessRegistry(
            link,
            name=name,
            pid=number,
            version="1",
            now_us=lambda: 5,
            counters=lambda: {"orders": 3, "lag": {BTC: 1}},
        )
        for number, name in enumerate(("writer", "engine-1"))
    ]

    async def both() -> dict[str, ProcessState]:
        for registry in registries:
            await registry.refresh()
        found = await read_processes(link)
        return found if len(found) == len(registries) else {}

    # Soon: one that stands still between a sign and the look at it has been silent.
    found = await eventually_async(both)

    assert list(found) == ["engine-1", "writer"]
    assert found["writer"].counters == {"orders": 3, "lag": {BTC: 1}}
    assert (found["engine-1"].pid, found["engine-1"].started_us) == (1, 5)
    assert found["writer"].silent_ms < SILENT_AFTER_MS
    assert b"silent" not in await link.call("GET", keys.process("writer"))
    for registry in registries:
        await registry.remove()
    assert await read_processes(link, with_silent=True) == {}


async def test_a_silent_process_runs_for_nobody_but_is_known_for_a_day(link: RedisLink) -> None:
    registry = ProcessRegistry(
        link, name="writer", pid=7, version="1", now_us=lambda: 5, counters=dict
    )
    await registry.refresh()
    key = keys.process("writer")
    assert 86_000 < await link.call("TTL", key) <= 86_400
    await link.call("PEXPIRE", key, PROCESS_KEPT_S * 1_000 - SILENT_AFTER_MS)
    assert await read_processes(link) == {}
    [state] = (await read_processes(link, ["writer"], with_silent=True)).values()
    assert (state.pid, state.silent_ms >= SILENT_AFTER_MS) == (7, True)


async def test_a_process_gives_signs_of_life_to_a_redis_without_memory(link: RedisLink) -> None:
    registry = ProcessRegistry(
        link, name="writer", pid=7, version="1", now_us=lambda: 5, counters=dict
    )
    await registry.refresh()
    await link.call("EXPIRE", keys.process("writer"), 100)
    async with no_memory(link):
        with pytest.raises(OutOfMemory):
            await registry.refresh()
        running = asyncio.create_task(registry.run())
        await eventually_async(lambda: read_processes(link))
        running.cancel()


async def test_register_goes_on_while_redis_is_away(link: RedisLink, redis_url: str) -> None:
    async with LossyProxy(redis_url) as proxy, make_link(proxy.url) as away:
        proxy.refused = True
        registry = ProcessRegistry(
            away, name="writer", pid=1, version="1", now_us=lambda: 5, counters=dict
        )
        running = asyncio.create_task(registry.run())
        proxy.refused = False
        await eventually_async(lambda: read_processes(link))
        running.cancel()
