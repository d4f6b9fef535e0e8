"""Mass requests and copies in admission and settlement on a real Redis: whole, once, in order."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from engine.enums import OrdType, Side, TimeInForce
from engine.turn import OpenUpdate
from router import keys
from router.admission import (
    ANSWERED,
    FENCED,
    REFUSED,
    SKIPPED,
    Admission,
    AdmissionItem,
    MassCancelItem,
    MassStatusItem,
    PublishItem,
    RefuseItem,
)
from router.commit import Committer
from router.lease import Lease
from router.open_orders import OpenOrder
from router.outbox import ListedOrder, OrderList, RefusedList, Report, read_outboxes
from router.user_fields import set_user_field
from router.user_settings import read_copies, read_settings
from router.users import add_user, disable_user
from tests.router_helpers import (
    BACKLOG_MAX,
    BTC,
    ETH,
    SOL,
    SmallVenue,
    settlement,
    small_venue,
)

ALICE, BOB, COPIER, AUDITOR = 1, 2, 3, 4


@pytest.fixture
async def venue(redis_url: str) -> AsyncIterator[SmallVenue]:
    async with small_venue(redis_url) as venue:
        for account, name in ((ALICE, "alice"), (BOB, "bob"), (COPIER, "copier"), (AUDITOR, "a")):
            assert await add_user(venue.link, username=name, password_hash="h") == account
            await venue.open_session(account)
        # All that is in the streams is settled.
        await venue.link.call("HSET", keys.SETTLED, BTC, 1, ETH, 1, SOL, 1)
        yield venue


@pytest.fixture
def admission(venue: SmallVenue) -> Admission:
    return Admission(venue.link, venue.homes, backlog_max=BACKLOG_MAX)


def order(number: int, *, symbol: str = BTC, account: int = ALICE) -> PublishItem:
    return PublishItem(account, 1, number, symbol, b"order", "", 0, 1)


def mass_cancel(number: int, *, epoch: int = 1) -> MassCancelItem:
    return MassCancelItem(ALICE, epoch, number, b"answer", b"cancel all")


async def commands(venue: SmallVenue, symbol: str) -> list[bytes]:
    """Return the commands behind the definition."""
    entries = await venue.stream(keys.orders(symbol), db=venue.homes[symbol].db)
    return [fields["c"] for _, fields in entries[1:]]


async def open_order(venue: SmallVenue, symbol: str, cl_ord_id: str, text: str) -> None:
    field = keys.open_field(symbol, cl_ord_id)
    await venue.link.call("HSET", keys.open_orders(ALICE), field, text)


async def copy(venue: SmallVenue, *accounts: int, to: int) -> None:
    value = " ".join(map(str, accounts))
    await set_user_field(venue.link, account=to, field="drop_copy", value=value)


# -------------------------------------------------------------------- mass cancel


async def test_mass_cancel_goes_where_the_account_may_have_orders_behind_its_answer(
    venue: SmallVenue, admission: Admission
) -> None:
    await open_order(venue, SOL, "a1", "7 1 100 5 0 500 20 2 1 0")

    # In BTC-USD an order of the same batch is in flight, in ETH-USD there is nothing.
    items: list[AdmissionItem] = [order(1), mass_cancel(2), order(3)]
    assert await admission.admit(items) == [2, ANSWERED, 4]

    assert await commands(venue, BTC) == [b"order", b"cancel all", b"order"]
    assert await commands(venue, ETH) == []
    assert await commands(venue, SOL) == [b"cancel all"]
    assert (await read_outboxes(venue.link, {ALICE: 0}, count=9))[ALICE] == [Report(1, b"answer")]


async def test_mass_cancel_follows_orders_that_are_not_settled_yet(
    venue: SmallVenue, admission: Admission
) -> None:
    assert await admission.admit([order(1, symbol=ETH)]) == [2]
    assert await admission.admit([mass_cancel(2)]) == [ANSWERED]
    assert await commands(venue, ETH) == [b"order", b"cancel all"]


async def test_mass_cancel_counts_once_and_only_from_the_owner_of_the_session(
    venue: SmallVenue, admission: Admission
) -> None:
    assert await admission.admit([order(1), mass_cancel(2)]) == [2, ANSWERED]
    before = await venue.dump()
    assert await admission.admit([order(1), mass_cancel(2)]) == [SKIPPED, SKIPPED]
    assert await admission.admit([mass_cancel(3, epoch=7)]) == [FENCED]
    assert await venue.dump() == before


async def test_mass_cancel_reaches_the_other_shards_of_one_that_is_away_and_names_what_it_missed(
    venue: SmallVenue, admission: Admission
) -> None:
    assert await admission.admit([order(1), order(2, symbol=SOL)]) == [2, 2]
    async with venue.link.sibling(2) as link:
        await link.call("SET", keys.CLEARED, "")

    assert await admission.admit([mass_cancel(3)]) == [ANSWERED]

    assert await commands(venue, BTC) == [b"order", b"cancel all"]
    assert await commands(venue, SOL) == [b"order"]
    (answer,) = (await read_outboxes(venue.link, {ALICE: 0}, count=9))[ALICE]
    assert answer == Report(1, b"answer", missed=(SOL,))


# -------------------------------------------------------------------- mass status


async def test_open_orders_are_listed_in_the_outbox_by_symbol_and_side(
    venue: SmallVenue, admission: Admission
) -> None:
    await open_order(venue, BTC, "a|1", "7 1 100 5 1 500 20 2 6 90 0 0 0 1700 1 0")
    await open_order(venue, BTC, "a2", "8 2 200 5 0 5 20 3 1 0 210 2 0 0 0 0")
    await open_order(venue, SOL, "a3", "9 1 300 5 0 500 20 2 1 0")

    requests = [
        MassStatusItem(ALICE, 1, 1, b"all"),
        MassStatusItem(ALICE, 1, 2, b"symbol", BTC),
        MassStatusItem(ALICE, 1, 3, b"side", BTC, Side.SELL),
        MassStatusItem(ALICE, 1, 4, b"none", ETH),
    ]
    assert await admission.admit(requests) == [ANSWERED] * 4

    first = ListedOrder(
        BTC,
        "a|1",
        OpenOrder(
            7, Side.BUY, 100, 5, 1, 500, 20, OrdType.LIMIT, TimeInForce.GTD, 90, 0, 0, 0, 1700
        ),
    )
    stop = (OrdType.STOP, TimeInForce.GTC, 0, 210, 2, 0, 0, False)
    second = ListedOrder(BTC, "a2", OpenOrder(8, Side.SELL, 200, 5, 0, 5, 20, *stop))
    third = ListedOrder(SOL, "a3", OpenOrder(9, Side.BUY, 300, 5, 0, 500, 20))
    expected = {
        b"all": [first, second, third],
        b"symbol": [first, second],
        b"side": [second],
        b"none": [],
    }
    cursor = 0
    for request, orders in expected.items():
        (entry,) = (await read_outboxes(venue.link, {ALICE: cursor}, count=9))[ALICE]
        assert isinstance(entry, OrderList)
        assert sorted(entry.orders, key=lambda one: one.order.order_seq) == orders
        assert (entry.request, entry.first, entry.total) == (request, 0, len(orders))
        cursor = entry.number


async def test_a_long_list_comes_in_parts_and_the_next_waits_until_it_is_sent(
    venue: SmallVenue, admission: Admission
) -> None:
    await fill(venue, 19_999)

    assert await admission.admit([MassStatusItem(ALICE, 1, 1, b"first")]) == [ANSWERED]
    assert await admission.admit([MassStatusItem(ALICE, 1, 2, b"second", ETH)]) == [ANSWERED]

    seen: set[str] = set()
    for part in range(20):
        (entry,) = (await read_outboxes(venue.link, {ALICE: part}, count=99))[ALICE]
        assert isinstance(entry, OrderList)
        assert (entry.first, entry.total) == (1_000 * part, 19_999)
        seen.update(one.cl_ord_id for one in entry.orders)
    assert len(seen) == 19_999
    (refused,) = (await read_outboxes(venue.link, {ALICE: 20}, count=9))[ALICE]
    assert isinstance(refused, RefusedList)
    assert (refused.request, refused.msg_seq_num, refused.why) == (b"second", 2, "pending")

    await venue.link.call("HSET", keys.session(ALICE), "cursor", 21)
    assert await admission.admit([MassStatusItem(ALICE, 1, 3, b"third", ETH)]) == [ANSWERED]
    (entry,) = (await read_outboxes(venue.link, {ALICE: 21}, count=9))[ALICE]
    assert isinstance(entry, OrderList) and entry.total == 0


async def test_more_open_orders_than_a_list_may_have_are_not_looked_through(
    venue: SmallVenue, admission: Admission
) -> None:
    await fill(venue, 20_001)
    assert await admission.admit([MassStatusItem(ALICE, 1, 1, b"r")]) == [ANSWERED]
    (refused,) = (await read_outboxes(venue.link, {ALICE: 0}, count=9))[ALICE]
    assert isinstance(refused, RefusedList) and refused.why == "many"


async def fill(venue: SmallVenue, count: int) -> None:
    fields: list[str] = []
    for number in range(count):
        fields += (keys.open_field(BTC, f"a{number}"), f"{number + 1} 1 100 5 0 500 20 2 1 0")
    await venue.link.call("HSET", keys.open_orders(ALICE), *fields)


# -------------------------------------------------------------------- drop copy


async def test_refusals_are_copied_with_their_place_in_the_original(
    venue: SmallVenue, admission: Admission
) -> None:
    await copy(venue, ALICE, BOB, to=COPIER)
    await copy(venue, BOB, to=AUDITOR)

    items: list[AdmissionItem] = [
        RefuseItem(BOB, 1, 1, b"r1"),
        RefuseItem(ALICE, 1, 1, b"r2"),
        PublishItem(BOB, 1, 2, BTC, b"order", "USD", 5, 1),
        RefuseItem(BOB, 1, 3, b"r3"),
    ]
    assert await admission.admit(items) == [REFUSED] * 4

    found = await read_outboxes(venue.link, {COPIER: 0, AUDITOR: 0, BOB: 0}, count=9)
    copies = [(one.number, one.copy_of, one.original) for one in found[COPIER]]
    assert copies == [(1, BOB, 1), (2, ALICE, 1), (3, BOB, 2), (4, BOB, 3)]
    assert [(one.copy_of, one.original) for one in found[AUDITOR]] == [(BOB, 1), (BOB, 2), (BOB, 3)]
    assert [one.copy_of for one in found[BOB]] == [0, 0, 0]
    assert found[COPIER][0] == Report(1, b"r1", copy_of=BOB, original=1)
    assert type(found[COPIER][2]) is type(found[BOB][1])


async def test_reports_are_copied_once_however_often_they_are_settled(venue: SmallVenue) -> None:
    await copy(venue, ALICE, to=COPIER)
    lease = Lease(venue.new_link(1), owner="engine-1", ttl_ms=60_000)
    assert await lease.try_acquire() is None
    committer = Committer(venue.new_link(), lease, venue.shard_homes(1))
    batch = [
        settlement(BTC, 2, reports=[(ALICE, b"1"), (BOB, b"2")], event=b"x"),
        settlement(BTC, 3, reports=[(ALICE, b"3")], opens=[OpenUpdate(ALICE, "a", "1 1 1 1 1 1")]),
    ]
    await venue.link.call("HSET", keys.SETTLED, BTC, 1)
    async with venue.link.sibling(1) as link:
        await link.call("XADD", keys.events(BTC), "1-0", "e", b"defined")
    await committer.commit(batch[:1])
    await committer.commit(batch)
    await committer.commit(batch)

    found = await read_outboxes(venue.link, {ALICE: 0, COPIER: 0, BOB: 0}, count=9)
    assert found[ALICE] == [Report(1, b"1"), Report(2, b"3")]
    assert found[COPIER] == [
        Report(1, b"1", copy_of=ALICE, original=1),
        Report(2, b"3", copy_of=ALICE, original=2),
    ]
    assert found[BOB] == [Report(1, b"2")]


async def test_copies_say_what_the_records_of_all_users_say(venue: SmallVenue) -> None:
    link = venue.link
    await copy(venue, ALICE, BOB, to=AUDITOR)
    await copy(venue, ALICE, to=COPIER)
    assert await read_copies(link) == {ALICE: (COPIER, AUDITOR), BOB: (AUDITOR,)}
    await copy(venue, BOB, to=AUDITOR)
    assert await read_copies(link) == {ALICE: (COPIER,), BOB: (AUDITOR,)}
    await copy(venue, to=COPIER)
    await copy(venue, to=AUDITOR)
    assert await link.call("EXISTS", keys.COPIES) == 0


async def test_nothing_is_copied_for_a_disabled_user(venue: SmallVenue) -> None:
    link = venue.link
    await copy(venue, ALICE, BOB, to=COPIER)
    await copy(venue, ALICE, to=AUDITOR)
    assert await disable_user(link, account=COPIER, homes=venue.homes)
    assert await read_copies(link) == {ALICE: (AUDITOR,)}
    assert (await read_settings(link, COPIER)).drop_copy == ()
