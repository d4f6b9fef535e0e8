"""Settle, publish and the lease on a real Redis: once, whichever way the batches are cut."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from engine.events import BalanceChange
from engine.settlement import Settlement
from engine.turn import OpenUpdate
from router import keys
from router.commit import Committer, Position
from router.errors import Fenced, HomeMismatch, NegativeBalance, OutputDiffers, StreamGap
from router.lease import Lease
from router.subscriber import Subscriber
from tests.helpers import DEADLINE_MS, eventually_async
from tests.router_helpers import (
    BTC,
    ETH,
    SOL,
    LossyProxy,
    SmallVenue,
    make_link,
    no_memory,
    settlement,
    small_venue,
)

ALICE, BOB = 1, 2
LARGEST = 2**62


@pytest.fixture
async def venue(redis_url: str) -> AsyncIterator[SmallVenue]:
    async with small_venue(redis_url) as venue:
        yield venue


async def leader(venue: SmallVenue, *, owner: str = "engine-1", shard_id: int = 1) -> Committer:
    lease = Lease(venue.new_link(shard_id), owner=owner, ttl_ms=60_000)
    assert await lease.try_acquire() is None
    return Committer(venue.link, lease, venue.shard_homes(shard_id))


def move(account: int, asset: str, available: int, pending: int, held: int) -> BalanceChange:
    return BalanceChange(account, asset, available, pending, held)


def history() -> list[Settlement]:
    """Return inputs of two symbols that move money, report, and open and close orders."""
    rest = OpenUpdate(ALICE, "A", "2 1 100 5 0 50")
    part = OpenUpdate(ALICE, "A", "2 1 100 3 2 30")
    gone = OpenUpdate(ALICE, "A", None)
    return [
        settlement(BTC, 1),
        settlement(ETH, 1),
        settlement(BTC, 2, move(ALICE, "USD", 0, -50, 50), reports=[(ALICE, b"new")], opens=[rest]),
        settlement(
            BTC,
            3,
            move(ALICE, "BTC", 2, 0, 0),
            move(ALICE, "USD", 0, 0, -20),
            move(BOB, "BTC", 0, -2, 0),
            move(BOB, "USD", 20, 0, 0),
            reports=[(ALICE, b"fill a"), (BOB, b"fill b")],
            opens=[part],
            bbo=(100, 0),
        ),
        settlement(ETH, 2, reports=[(BOB, b"eth")], bbo=(7, 9)),
        settlement(
            BTC, 4, move(ALICE, "USD", 30, 0, -30), reports=[(ALICE, b"gone")], opens=[gone]
        ),
        settlement(BTC, 5, reports=[(BOB, b"status")], bbo=(0, 101)),
    ]


async def prepare(venue: SmallVenue) -> None:
    for account, asset, amount in ((ALICE, "USD", 50), (BOB, "BTC", 2)):
        await venue.link.call(
            "HSET", keys.balances(account), keys.pending(asset), amount, keys.available(asset), 0
        )


async def outcome(venue: SmallVenue) -> object:
    """Return all that settling and publishing wrote."""
    return (
        [await venue.balance(account, a) for account in (ALICE, BOB) for a in ("USD", "BTC")],
        [await venue.stream(keys.outbox(account)) for account in (ALICE, BOB)],
        [await venue.stream(keys.events(symbol), db=1) for symbol in (BTC, ETH)],
        await venue.link.call("HGETALL", keys.open_orders(ALICE)),
        sorted(await venue.link.call("HGETALL", keys.SETTLED)),
        sorted(await venue.link.call("HGETALL", keys.BBO)),
    )


async def test_batch_moves_money_reports_and_publishes(venue: SmallVenue) -> None:
    await prepare(venue)
    committer = await leader(venue)

    await committer.commit(history())

    assert await venue.balance(ALICE, "USD") == (30, 0, 0)
    assert await venue.balance(ALICE, "BTC") == (2, 0, 0)
    assert await venue.balance(BOB, "USD") == (20, 0, 0)
    assert await venue.balance(BOB, "BTC") == (0, 0, 0)
    assert await venue.stream(keys.outbox(ALICE)) == [
        (1, {"e": b"new"}),
        (2, {"e": b"fill a"}),
        (3, {"e": b"gone"}),
    ]
    assert await venue.stream(keys.events(ETH), db=1) == [
        (1, {"e": b"ETH-USD 1"}),
        (2, {"e": b"ETH-USD 2"}),
    ]
    assert await venue.link.call("HGET", keys.BBO, BTC) == b"0 101 5"
    assert await venue.link.call("EXISTS", keys.open_orders(ALICE)) == 0
    assert await committer.positions() == {BTC: Position(5, 5), ETH: Position(2, 2)}


@pytest.mark.parametrize(
    "cuts",
    [
        [(0, 7), (0, 7)],
        [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (5, 6), (6, 7)],
        [(0, 4), (2, 6), (0, 7)],
        [(0, 3), (0, 5), (3, 7), (6, 7)],
    ],
)
async def test_batches_cut_in_any_way_have_one_outcome(
    venue: SmallVenue, cuts: Sequence[tuple[int, int]]
) -> None:
    await prepare(venue)
    committer = await leader(venue)
    entries = history()

    for first, end in cuts:
        await committer.commit(entries[first:end])

    assert await venue.balance(ALICE, "USD") == (30, 0, 0)
    assert await venue.balance(BOB, "USD") == (20, 0, 0)
    boxes = [await venue.stream(keys.outbox(account)) for account in (ALICE, BOB)]
    assert [[fields["e"] for _, fields in box] for box in boxes] == [
        [b"new", b"fill a", b"gone"],
        [b"fill b", b"eth", b"status"],
    ]
    assert await venue.link.call("EXISTS", keys.open_orders(ALICE)) == 0
    assert await venue.link.call("HGET", keys.BBO, BTC) == b"0 101 5"
    assert await committer.positions() == {BTC: Position(5, 5), ETH: Position(2, 2)}


async def test_lost_replies_leave_the_same_outcome(venue: SmallVenue, redis_url: str) -> None:
    await prepare(venue)
    committer = await leader(venue)
    await committer.commit(history()[:2])
    async with LossyProxy(redis_url) as proxy, make_link(proxy.url) as link:
        lossy = Committer(link, committer._lease, venue.shard_homes(1))
        await link.call("PING")
        proxy.replies_to_lose = 2
        await lossy.commit(history())
        assert proxy.lost == 2
    before = await outcome(venue)

    await committer.commit(history())

    assert await outcome(venue) == before
    assert await venue.balance(ALICE, "USD") == (30, 0, 0)


async def test_what_was_settled_but_not_published_is_published(venue: SmallVenue) -> None:
    await prepare(venue)
    committer = await leader(venue)
    await committer.commit(history())
    async with venue.link.sibling(1) as link:
        await link.call("XDEL", keys.events(BTC), "5-0")
        await link.call("XSETID", keys.events(BTC), "4-0")

    await committer.commit(history()[6:])

    assert (await committer.positions())[BTC] == Position(5, 5)
    assert await venue.stream(keys.outbox(BOB)) == [
        (1, {"e": b"fill b"}),
        (2, {"e": b"eth"}),
        (3, {"e": b"status"}),
    ]


async def test_other_bytes_for_a_published_input_stop_the_shard(venue: SmallVenue) -> None:
    committer = await leader(venue)
    await committer.commit([settlement(BTC, 1), settlement(BTC, 2)])

    with pytest.raises(OutputDiffers) as caught:
        await committer.commit([settlement(BTC, 2, event=b"other"), settlement(BTC, 3)])

    assert (caught.value.symbol, caught.value.seq) == (BTC, 2)
    assert len(await venue.stream(keys.events(BTC), db=1)) == 2


async def test_gap_is_refused_and_what_came_before_it_stands(venue: SmallVenue) -> None:
    committer = await leader(venue)

    with pytest.raises(StreamGap) as caught:
        await committer.commit([settlement(BTC, 1), settlement(BTC, 3)])

    assert (caught.value.expected, caught.value.received) == (2, 3)
    assert await venue.link.call("HGETALL", keys.SETTLED) == [BTC.encode(), b"1"]


async def test_overdraft_leaves_nothing_of_its_input(venue: SmallVenue) -> None:
    await venue.give(ALICE, "USD", 10)
    committer = await leader(venue)
    good = settlement(BTC, 1, move(ALICE, "USD", -4, 0, 4), reports=[(ALICE, b"1")])
    bad = settlement(
        BTC,
        2,
        move(ALICE, "USD", -4, 0, 4),
        move(BOB, "USD", 3, 0, -1),
        reports=[(ALICE, b"2")],
        opens=[OpenUpdate(ALICE, "A", "x")],
    )

    with pytest.raises(NegativeBalance) as caught:
        await committer.commit([good, bad])

    error = caught.value
    assert (error.symbol, error.seq, error.account, error.field) == (BTC, 2, BOB, "USD:h")
    assert await venue.balance(ALICE, "USD") == (6, 0, 4)
    assert await venue.balance(BOB, "USD") == (0, 0, 0)
    assert await venue.stream(keys.outbox(ALICE)) == [(1, {"e": b"1"})]
    assert await venue.link.call("EXISTS", keys.open_orders(ALICE)) == 0
    assert (await committer.positions())[BTC].settled == 1


async def test_amounts_of_2_to_the_62_are_exact(venue: SmallVenue) -> None:
    await venue.give(ALICE, "USD", LARGEST)
    committer = await leader(venue)

    await committer.commit(
        [
            settlement(BTC, 1, move(ALICE, "USD", -LARGEST, 0, LARGEST)),
            settlement(BTC, 2, move(ALICE, "USD", 1, 0, -1)),
            settlement(BTC, 3, move(ALICE, "USD", 0, LARGEST - 1, 1 - LARGEST)),
        ]
    )

    assert await venue.balance(ALICE, "USD") == (1, LARGEST - 1, 0)


async def test_overflow_is_taken_back_like_an_overdraft(venue: SmallVenue) -> None:
    await venue.give(ALICE, "USD", LARGEST)
    committer = await leader(venue)
    await committer.commit([settlement(BTC, 1)])

    with pytest.raises(NegativeBalance):
        await committer.commit([settlement(BTC, 2, move(ALICE, "USD", LARGEST, 0, 5))])

    assert await venue.balance(ALICE, "USD") == (LARGEST, 0, 0)


async def test_old_epoch_is_fenced_from_settling_and_publishing(venue: SmallVenue) -> None:
    old = await leader(venue)
    await old.commit([settlement(BTC, 1)])
    await old._lease.release()
    new = await leader(venue, owner="engine-1b")
    before = await venue.dump()

    with pytest.raises(Fenced):
        await old.commit([settlement(BTC, 2)])

    assert await venue.dump() == before
    await new.commit([settlement(BTC, 2)])


@pytest.mark.parametrize("db", [0, 1])
async def test_other_incarnation_settles_nothing(venue: SmallVenue, db: int) -> None:
    committer = await leader(venue)
    async with venue.link.sibling(db) as link:
        if db:
            await link.call("SET", keys.home(ETH), "other")
        else:
            await link.call("HSET", keys.home(ETH), "incarnation", "other")
    before = await venue.dump()

    with pytest.raises(HomeMismatch, match=ETH):
        await committer.commit([settlement(BTC, 1), settlement(ETH, 1)])

    assert await venue.dump() == before


async def test_shards_settle_into_the_same_outbox_densely(venue: SmallVenue) -> None:
    first, second = await leader(venue), await leader(venue, owner="engine-2", shard_id=2)

    async def run(committer: Committer, symbol: str) -> None:
        committer._link = venue.new_link()
        for seq in range(1, 31):
            await committer.commit([settlement(symbol, seq, reports=[(ALICE, symbol.encode())])])

    await asyncio.gather(run(first, BTC), run(second, SOL))

    outbox = await venue.stream(keys.outbox(ALICE))
    assert [number for number, _ in outbox] == list(range(1, 61))
    assert sorted(fields["e"] for _, fields in outbox) == [BTC.encode()] * 30 + [SOL.encode()] * 30


async def test_wake_up_names_the_accounts_with_news_once(venue: SmallVenue) -> None:
    await prepare(venue)
    committer = await leader(venue)
    subscriber = Subscriber(venue.link.url, ["wake"], name="test", timeout_ms=DEADLINE_MS)
    await subscriber.open()

    await committer.commit(history())
    await committer.commit(history())
    await committer.commit([settlement(BTC, 6, reports=[(BOB, b"x")])])

    heard: list[bytes] = []
    while not heard or heard[-1] != b"2":
        heard += [payload for _, payload in await subscriber.messages()]
    assert sorted(heard[0].split()) == [b"1", b"2"]
    assert heard[1:] == [b"2"]
    subscriber.close()


async def test_thousands_of_open_orders_change_in_one_input(venue: SmallVenue) -> None:
    committer = await leader(venue)
    names = [f"ORDER-{number}" for number in range(5_000)]

    await committer.commit(
        [settlement(BTC, 1, opens=[OpenUpdate(ALICE, name, "1 1 1 1 0 1") for name in names])]
    )
    assert await venue.link.call("HLEN", keys.open_orders(ALICE)) == 5_000
    await committer.commit(
        [settlement(BTC, 2, opens=[OpenUpdate(ALICE, name, None) for name in names[1:]])]
    )

    left = await venue.link.call("HKEYS", keys.open_orders(ALICE))
    assert left == [keys.open_field(BTC, "ORDER-0").encode()]


async def test_commit_waits_for_memory_and_loses_nothing(venue: SmallVenue) -> None:
    await prepare(venue)
    committer = await leader(venue)
    async with make_link(venue.link.url) as link:
        async with no_memory(link):
            task = asyncio.create_task(committer.commit(history()))
            await eventually_async(lambda: not committer.available)
        await task
    assert await venue.balance(ALICE, "USD") == (30, 0, 0)
    assert committer.available


async def test_lease_goes_to_one_of_two_and_epochs_grow(venue: SmallVenue) -> None:
    first = Lease(venue.new_link(1), owner="a", ttl_ms=60_000)
    second = Lease(venue.new_link(1), owner="b", ttl_ms=60_000)

    assert await first.try_acquire() is None
    held = await second.try_acquire()
    assert held is not None
    assert held.owner == "a"
    assert 0 < held.remaining_ms <= 60_000

    await first.release()
    assert await second.try_acquire() is None
    assert (first.epoch, second.epoch) == (1, 2)
    with pytest.raises(Fenced):
        await first.renew()
    await first.release()
    await second.renew()


async def test_lease_that_ran_out_is_taken_or_renewed(venue: SmallVenue) -> None:
    first = Lease(venue.new_link(1), owner="a", ttl_ms=1)
    second = Lease(venue.new_link(1), owner="b", ttl_ms=60_000)
    assert await first.try_acquire() is None
    await first.renew()

    async def is_taken() -> bool:
        return await second.try_acquire() is None

    await eventually_async(is_taken)
    assert second.epoch == 2
    with pytest.raises(Fenced):
        await first.renew()
