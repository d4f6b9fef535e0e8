"""One venue, from its definition to rest, in virtual time.

The processes are those of ``ops`` put together as in production; around them Redis, PostgreSQL, the
network, the disk and the clock are simulated. `World.run` gives what went wrong, and a digest that
is the same whenever the same seed runs on the same code.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ops.engine_process
import ops.gateway_process
import ops.marketdata_process
import ops.wiring
import ops.writer_process
from engine.enums import TradingPhase
from engine.errors import JournalWriteFailed
from marketdata.subscriber import MarketSubscriber
from ops.fix_initiator import Identity
from router.errors import Fenced, HandedOver, SkipsChanged, StreamGap
from router.ledger import deposit
from router.redis_client import RedisLink
from router.user_settings import NO_SETTINGS, UserSettings, change_settings
from router.users import add_user
from tests.simulation import checkers, nemesis, watching
from tests.simulation.breakages import POSITIONS_FIRST, SOUND, Breakage
from tests.simulation.client import Client
from tests.simulation.clock import Process, State, Stuck, VirtualLoop
from tests.simulation.disconnects import Disconnects
from tests.simulation.disk import Disk
from tests.simulation.network import Endpoint, Network
from tests.simulation.plan import Plan
from tests.simulation.postgres import Tables, TableWriter
from tests.simulation.production import production_in
from tests.simulation.redis_server import RedisServer
from tests.simulation.venue import DEPOSITS, PASSWORD, PASSWORD_HASH, venue_settings

REDIS_PORT = 6_379
URL = f"redis://127.0.0.1:{REDIS_PORT}"
GATEWAY_PORT = 9_000
RESTART_DELAY_S = 0.05
"""From the end of a process to its next life."""

STOP_TIMEOUT_S = 10.0
"""A process that was asked to stop and does not is killed, as ``up`` does."""

REST_TIMEOUT_S = 60.0
"""Virtual time for everything to come to rest when nothing goes wrong any more."""

OPERATOR_LOSE_PROBABILITY = 0.2
"""Of a request of an operator, who makes few, where requests are lost at all."""

OVERTAKEN_MAX = 2
"""Starts of one engine that the trimming of orders may get ahead of."""

EXPECTED_ENDS = (Fenced, HandedOver, SkipsChanged)
"""What ends a process and is no fault."""


@dataclass
class Result:
    """How a world ended.

    Attributes:
        seed: which.
        failures: what was wrong; empty where nothing was.
        digest: of everything published, and of how it came about.
        counts: what happened how often.
    """

    seed: int
    failures: list[str]
    digest: str
    counts: dict[str, int] = field(default_factory=dict)


@dataclass
class Life:
    """A process from start to end."""

    process: Process
    task: asyncio.Task[None]
    ended: asyncio.Event = field(default_factory=asyncio.Event)


class World:
    """See the head of this file.

    Args:
        plan: what the seed decided.
        breakage: a deliberate fault; see breakages.py.
    """

    def __init__(self, plan: Plan, breakage: Breakage = SOUND) -> None:
        self.plan = plan
        self.breakage = breakage
        self.choose = random.Random(f"world {plan.seed}")
        self.loop = VirtualLoop(lambda: self.choose.random() * 0.003)
        self.network = Network(
            self.loop,
            random.Random(f"network {plan.seed}"),
            delay_max_s=plan.delay_max_s,
            slow_probability=plan.slow_probability,
        )
        self.loop.network = self.network
        self.loop.on_callback_error = self._fail_of_callback
        self.disk = Disk(self.choose)
        self.redis = RedisServer(self.loop, self.network, REDIS_PORT, fate=self._fate)
        self.tables = Tables()
        self.postgres_is_away = False
        settings = venue_settings(plan.shards, plan.journal_fsync)
        self.settings = settings.model_copy(
            update={
                "var_dir": self.disk.root,
                "engine": settings.engine.model_copy(
                    update={"snapshot_interval_s": plan.snapshot_interval_s}
                ),
            }
        )
        self.symbols = [symbol for symbols in plan.shards for symbol in symbols]
        self.clients: list[Client] = []
        self.lives: dict[str, Life] = {}
        self.at_work: list[asyncio.Task[None]] = []
        self.subscriber: MarketSubscriber | None = None
        self.failures: list[str] = []
        self.counts: dict[str, int] = {}
        self.phase_changes: dict[tuple[str, int], TradingPhase] = {}
        self.disconnects = Disconnects(plan.graces_s, self.fail)
        self.faults_on = False
        self.ending = False
        self.rested_s: float | None = None
        self.processes: list[Process] = []
        self._requests: dict[str, int] = {}
        self.URL, self.STOP_TIMEOUT_S = URL, STOP_TIMEOUT_S
        self._background: list[asyncio.Task[Any]] = []

    # ------------------------------------------------------------ from start to end

    def run(self) -> Result:
        """Run the world and return how it ended."""
        try:
            self.redis.change_script = self.breakage.change
            with production_in(self), self.breakage.install(self):
                try:
                    self.loop.run_until_complete(self._live())
                except Stuck as error:
                    self.fail(f"stuck: {error}")
                self._tear_down()
        finally:
            self.loop.close()
            self.disk.remove()
        return Result(self.plan.seed, self.failures, self._digest(), self.counts)

    async def _live(self) -> None:
        await self._define()
        watching.watch(self)
        for name in self.plan.processes:
            self._spawn(self._supervise(name, self._body(name)))
        if self.plan.marketdata:
            self.subscriber = MarketSubscriber(URL, self.symbols, timeout_ms=400)
            context = self._process("subscriber").context()
            self._background.append(self.loop.create_task(self.subscriber.run(), context=context))
        for client in self.clients:
            self._spawn(client.run())
        self.faults_on = True
        await nemesis.happen(self)
        while not self.failures and not all(client.is_done for client in self.clients):
            if self.loop.time() > REST_TIMEOUT_S:
                break
            await asyncio.sleep(0.1)
        await nemesis.make_good(self)
        await self._come_to_rest()
        if not self.failures:
            checkers.check(self)

    async def _come_to_rest(self) -> None:
        deadline_s = self.loop.time() + REST_TIMEOUT_S
        while not self.failures:
            missing = watching.what_is_missing(self)
            if not missing:
                return
            if self.loop.time() > deadline_s:
                self.fail(f"no rest within {REST_TIMEOUT_S:g} s: {missing}")
            await asyncio.sleep(0.05)

    def fail(self, text: str) -> None:
        """Note that something is wrong; the world ends soon."""
        self.failures.append(f"{self.loop.time():.6f} s: {text}")

    def _fail_of_callback(self, process: Process | None, error: BaseException) -> None:
        if not self.ending:
            name = process.name if process else "the world"
            self.fail(f"a callback of {name} failed: {_where(error)}")

    def count(self, what: str, by: int = 1) -> None:
        """Count something that happened."""
        self.counts[what] = self.counts.get(what, 0) + by

    # ------------------------------------------------------------ the venue

    async def _define(self) -> None:
        plan = self.plan
        async with RedisLink(URL, db=0, name="operator", timeout_ms=5_000) as link:
            await ops.wiring.define_venue(self.settings, link)
            for number in range(1, plan.clients + 1):
                account = await add_user(
                    link, username=f"user{number}", password_hash=PASSWORD_HASH
                )
                for asset in ("USD", *(name.partition("-")[0] for name in self.symbols)):
                    await deposit(
                        link,
                        account=account,
                        asset=asset,
                        amount=DEPOSITS[asset],
                        ref=f"{account}-{asset}",
                    )
                if number in plan.graces_s:
                    await change_settings(
                        link,
                        account=account,
                        settings=UserSettings(cancel_on_disconnect_s=plan.graces_s[number]),
                        before=NO_SETTINGS,
                    )
                self.clients.append(
                    Client(
                        self.loop,
                        Identity(str(account), "SHARDEX", f"user{number}", PASSWORD.decode()),
                        self.symbols,
                        random.Random(f"client {plan.seed} {number}"),
                        ports=[GATEWAY_PORT + n for n in range(1, plan.gateways + 1)],
                        messages=plan.messages,
                        pause_s=plan.pause_s,
                    )
                )

    def _body(self, name: str) -> Callable[[], Awaitable[None]]:
        """Return what a process does: the composition of ``ops``."""
        settings = self.settings
        kind, _, rest = name.partition("-")
        if kind == "engine":
            shard, _, standby = rest.partition("-")
            return lambda: ops.engine_process.run_engine(
                settings, URL, int(shard), standby=bool(standby)
            )
        if kind == "gateway":
            port = GATEWAY_PORT + int(rest)
            return lambda: ops.gateway_process.run_gateway(settings, URL, name, port)
        if kind == "writer":
            return lambda: ops.writer_process.run_writer(settings, URL, "postgres://simulated")
        return lambda: ops.marketdata_process.run_marketdata(settings, URL)

    async def _supervise(self, name: str, body: Callable[[], Awaitable[None]]) -> None:
        """Start a process again whenever it ends, as ``up`` does."""
        while not self.ending:
            process = self._process(name)
            task = self.loop.create_task(_coroutine(body), context=process.context())
            life = self.lives[name] = Life(process, task)
            task.add_done_callback(lambda _, life=life: life.ended.set())
            await life.ended.wait()
            if process.state is State.RUNNING:
                self._look_at_end(name, task)
                self.kill(name, power_lost=False, counted=False)
            self.count("starts")
            await asyncio.sleep(RESTART_DELAY_S * (1 + self.choose.random()))

    def _process(self, name: str) -> Process:
        process = Process(name)
        self.processes.append(process)
        return process

    def _look_at_end(self, name: str, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        if isinstance(error, StreamGap) and error.key.startswith("orders:"):
            # Trimmed between its first look at the stream and its first read: it starts again, and
            # finds in a journal what is gone.
            self.count(f"{name} overtaken")
            if self.counts[f"{name} overtaken"] <= OVERTAKEN_MAX:
                return
        is_full = isinstance(error, JournalWriteFailed) and self.disk.is_full
        if error is not None and not is_full and not isinstance(error, EXPECTED_ENDS):
            self.fail(f"{name} ended: {_where(error)}")
        self.count("fenced", isinstance(error, Fenced))

    def kill(self, name: str, *, power_lost: bool, counted: bool = True) -> None:
        """End a process at once (kill -9), or with its machine."""
        life = self.lives.get(name)
        if life is None or life.process.state is State.DEAD:
            return
        life.process.state = State.DEAD
        self.network.cut_all_of(life.process)
        self.disk.crash(life.process, power_lost=power_lost)
        life.ended.set()
        self.count("kills", counted)

    def _fate(self, endpoint: Endpoint, commands: int) -> int | None:
        """Decide about a request to Redis: see RedisServer."""
        if not self.faults_on:
            return None
        process = endpoint.peer.owner
        if process is not None:
            number = self._requests[process.name] = self._requests.get(process.name, 0) + 1
            if self.plan.kills_at_request.get(process.name) == number:
                self.kill(process.name, power_lost=False)
                return self.choose.randint(0, commands)
        lose_probability = self.plan.lose_probability
        if process is None and lose_probability:
            lose_probability = OPERATOR_LOSE_PROBABILITY
        if self.choose.random() < lose_probability:
            self.count("requests lost")
            return self.choose.randint(0, commands)
        return None

    def table_writer(self) -> TableWriter:
        """Return a way into PostgreSQL: in the place of ``PostgresWriter``."""
        return TableWriter(
            self.tables,
            self.choose,
            is_away=lambda: self.postgres_is_away,
            loses=lambda: self.faults_on and self.choose.random() < self.plan.lose_probability,
            positions_first=self.breakage is POSITIONS_FIRST,
        )

    # ------------------------------------------------------------ the end

    def _spawn(self, work: Any) -> None:
        self._background.append(self.loop.create_task(work))

    def _tear_down(self) -> None:
        """End every task, those of killed processes too, where nothing has an effect any more."""
        self.ending = True
        self.faults_on = False
        self.network.is_over = True
        self.network.listeners.clear()

        async def end_all() -> None:
            me = asyncio.current_task()
            while left := [one for one in self.loop.tasks if not one.done() and one is not me]:
                for task in left:
                    task.cancel()
                for process in self.processes:
                    self.loop.resume(process)
                await asyncio.sleep(0)

        self.loop.run_until_complete(end_all())

    def _digest(self) -> str:
        digest = hashlib.blake2b(digest_size=8)
        digest.update(f"{self.loop.time()} {self.loop.steps} {self.failures}".encode())
        for shard, symbols in enumerate(self.plan.shards, 1):
            for symbol in symbols:
                for kind in ("orders", "events"):
                    for _, fields in self.redis.history(shard, f"{kind}:{symbol}"):
                        digest.update(fields[1])
        return digest.hexdigest()


async def _coroutine(body: Callable[[], Awaitable[None]]) -> None:
    await body()


def _where(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)[-4:]
    where = " > ".join(f"{Path(one.filename).name}:{one.lineno}" for one in frames)
    return f"{type(error).__name__}: {error} ({where})"
