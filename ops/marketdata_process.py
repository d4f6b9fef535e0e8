"""Market data, put together from its settings."""

from __future__ import annotations

from marketdata.service import MarketDataService
from ops.settings import Settings
from ops.wiring import accounts_link, reported, shard_map, wall_us


async def run_marketdata(settings: Settings, redis_url: str) -> None:
    """Be market data until cancelled.

    Raises:
        ExchangeError: see ``MarketDataService.run``.
    """
    async with accounts_link(settings, redis_url, name="marketdata") as link:
        service = MarketDataService(
            url=redis_url,
            shards=shard_map(settings, redis_url).shards,
            settings=settings.marketdata,
            timeout_ms=settings.redis.call_timeout_ms,
            now_us=wall_us,
        )
        await reported("marketdata", link, service.run(), service.stats)
