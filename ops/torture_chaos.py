"""Kills, pauses and restarts the parts of a venue by a plan, and watches how they come back.

One look at everything each LOOK_S decides all: who serves, whose outage is over, and whether
trading moves. So every time measured here is right to within LOOK_S or so.

A part that is down for too long, and trading that stands still for half of that while all that it
needs is up, are failures: a venue that must be pushed has not survived.
"""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from ops.private_venue import PrivateVenue
from ops.torture_parts import POSTGRES, REDIS, Parts, engine_of, kill_redis_torn, kind_of, send
from ops.torture_plan import FAILOVER, KILL, PAUSE, Blow, Step, draw_plan
from ops.torture_trader import Trader
from router.errors import OutOfMemory, RedisUnavailable
from router.lease import Leader

LOOK_S = 0.1
_TORN_SHARE = 0.5
_LOOK_MAX_S = 1.0
"""Of the time between two looks no more is held against who stands still: the rest has passed us,
too, and perhaps the whole machine."""


class Outage:
    """One part that was killed, restarted or paused, or a shard whose leader was replaced.

    Attributes:
        kind: of the part; an engine that did not lead is a standby, whatever its name.
        action: what was done.
        began_s: when; of a pause, when it ended.
        back_s: after how long the part served again; None: not yet.
        trading_s: after how long trading that depends on it went on: messages that were sent
            later had been answered, in each symbol of an engine, to each client of a gateway;
            None: not yet, or nothing depends on it.
    """

    def __init__(
        self, blow: Blow, kind: str, pid: int, went_on: Callable[[float], bool] | None
    ) -> None:
        self.part = blow.part
        self.action = blow.action
        self.kind = kind
        self.began_s = time.monotonic()
        self.back_s: float | None = None
        self.trading_s: float | None = None
        self._pid = pid
        self._went_on = went_on

    @property
    def is_over(self) -> bool:
        """Whether both times are known."""
        return self.back_s is not None and (self._went_on is None or self.trading_s is not None)

    def look(self, parts: Parts, now_s: float) -> None:
        """Note what is there again."""
        is_other = parts.pids.get(self.part) != self._pid or self.action in (PAUSE, FAILOVER)
        if self.back_s is None and self.part in parts.ready and is_other:
            self.back_s = now_s - self.began_s
        if self._went_on is not None and self.trading_s is None and self._went_on(self.began_s):
            self.trading_s = now_s - self.began_s


