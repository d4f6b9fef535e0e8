"""The scripts that append SetPhase and Tick: once, on a cleared server, and only by who may."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec
import pytest

from engine.commands import Command, SetPhase, Tick, decode_command
from engine.enums import PhaseReason, TradingPhase
from engine.events import Output, PhaseChanged, encode_output
from engine.limits import PHASE_REQUEST_KEPT_S
from ops.commands_phase import WAIT_MAX_S, text_of, wait_for_change
from router import keys
from router.errors import Fenced, HomeMismatch, OutOfMemory, RedisUnavailable, Uncleared
from router.lease import Lease
from router.phases import PhaseRequest, PlacedChange, request_phase, schedule_phase
from router.ticks import Ticker
from tests.router_helpers import (
    BTC,
    ETH,
    SOL,
    LossyProxy,
    SmallVenue,
    clear_server,
    make_link,
    no_memory,
    small_venue,
)

OTHER_SERVER = "0" * 40
HALTED, CLOSED = TradingPhase.HALTED, TradingPhase.CLOSED


@pytest.fixture
async def venue(redis_url: str) -> AsyncIterator[SmallVenue]:
    async with small_venue(redis_url) as venue:
        yield venue


async def commands(venue: SmallVenue, symbol: str) -> list[Command]:
    """Return what stands behind the definition of a symbol."""
    db = venue.homes[symbol].db
    return [
        decode_command(fields["c"]) for _, fields in await venue.stream(keys.orders(symbol), db=db)
    ][1:]


async def leave_mark_of_another_server(venue: SmallVenue, db: int) -> None:
    async with venue.link.sibling(db) as link:
        await link.call("SET", keys.CLEARED, OTHER_SERVER)


def request(venue: SmallVenue, phase: TradingPhase = HALTED, name: str = "r1") -> PhaseRequest:
    return PhaseRequest(venue.homes[BTC], phase, name)


# ---------------------------------------------------------------- changes of the phase


async def test_a_request_becomes_a_command_once(venue: SmallVenue) -> None:
    assert await request_phase(venue.link, request(venue)) == PlacedChange(2, 2)
    assert await request_phase(venue.link, request(venue)) == PlacedChange(2, 2)
    assert await commands(venue, BTC) == [SetPhase(HALTED, PhaseReason.OPERATOR)]
    assert await request_phase(venue.link, request(venue, name="r2")) == PlacedChange(3, 3)
    assert await commands(venue, ETH) == []


async def test_a_request_whose_reply_was_lost_counts_once(venue: SmallVenue) -> None:
    async with LossyProxy(venue.link.url) as proxy, make_link(proxy.url) as link:
        await request_phase(link, request(venue, name="r0"))
        proxy.replies_to_lose = 1
        with pytest.raises(RedisUnavailable):
            await request_phase(link, request(venue))
        assert await request_phase(link, request(venue)) == PlacedChange(3, 3)
    assert len(await commands(venue, BTC)) == 2


async def test_a_request_repeated_after_newer_changes_undoes_nothing(venue: SmallVenue) -> None:
    async with LossyProxy(venue.link.url) as proxy, make_link(proxy.url) as link:
        await schedule_phase(link, venue.homes[BTC], CLOSED, scheduled_us=400)
        proxy.replies_to_lose = 1
        with pytest.raises(RedisUnavailable):
            await request_phase(link, request(venue, HALTED, "first"))
        for number in range(3):
            other = request(venue, TradingPhase.CONTINUOUS, f"second-{number}")
            await request_phase(venue.link, other)
        assert await request_phase(link, request(venue, HALTED, "first")) == PlacedChange(3, 6)
        await schedule_phase(venue.link, venue.homes[BTC], CLOSED, scheduled_us=500)
        assert await request_phase(link, request(venue, HALTED, "first")) == PlacedChange(3, 7)
    assert len(await commands(venue, BTC)) == 6


async def test_an_operator_is_told_what_stands_now(venue: SmallVenue) -> None:
    home = venue.homes[BTC]
    async with venue.link.sibling(1) as link:
        for seq, phase in ((1, HALTED), (2, TradingPhase.PRE_OPEN)):
            changed = PhaseChanged(0, phase, PhaseReason.OPERATOR)
            output = encode_output(Output(BTC, seq, seq, [changed], []))
            await link.call("XADD", keys.events(BTC), f"{seq}-0", "e", output)
    alone = await wait_for_change(venue.link, home, PlacedChange(1, 1), deadline_s=0)
    assert text_of(alone) == f"{BTC}: halted (seq 1)"
    overtaken = await wait_for_change(venue.link, home, PlacedChange(1, 2), deadline_s=0)
    assert (overtaken.newer_seq, overtaken.newer_phase) == (2, "pre-open")
    assert text_of(overtaken) == f"{BTC}: halted (seq 1); changed again since (seq 2): pre-open"
    # Ours is settled: that somebody else's is not yet, makes it no failure.
    unsettled = await wait_for_change(venue.link, home, PlacedChange(1, 3), deadline_s=0)
    stands = f"changed again since (seq 3): see shardex phase {BTC}"
    assert text_of(unsettled) == f"{BTC}: halted (seq 1); {stands}"


async def test_the_name_of_a_request_is_known_for_a_day(venue: SmallVenue) -> None:
    await request_phase(venue.link, request(venue))
    async with venue.link.sibling(1) as link:
        left_s = await link.call("TTL", f"{keys.phase(BTC)}:r1")
    assert PHASE_REQUEST_KEPT_S - 60 <= left_s <= PHASE_REQUEST_KEPT_S
    assert 20 * WAIT_MAX_S < PHASE_REQUEST_KEPT_S


async def test_stamps_never_fall(venue: SmallVenue) -> None:
    async with venue.link.sibling(1) as link:
        await link.call("XADD", keys.orders(BTC), "2-0", "c", b"x", "t", "9" * 16)
    await request_phase(venue.link, request(venue))
    stream = await venue.stream(keys.orders(BTC), db=1)
    assert [fields["t"] for _, fields in stream[1:]] == [b"9" * 16] * 2


@pytest.mark.parametrize("db", [0, 1])
async def test_nothing_is_appended_on_a_server_that_is_not_cleared(
    venue: SmallVenue, db: int
) -> None:
    await leave_mark_of_another_server(venue, db)
    with pytest.raises(Uncleared):
        await request_phase(venue.link, request(venue))
    assert await commands(venue, BTC) == []
    await clear_server(venue.link, db)
    assert await request_phase(venue.link, request(venue)) == PlacedChange(2, 2)


@pytest.mark.parametrize("db", [0, 1])
async def test_another_home_is_refused(venue: SmallVenue, db: int) -> None:
    async with venue.link.sibling(db) as link:
        if db:
            await link.call("SET", keys.home(BTC), "another")
        else:
            await link.call("HSET", keys.home(BTC), "incarnation", "another")
    with pytest.raises(HomeMismatch):
        await request_phase(venue.link, request(venue))
    assert await commands(venue, BTC) == []


async def test_without_memory_nothing_is_written(venue: SmallVenue) -> None:
    before = await venue.dump()
    async with no_memory(venue.link):
        with pytest.raises(OutOfMemory):
            await request_phase(venue.link, request(venue))
    assert await venue.dump() == before


async def test_a_scheduled_change_is_made_once_whoever_makes_it(venue: SmallVenue) -> None:
    home = venue.homes[BTC]
    assert await schedule_phase(venue.link, home, CLOSED, scheduled_us=500)
    assert not await schedule_phase(venue.link, home, CLOSED, scheduled_us=500)
    assert not await schedule_phase(venue.new_link(), home, CLOSED, scheduled_us=400)
    # An operator's change in between does not bring it back.
    assert await request_phase(venue.link, request(venue)) == PlacedChange(3, 3)
    assert not await schedule_phase(venue.link, home, CLOSED, scheduled_us=500)
    assert await schedule_phase(venue.link, home, CLOSED, scheduled_us=501)
    reasons = [one.reason for one in await commands(venue, BTC) if isinstance(one, SetPhase)]
    expected = [PhaseReason.SCHEDULE, PhaseReason.OPERATOR, PhaseReason.SCHEDULE]
    assert reasons == expected


# ---------------------------------------------------------------- ticks


class Due(msgspec.Struct):
    """An engine's state as far as a Ticker looks at it."""

    due: dict[str, int]
    positions: dict[str, int]

    def due_us(self, symbol: str) -> int:
        return self.due.get(symbol, 0)

    def position(self, symbol: str) -> int:
        return self.positions[symbol]


