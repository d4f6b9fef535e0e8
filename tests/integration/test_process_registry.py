"""The register of processes on a real Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from router import keys
from router.process_registry import ProcessRegistry, read_processes
from router.redis_client import RedisLink
from tests.helpers import eventually_async
from tests.router_helpers import BTC, LossyProxy, make_link


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
    for registry in registries:
        await registry.refresh()

    found = await read_processes(link)

    assert list(found) == ["engine-1", "writer"]
    assert found["writer"].counters == {"orders": 3, "lag": {BTC: 1}}
    assert (found["engine-1"].pid, found["engine-1"].started_us) == (1, 5)
    assert 0 < await link.call("TTL", keys.process("writer")) <= 5
    for registry in registries:
        await registry.remove()
    assert await read_processes(link) == {}


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
