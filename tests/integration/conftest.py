"""A running venue and a gateway for the tests that talk FIX to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

import pytest
import uvloop

from gateway.server import Gateway
from tests.venue import Venue, running_venue


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run the tests of TLS on uvloop."""
    if item.path.name == "test_tls.py":
        return {"uvloop": uvloop.new_event_loop}
    return {"asyncio": asyncio.new_event_loop}


@pytest.fixture
async def venue(redis_url: str, tmp_path: Path) -> AsyncIterator[Venue]:
    """Two symbols in two shards, their engines, no users yet."""
    async with running_venue(redis_url, tmp_path) as running:
        yield running


@pytest.fixture
async def gateway(venue: Venue) -> AsyncIterator[Gateway]:
    """A gateway with the settings of that venue: those that are shipped, with patience."""
    async with venue.gateway() as running:
        yield running
