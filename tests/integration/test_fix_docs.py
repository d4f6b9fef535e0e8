"""The examples of docs/fix.md that need a venue, replayed: a gateway, engines and market data."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.server import Gateway
from marketdata.service import MarketDataService
from marketdata.settings import MarketDataSettings
from ops.fix_documents import DOCS
from ops.wiring import shard_map
from tests.fix_examples import MORE_SYMBOLS, Examples, gateway_settings_of
from tests.helpers import DEADLINE_MS, eventually_async
from tests.venue import Venue, running_venue

_GUIDE = (DOCS / "fix.md").read_text(encoding="utf-8")
_EXAMPLES = re.findall(r"^```fix-venue\n(.*?)^```$", _GUIDE, re.DOTALL | re.MULTILINE)
_ABOUT = [example.splitlines()[0].strip("# .") for example in _EXAMPLES]
_MARKET_DATA = MarketDataSettings(snapshot_interval_ms=20, heartbeat_interval_ms=50)
_SLOWNESS = 50
"""Times that the gateway's clock is slower than ours: what an example sends "too soon" behind
something else is too soon even where the machine stands still in between."""


@asynccontextmanager
async def _market_data(venue: Venue, gateway: Gateway) -> AsyncIterator[None]:
    service = MarketDataService(
        url=venue.redis_url,
        shards=shard_map(venue.settings, venue.redis_url).shards,
        settings=_MARKET_DATA,
        timeout_ms=DEADLINE_MS,
        now_us=lambda: time.time_ns() // 1_000,
    )
    task = asyncio.create_task(service.run())
    try:
        await eventually_async(lambda: gateway.stats()["phases_known"] == len(venue.homes))
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _slow_clock() -> Callable[[], int]:
    """Return a clock that is right now, and goes slowly."""
    began_ns = time.time_ns()
    return lambda: began_ns + (time.time_ns() - began_ns) // _SLOWNESS


@pytest.mark.parametrize("example", _EXAMPLES, ids=_ABOUT)
async def test_examples_of_orders_and_market_data_are_true(
    redis_url: str, tmp_path: Path, example: str
) -> None:
    async with running_venue(redis_url, tmp_path, more=MORE_SYMBOLS) as venue:
        settings = venue.settings.gateway.model_copy(update=gateway_settings_of(example))
        async with (
            venue.gateway(settings=settings, now_ns=_slow_clock()) as gateway,
            _market_data(venue, gateway),
        ):
            await Examples(venue, gateway).replay(example)
