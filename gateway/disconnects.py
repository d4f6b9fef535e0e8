"""Cancel on disconnect: every gateway looks whose client is gone for good, and decides about it.

All gateways look, so that it does not matter which of them dies; the script decides once. A client
whose gateway cannot reach Redis does not count as gone because of that: after an outage the other
gateways, too, need a moment to say which sessions they serve. So one decides only when Redis has
answered it for as long as a session's lease, without a pause.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import NoReturn

from router.disconnects import disconnect, read_due
from router.errors import OutOfMemory, RedisUnavailable
from router.homes import Home
from router.redis_client import RedisLink

LOOK_S = 0.25
"""Between two looks: the longest that a cancel is late."""

logger = logging.getLogger("gateway")


class Disconnects:
    """See the head of this file.

    Args:
        link: accounts database, for nothing else.
        homes: returns the homes of every symbol of the venue.
        lease_s: of a session.
        pause_max_s: a look that took longer is taken for an outage.

    Attributes:
        canceled: accounts whose orders were canceled from here.
    """

    def __init__(
        self,
        link: RedisLink,
        homes: Callable[[], Mapping[str, Home]],
        *,
        lease_s: float,
        pause_max_s: float = 1.0,
    ) -> None:
        self._link = link
        self._homes = homes
        self._lease_s = lease_s
        self._pause_max_s = pause_max_s
        self._steady_since_s: float | None = None
        self.canceled = 0

    async def run(self) -> NoReturn:
        """Look until cancelled.

        Raises:
            HomeMismatch: this gateway is configured for another exchange.
        """
        loop = asyncio.get_running_loop()
        ended_s = loop.time()
        while True:
            if loop.time() - ended_s > LOOK_S + self._pause_max_s:
                # It was this process that stood still, and others may have with it.
                self._steady_since_s = None
            try:
                await self._look(loop.time())
            except (RedisUnavailable, OutOfMemory) as error:
                logger.debug("Nobody can be disconnected now: %s", error)
                self._steady_since_s = None
            ended_s = loop.time()
            await asyncio.sleep(LOOK_S)

    async def _look(self, began_s: float) -> None:
        due = await read_due(self._link)
        now_s = asyncio.get_running_loop().time()
        if now_s - began_s > self._pause_max_s:
            # What is due by an answer that took so long may be due because of the outage alone.
            self._steady_since_s = None
            return
        if self._steady_since_s is None:
            self._steady_since_s = now_s
        if now_s - self._steady_since_s < self._lease_s:
            return
        for account in due:
            done = await disconnect(self._link, account, self._homes())
            if done is None:
                continue
            self.canceled += 1
            logger.warning("%d: gone: orders canceled in %d symbols", account, done.streams)
            if done.missed:
                logger.warning("%d: %d symbols are away: tried again", account, done.missed)
