"""A whole gateway on a real Redis: how it begins, and how it ends."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest

from gateway.server import Gateway
from gateway.settings import GatewaySettings
from router.settings import RedisSettings
from tests.router_helpers import SmallVenue, small_venue


@pytest.fixture
async def venue(redis_url: str) -> AsyncIterator[SmallVenue]:
    async with small_venue(redis_url) as made:
        yield made


def make_gateway(venue: SmallVenue, directory: Path, *, port: int = 0) -> Gateway:
    return Gateway(
        "gateway-1",
        GatewaySettings(connections_max=1),
        RedisSettings(),
        redis_url=venue.link.url,
        shards=venue.shards,
        homes=venue.homes,
        retired=(),
        journal_directory=directory,
        port=port,
        now_ns=time.time_ns,
    )


async def test_stop_ends_it_and_may_be_said_twice(venue: SmallVenue, tmp_path: Path) -> None:
    gateway = make_gateway(venue, tmp_path)
    running = asyncio.create_task(gateway.run())
    await gateway.listening.wait()
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.bound_port)
    gateway.stop()
    gateway.stop()
    await running
    assert await reader.read() == b""
    writer.close()
    assert gateway.stats()["connections"] == 0


async def test_connections_beyond_the_limit_are_closed_at_once(
    venue: SmallVenue, tmp_path: Path
) -> None:
    gateway = make_gateway(venue, tmp_path)
    running = asyncio.create_task(gateway.run())
    await gateway.listening.wait()
    _, first = await asyncio.open_connection("127.0.0.1", gateway.bound_port)
    reader, second = await asyncio.open_connection("127.0.0.1", gateway.bound_port)
    with suppress(ConnectionError):
        assert await reader.read() == b""
    for writer in (first, second):
        writer.close()
    gateway.stop()
    await running


async def test_port_that_is_taken_ends_it_with_the_reason(
    venue: SmallVenue, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        gateway = make_gateway(venue, tmp_path, port=taken.getsockname()[1])
        with pytest.raises(ExceptionGroup) as caught:
            await gateway.run()
    assert caught.group_contains(OSError)


@pytest.mark.parametrize("where", ["task", "callback"])
async def test_whatever_fails_inside_ends_it_with_the_error(
    venue: SmallVenue, tmp_path: Path, where: str
) -> None:
    gateway = make_gateway(venue, tmp_path)
    running = asyncio.create_task(gateway.run())
    await gateway.listening.wait()
    if where == "task":
        gateway.spawn(_fail())
    else:
        asyncio.get_running_loop().call_soon(_fail_now)
    with pytest.raises(ExceptionGroup) as caught:
        await running
    assert caught.group_contains(ZeroDivisionError)


async def _fail() -> None:
    _fail_now()


def _fail_now() -> None:
    raise ZeroDivisionError