class Chaos:
    """See the head of this file.

    Args:
        venue: it runs.
        parts: of it.
        traders: who trade there meanwhile.
        seed: of the plan.
        names: of the parts.
        struck: those that are struck; a name may stand there several times.
        has_standbys: whether shards can be handed over.
        patience_s: how long trading may stand still while all is up; a part may be down for twice
            as long.
        ports: tells where gateways listen now.
        fail: called with what must not be.
        say: called with what is done.

    Attributes:
        outages: all, in the order in which they began.
        done: action → how often.
        torn: how often Redis' file was torn as well.
    """

    def __init__(
        self,
        venue: PrivateVenue,
        parts: Parts,
        traders: Sequence[Trader],
        *,
        seed: int,
        names: Sequence[str],
        struck: Sequence[str],
        has_standbys: bool,
        patience_s: float,
        ports: Callable[[], list[int]],
        fail: Callable[[str], None],
        say: Callable[[str], None],
    ) -> None:
        self._venue = venue
        self._parts = parts
        self._traders = traders
        self._names = list(names)
        self._choose = random.Random(f"{seed}/chaos")
        shards = {shard.id: shard.symbols for shard in venue.settings.shards}
        leaders = [f"engine-{shard}" for shard in shards] if has_standbys else []
        self._plan = draw_plan(random.Random(f"{seed}/plan"), struck, leaders)
        self._symbols = shards
        self._ports = ports
        self._fail = fail
        self._say = say
        self._back_within_s = 2 * patience_s
        self._paused: set[str] = set()
        self._down_since_s: dict[str, float] = {}
        self._looked = asyncio.Event()
        self._watch = _StillWatch(traders, shards, patience_s, fail)
        self.outages: list[Outage] = []
        self.done: dict[str, int] = {}
        self.torn = 0

    # ------------------------------------------------------------ watching

    async def watch(self) -> None:
        """Look at everything again and again, until cancelled."""
        while True:
            await self._parts.look()
            now_s = time.monotonic()
            for outage in self.outages:
                if not outage.is_over:
                    outage.look(self._parts, now_s)
            self._check_down(now_s)
            self._watch.look(self._parts.ready - self._paused, now_s)
            self._looked.set()
            await asyncio.sleep(LOOK_S)

    def still_out(self) -> list[str]:
        """Return which parts do not serve, or never ended, and where trading has not gone on."""
        ready = self._parts.ready
        waiting = [f"{name} is down" for name in self._names if name not in ready]
        for one in self.outages:
            if one.back_s is not None and not one.is_over:
                waiting.append(f"{one.part}: no trading since its {one.action}")
            elif one.back_s is None and one.part in ready:
                waiting.append(f"{one.part}: the same process still runs after its {one.action}")
        return waiting

    def _check_down(self, now_s: float) -> None:
        for name in self._names:
            if name in self._parts.ready or name in self._paused:
                self._down_since_s.pop(name, None)
                continue
            since_s = self._down_since_s.setdefault(name, now_s)
            if now_s - since_s > self._back_within_s:
                self._down_since_s[name] = now_s
                self._fail(f"{name} has been down for {self._back_within_s:g} s")

    async def _next_look(self) -> None:
        self._looked.clear()
        await self._looked.wait()

    # ------------------------------------------------------------ doing

    async def run(self) -> None:
        """Do as the plan says, until cancelled; `watch` runs. Whatever is paused goes on then."""
        for step in self._plan:
            await asyncio.sleep(step.wait_s)
            while not self._can_begin(step):
                await self._next_look()
            self._say(" + ".join(_describe(blow) for blow in step.blows))
            async with asyncio.TaskGroup() as tasks:
                for blow in step.blows:
                    tasks.create_task(self._do(blow))

    def _can_begin(self, step: Step) -> bool:
        """Tell whether all that the step is about is back from the last time."""
        names = {blow.part for blow in step.blows}
        if any(blow.action == FAILOVER for blow in step.blows):
            names |= {f"{name}-standby" for name in names} | {REDIS}
        return names <= self._parts.ready and not any(
            one.part in names and one.back_s is None for one in self.outages
        )

    async def _do(self, blow: Blow) -> None:
        if blow.action == FAILOVER:
            await self._fail_over(blow)
            return
        pid = self._parts.pids.get(blow.part)
        if pid is None:
            # It has just ended by itself, because of another blow at once with this.
            return
        kind, went_on = self._stake(blow.part)
        if blow.action == PAUSE:
            await self._pause(blow, pid)
        elif blow.part == REDIS and blow.action == KILL and self._choose.random() < _TORN_SHARE:
            self.torn += kill_redis_torn(pid, self._venue.settings.var_dir / "redis")
        else:
            send(pid, signal.SIGKILL if blow.action == KILL else _end_signal(blow.part))
        self._note(Outage(blow, kind, pid, went_on))
        self._parts.doubt(blow.part)

    async def _pause(self, blow: Blow, pid: int) -> None:
        self._paused.add(blow.part)
        try:
            send(pid, signal.SIGSTOP)
            await asyncio.sleep(blow.seconds)
        finally:
            send(pid, signal.SIGCONT)
            self._paused.discard(blow.part)

    async def _fail_over(self, blow: Blow) -> None:
        shard = int(blow.part.rpartition("-")[2])
        outage = Outage(blow, FAILOVER, 0, self._went_on_in(self._symbols[shard]))
        # Redis may go away by itself at any time; then there was no failover.
        with suppress(RedisUnavailable, OutOfMemory):
            before = await self._parts.hand_over(shard)
            if before is None:
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(self._back_within_s):
                    while not self._has_other_leader(shard, before):
                        await self._next_look()
                outage.back_s = time.monotonic() - outage.began_s
                self._note(outage)
                return
            self._fail(f"shard {shard}: {before.owner} was asked to hand over and still leads it")

    def _has_other_leader(self, shard: int, before: Leader) -> bool:
        """Tell whether another engine leads; or the same, but after another between two looks."""
        further = self._parts.epochs.get(shard, 0) - before.epoch
        return further > 1 or (further == 1 and self._parts.leaders[shard] != engine_of(before))

    def _note(self, outage: Outage) -> None:
        self.outages.append(outage)
        self.done[outage.action] = self.done.get(outage.action, 0) + 1

    # ------------------------------------------------------------ what depends on it

    def _stake(self, name: str) -> tuple[str, Callable[[float], bool] | None]:
        """Return the kind of a part now, and what tells that trading which needs it goes on."""
        kind = kind_of(name)
        if kind in ("engine", "standby"):
            shard = int(name.split("-")[1])
            leads = self._parts.leaders.get(shard) == name
            return (
                ("engine", self._went_on_in(self._symbols[shard])) if leads else ("standby", None)
            )
        if kind == REDIS:
            return kind, self._went_on_in([s for of in self._symbols.values() for s in of])
        if kind == "gateway":
            return kind, self._went_on_for(name)
        return kind, None

    def _went_on_in(self, symbols: Sequence[str]) -> Callable[[float], bool]:
        def went_on(since_s: float) -> bool:
            return all(
                any(one.record.answered_s.get(symbol, 0.0) > since_s for one in self._traders)
                for symbol in symbols
            )

        return went_on

    def _went_on_for(self, gateway: str) -> Callable[[float], bool]:
        port = self._ports()[int(gateway.rpartition("-")[2]) - 1]
        clients = [one for one in self._traders if one.is_active and one.port == port]

        def went_on(since_s: float) -> bool:
            return all(
                max(one.record.answered_s.values(), default=0.0) > since_s for one in clients
            )

        return went_on


