"""An operator who halts, closes and opens symbols while everything is being killed.

Each change is the same request until it is answered. One scene goes on at a time, and is played to
its end, so that every symbol is continuous when it stops.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

from engine.commands import Command, SetPhase
from engine.enums import PhaseReason, TradingPhase
from ops.torture_plan import Scene, draw_scenes
from router.errors import OutOfMemory, RedisUnavailable, Uncleared
from router.homes import Home
from router.phases import PhaseRequest, request_phase
from router.redis_client import RedisLink

RETRY_S = 0.2


class Change(NamedTuple):
    """One change: its command's number among those of its symbol, and the phase."""

    seq: int
    phase: TradingPhase


class PhaseOperator:
    """Changes phases.

    Args:
        link: accounts database, for nothing else.
        homes: of the symbols.
        seed: decides.
        say: called with what is done.

    Attributes:
        made: symbol → the changes that were carried out, as the answers said.
    """

    def __init__(
        self,
        link: RedisLink,
        homes: Mapping[str, Home],
        *,
        seed: str,
        say: Callable[[str], None],
    ) -> None:
        self._link = link
        self._homes = dict(homes)
        self._scenes = draw_scenes(random.Random(seed), list(homes))
        self._say = say
        self._stopping = asyncio.Event()
        self._count = 0
        self.made: dict[str, list[Change]] = {symbol: [] for symbol in homes}

    async def run(self) -> None:
        """Play scenes until `stop`; the one under way is played to its end first, at once."""
        for scene in self._scenes:
            await self._pause(scene.wait_s)
            if self._stopping.is_set():
                return
            await self._play(scene)

    def stop(self) -> None:
        """End `run`."""
        self._stopping.set()

    def check(self, commands: Mapping[str, Sequence[Change]]) -> list[str]:
        """Return how what the engines were given differs from what was asked for.

        Args:
            commands: symbol → the changes by an operator among its commands.
        """
        return [
            f"{symbol}: phases {made} were asked for, its commands are {commands.get(symbol, [])}"
            for symbol, made in self.made.items()
            if made != list(commands.get(symbol, []))
        ]

    async def _play(self, scene: Scene) -> None:
        for phase, lasts_s in scene.phases:
            self._count += 1
            request = PhaseRequest(self._homes[scene.symbol], phase, f"torture {self._count}")
            self._say(f"{scene.symbol}: {phase.name}")
            seq = await self._change(request)
            self.made[scene.symbol].append(Change(seq, phase))
            await self._pause(lasts_s)

    async def _change(self, request: PhaseRequest) -> int:
        while True:
            try:
                return (await request_phase(self._link, request)).seq
            except (RedisUnavailable, Uncleared, OutOfMemory):
                await asyncio.sleep(RETRY_S)

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()


def operators_change(seq: int, command: Command) -> Change | None:
    """Return the change of phase that an operator asked for with a command; None: it is none."""
    if isinstance(command, SetPhase) and command.reason is PhaseReason.OPERATOR:
        return Change(seq, command.phase)
    return None
