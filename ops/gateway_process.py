"""A gateway, put together from its settings."""

from __future__ import annotations

import asyncio
import signal
import time

from gateway.server import Gateway
from ops.data_dir import begin_layout
from ops.settings import Settings
from ops.wiring import (
    accounts_link,
    journal_directory,
    read_venue,
    reported,
    shard_map,
    until_cancelled,
)
from router.homes import read_retired_rules
from router.redis_client import retry_while_away


async def run_gateway(settings: Settings, redis_url: str, name: str, port: int) -> None:
    """Be a gateway until cancelled; then log its sessions out. SIGHUP: read certificates again.

    Args:
        name: unique in the venue, such as gateway-1.
        port: to listen on.

    Raises:
        HomeMismatch: see ``read_venue``.
        ExchangeError: see ``Gateway.run``.
    """
    async with accounts_link(settings, redis_url, name=name) as link:
        homes = await read_venue(settings, link)
        begin_layout(settings.var_dir)
        gateway = Gateway(
            name,
            settings.gateway,
            settings.redis,
            redis_url=redis_url,
            shards=shard_map(settings, redis_url).shards,
            homes=homes,
            retired=await retry_while_away(lambda: read_retired_rules(link, homes), what="symbols"),
            journal_directory=journal_directory(settings, name),
            port=port,
            now_ns=time.time_ns,
        )
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGHUP, gateway.reload_certificates)
        await reported(name, link, until_cancelled(gateway), gateway.stats)