class _StillWatch:
    """Finds trading that stands still: per symbol and per client, while all it needs is up.

    The clock of each stands still while something that it needs is down or paused, and begins again
    at each answer.
    """

    def __init__(
        self,
        traders: Sequence[Trader],
        shards: dict[int, list[str]],
        patience_s: float,
        fail: Callable[[str], None],
    ) -> None:
        self._traders = traders
        self._shards = shards
        self._patience_s = patience_s
        self._fail = fail
        self._looked_s = time.monotonic()
        self._marks: dict[str, float] = {}
        self._still_s: dict[str, float] = {}

    def look(self, up: set[str], now_s: float) -> None:
        """Note who has been answered since the last look."""
        passed_s, self._looked_s = min(now_s - self._looked_s, _LOOK_MAX_S), now_s
        if not all(one.trading for one in self._traders):
            self._still_s.clear()
            return
        has_way_in = REDIS in up and any(kind_of(name) == "gateway" for name in up)
        has_engines = True
        for shard, symbols in self._shards.items():
            has_engine = not up.isdisjoint((f"engine-{shard}", f"engine-{shard}-standby"))
            has_engines &= has_engine
            for symbol in symbols:
                newest_s = max(one.record.answered_s.get(symbol, 0.0) for one in self._traders)
                self._move(symbol, newest_s, passed_s if has_way_in and has_engine else 0.0)
        for one in self._traders:
            answers = float(sum(one.record.answers.values()))
            is_up = has_way_in and has_engines
            self._move(f"client {one.account}", answers, passed_s if is_up else 0.0)

    def _move(self, name: str, mark: float, passed_s: float) -> None:
        if self._marks.get(name) != mark:
            self._marks[name] = mark
            self._still_s[name] = 0.0
            return
        still_s = self._still_s[name] = self._still_s.get(name, 0.0) + passed_s
        if still_s > self._patience_s:
            self._still_s[name] = 0.0
            text = f"no answer for {self._patience_s:g} s, while all that it needs was up"
            self._fail(f"{name}: {text}")


def _describe(blow: Blow) -> str:
    pause = f" {blow.seconds:g} s" if blow.action == PAUSE else ""
    return f"{blow.action} {blow.part}{pause}"


def _end_signal(part: str) -> signal.Signals:
    """Return what asks a part to end; for SIGTERM PostgreSQL waits until its clients have left."""
    return signal.SIGINT if part == POSTGRES else signal.SIGTERM
