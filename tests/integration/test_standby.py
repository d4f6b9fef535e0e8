"""Two engines of one shard on a real Redis: who leads, and what the other one does meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import msgspec
import pytest

from engine.settlement import Settlement
from router import keys, leadership
from router.clearance import clear
from router.commit import Committer, Position
from router.errors import Fenced, HandedOver, OutputDiffers
from router.leadership import Leadership
from router.lease import Lease, ask_to_hand_over, read_leader
from router.standby import PublishedReader, RoleCommitter
from tests.helpers import DEADLINE_MS, eventually_async
from tests.router_helpers import (
    BTC,
    ETH,
    LossyProxy,
    SmallVenue,
    make_link,
    settlement,
    small_venue,
)

TTL_MS = DEADLINE_MS
"""Of leases here: they run out when a test says so, see ``run_out``."""


@pytest.fixture
async def venue(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[SmallVenue]:
    # A renewal each 100 ms: what a leader learns by it, it learns soon.
    monkeypatch.setattr(leadership, "RENEWALS_PER_TTL", TTL_MS // 100)
    async with small_venue(redis_url) as venue:
        yield venue


class Engine(msgspec.Struct):
    """What an engine of shard 1 has towards Redis."""

    lease: Lease
    leadership: Leadership
    committer: RoleCommitter
    keeping: asyncio.Task[None]

    async def kill(self) -> None:
        """End it without a word to anybody."""
        self.keeping.cancel()
        await asyncio.gather(self.keeping, return_exceptions=True)


@asynccontextmanager
async def engine(
    venue: SmallVenue, name: str, *, url: str = "", ttl_ms: int = TTL_MS
) -> AsyncIterator[Engine]:
    url = url or venue.link.url
    async with AsyncExitStack() as stack:
        lease_link, published, accounts = [
            await stack.enter_async_context(make_link(url, db=db)) for db in (1, 1, 0)
        ]
        lease = Lease(lease_link, owner=name, ttl_ms=ttl_ms)

        async def check() -> None:
            shard = venue.shards[0]
            await clear(accounts, lease, shard, tails={}, with_ledger=True, committed={})

        leadership = Leadership(lease, check=check, ready=lambda: True)
        committer = RoleCommitter(
            Committer(accounts, lease, venue.shard_homes(1)), leadership, PublishedReader(published)
        )
        one = Engine(lease, leadership, committer, asyncio.create_task(leadership.keep()))
        try:
            yield one
        finally:
            await one.kill()


@asynccontextmanager
async def pair(venue: SmallVenue, *, url: str = "") -> AsyncIterator[tuple[Engine, Engine]]:
    """Give a leader and a follower."""
    async with engine(venue, "engine-1", url=url) as leader:
        await leader.leadership.wait_until_leading()
        async with engine(venue, "engine-1-standby", url=url) as follower:
            yield leader, follower


async def run_out(venue: SmallVenue) -> None:
    """End the lease, as its time does where nobody renews it."""
    async with venue.link.sibling(1) as link:
        await link.call("HSET", keys.LEASE, "until_ms", 0)


def history(first: int, last: int) -> list[Settlement]:
    return [
        settlement(symbol, seq, reports=[(seq, f"{symbol} {seq}".encode())])
        for seq in range(first, last + 1)
        for symbol in (BTC, ETH)
    ]


async def published(venue: SmallVenue, symbol: str) -> list[int]:
    return [number for number, _ in await venue.stream(keys.events(symbol), db=1)]


async def test_standby_compares_and_commits_what_the_leader_did_not(venue: SmallVenue) -> None:
    async with pair(venue) as (leader, follower):
        await leader.committer.commit(history(1, 20))
        await follower.committer.commit(history(1, 10))
        following = asyncio.create_task(follower.committer.commit(history(11, 40)))
        await eventually_async(lambda: follower.committer.compared == 40)
        assert not follower.leadership.is_leading
        assert not following.done()

        await leader.kill()
        await run_out(venue)
        await following

        assert follower.leadership.is_leading
        assert follower.lease.epoch == leader.lease.epoch + 1
        assert await published(venue, BTC) == list(range(1, 41))
        assert await published(venue, ETH) == list(range(1, 41))
        assert (follower.committer.compared, follower.committer.uncompared) == (40, 0)
        for account in range(1, 41):
            assert len(await venue.stream(keys.outbox(account))) == 2


async def test_leader_that_was_stuck_writes_nothing_more(venue: SmallVenue) -> None:
    async with pair(venue) as (leader, follower):
        await leader.committer.commit(history(1, 1))
        # It stops to renew, as a stopped process does, but does not know.
        await leader.kill()
        await run_out(venue)
        await follower.leadership.wait_until_leading()
        # It leads without renewing: nothing but the stuck one could change anything.
        await follower.kill()
        before = await venue.dump()

        with pytest.raises(Fenced):
            await leader.committer.commit(history(2, 2))
        with pytest.raises(Fenced):
            await leader.lease.renew()
        assert await venue.dump() == before

        await follower.committer.commit(history(2, 2))
        assert await published(venue, BTC) == [1, 2]


async def test_leader_hands_over_when_asked(venue: SmallVenue) -> None:
    async with pair(venue) as (leader, follower), venue.link.sibling(1) as link:
        assert not await ask_to_hand_over(link, leader.lease.epoch - 1)
        assert not leader.keeping.done()

        assert await ask_to_hand_over(link, leader.lease.epoch)
        with pytest.raises(HandedOver):
            await leader.keeping
        # The lease holds meanwhile: what was read is committed.
        await leader.committer.commit(history(1, 1))
        await leader.lease.release()
        await follower.leadership.wait_until_leading()

        now = await read_leader(link)
        assert now is not None
        assert (now.owner, now.epoch) == ("engine-1-standby", 2)
        assert not await ask_to_hand_over(link, leader.lease.epoch)
        # What was asked of the epoch before is not asked of this one.
        await follower.lease.renew()


async def test_nobody_is_asked_to_hand_over_a_free_lease(venue: SmallVenue) -> None:
    async with venue.link.sibling(1) as link:
        lease = Lease(link, owner="engine-1", ttl_ms=60_000)
        assert not await ask_to_hand_over(link, 0)
        assert await lease.try_acquire() is None
        await lease.release()
        assert not await ask_to_hand_over(link, 1)


async def test_standby_that_differs_stops_and_names_the_input(venue: SmallVenue) -> None:
    async with pair(venue) as (leader, follower):
        await leader.committer.commit(history(1, 2))

        with pytest.raises(OutputDiffers, match="ETH-USD seq 2: another output was published"):
            await follower.committer.commit(
                [*history(1, 1), settlement(BTC, 2), settlement(ETH, 2, event=b"other")]
            )

        assert follower.committer.compared == 3


async def test_standby_passes_over_what_was_trimmed(venue: SmallVenue) -> None:
    async with pair(venue) as (leader, follower), venue.link.sibling(1) as link:
        await leader.committer.commit(history(1, 30))
        await link.call("XTRIM", keys.events(BTC), "MINID", "21-0")

        await follower.committer.commit(history(1, 30))

        assert (follower.committer.compared, follower.committer.uncompared) == (40, 20)


async def test_both_wait_while_redis_is_away(venue: SmallVenue) -> None:
    async with LossyProxy(venue.link.url) as proxy, pair(venue, url=proxy.url) as pair_:
        leader, follower = pair_
        await leader.committer.commit(history(1, 1))
        following = asyncio.create_task(follower.committer.commit(history(1, 3)))
        await eventually_async(lambda: follower.committer.compared == 2)

        proxy.cut()
        committing = asyncio.create_task(leader.committer.commit(history(2, 2)))
        # Longer than the lease: whoever comes first leads then.
        await run_out(venue)
        proxy.refused = False
        with suppress(Fenced):
            await committing
            await leader.committer.commit(history(3, 3))
        await following

        committer = Committer(venue.link, follower.lease, venue.shard_homes(1))
        assert await committer.positions() == {BTC: Position(3, 3), ETH: Position(3, 3)}
