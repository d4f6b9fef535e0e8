"""The writer to PostgreSQL, put together from its settings."""

from __future__ import annotations

import time

from ops.settings import Settings
from ops.wiring import accounts_link, read_venue, reported, shard_map
from persistence.service import WriterService
from persistence.writer import PostgresWriter


async def run_writer(settings: Settings, redis_url: str, postgres_url: str) -> None:
    """Be the writer until cancelled.

    Raises:
        HomeMismatch: see ``read_venue``.
        PersistenceError: see ``WriterService.run``.
    """
    async with accounts_link(settings, redis_url, name="writer") as link:
        homes = await read_venue(settings, link)
        service = WriterService(
            link=link,
            shards=shard_map(settings, redis_url).shards,
            incarnations={symbol: home.incarnation for symbol, home in homes.items()},
            scales=settings.scales(),
            writer=PostgresWriter(postgres_url, settings.postgres),
            settings=settings.writer,
            now_ns=time.monotonic_ns,
        )
        await reported("writer", link, service.run(), service.stats)
