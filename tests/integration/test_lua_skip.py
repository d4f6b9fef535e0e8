"""Skips on a real Redis: recorded once, for what is not settled, and the lease goes with it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec
import pytest

from engine.commands import CancelAll, encode_command
from engine.events import Output, Skipped, encode_output
from engine.limits import SKIP_REASON_LENGTH_MAX
from ops.commands_skip import Outcome, wait_until_passed
from ops.errors import CommandFailed
from router import keys
from router.commit import Committer
from router.errors import Fenced, OutOfMemory, SkipRefused, SkipsChanged
from router.lease import Lease, read_leader
from router.skips import Skippable, add_skip, check_reason, check_skips, find_skippable, read_skips
from tests.router_helpers import (
    BTC,
    ETH,
    SOL,
    SmallVenue,
    no_memory,
    settlement,
    small_venue,
)

WHY = "trips an assertion"


@pytest.fixture
async def venue(redis_url: str) -> AsyncIterator[SmallVenue]:
    async with small_venue(redis_url) as venue:
        # Every symbol's definition has been settled: the next input is seq 2.
        await venue.link.call("HSET", keys.SETTLED, BTC, 1, ETH, 1, SOL, 1)
        yield venue


async def append(venue: SmallVenue, seq: int, data: bytes = b"garbage", symbol: str = BTC) -> None:
    home = venue.homes[symbol]
    async with venue.link.sibling(home.db) as link:
        await link.call("XADD", keys.orders(symbol), f"{seq}-0", "c", data, "t", seq)


async def lead(venue: SmallVenue, *, owner: str = "engine-1") -> tuple[Lease, Committer]:
    lease = Lease(venue.new_link(1), owner=owner, ttl_ms=60_000)
    assert await lease.try_acquire() is None
    return lease, Committer(venue.link, lease, venue.shard_homes(1))


async def refusal(venue: SmallVenue, seq: int, *, symbol: str = BTC, reason: str = WHY) -> str:
    """Try to skip an input, and return why not; nothing may have changed."""
    before = await venue.dump()
    with pytest.raises(SkipRefused) as caught:
        await add_skip(venue.link, await find_skippable(venue.link, symbol, seq), reason)
    assert await venue.dump() == before
    return str(caught.value)


async def test_a_skip_is_recorded_and_the_lease_is_gone(venue: SmallVenue) -> None:
    lease, committer = await lead(venue)
    await append(venue, 2)
    found = await find_skippable(venue.link, BTC, 2)
    assert found == Skippable(venue.homes[BTC], 2, b"garbage", None, 1, 2)
    await add_skip(venue.link, found, WHY)

    link = venue.new_link(1)
    assert await read_skips(link, (BTC, ETH)) == {BTC: {2: WHY}, ETH: {}}
    (stamp, _, reason) = (await link.call("HGET", keys.skips(BTC), 2)).decode().partition(" ")
    assert (int(stamp) > 1_600_000_000_000_000, reason) == (True, WHY)
    assert await read_leader(link) is None
    with pytest.raises(Fenced):
        await lease.renew()
    with pytest.raises(Fenced):
        await committer.commit([settlement(BTC, 1)])
    new, committer = await lead(venue, owner="engine-1-standby")
    assert new.epoch == lease.epoch + 2
    await committer.commit([settlement(BTC, 1), settlement(BTC, 2)])


async def test_a_shard_that_never_had_a_leader_can_be_skipped_in(venue: SmallVenue) -> None:
    await append(venue, 2, symbol=SOL)
    await add_skip(venue.link, await find_skippable(venue.link, SOL, 2), WHY)
    assert await read_skips(venue.new_link(2), [SOL]) == {SOL: {2: WHY}}


async def test_a_command_is_shown_decoded(venue: SmallVenue) -> None:
    await append(venue, 2, encode_command(CancelAll(5)))
    assert (await find_skippable(venue.link, BTC, 2)).command == CancelAll(5)


async def test_what_cannot_be_skipped_is_refused_by_name(venue: SmallVenue) -> None:
    await append(venue, 2)
    assert await refusal(venue, 2, symbol="NO-USD") == "NO-USD: there is no such symbol"
    assert await refusal(venue, 3) == f"{BTC} seq 3: the stream ends at 2"
    await venue.link.call("HDEL", keys.SETTLED, BTC)
    assert "defines version 1 of the symbol's rules" in await refusal(venue, 1)
    _, committer = await lead(venue)
    await committer.commit([settlement(BTC, 1), settlement(BTC, 2)])
    assert await refusal(venue, 2) == (
        f"{BTC} seq 2: settled already, up to 2: what has happened stays"
    )


async def test_what_was_settled_meanwhile_is_refused(venue: SmallVenue) -> None:
    await append(venue, 2)
    found = await find_skippable(venue.link, BTC, 2)
    _, committer = await lead(venue)
    await committer.commit([settlement(BTC, 1), settlement(BTC, 2)])
    before = await venue.dump()
    with pytest.raises(SkipRefused, match="settled already, up to 2"):
        await add_skip(venue.link, found, WHY)
    assert await venue.dump() == before


async def test_an_input_that_was_not_shown_is_refused(venue: SmallVenue) -> None:
    await append(venue, 2)
    found = await find_skippable(venue.link, BTC, 2)
    async with venue.link.sibling(1) as link:
        await link.call("XTRIM", keys.orders(BTC), "MAXLEN", 0)
    with pytest.raises(SkipRefused, match="not the one that was looked at"):
        await add_skip(venue.link, found, WHY)
    async with venue.link.sibling(1) as link:
        await link.call("DEL", keys.orders(BTC))
    await append(venue, 2, b"other")
    with pytest.raises(SkipRefused, match="not the one that was looked at"):
        await add_skip(venue.link, found, WHY)
    async with venue.link.sibling(1) as link:
        await link.call("SET", keys.home(BTC), "other")
    with pytest.raises(SkipRefused, match="not the one that was looked at"):
        await add_skip(venue.link, found, WHY)
    assert await read_skips(venue.new_link(1), [BTC]) == {BTC: {}}


async def test_only_the_next_input_is_skipped_and_once(venue: SmallVenue) -> None:
    for seq in (2, 3):
        await append(venue, seq)
    await add_skip(venue.link, await find_skippable(venue.link, BTC, 2), WHY)
    assert await refusal(venue, 2) == f"{BTC} seq 2: it is to be skipped already"
    text = "settled is 1: an engine stops at 2 or nowhere yet"
    assert await refusal(venue, 3) == f"{BTC} seq 3: {text}"
    await venue.link.call("HSET", keys.SETTLED, BTC, 2)
    await add_skip(venue.link, await find_skippable(venue.link, BTC, 3), "again")
    assert await read_skips(venue.new_link(1), [BTC]) == {BTC: {2: WHY, 3: "again"}}


@pytest.mark.parametrize(
    ("reason", "why"),
    [
        ("", "it is empty"),
        (" ", "it is empty"),
        ("x" * (SKIP_REASON_LENGTH_MAX + 1), f"expected at most {SKIP_REASON_LENGTH_MAX}"),
        ("two\nlines", "one line"),
        ("a\x01b", "one line"),
    ],
)
async def test_a_reason_is_one_short_line(venue: SmallVenue, reason: str, why: str) -> None:
    await append(venue, 2)
    assert why in await refusal(venue, 2, reason=reason)
    check_reason("x" * SKIP_REASON_LENGTH_MAX)


async def test_without_memory_nothing_is_written(venue: SmallVenue) -> None:
    await append(venue, 2)
    found = await find_skippable(venue.link, BTC, 2)
    before = await venue.dump()
    async with no_memory(venue.link):
        with pytest.raises(OutOfMemory):
            await add_skip(venue.link, found, WHY)
    assert await venue.dump() == before


async def test_an_engine_that_does_not_know_a_skip_must_not_lead(venue: SmallVenue) -> None:
    link = venue.new_link(1)
    known = await read_skips(link, (BTC, ETH))
    await check_skips(link, known)
    await append(venue, 2)
    await add_skip(venue.link, await find_skippable(venue.link, BTC, 2), WHY)
    with pytest.raises(SkipsChanged, match=f"{BTC}: inputs were skipped"):
        await check_skips(link, known)
    await check_skips(link, await read_skips(link, (BTC, ETH)))


async def test_the_command_waits_for_an_engine_and_says_when_none_came(venue: SmallVenue) -> None:
    await append(venue, 2)
    found = await find_skippable(venue.link, BTC, 2)
    await add_skip(venue.link, found, WHY)
    with pytest.raises(CommandFailed, match="recorded, but no engine has passed it"):
        await wait_until_passed(venue.link, found, WHY, 0.1)
    _, committer = await lead(venue)
    skipped = Output(BTC, 2, 2, [Skipped(0, 0, "", WHY, None)], [])
    await committer.commit(
        [settlement(BTC, 1), settlement(BTC, 2, event=encode_output(skipped))],
    )
    outcome = Outcome(BTC, 2, WHY, None, 0, "", {}, 2)
    assert await wait_until_passed(venue.link, found, WHY, 5) == outcome
    await append(venue, 3)
    await committer.commit([settlement(BTC, 3)])
    async with venue.link.sibling(1) as link:
        await link.call("XTRIM", keys.events(BTC), "MINID", 3)
    outcome = msgspec.structs.replace(outcome, settled=3)
    assert await wait_until_passed(venue.link, found, WHY, 5) == outcome


async def test_a_skip_that_was_not_obeyed_is_said(venue: SmallVenue) -> None:
    await append(venue, 2)
    found = await find_skippable(venue.link, BTC, 2)
    _, committer = await lead(venue)
    applied = encode_output(Output(BTC, 2, 2, [], []))
    await committer.commit([settlement(BTC, 1), settlement(BTC, 2, event=applied)])
    with pytest.raises(CommandFailed, match="was applied all the same"):
        await wait_until_passed(venue.link, found, WHY, 5)
