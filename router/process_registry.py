"""Which processes live, and what they count: ``process:{name}``, refreshed every second.

More often at first, so that whoever waits for a process learns at once that it is ready.

A process that stops takes its entry away. That of one that hangs, or was killed, stays for
PROCESS_KEPT_S; how old it is tells what is left of that, by the clock of Redis. So it can be told
who is silent, and since when. Nothing depends on it but ``status``, `up` and readiness.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from router import keys
from router.errors import OutOfMemory, RedisUnavailable
from router.redis_client import RedisLink, scan_keys

PROCESS_KEPT_S = 86_400
SILENT_AFTER_MS = 5_000
"""A process that has said nothing for so long does not count as one that runs."""

REFRESH_INTERVAL_S = 1
FIRST_INTERVAL_S = 0.05
"""Between the first and the second refresh; doubled from one to the next, up to the above."""

Counters = Mapping[str, Any]
"""What JSON can hold."""


class ProcessState(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one process said last. Times in µs since 1970 UTC; counters as it names them.

    ``silent_ms``: how long ago that was; known to who reads it.
    """

    name: str
    pid: int
    version: str
    started_us: int
    now_us: int
    counters: dict[str, Any]
    silent_ms: int = 0


class ProcessRegistry:
    """One process' own entry.

    Args:
        link: accounts database.
        name: such as gateway-1; one process of a name at a time.
        pid, version: of the process.
        now_us: the clock.
        counters: read at each refresh.
    """

    def __init__(
        self,
        link: RedisLink,
        *,
        name: str,
        pid: int,
        version: str,
        now_us: Callable[[], int],
        counters: Callable[[], Counters],
    ) -> None:
        self._link = link
        self._name = name
        self._pid = pid
        self._version = version
        self._now_us = now_us
        self._counters = counters
        self._started_us = now_us()

    async def run(self) -> None:
        """Refresh the entry until cancelled; while Redis is away the entry is too."""
        interval_s = FIRST_INTERVAL_S
        while True:
            # While Redis is away there is nobody to tell; all else that the process does says so.
            with contextlib.suppress(RedisUnavailable):
                await self._give_sign()
            await asyncio.sleep(interval_s)
            interval_s = min(2 * interval_s, REFRESH_INTERVAL_S)

    async def refresh(self) -> None:
        """Write the entry once.

        Raises:
            RedisUnavailable: no reply.
            OutOfMemory: there is no room for it.
        """
        state = ProcessState(
            self._name,
            self._pid,
            self._version,
            self._started_us,
            self._now_us(),
            dict(self._counters()),
        )
        body = msgspec.json.encode(state)
        await self._link.call("SET", keys.process(self._name), body, "EX", PROCESS_KEPT_S)

    async def _give_sign(self) -> None:
        try:
            await self.refresh()
        except OutOfMemory:
            # What it said last stands, and that it lives takes no memory.
            await self._link.call("EXPIRE", keys.process(self._name), PROCESS_KEPT_S)

    async def remove(self) -> None:
        """Take the entry away: a clean stop.

        Raises:
            RedisUnavailable: no reply; it runs out by itself.
        """
        await self._link.call("DEL", keys.process(self._name))


async def read_processes(
    link: RedisLink, names: Iterable[str] | None = None, *, with_silent: bool = False
) -> dict[str, ProcessState]:
    """Return live processes by name, in the order of their names.

    Args:
        link: accounts database.
        names: which; None: all, found by scanning the database.
        with_silent: those too that have given no sign for SILENT_AFTER_MS or more.

    Raises:
        RedisUnavailable: no reply.
    """
    if names is None:
        found = sorted({key async for key in scan_keys(link, keys.process("*"))})
    else:
        found = sorted(keys.process(name) for name in names)
    if not found:
        return {}
    # The entry first: a sign that comes in between makes it younger, never older.
    replies = await link.pipeline([(verb, key) for key in found for verb in ("GET", "PTTL")])
    states = [
        msgspec.structs.replace(
            msgspec.json.decode(body, type=ProcessState),
            silent_ms=max(0, PROCESS_KEPT_S * 1_000 - left_ms),
        )
        for body, left_ms in zip(replies[::2], replies[1::2], strict=True)
        # Below 0: it was taken away in between.
        if body is not None and left_ms >= 0
    ]
    return {
        state.name: state for state in states if with_silent or state.silent_ms < SILENT_AFTER_MS
    }
