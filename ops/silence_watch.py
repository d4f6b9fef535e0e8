"""`up` says when a child gives no sign of life although it has not ended: it is stuck, or stopped.

A child that ended is started again, and said so; one that hangs does nothing and ends never. It is
not killed: why it hangs would be gone with it, and an engine that is stuck has lost its lease to
the other one by then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from router.errors import RedisUnavailable
from router.process_registry import read_processes
from router.redis_client import RedisLink

SILENT_SAID_MS = 10_000
"""Ten signs of life that did not come: no work and no pause of the disk takes so long."""

LOOK_INTERVAL_S = 1.0


class SilenceWatch:
    """Looks who is silent; says it once, and when it is over.

    Args:
        link: accounts database, for nothing else.
        children: gives name → pid of the processes that run.
        say: tells the operator.
    """

    def __init__(
        self,
        link: RedisLink,
        children: Callable[[], Mapping[str, int]],
        say: Callable[[str], None],
    ) -> None:
        self._link = link
        self._children = children
        self._say = say
        self._said: dict[str, int] = {}
        self._looks = 0

    async def run(self) -> None:
        """Look again and again until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(LOOK_INTERVAL_S)

    async def look(self) -> None:
        """Look once.

        While Redis is away nobody can give a sign. So whoever is silent when it is back has as long
        as anybody to give one.
        """
        pids = self._children()
        try:
            states = await read_processes(self._link, pids, with_silent=True)
        except RedisUnavailable:
            self._looks = 0
            return
        self._looks += 1
        for name, pid in pids.items():
            state = states.get(name)
            if state is None or state.pid != pid:
                continue
            if state.silent_ms < SILENT_SAID_MS:
                if self._said.pop(name, None) == pid:
                    self._say(f"{name} gives signs of life again")
            elif self._said.get(name) != pid and self._has_waited():
                self._said[name] = pid
                self._say(
                    f"{name} gives no sign of life for {state.silent_ms // 1_000} s: process {pid}"
                    f" is stuck or stopped; kill -CONT {pid}, or kill -KILL {pid}: it is started"
                    " again"
                )

    def _has_waited(self) -> bool:
        return self._looks * LOOK_INTERVAL_S * 1_000 > SILENT_SAID_MS
