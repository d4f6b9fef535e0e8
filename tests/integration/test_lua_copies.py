"""Copies for a user that does not fetch them, on a real Redis: how many, and what is said then."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator

import pytest

from engine.limits import OUTBOX_WITH_COPIES_MAX
from ops.status import lost_copies
from router import keys
from router.admission import Admission, RefuseItem
from router.commit import Committer
from router.lease import Lease
from router.outbox import LostCopies, OutboxEntry, Report, read_outboxes
from router.scripts import script_text
from router.sessions import Sessions, Store
from router.user_fields import set_user_field
from router.user_settings import CopiesLost, read_lost_copies
from router.users import add_user, disable_user
from tests.router_helpers import BACKLOG_MAX, BTC, SmallVenue, settlement, small_venue

ALICE, BOB, COPIER = 1, 2, 3


@pytest.fixture
async def venue(redis_url: str) -> AsyncIterator[SmallVenue]:
    async with small_venue(redis_url) as venue:
        for account, name in ((ALICE, "alice"), (BOB, "bob"), (COPIER, "copier")):
            assert await add_user(venue.link, username=name, password_hash="h") == account
            await venue.open_session(account)
        of = {"account": COPIER, "field": "drop_copy"}
        await set_user_field(venue.link, **of, value=f"{ALICE} {BOB}")  # type: ignore[arg-type]
        yield venue


@pytest.fixture
async def committer(venue: SmallVenue) -> Committer:
    lease = Lease(venue.new_link(1), owner="engine-1", ttl_ms=60_000)
    assert await lease.try_acquire() is None
    await venue.link.call("HSET", keys.SETTLED, BTC, 1)
    async with venue.link.sibling(1) as link:
        await link.call("XADD", keys.events(BTC), "1-0", "e", b"defined")
    return Committer(venue.new_link(), lease, venue.shard_homes(1))


async def leave_room(venue: SmallVenue, copies: int) -> int:
    """Fill the copier's outbox but for so many entries; return the number of the last."""
    last = OUTBOX_WITH_COPIES_MAX - copies
    fill = "for n = 1, ARGV[1] do redis.call('XADD', ARGV[2], n .. '-0', 'e', 'before') end"
    await venue.link.call("EVAL", fill, 0, last, keys.outbox(COPIER))
    return last


async def outbox(venue: SmallVenue, account: int, *, behind: int = 0) -> list[OutboxEntry]:
    return (await read_outboxes(venue.link, {account: behind}, count=99)).get(account, [])


async def fetch(venue: SmallVenue, cursor: int) -> None:
    """Have the copier's gateway send what stands up to a cursor."""
    sessions = Sessions(venue.link, owner="gateway-1", ttl_ms=60_000)
    epoch, _ = (await sessions.read([COPIER]))[COPIER]
    assert await sessions.store([Store(COPIER, epoch, 1, 0, cursor, b"")]) == [True]


def test_the_limit_stands_in_the_script() -> None:
    assert f"OUTBOX_WITH_COPIES_MAX = {OUTBOX_WITH_COPIES_MAX}\n".encode() in script_text("copies")


async def test_settlement_goes_on_without_copies_that_nobody_fetches(
    venue: SmallVenue, committer: Committer, caplog: pytest.LogCaptureFixture
) -> None:
    last = await leave_room(venue, 2)
    batch = [
        settlement(BTC, seq, reports=[(ALICE, b"a%d" % seq), (BOB, b"b%d" % seq)], event=b"x")
        for seq in (2, 3, 4)
    ]
    with caplog.at_level(logging.WARNING, "router"):
        await committer.commit(batch[:2])
        await committer.commit(batch)

    assert await outbox(venue, ALICE) == [Report(n, b"a%d" % (n + 1)) for n in (1, 2, 3)]
    assert await outbox(venue, BOB) == [Report(n, b"b%d" % (n + 1)) for n in (1, 2, 3)]
    assert await outbox(venue, COPIER, behind=last) == [
        Report(last + 1, b"a2", copy_of=ALICE, original=1),
        Report(last + 2, b"b2", copy_of=BOB, original=1),
    ]
    (lost,) = await read_lost_copies(venue.link)
    assert (lost.account, lost.count) == (COPIER, 4)
    assert [record.getMessage() for record in caplog.records] == [
        "Account 3 gets no more copies: its outbox has 101000 entries"
    ]


async def test_refusals_are_not_copied_to_a_full_outbox_either(
    venue: SmallVenue, caplog: pytest.LogCaptureFixture
) -> None:
    last = await leave_room(venue, 1)
    admission = Admission(venue.link, venue.homes, backlog_max=BACKLOG_MAX)
    with caplog.at_level(logging.WARNING, "router"):
        for number in (1, 2, 3):
            item = RefuseItem(ALICE, 1, number, b"r%d" % number)
            assert await admission.admit([item]) == [0]
    assert len(await outbox(venue, ALICE)) == 3
    assert len(await outbox(venue, COPIER, behind=last)) == 1
    assert [one.count for one in await read_lost_copies(venue.link)] == [2]
    assert len(caplog.records) == 1


async def test_who_has_fetched_all_is_told_what_is_missing_and_gets_copies_again(
    venue: SmallVenue, committer: Committer
) -> None:
    last = await leave_room(venue, 0)
    reports = [(ALICE, b"lost"), (BOB, b"lost")]
    await committer.commit([settlement(BTC, 2, reports=reports, event=b"x")])
    await fetch(venue, last - 1)
    await committer.commit([settlement(BTC, 3, reports=reports, event=b"x")])
    assert await outbox(venue, COPIER, behind=last) == []

    await fetch(venue, last)
    await fetch(venue, last)
    await committer.commit([settlement(BTC, 4, reports=[(BOB, b"found")], event=b"x")])

    told, found = await outbox(venue, COPIER, behind=last)
    assert isinstance(told, LostCopies)
    assert (told.number, told.count) == (last + 1, 4)
    assert 0 < told.since_us <= told.ts_us
    assert found == Report(last + 2, b"found", copy_of=BOB, original=3)
    assert await read_lost_copies(venue.link) == []


async def test_a_session_that_was_taken_over_tells_nothing(
    venue: SmallVenue, committer: Committer
) -> None:
    last = await leave_room(venue, 0)
    await committer.commit([settlement(BTC, 2, reports=[(ALICE, b"lost")], event=b"x")])
    sessions = Sessions(venue.link, owner="gateway-1", ttl_ms=60_000)
    assert await sessions.store([Store(COPIER, 999, 1, 0, last, b"")]) == [False]
    assert [one.count for one in await read_lost_copies(venue.link)] == [1]


async def test_a_disabled_user_is_no_problem(venue: SmallVenue, committer: Committer) -> None:
    await leave_room(venue, 0)
    await committer.commit([settlement(BTC, 2, reports=[(ALICE, b"lost")], event=b"x")])
    assert await disable_user(venue.link, account=COPIER, homes=venue.homes)
    assert await read_lost_copies(venue.link) == []
    assert await venue.link.call("EXISTS", keys.LOST) == 0


def test_status_says_who_gets_no_copies() -> None:
    assert lost_copies([CopiesLost(3, 1_234, 0)], now_us=90_000_000) == [
        "account 3 has lost 1,234 copies for 90 s: its outbox is full; log it on, or make it a copy"
        " of nobody"
    ]
