"""The torture: clients trade in a private venue while its parts are killed, paused and restarted.

Start ▸ everybody logs on ▸ trading under blows (torture_chaos.py) ▸ every part is back ▸ clients
stop ▸ everything comes to rest ▸ clients log out ▸ checks (torture_checks.py). Each wait has a
limit, and says what it waited for.

The seed decides the plan of blows and every choice of the clients. When the machine does what is
not for us to decide, so the same seed gives a similar run, not the same one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from marketdata.subscriber import MarketSubscriber
from ops.demo_users import read_demo_users
from ops.endpoints import Credentials, endpoints_path, read_endpoints
from ops.errors import CommandFailed, FixClientFailed
from ops.private_venue import PrivateSymbol, PrivateVenue, private_venue
from ops.progress import ProgressReader
from ops.torture_chaos import Chaos
from ops.torture_checks import check_venue
from ops.torture_deposits import Depositor
from ops.torture_parts import REDIS, Parts, kind_of, part_names
from ops.torture_requests import BURST_MAX
from ops.torture_trader import Trader
from ops.wiring import accounts_link, shard_map
from router import keys
from router.dense_ids import last_entry, last_number
from router.errors import RedisUnavailable
from router.redis_client import RedisLink

GATEWAYS = 2
SHARDS = 2
SYMBOLS = (
    PrivateSymbol("ALFA-USD", maker_fee_ppm=100, taker_fee_ppm=250),
    PrivateSymbol("BETA-USD", maker_fee_ppm=0, taker_fee_ppm=300),
    PrivateSymbol("GAMMA-USD", maker_fee_ppm=200, taker_fee_ppm=200),
    PrivateSymbol("DELTA-USD", maker_fee_ppm=50, taker_fee_ppm=0),
)
CLIENTS_MAX = 12
"""As many users as a private venue has."""

LOGON_WITHIN_S = 30.0
LOOK_S = 0.2
PROGRESS_S = 1.0


class Options(msgspec.Struct, frozen=True):
    """What is wanted.

    Args:
        seconds: how long clients trade while parts are killed.
        seed: see the head of this file.
        clients: FIX sessions, each with an account of its own; at most CLIENTS_MAX.
        messages_per_s: of all clients together, while nobody waits.
        standby: whether each shard has a second engine.
        patience_s: how long trading may stand still while all is up; twice that a part may be down,
            and all may take to come to rest.
        only: kinds of parts that are struck; none: all.
        fail_fast: end at the first failure, without the checks at the end.
        parent: where the venue's directory is made.
    """

    seconds: float
    seed: int
    clients: int
    messages_per_s: int
    standby: bool
    patience_s: float
    only: tuple[str, ...]
    fail_fast: bool
    parent: Path


class Torture:
    """One run.

    Args:
        options: what is wanted.
        say: called with lines that stay: failures as they come.
        show: called with one line on how far it is.

    Attributes:
        failures: what was found, one line each; none means clean.
        kept: the venue's directory, once it is sure to stay.
        traders, chaos, depositor: as they were at the end; None if the venue never ran.
    """

    def __init__(
        self, options: Options, *, say: Callable[[str], None], show: Callable[[str], None]
    ) -> None:
        self.options = options
        self.failures: list[str] = []
        self.kept: Path | None = None
        self.traders: list[Trader] = []
        self.chaos: Chaos | None = None
        self.depositor: Depositor | None = None
        self._say = say
        self._show = show
        self._failed = asyncio.Event()
        self._began_s = time.monotonic()
        self._log: list[str] = []

    async def run(self) -> None:
        """Do everything, the private venue's start and stop included.

        Raises:
            ProcessFailed: the private venue did not start.
        """
        options = self.options
        self._show("starting a private venue")
        async with private_venue(
            SYMBOLS,
            parent=options.parent,
            shards=SHARDS,
            gateways=GATEWAYS,
            standby=options.standby,
            keeps=lambda: bool(self.failures),
        ) as venue:
            directory = venue.settings.var_dir.parent
            try:
                async with self._cast(venue) as subscriber:
                    await self._play(venue, subscriber)
            except* (KeyError, ValueError, AssertionError) as group:
                # Somebody said what no client can understand.
                for error in group.exceptions:
                    self.fail(f"stopped by {error!r}")
            finally:
                self._write_log(directory)
                if self.failures:
                    self.kept = directory

    def fail(self, text: str) -> None:
        """Note a failure."""
        self.failures.append(text)
        self._note(f"FAILED: {text}")
        self._say(f"FAILED: {text}")
        self._failed.set()

    # ------------------------------------------------------------ who takes part

    @asynccontextmanager
    async def _cast(self, venue: PrivateVenue) -> AsyncIterator[MarketSubscriber]:
        """Let traders, subscriber, depositor and watch run for as long as the context lasts."""
        options, symbols = self.options, [one.name for one in SYMBOLS]

        def ports() -> list[int]:
            endpoints = read_endpoints(endpoints_path(venue.settings.var_dir)) or venue.endpoints
            return [one.port for one in endpoints.fix]

        self.traders = [
            Trader(
                user,
                venue.endpoints.target_comp_id,
                symbols,
                seed=f"{options.seed}/client-{number}",
                ports=ports,
                gateway=number,
                pause_s=options.clients * (1 + BURST_MAX) / 2 / options.messages_per_s,
                roams=True,
            )
            for number, user in enumerate(_users(venue, options.clients))
        ]
        names = part_names(GATEWAYS, SHARDS, standby=options.standby)
        struck = [*names, REDIS, *(f"engine-{shard}" for shard in range(1, SHARDS + 1))]
        parts = Parts(venue, names)
        self.chaos = Chaos(
            venue,
            parts,
            self.traders,
            seed=options.seed,
            names=names,
            struck=[one for one in struck if not options.only or kind_of(one) in options.only],
            has_standbys=options.standby and not options.only,
            patience_s=options.patience_s,
            ports=ports,
            fail=self.fail,
            say=self._note,
        )
        accounts = [one.account for one in self.traders]
        assets = [one.name for one in venue.settings.assets]
        subscriber = MarketSubscriber(venue.endpoints.redis_url, symbols)
        async with (
            _link(venue, "torture-deposits") as link,
            asyncio.TaskGroup() as tasks,
        ):
            self.depositor = Depositor(link, accounts, assets, seed=f"{options.seed}/deposits")
            works = [subscriber.run(), self.chaos.watch(), self._report_progress()]
            running = [tasks.create_task(work) for work in works]
            running += [tasks.create_task(trader.run()) for trader in self.traders]
            try:
                yield subscriber
            finally:
                for task in running:
                    task.cancel()
                await asyncio.wait(running)
                await parts.close()

    async def _report_progress(self) -> None:
        while True:
            wrong = [one for trader in self.traders for one in trader.record.wrong]
            if wrong and self.options.fail_fast and not self._failed.is_set():
                self.fail(wrong[0])
            answers = sum(sum(one.record.answers.values()) for one in self.traders)
            blows = self.chaos.done if self.chaos is not None else {}
            done = ", ".join(f"{count} {action}s" for action, count in sorted(blows.items()))
            self._show(f"{answers:,} messages answered; {done or 'no blow yet'}")
            await asyncio.sleep(PROGRESS_S)

    # ------------------------------------------------------------ the play

    async def _play(self, venue: PrivateVenue, subscriber: MarketSubscriber) -> None:
        options, chaos, depositor = self.options, self.chaos, self.depositor
        assert chaos is not None and depositor is not None, "the cast is there"
        if not await self._wait("not logged on", self._not_logged_on, LOGON_WITHIN_S):
            return
        self._trade(True)
        depositing = asyncio.ensure_future(depositor.run())
        try:
            await self._blows(chaos)
            if self._is_over:
                return
            # A part may take twice the patience, and trading again as long behind it.
            back_within_s = 4 * options.patience_s
            if not await self._wait("not back", _async(chaos.still_out), back_within_s):
                return
            depositor.stop()
            await depositing
        finally:
            self._trade(False)
            depositing.cancel()
        await self._come_to_rest(venue)
        if self._is_over:
            return
        self._show("checking")
        async with _link(venue, "torture-checks") as link:
            for line in await depositor.check():
                self.fail(line)
            async for line in check_venue(venue, link, self.traders, subscriber):
                self.fail(line)

    @property
    def _is_over(self) -> bool:
        return self.options.fail_fast and self._failed.is_set()

    def _trade(self, trading: bool) -> None:
        for trader in self.traders:
            trader.trading = trading

    async def _blows(self, chaos: Chaos) -> None:
        """Deal blows for the wanted time, or until the first failure where that ends the run."""
        dealing = asyncio.ensure_future(chaos.run())
        ending = [dealing]
        if self.options.fail_fast:
            ending.append(asyncio.ensure_future(_wait_for(self._failed)))
        try:
            await asyncio.wait(
                ending, timeout=self.options.seconds, return_when=asyncio.FIRST_COMPLETED
            )
            if dealing.done():
                dealing.result()
        finally:
            for task in ending:
                task.cancel()
            await asyncio.wait(ending)

    async def _come_to_rest(self, venue: PrivateVenue) -> None:
        async with _link(venue, "torture-rest") as link:
            reader = ProgressReader(link, shard_map(venue.settings, link.url).shards)
            try:

                async def not_at_rest() -> list[str]:
                    return await self._not_at_rest(link, reader)

                if not await self._wait("not at rest", not_at_rest, 2 * self.options.patience_s):
                    return
            finally:
                await reader.close()
        for trader in self.traders:
            try:
                await trader.finish()
            except FixClientFailed as error:
                self.fail(f"client {trader.account}: {error}")

    async def _not_logged_on(self) -> list[str]:
        return [
            f"client {one.account} ({one.refused or 'no answer yet'})"
            for one in self.traders
            if not one.is_active
        ]

    async def _not_at_rest(self, link: RedisLink, reader: ProgressReader) -> list[str]:
        """Return what is still under way."""
        waiting = await self._not_logged_on()
        waiting += [
            f"client {one.account} has {len(one.record.unanswered)} messages without an answer"
            for one in self.traders
            if one.record.unanswered
        ]
        waiting += [
            f"client {one.account} has {one.record.expiring} orders that are to expire"
            for one in self.traders
            if one.record.expiring
        ]
        try:
            lags = (await reader.read()).lags()
            for one in self.traders:
                cursor = int(await link.call("HGET", keys.session(one.account), "cursor") or 0)
                end = last_number(await link.call(*last_entry(keys.outbox(one.account))))
                if cursor != end:
                    waiting.append(f"client {one.account} was told {cursor} of {end} reports")
        except RedisUnavailable as error:
            return [f"Redis: {error}"]
        return waiting + [f"{name} is {lag} entries behind" for name, lag in lags.items() if lag]

    async def _wait(
        self, what: str, waiting: Callable[[], Awaitable[list[str]]], within_s: float
    ) -> bool:
        """Wait until nothing is waited for; after the time-out each of it is a failure."""
        deadline_s = time.monotonic() + within_s
        while left := await waiting():
            if self._is_over:
                return False
            if time.monotonic() > deadline_s:
                for one in left:
                    self.fail(f"{what} within {within_s:.0f} s: {one}")
                return False
            await asyncio.sleep(LOOK_S)
        return True

    def _note(self, text: str) -> None:
        self._log.append(f"{time.monotonic() - self._began_s:8.2f} {text}")

    def _write_log(self, directory: Path) -> None:
        (directory / "torture.log").write_text("\n".join(self._log) + "\n")


async def _wait_for(event: asyncio.Event) -> None:
    await event.wait()


def _async(function: Callable[[], list[str]]) -> Callable[[], Awaitable[list[str]]]:
    async def call() -> list[str]:
        return function()

    return call


@asynccontextmanager
async def _link(venue: PrivateVenue, name: str) -> AsyncIterator[RedisLink]:
    async with accounts_link(venue.settings, venue.endpoints.redis_url, name=name) as link:
        yield link


def _users(venue: PrivateVenue, count: int) -> list[Credentials]:
    """Return the first users of a venue that has the demo's.

    Raises:
        CommandFailed: it has fewer.
    """
    users = read_demo_users(venue.settings.var_dir)
    accounts = [] if users is None else [*users.traders, *users.visitors]
    if users is None or len(accounts) < count:
        raise CommandFailed(f"the private venue has {len(accounts)} users, {count} are wanted")
    return [Credentials(str(one), str(one), users.password) for one in accounts[:count]]
