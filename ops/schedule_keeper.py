"""Execute the schedule of a shard's symbols while its engine leads.

What is due is read off the timetable at each look (ops/schedule.py), never off a timer: an engine
that starts late, or takes over, makes the last change that was due, if nobody has made it yet.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping

from engine.enums import TradingPhase
from ops.schedule import Timetable
from router.homes import Home
from router.phases import schedule_phase
from router.redis_client import RedisLink, retry_while_away
from router.standby import Leadership

LOOK_INTERVAL_MAX_S = 1.0
"""Between two looks, at most: the clock of a machine may be set."""

_MICROSECONDS_PER_S = 1_000_000

logger = logging.getLogger("ops")


class ScheduleKeeper:
    """Opens and closes the symbols of one shard.

    Args:
        link: accounts database, for nothing else.
        leadership: of the shard's engine.
        homes: of the shard's symbols.
        timetables: of those that have one.
        now_us: the clock, µs since 1970 UTC.
    """

    def __init__(
        self,
        link: RedisLink,
        leadership: Leadership,
        homes: Mapping[str, Home],
        timetables: Mapping[str, Timetable],
        *,
        now_us: Callable[[], int],
    ) -> None:
        self._link = link
        self._leadership = leadership
        self._homes = homes
        self._timetables = {name: timetables[name] for name in homes if name in timetables}
        self._now_us = now_us
        self._made_us = dict.fromkeys(self._timetables, 0)

    async def run(self) -> None:
        """Make what is due, from when the engine leads on, until cancelled.

        Waits while Redis is away, out of memory, or not cleared.

        Raises:
            HomeMismatch: the databases are not those that this engine started on.
        """
        if not self._timetables:
            return
        await self._leadership.wait_until_leading()
        while True:
            await self.make_due()
            await asyncio.sleep(self._until_next_s())

    async def make_due(self) -> None:
        """Make the last change that is due of each symbol, unless somebody has.

        Raises:
            HomeMismatch: see ``run``.
        """
        now_us = self._now_us()
        for symbol, timetable in self._timetables.items():
            change = timetable.last_due(now_us)
            if change.at_us > self._made_us[symbol]:
                await self._make(symbol, change.phase, change.at_us)
                self._made_us[symbol] = change.at_us

    async def _make(self, symbol: str, phase: TradingPhase, at_us: int) -> None:
        home = self._homes[symbol]
        made = await retry_while_away(
            lambda: schedule_phase(self._link, home, phase, scheduled_us=at_us),
            what=f"schedule of {symbol}",
            out_of_memory_too=True,
        )
        if made:
            logger.info("%s: %s, as scheduled", symbol, phase.name.lower())

    def _until_next_s(self) -> float:
        now_us = self._now_us()
        next_us = min(table.next_after(now_us).at_us for table in self._timetables.values())
        return min((next_us - now_us) / _MICROSECONDS_PER_S, LOOK_INTERVAL_MAX_S)
