"""The torture: clients trade in a private venue while its parts are killed, paused and restarted.

Start ▸ everybody logs on ▸ trading under blows (torture_chaos.py) ▸ every part is back ▸ clients
stop; some stay away until their orders are canceled ▸ everything comes to rest ▸ everybody asks
what is open, and for old messages ▸ traders log out ▸ checks (torture_checks.py). Each wait has a
limit, and says what it waited for.

The seed decides the plan of blows and every choice of the clients. When the machine does what is
not for us to decide, so the same seed gives a similar run, not the same one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from ops.private_venue import PrivateVenue, private_venue
from ops.progress import ProgressReader
from ops.torture_cast import GATEWAYS, SHARDS, SYMBOLS, Cast, Options, open_link, patient, take_part
from ops.torture_chaos import Chaos
from ops.torture_checks import Witnesses, check_venue
from ops.torture_rest import not_at_rest, not_canceled, not_left, not_logged_on, not_told
from ops.wiring import shard_map

LOOK_S = 0.2
PROGRESS_S = 1.0


class Torture:
    """One run.

    Args:
        options: what is wanted.
        say: called with lines that stay: failures as they come.
        show: called with one line on how far it is.

    Attributes:
        failures: what was found, one line each; none means clean.
        kept: the venue's directory, once it is sure to stay.
        cast: who took part; None if the venue never ran.
    """

    def __init__(
        self, options: Options, *, say: Callable[[str], None], show: Callable[[str], None]
    ) -> None:
        self.options = options
        self.failures: list[str] = []
        self.kept: Path | None = None
        self.cast: Cast | None = None
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
            venue = patient(venue)
            try:
                async with (
                    take_part(venue, options, fail=self.fail, say=self._note) as self.cast,
                    asyncio.TaskGroup() as tasks,
                ):
                    reporting = tasks.create_task(self._report_progress(self.cast))
                    try:
                        await self._play(venue, self.cast)
                    finally:
                        reporting.cancel()
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

    async def _report_progress(self, cast: Cast) -> None:
        while True:
            wrong = [one for client in cast.clients for one in client.complaints.wrong]
            if wrong and self.options.fail_fast and not self._failed.is_set():
                self.fail(wrong[0])
            answers = sum(sum(one.record.answers.values()) for one in cast.traders)
            done = ", ".join(f"{n} {action}s" for action, n in sorted(cast.chaos.done.items()))
            self._show(f"{answers:,} messages answered; {done or 'no blow yet'}")
            await asyncio.sleep(PROGRESS_S)

    # ------------------------------------------------------------ the play

    async def _play(self, venue: PrivateVenue, cast: Cast) -> None:
        options, chaos = self.options, cast.chaos
        logged_on = _async(lambda: not_logged_on(cast.clients))
        if not await self._wait("not logged on", logged_on, 2 * options.patience_s):
            return
        self._trade(cast, True)
        operators = (cast.depositor, cast.phases)
        operating = [asyncio.ensure_future(one.run()) for one in operators]
        try:
            await self._blows(chaos)
            if self._is_over:
                return
            # A part may take twice the patience, and trading again as long behind it.
            back_within_s = 4 * options.patience_s
            if not await self._wait("not back", _async(chaos.still_out), back_within_s):
                return
            for one in operators:
                one.stop()
            await asyncio.gather(*operating)
        finally:
            self._trade(cast, False)
            for task in operating:
                task.cancel()
        self._note("trading has ended")
        await self._come_to_rest(venue, cast)
        if self._is_over:
            return
        self._note("at rest")
        self._show("checking")
        witnesses = Witnesses(
            cast.traders, cast.copier, cast.watchers, cast.subscriber, cast.phases
        )
        async with open_link(venue, "torture-checks") as link:
            for line in await cast.depositor.check():
                self.fail(line)
            async for line in check_venue(venue, link, witnesses):
                self.fail(line)
        self._note("checked")

    @property
    def _is_over(self) -> bool:
        return self.options.fail_fast and self._failed.is_set()

    def _trade(self, cast: Cast, trading: bool) -> None:
        for client in cast.clients:
            client.trading = trading

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

    async def _come_to_rest(self, venue: PrivateVenue, cast: Cast) -> None:
        """Wait until nothing happens any more; then have the venue say how things stand."""
        within_s = 2 * self.options.patience_s
        told = _async(lambda: not_told(cast))
        if not await self._wait("not told", told, within_s) or not await self._rest(venue, cast):
            return
        # It may have taken until somebody was lost again, who can ask for nothing then.
        logged_on = _async(lambda: not_logged_on(cast.clients))
        if not await self._wait("not logged on", logged_on, within_s):
            return
        for trader in cast.traders:
            trader.list_all()
        for client in cast.clients:
            client.ask_again()
        if not await self._wait("not told", told, within_s):
            return
        # Behind the lists, because a gateway notes that it tells a report before it does.
        for trader in cast.canceled:
            if trader.record.open:
                self.fail(f"client {trader.account} was gone, and has {trader.record.open} open")
        leaving = (*cast.traders, cast.copier)
        for client in leaving:
            client.is_leaving = True
        await self._wait("not logged out", _async(lambda: not_left(leaving)), within_s)

    async def _rest(self, venue: PrivateVenue, cast: Cast) -> bool:
        """Wait until those are back whose orders are canceled when they go, and all is at rest."""
        within_s = 2 * self.options.patience_s
        async with open_link(venue, "torture-rest") as link:
            for trader in cast.canceled:
                trader.is_away = True
            canceled = await self._wait(
                "not canceled", lambda: not_canceled(link, cast.canceled), within_s
            )
            for trader in cast.canceled:
                trader.is_away = False
            reader = ProgressReader(link, shard_map(venue.settings, link.url).shards)
            try:
                return canceled and await self._wait(
                    "not at rest", lambda: not_at_rest(link, reader, cast), within_s
                )
            finally:
                await reader.close()

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
