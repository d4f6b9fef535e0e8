"""The schedule's changes, on a virtual clock: each once, whoever makes them, and never too many."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, time

import pytest

from engine.commands import SetPhase, decode_command
from engine.enums import PhaseReason, TradingPhase
from ops.schedule import DAYS, Timetable
from ops.schedule_keeper import ScheduleKeeper
from router import keys
from router.homes import Home
from router.phases import PhaseRequest, request_phase
from tests.helpers import eventually_async
from tests.router_helpers import BTC, ETH, SOL, SmallVenue, clear_server, small_venue

PRE_OPEN, OPEN, CLOSED = TradingPhase.PRE_OPEN, TradingPhase.CONTINUOUS, TradingPhase.CLOSED
HOURS = Timetable(UTC, DAYS[:5], [(time(8), PRE_OPEN), (time(9), OPEN), (time(17), CLOSED)])
TIMETABLES = {BTC: HOURS, SOL: HOURS}


class Clock:
    """A moment that the test moves."""

    def __init__(self, text: str) -> None:
        self.now_us = 0
        self.set(text)

    def set(self, text: str) -> None:
        """Move to a moment in UTC."""
        moment = datetime.fromisoformat(f"{text}+00:00")
        self.now_us = int(moment.timestamp()) * 1_000_000

    def __call__(self) -> int:
        return self.now_us


class Role:
    """A leadership that comes when the test says so."""

    def __init__(self) -> None:
        self.led = asyncio.Event()

    @property
    def is_leading(self) -> bool:
        return self.led.is_set()

    async def wait_until_leading(self) -> None:
        await self.led.wait()


@pytest.fixture
async def venue(redis_url: str) -> AsyncIterator[SmallVenue]:
    async with small_venue(redis_url) as venue:
        yield venue


def keeper(venue: SmallVenue, clock: Clock, homes: dict[str, Home] | None = None) -> ScheduleKeeper:
    shard_homes = homes or venue.shard_homes(1)
    return ScheduleKeeper(venue.new_link(), Role(), shard_homes, TIMETABLES, now_us=clock)


async def changes(venue: SmallVenue, symbol: str = BTC) -> list[TradingPhase]:
    stream = await venue.stream(keys.orders(symbol), db=venue.homes[symbol].db)
    found = [decode_command(fields["c"]) for _, fields in stream[1:]]
    return [one.phase for one in found if isinstance(one, SetPhase)]


async def test_a_week_is_opened_and_closed(venue: SmallVenue) -> None:
    clock = Clock("2026-01-08T06:00")
    keeps = keeper(venue, clock)
    for day in range(8, 14):
        for hour in range(6, 20):
            clock.set(f"2026-01-{day:02d}T{hour:02d}:30")
            await keeps.make_due()
    # Closed since the day before; then Thursday, Friday, Monday, Tuesday.
    assert await changes(venue) == [CLOSED, *([PRE_OPEN, OPEN, CLOSED] * 4)]
    assert await changes(venue, ETH) == []
    assert await changes(venue, SOL) == [], "another shard's engine opens it"


async def test_a_late_start_makes_only_the_last_change_that_was_due(venue: SmallVenue) -> None:
    await keeper(venue, Clock("2026-01-05T10:00")).make_due()
    await keeper(venue, Clock("2026-01-07T18:00")).make_due()
    assert await changes(venue) == [OPEN, CLOSED]


async def test_neither_a_restart_nor_the_other_engine_makes_a_change_again(
    venue: SmallVenue,
) -> None:
    clock = Clock("2026-01-05T09:00")
    await keeper(venue, clock).make_due()
    await request_phase(venue.link, PhaseRequest(venue.homes[BTC], TradingPhase.HALTED, "operator"))
    await asyncio.gather(*(keeper(venue, clock).make_due() for _ in range(4)))
    assert await changes(venue) == [OPEN, TradingPhase.HALTED]


async def test_a_clock_that_goes_back_undoes_nothing(venue: SmallVenue) -> None:
    await keeper(venue, Clock("2026-01-05T09:00")).make_due()
    await keeper(venue, Clock("2026-01-05T08:59")).make_due()
    assert await changes(venue) == [OPEN]


async def test_a_follower_waits_and_a_leader_makes_what_is_due_then(venue: SmallVenue) -> None:
    clock, role = Clock("2026-01-05T08:30"), Role()
    link, homes = venue.new_link(), venue.shard_homes(1)
    running = asyncio.create_task(ScheduleKeeper(link, role, homes, TIMETABLES, now_us=clock).run())
    try:
        await keeper(venue, clock, {ETH: venue.homes[ETH]}).run()  # no schedule: it ends
        assert await changes(venue) == []
        clock.set("2026-01-05T16:59")
        role.led.set()

        async def opened() -> bool:
            return await changes(venue) == [OPEN]

        assert await eventually_async(opened)
        stream = await venue.stream(keys.orders(BTC), db=1)
        command = decode_command(stream[-1][1]["c"])
        assert command == SetPhase(OPEN, PhaseReason.SCHEDULE)
    finally:
        running.cancel()


async def test_what_is_due_waits_until_the_server_is_cleared(venue: SmallVenue) -> None:
    async with venue.link.sibling(1) as link:
        await link.call("SET", keys.CLEARED, "0" * 40)
    making = asyncio.create_task(keeper(venue, Clock("2026-01-05T10:00")).make_due())
    await clear_server(venue.link, 1)
    await making
    assert await changes(venue) == [OPEN]