class Leads:
    """An engine that leads; the script is what finds out that it does not."""

    is_leading = True

    async def wait_until_leading(self) -> None:
        return None


async def make_ticker(
    venue: SmallVenue, due: dict[str, int], *, seq: int = 1, now_us: int = 1 << 52
) -> tuple[Ticker, Due]:
    lease = Lease(venue.new_link(1), owner="engine", ttl_ms=60_000)
    assert await lease.try_acquire() is None
    state = Due(due, {BTC: seq, ETH: seq})
    link, homes = venue.new_link(), venue.shard_homes(1)
    return Ticker(link, lease, Leads(), homes, state, now_ns=lambda: now_us * 1_000), state


async def test_a_symbol_in_which_something_is_due_gets_one_tick_until_it_is_applied(
    venue: SmallVenue,
) -> None:
    ticker, state = await make_ticker(venue, {BTC: 1})
    assert await ticker.look() == 1
    assert await ticker.look() == 0
    assert await commands(venue, BTC) == [Tick()]
    state.positions[BTC] = 2
    assert await ticker.look() == 1
    assert (await commands(venue, BTC), await commands(venue, ETH)) == ([Tick(), Tick()], [])
    assert ticker.appended == 2


async def test_an_input_that_came_makes_a_tick_needless(venue: SmallVenue) -> None:
    ticker, _ = await make_ticker(venue, {BTC: 1, ETH: 1})
    await request_phase(venue.link, request(venue))
    assert await ticker.look() == 1
    assert (len(await commands(venue, BTC)), await commands(venue, ETH)) == (1, [Tick()])


async def test_nothing_is_asked_before_the_engines_clock_and_nothing_done_before_the_servers(
    venue: SmallVenue,
) -> None:
    far = 1 << 51
    early, _ = await make_ticker(venue, {BTC: far}, now_us=far - 1)
    fast, _ = await make_ticker(venue, {BTC: far})
    assert (await early.look(), await fast.look()) == (0, 0)
    assert await commands(venue, BTC) == []


async def test_an_engine_that_was_replaced_appends_nothing(venue: SmallVenue) -> None:
    ticker, _ = await make_ticker(venue, {BTC: 1})
    await Lease(venue.new_link(1), owner="engine", ttl_ms=60_000).try_acquire()
    with pytest.raises(Fenced):
        await ticker.look()
    assert await commands(venue, BTC) == []


async def test_ticks_stay_in_their_own_venue(venue: SmallVenue) -> None:
    ticker, _ = await make_ticker(venue, {BTC: 1, ETH: 1})
    async with venue.link.sibling(1) as link:
        await link.call("SET", keys.home(ETH), "another")
    with pytest.raises(HomeMismatch):
        await ticker.look()
    assert (await commands(venue, BTC), await commands(venue, SOL)) == ([], [])
