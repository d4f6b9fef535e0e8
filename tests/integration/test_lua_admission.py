"""Admission on a real Redis: reserved, published, once, in order, and nothing halfway."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator

import msgspec
import pytest

from engine.limits import ADMISSION_BATCH_MAX
from router import keys
from router.admission import (
    FENCED,
    REFUSED,
    SKIPPED,
    Admission,
    AdmissionItem,
    PublishItem,
    RefuseItem,
)
from router.errors import HomeMismatch, OutOfMemory, RulesChanged
from tests.helpers import eventually_async
from tests.router_helpers import (
    BACKLOG_MAX,
    BTC,
    ETH,
    SOL,
    LossyProxy,
    SmallVenue,
    make_link,
    no_memory,
    small_venue,
)

ALICE, BOB = 1, 2
LARGEST = 2**62


@pytest.fixture
async def venue(redis_url: str) -> AsyncIterator[SmallVenue]:
    async with small_venue(redis_url) as venue:
        for account in (ALICE, BOB):
            await venue.open_session(account)
        yield venue


@pytest.fixture
def admission(venue: SmallVenue) -> Admission:
    return Admission(venue.link, venue.homes, backlog_max=BACKLOG_MAX)


def order(
    number: int,
    *,
    account: int = ALICE,
    symbol: str = BTC,
    asset: str = "USD",
    amount: int = 0,
    epoch: int = 1,
    version: int = 1,
) -> PublishItem:
    command = f"{account}/{number}".encode()
    return PublishItem(account, epoch, number, symbol, command, asset, amount, version)


async def test_order_is_reserved_and_published_behind_the_definition(
    venue: SmallVenue, admission: Admission
) -> None:
    await venue.give(ALICE, "USD", 100)

    assert await admission.admit([order(1, amount=60)]) == [2]

    assert await venue.balance(ALICE, "USD") == (40, 60, 0)
    entries = await venue.stream(keys.orders(BTC), db=1)
    assert [number for number, _ in entries] == [1, 2]
    assert entries[1][1]["c"] == b"1/1"
    assert int(entries[1][1]["t"]) >= int(entries[0][1]["t"])


async def test_batch_over_two_shards_keeps_each_symbols_order(
    venue: SmallVenue, admission: Admission
) -> None:
    symbols = [SOL, BTC, ETH, SOL, BTC, SOL]
    items = [order(n, symbol=symbol) for n, symbol in enumerate(symbols, 1)]

    assert await admission.admit(items) == [2, 2, 2, 3, 3, 4]

    sol = await venue.stream(keys.orders(SOL), db=2)
    assert [fields["c"] for _, fields in sol[1:]] == [b"1/1", b"1/4", b"1/6"]
    assert await venue.stream(keys.orders(SOL), db=1) == []


async def test_script_leaves_the_connection_in_its_database(
    venue: SmallVenue, admission: Admission
) -> None:
    await admission.admit([order(1, symbol=SOL)])

    assert await venue.link.call("EXISTS", keys.home(SOL)) == 1
    assert await venue.link.call("EXISTS", keys.orders(SOL)) == 0


async def test_order_beyond_what_is_available_is_refused_into_the_outbox(
    venue: SmallVenue, admission: Admission
) -> None:
    await venue.give(ALICE, "USD", 100)

    results = await admission.admit([order(1, amount=101), order(2, amount=100)])

    assert results == [REFUSED, 2]
    assert await venue.balance(ALICE, "USD") == (0, 100, 0)
    [(number, fields)] = await venue.stream(keys.outbox(ALICE))
    assert number == 1
    assert (fields["c"], fields["s"], fields["w"]) == (b"1/1", BTC.encode(), b"funds")
    assert int(fields["t"]) > 0


async def test_other_command_is_published_where_there_is_no_money(
    venue: SmallVenue, admission: Admission
) -> None:
    await venue.give(ALICE, "USD", 100)
    replace = msgspec.structs.replace
    items = [replace(order(number, amount=60), instead=b"ask") for number in (1, 2)]
    assert await admission.admit(items) == [2, 3]
    assert await admission.admit(items) == [SKIPPED, SKIPPED]
    assert await venue.balance(ALICE, "USD") == (40, 60, 0)
    commands = [fields["c"] for _, fields in await venue.stream(keys.orders(BTC), db=1)]
    assert commands[1:] == [items[0].command, b"ask"]
    assert await venue.stream(keys.outbox(ALICE)) == []


async def test_refusals_are_dealt_with_in_order(venue: SmallVenue, admission: Admission) -> None:
    items: list[AdmissionItem] = [
        RefuseItem(ALICE, 1, 1, b"no"),
        order(3, amount=1),
        RefuseItem(ALICE, 1, 4, b"no again"),
    ]

    assert await admission.admit(items) == [REFUSED, REFUSED, REFUSED]

    outbox = await venue.stream(keys.outbox(ALICE))
    assert [number for number, _ in outbox] == [1, 2, 3]
    assert [fields.get("e") for _, fields in outbox] == [b"no", None, b"no again"]
    assert await venue.link.call("HGET", keys.session(ALICE), "dealt") == b"4"


async def test_same_batch_twice_changes_nothing(venue: SmallVenue, admission: Admission) -> None:
    await venue.give(ALICE, "USD", 100)
    items: list[AdmissionItem] = [
        order(1, amount=60),
        order(2, amount=60),
        RefuseItem(ALICE, 1, 3, b"no"),
        order(1, account=BOB, symbol=SOL),
    ]
    await admission.admit(items)
    before = await venue.dump()

    assert await admission.admit(items) == [SKIPPED] * 4

    assert await venue.dump() == before


async def test_lost_reply_is_asked_for_again_and_counts_once(
    venue: SmallVenue, redis_url: str
) -> None:
    await venue.give(ALICE, "USD", 100)
    async with LossyProxy(redis_url) as proxy, make_link(proxy.url) as link:
        admission = Admission(link, venue.homes, backlog_max=BACKLOG_MAX)
        await admission.admit([RefuseItem(BOB, 1, 1, b"no")])
        proxy.replies_to_lose = 2

        assert await admission.admit([order(1, amount=60), order(2, amount=30)]) == [SKIPPED] * 2

        assert proxy.lost == 2
        assert admission.available
    assert await venue.balance(ALICE, "USD") == (10, 90, 0)
    assert len(await venue.stream(keys.orders(BTC), db=1)) == 3


async def test_batch_waits_while_redis_is_away_and_says_so(
    venue: SmallVenue, redis_url: str
) -> None:
    async with LossyProxy(redis_url) as proxy, make_link(proxy.url) as link:
        admission = Admission(link, venue.homes, backlog_max=BACKLOG_MAX)
        proxy.refused = True
        waiting = asyncio.create_task(admission.admit([order(1)]))
        await eventually_async(lambda: not admission.available)
        proxy.refused = False

        assert await waiting == [2]
        assert admission.available


async def test_item_of_another_epoch_is_fenced_and_leaves_no_trace(
    venue: SmallVenue, admission: Admission
) -> None:
    await venue.open_session(ALICE, epoch=2)
    before = await venue.dump()

    results = await admission.admit([order(1, epoch=1), order(1, account=3)])

    assert results == [FENCED, FENCED]
    assert await venue.dump() == before


async def test_other_incarnation_writes_nothing(venue: SmallVenue, admission: Admission) -> None:
    await venue.link.call("HSET", keys.home(SOL), "incarnation", "other")
    before = await venue.dump()

    with pytest.raises(HomeMismatch, match=SOL):
        await admission.admit([order(1), order(2, symbol=SOL)])

    assert await venue.dump() == before


@pytest.mark.parametrize("lost", [keys.home(SOL), keys.orders(SOL)])
async def test_emptied_shard_database_writes_nothing(
    venue: SmallVenue, admission: Admission, lost: str
) -> None:
    async with venue.link.sibling(2) as link:
        await link.call("DEL", lost)

    with pytest.raises(HomeMismatch, match=SOL):
        await admission.admit([order(1), order(2, symbol=SOL)])

    assert len(await venue.stream(keys.orders(BTC), db=1)) == 1
    # The failed call must not leave the link in the shard's database.
    assert await venue.link.call("EXISTS", keys.home(SOL)) == 1


async def test_other_rules_version_writes_nothing_and_names_the_one_in_force(
    venue: SmallVenue, admission: Admission
) -> None:
    before = await venue.dump()

    with pytest.raises(RulesChanged) as caught:
        await admission.admit([order(1, symbol=SOL, amount=5), order(2, version=2)])

    assert (caught.value.symbol, caught.value.version) == (BTC, 1)
    assert await venue.dump() == before
    assert await admission.admit([order(1, version=0)]) == [2]


async def test_balance_of_2_to_the_62_is_reserved_to_the_last_unit(
    venue: SmallVenue, admission: Admission
) -> None:
    await venue.give(ALICE, "USD", LARGEST)

    results = await admission.admit(
        [order(1, amount=LARGEST - 1), order(2, amount=2), order(3, amount=1), order(4, amount=1)]
    )

    assert results == [2, REFUSED, 3, REFUSED]
    assert await venue.balance(ALICE, "USD") == (0, LARGEST, 0)


async def test_largest_order_of_an_empty_account_leaves_zero(
    venue: SmallVenue, admission: Admission
) -> None:
    assert await admission.admit([order(1, amount=LARGEST)]) == [REFUSED]
    assert await venue.balance(ALICE, "USD") == (0, 0, 0)


async def test_many_gateways_on_one_balance_admit_exactly_what_it_pays(
    venue: SmallVenue, redis_url: str
) -> None:
    await venue.give(ALICE, "USD", 1_000)

    numbers = itertools.count(1)

    async def gateway() -> list[int]:
        async with make_link(redis_url) as link:
            admission = Admission(link, venue.homes, backlog_max=BACKLOG_MAX)
            results: list[int] = []
            # Numbers that overtake each other on the way are skipped; the next one is tried then.
            while REFUSED not in results:
                results += await admission.admit([order(next(numbers), amount=7)])
            return results

    lists = await asyncio.gather(*(gateway() for _ in range(8)))

    admitted = [result for results in lists for result in results if result > 0]
    assert sorted(admitted) == list(range(2, 2 + 1_000 // 7))
    assert await venue.balance(ALICE, "USD") == (1_000 % 7, 1_000 - 1_000 % 7, 0)


async def test_stamps_never_fall_even_when_the_clock_does(
    venue: SmallVenue, admission: Admission
) -> None:
    future = 10**16
    async with venue.link.sibling(1) as link:
        await link.call("XADD", keys.orders(BTC), "2-0", "c", b"x", "t", future)

    await admission.admit([order(1), order(1, account=BOB)])

    stamps = [int(fields["t"]) for _, fields in await venue.stream(keys.orders(BTC), db=1)]
    assert stamps[1:] == [future] * 3


async def test_out_of_memory_writes_nothing_and_is_told(
    venue: SmallVenue, admission: Admission
) -> None:
    await venue.give(ALICE, "USD", 100)
    before = await venue.dump()
    async with no_memory(venue.link):
        with pytest.raises(OutOfMemory):
            await admission.admit([order(1, amount=60), RefuseItem(ALICE, 1, 2, b"no")])
        with pytest.raises(OutOfMemory):
            await admission.admit([RefuseItem(ALICE, 1, 2, b"no")])
        assert await venue.dump() == before
    assert await admission.admit([order(1, amount=60)]) == [2]


async def test_redis_back_without_memory_is_back(venue: SmallVenue, redis_url: str) -> None:
    await venue.give(ALICE, "USD", 100)
    async with (
        no_memory(venue.link),
        LossyProxy(redis_url) as proxy,
        make_link(proxy.url) as link,
    ):
        admission = Admission(link, venue.homes, backlog_max=BACKLOG_MAX)
        proxy.replies_to_lose = 1
        with pytest.raises(OutOfMemory):
            await admission.admit([order(1, amount=60)])
        assert proxy.lost == 1
        assert admission.available


async def test_full_batch_of_sessions_and_symbols(venue: SmallVenue, admission: Admission) -> None:
    items = []
    for account in range(1, ADMISSION_BATCH_MAX + 1):
        await venue.open_session(account)
        await venue.give(account, "USD", 5)
        items.append(order(1, account=account, symbol=(BTC, SOL)[account % 2], amount=5))

    results = await admission.admit(items)

    assert results.count(REFUSED) == 0
    assert sorted(results) == sorted(2 * list(range(2, 2 + ADMISSION_BATCH_MAX // 2)))


async def test_forgotten_script_is_loaded_and_run_once(
    venue: SmallVenue, admission: Admission
) -> None:
    await venue.give(ALICE, "USD", 100)
    await admission.admit([order(1, amount=10)])
    await venue.link.call("SCRIPT", "FLUSH")

    assert await admission.admit([order(2, amount=10)]) == [3]
    assert await venue.balance(ALICE, "USD") == (80, 20, 0)


async def test_second_call_in_flight_is_refused(venue: SmallVenue, admission: Admission) -> None:
    first = asyncio.create_task(admission.admit([order(1)]))
    await asyncio.sleep(0)
    with pytest.raises(AssertionError, match="one admission call"):
        await admission.admit([order(2)])
    assert await first == [2]
