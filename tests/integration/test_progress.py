"""How far everything is, read from a venue that goes on meanwhile."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from ops.progress import ProgressReader
from router import keys
from router.redis_client import Argument, RedisLink
from tests.router_helpers import BTC, SmallVenue, small_venue

STAGES = (keys.SETTLED, keys.POSITION_MARKETDATA, keys.POSITION_WRITER)


@pytest.fixture
async def venue(redis_url: str) -> AsyncIterator[SmallVenue]:
    async with small_venue(redis_url) as venue:
        yield venue


async def test_nothing_seems_to_overtake_what_comes_before_it(
    venue: SmallVenue, monkeypatch: pytest.MonkeyPatch
) -> None:
    link, shard_link = venue.new_link(), venue.new_link(1)
    pipeline, seq = RedisLink.pipeline, 1

    async def go_on() -> None:
        """Have one more input pass through the whole venue."""
        nonlocal seq
        seq += 1
        for key in (keys.orders(BTC), keys.events(BTC)):
            await pipeline(shard_link, [("XADD", key, f"{seq}-0", "c", b"x", "t", 1)])
        await pipeline(link, [("HSET", key, BTC, seq) for key in STAGES])
        await pipeline(link, [("XADD", keys.LEDGER, f"{seq}-0", "e", b"x", "t", 1)])
        await pipeline(link, [("HSET", keys.POSITION_WRITER, keys.LEDGER, seq)])

    async def busy(of: RedisLink, commands: Sequence[tuple[Argument, ...]]) -> list[Any]:
        await go_on()
        return await pipeline(of, commands)

    await go_on()
    monkeypatch.setattr(RedisLink, "pipeline", busy)
    reader = ProgressReader(venue.link, [venue.shards[0]])
    try:
        progress = await reader.read()
    finally:
        await reader.close()
    one = progress.symbols[BTC]
    assert one.admitted > one.settled > one.published > one.marketdata == one.writer > 0
    assert progress.ledger > progress.ledger_written > 0
