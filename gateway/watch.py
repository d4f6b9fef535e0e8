"""What a gateway listens to beside its clients: channels of Redis, and how full its memory is."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import NoReturn

from router.errors import RedisUnavailable
from router.keys import CONTROL_CHANNEL, WAKE_CHANNEL
from router.redis_client import RedisLink, retry_while_away
from router.subscriber import Subscriber

MEMORY_INTERVAL_S = 1.0

logger = logging.getLogger("gateway")


async def watch_channels(
    subscriber: Subscriber,
    *,
    on_wake: Callable[[int], None],
    on_control: Mapping[bytes, Callable[[int], None]],
    on_subscribed: Callable[[], None],
) -> NoReturn:
    """Listen to ``wake`` and ``control`` until cancelled; subscribe again whenever that is lost.

    Args:
        subscriber: to both channels.
        on_wake: told each account that has news.
        on_control: who is told each account, by what is said of it on ``control``;
            a word that is not in here is for others.
        on_subscribed: told after each subscription: what was said before it is lost.
    """
    while True:
        await retry_while_away(subscriber.open, what="wake-ups")
        on_subscribed()
        try:
            while True:
                for channel, payload in await subscriber.messages():
                    if channel == WAKE_CHANNEL:
                        for account in payload.split():
                            on_wake(int(account))
                    elif channel == CONTROL_CHANNEL:
                        said, account = payload.split()
                        if said in on_control:
                            on_control[said](int(account))
        except RedisUnavailable as error:
            logger.warning("Wake-ups lost, subscribing again: %s", error)


async def watch_memory(
    link: RedisLink, *, percent_max: int, on_change: Callable[[bool], None]
) -> NoReturn:
    """Tell once a second whether Redis uses more of its memory than it should, until cancelled.

    Args:
        link: any database of the server.
        percent_max: of maxmemory; without a maxmemory there is no limit.
        on_change: told whether memory is low, at each change.
    """
    low = False
    while True:
        try:
            info = await link.call("INFO", "memory")
        except RedisUnavailable:
            # Admission says so to every client; memory is as it was last seen.
            logger.debug("Redis' memory is not known")
        else:
            is_low = memory_is_low(info, percent_max)
            if is_low != low:
                low = is_low
                logger.warning("Redis' memory is %s", "nearly used up" if low else "enough again")
                on_change(low)
        await asyncio.sleep(MEMORY_INTERVAL_S)


def memory_is_low(info: bytes, percent_max: int) -> bool:
    """Tell whether used_memory is beyond a percentage of maxmemory in a reply of INFO memory."""
    values = dict(line.split(b":", 1) for line in info.split(b"\r\n") if b":" in line)
    return 0 < int(values[b"maxmemory"]) * percent_max < int(values[b"used_memory"]) * 100
