"""How often a process says how it is: on a virtual clock."""

from __future__ import annotations

import asyncio
import contextlib
from itertools import pairwise
from typing import Any

import pytest

from router.process_registry import REFRESH_INTERVAL_S, ProcessRegistry
from tests.simulation.clock import VirtualLoop

WATCHED_S = 8


class Clocked:
    """Stands for a link; notes when each call came."""

    def __init__(self, loop: VirtualLoop) -> None:
        self.loop = loop
        self.times_s: list[float] = []

    async def call(self, *command: Any) -> None:
        self.times_s.append(self.loop.time())


def test_a_process_that_begins_is_heard_at_once_and_later_every_second() -> None:
    loop = VirtualLoop(lambda: 0.0)
    link: Any = Clocked(loop)
    registry = ProcessRegistry(
        link, name="writer", pid=1, version="1", now_us=lambda: 5, counters=dict
    )

    async def watch() -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(WATCHED_S):
                await registry.run()

    with contextlib.closing(loop):
        loop.run_until_complete(watch())

    gaps_s = [after_s - before_s for before_s, after_s in pairwise(link.times_s)]
    assert gaps_s[:6] == pytest.approx([0.05, 0.1, 0.2, 0.4, 0.8, REFRESH_INTERVAL_S])
    assert set(map(round, gaps_s[6:])) == {REFRESH_INTERVAL_S}
