"""`up` looks now and then whether the venue adds up, and raises an alarm when it does not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from engine.errors import ExchangeError
from ops.reconcile import Difference
from ops.reconcile_cut import reconcile_cut
from router.errors import RedisUnavailable
from router.redis_client import RedisLink

ALARMS_SHOWN_MAX = 10
"""Differences of one look that are said; of more only the number."""


class ReconcileWatch:
    """Looks at one cut at a time; says what is found once, and when it is gone.

    Args:
        link: accounts database, for nothing else.
        interval_s: between two looks.
        say: tells the operator.
    """

    def __init__(self, link: RedisLink, interval_s: int, say: Callable[[str], None]) -> None:
        self._link = link
        self._interval_s = interval_s
        self._say = say
        self._said: list[Difference] = []

    async def run(self) -> None:
        """Look again and again until cancelled; while Redis is away it has no look."""
        while True:
            await asyncio.sleep(self._interval_s)
            await self.look()

    async def look(self) -> None:
        """Look once."""
        try:
            found = await reconcile_cut(self._link)
        except RedisUnavailable:
            return
        except ExchangeError as error:
            self._say(f"ALARM reconcile: {error}")
            return
        if found == self._said:
            return
        self._said = found
        for one in found[:ALARMS_SHOWN_MAX]:
            self._say(f"ALARM reconcile: {one}")
        if len(found) > ALARMS_SHOWN_MAX:
            self._say(f"ALARM reconcile: {len(found):,} differences; shardex reconcile shows all")
        if not found:
            self._say("reconcile: no difference any more")
