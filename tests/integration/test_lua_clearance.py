"""What counts is written on a cleared server only, and clearing compares with the journal."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from engine.events import BalanceChange
from engine.journal import Record
from engine.journal_keys import LEDGER
from router import keys
from router.admission import REFUSED, SKIPPED, Admission, PublishItem, RefuseItem
from router.clearance import clear, has_ledger
from router.commit import Committer
from router.errors import Fenced, HistoryDiffers, LostWrites, ServerBehind, Uncleared
from router.homes import define_symbols
from router.lease import Lease
from router.ledger import deposit
from router.users import add_user, change_password, disable_user
from tests.helpers import eventually_async
from tests.router_helpers import (
    BACKLOG_MAX,
    BTC,
    ETH,
    SOL,
    SmallVenue,
    clear_server,
    make_rules,
    settlement,
    small_venue,
)

ALICE = 1
OTHER_SERVER = "0" * 40


@pytest.fixture
async def venue(redis_url: str) -> AsyncIterator[SmallVenue]:
    async with small_venue(redis_url) as venue:
        await venue.open_session(ALICE)
        await venue.give(ALICE, "USD", 100)
        yield venue


async def take_over(venue: SmallVenue, *dbs: int) -> None:
    """Leave the mark of another server in some databases, as after a failover or a start."""
    for db in dbs:
        async with venue.link.sibling(db) as link:
            await link.call("SET", keys.CLEARED, OTHER_SERVER)


async def mark(venue: SmallVenue, db: int) -> bytes | None:
    async with venue.link.sibling(db) as link:
        found: bytes | None = await link.call("GET", keys.CLEARED)
        return found


async def lease_of(venue: SmallVenue, shard_id: int, owner: str = "engine") -> Lease:
    lease = Lease(venue.new_link(shard_id), owner=owner, ttl_ms=60_000)
    assert await lease.try_acquire() is None
    return lease


def order(number: int, symbol: str = BTC, *, amount: int = 0, may_wait: bool = True) -> PublishItem:
    command = f"order {number}".encode()
    return PublishItem(ALICE, 1, number, symbol, command, "USD", amount, 1, may_wait)


async def tails(venue: SmallVenue, shard_id: int) -> dict[str, Record]:
    """Return what a journal that has everything ends with."""
    found = {}
    for symbol in venue.shard_homes(shard_id):
        seq, fields = (await venue.stream(keys.orders(symbol), db=shard_id))[-1]
        found[symbol] = Record(symbol, seq, int(fields["t"]) * 1_000, 0, fields["c"])
    for n, fields in await venue.stream(keys.LEDGER):
        found[LEDGER] = Record(LEDGER, n, int(fields["t"]) * 1_000, 0, fields["e"])
    return found


async def run_clear(
    venue: SmallVenue,
    lease: Lease,
    ends: dict[str, Record],
    *,
    committed: dict[str, int] | None = None,
    shard_id: int = 1,
) -> None:
    shard = venue.shards[shard_id - 1]
    with_ledger = has_ledger(shard, venue.shards)
    args = {"tails": ends, "with_ledger": with_ledger, "committed": committed or {}}
    await clear(venue.link, lease, shard, **args)  # type: ignore[arg-type]


# ---------------------------------------------------------------- what waits for it


async def test_admission_waits_while_the_accounts_database_is_not_cleared(
    venue: SmallVenue,
) -> None:
    await take_over(venue, 0)
    admission = Admission(venue.link, venue.homes, backlog_max=BACKLOG_MAX)
    before = await venue.stream(keys.orders(BTC), db=1)
    admitting = asyncio.create_task(
        admission.admit([order(1, amount=60), RefuseItem(ALICE, 1, 2, b"no")])
    )
    await eventually_async(lambda: not admission.available)

    assert await venue.balance(ALICE, "USD") == (100, 0, 0)
    assert await venue.stream(keys.orders(BTC), db=1) == before
    assert await venue.link.call("HGET", keys.session(ALICE), "dealt") is None

    await clear_server(venue.link, 0)
    assert (await admitting)[0] == 2
    assert await venue.balance(ALICE, "USD") == (40, 60, 0)


async def test_a_shard_that_is_not_cleared_refuses_and_the_others_trade_on(
    venue: SmallVenue,
) -> None:
    await take_over(venue, 1)
    admission = Admission(venue.link, venue.homes, backlog_max=BACKLOG_MAX)
    items = [order(1, BTC, amount=60), order(2, SOL, amount=60), order(3, ETH)]

    assert await admission.admit(items) == [REFUSED, 2, REFUSED]

    assert await venue.balance(ALICE, "USD") == (40, 60, 0)
    assert len(await venue.stream(keys.orders(BTC), db=1)) == 1
    outbox = await venue.stream(keys.outbox(ALICE))
    assert [(fields["c"], fields["w"]) for _, fields in outbox] == [
        (b"order 1", b"away"),
        (b"order 3", b"away"),
    ]
    before = await venue.dump()
    assert await admission.admit(items) == [SKIPPED] * 3
    assert await venue.dump() == before


async def test_a_shard_that_lost_a_home_is_away_not_another_venue(venue: SmallVenue) -> None:
    await take_over(venue, 1)
    for db in (0, 1):
        async with venue.link.sibling(db) as link:
            await link.call("DEL", keys.home(BTC), keys.orders(BTC))
    admission = Admission(venue.link, venue.homes, backlog_max=BACKLOG_MAX)

    assert await admission.admit([order(1, BTC), order(2, SOL)]) == [REFUSED, 2]


@pytest.mark.parametrize("db", [0, 1])
async def test_a_commit_waits_until_both_databases_are_cleared(venue: SmallVenue, db: int) -> None:
    lease = await lease_of(venue, 1)
    committer = Committer(venue.link, lease, venue.shard_homes(1))
    await take_over(venue, db)
    move = BalanceChange(ALICE, "USD", 5, 0, 0)
    committing = asyncio.create_task(committer.commit([settlement(BTC, 1, move)]))
    await eventually_async(lambda: not committer.available)

    assert await venue.balance(ALICE, "USD") == (100, 0, 0)
    assert await venue.stream(keys.events(BTC), db=1) == []

    await clear_server(venue.link, db)
    await committing
    assert await venue.balance(ALICE, "USD") == (105, 0, 0)
    assert len(await venue.stream(keys.events(BTC), db=1)) == 1


async def test_publish_alone_waits_too(venue: SmallVenue) -> None:
    # The server is another one between settle and publish: both are made again.
    lease = await lease_of(venue, 1)
    await venue.link.call("HSET", keys.SETTLED, BTC, 1)
    await take_over(venue, 1)
    committer = Committer(venue.link, lease, venue.shard_homes(1))
    committing = asyncio.create_task(committer.commit([settlement(BTC, 1)]))
    await eventually_async(lambda: not committer.available)
    assert await venue.stream(keys.events(BTC), db=1) == []
    await clear_server(venue.link, 1)
    await committing


async def test_who_is_fenced_learns_it_from_an_uncleared_server(venue: SmallVenue) -> None:
    committer = Committer(venue.link, await lease_of(venue, 1), venue.shard_homes(1))
    async with venue.link.sibling(1) as link:
        await link.call("HSET", keys.LEASE, "owner", "another")
    await take_over(venue, 0, 1)
    with pytest.raises(Fenced):
        await committer.commit([settlement(BTC, 1)])


async def test_ledger_and_users_are_refused_but_what_is_done_is_told(venue: SmallVenue) -> None:
    link = venue.link
    account = await add_user(link, username="u", password_hash="h")
    await deposit(link, account=account, asset="USD", amount=7, ref="r")
    await take_over(venue, 0)
    before = await venue.stream(keys.LEDGER)

    again = await deposit(link, account=account, asset="USD", amount=7, ref="r")
    assert not again.is_new
    with pytest.raises(Uncleared):
        await deposit(link, account=account, asset="USD", amount=7, ref="r2")
    with pytest.raises(Uncleared):
        await add_user(link, username="v", password_hash="h")
    with pytest.raises(Uncleared):
        await change_password(link, account=account, password_hash="i")
    with pytest.raises(Uncleared):
        await disable_user(link, account=account, homes=venue.homes)
    await clear_server(link, 0)
    await take_over(venue, 2)
    with pytest.raises(Uncleared):
        await disable_user(link, account=account, homes=venue.homes)
    assert await venue.stream(keys.LEDGER) == before


async def test_users_and_deposits_may_come_before_any_engine(venue: SmallVenue) -> None:
    for db in (0, 1, 2):
        async with venue.link.sibling(db) as link:
            await link.call("DEL", keys.CLEARED)
    account = await add_user(venue.link, username="u", password_hash="h")
    await deposit(venue.link, account=account, asset="USD", amount=7, ref="r")
    assert await disable_user(venue.link, account=account, homes=venue.homes)


async def test_changed_rules_wait_for_clearance(venue: SmallVenue) -> None:
    await take_over(venue, 1)
    changed = {**venue.rules, BTC: make_rules(BTC, taker_fee_ppm=100)}

    homes = await define_symbols(venue.link, venue.shards, changed)
    assert homes[BTC].rules.version == 1
    assert len(await venue.stream(keys.orders(BTC), db=1)) == 1

    await clear_server(venue.link, 1)
    homes = await define_symbols(venue.link, venue.shards, changed)
    assert homes[BTC].rules.version == 2


async def test_the_mark_of_another_server_goes_at_the_first_look(venue: SmallVenue) -> None:
    # Or it would hold when that server comes back with these data.
    await take_over(venue, 0)
    with pytest.raises(Uncleared):
        await add_user(venue.link, username="u", password_hash="h")
    assert await mark(venue, 0) == b""


# ---------------------------------------------------------------- clearing


async def test_a_server_that_has_everything_is_cleared(venue: SmallVenue) -> None:
    await add_user(venue.link, username="u", password_hash="h")
    ends = await tails(venue, 1)
    await take_over(venue, 0, 1)
    lease = await lease_of(venue, 1)

    await run_clear(venue, lease, ends)

    run_id = venue.link.run_id.encode()
    assert await mark(venue, 0) == await mark(venue, 1) == run_id
    await run_clear(venue, lease, ends)


async def test_a_journal_behind_the_streams_clears(venue: SmallVenue) -> None:
    ends = await tails(venue, 1)
    await Admission(venue.link, venue.homes, backlog_max=BACKLOG_MAX).admit([order(1)])
    await take_over(venue, 0, 1)
    await run_clear(venue, await lease_of(venue, 1), ends)
    assert await mark(venue, 1) == venue.link.run_id.encode()


async def test_only_the_lowest_shard_clears_the_ledger(venue: SmallVenue) -> None:
    await take_over(venue, 0, 2)
    await run_clear(venue, await lease_of(venue, 2), await tails(venue, 2), shard_id=2)
    assert await mark(venue, 2) == venue.link.run_id.encode()
    assert await mark(venue, 0) == OTHER_SERVER.encode()


async def test_of_what_only_the_number_is_known_the_number_is_compared(venue: SmallVenue) -> None:
    admission = Admission(venue.link, venue.homes, backlog_max=BACKLOG_MAX)
    await admission.admit([order(1), order(2)])
    ends = await tails(venue, 1)
    ends[BTC] = Record(BTC, ends[BTC].seq, 0, 0, b"")
    await take_over(venue, 0, 1)
    lease = await lease_of(venue, 1)
    beyond = Record(BTC, ends[BTC].seq + 1, 0, 0, b"")
    with pytest.raises(LostWrites):
        await run_clear(venue, lease, {**ends, BTC: beyond})
    await run_clear(venue, lease, ends)
    assert await mark(venue, 1) == venue.link.run_id.encode()


async def test_lost_commands_and_ledger_entries_are_listed_and_nothing_is_cleared(
    venue: SmallVenue,
) -> None:
    admission = Admission(venue.link, venue.homes, backlog_max=BACKLOG_MAX)
    await admission.admit([order(1), order(2), order(3), order(4, ETH)])
    await add_user(venue.link, username="u", password_hash="h")
    ends = await tails(venue, 1)
    await venue.link.call("XDEL", keys.LEDGER, "1-0")
    async with venue.link.sibling(1) as link:
        await link.call("XDEL", keys.orders(BTC), "3-0", "4-0")
    await take_over(venue, 0, 1)

    with pytest.raises(LostWrites) as caught:
        await run_clear(venue, await lease_of(venue, 1), ends)

    assert caught.value.lost == ((keys.LEDGER, 1, 1), (keys.orders(BTC), 3, 4))
    assert "orders:BTC-USD lacks 3 to 4 (2);" in str(caught.value)
    assert "shardex repair 1" in str(caught.value)
    assert await mark(venue, 0) == await mark(venue, 1) == b""


async def test_another_entry_under_the_same_number_is_told(venue: SmallVenue) -> None:
    ends = await tails(venue, 1)
    for changed in ({"payload": b"another"}, {"ts_ns": 1_000}):
        record = ends[BTC]
        fields = {name: getattr(record, name) for name in record.__struct_fields__} | changed
        with pytest.raises(HistoryDiffers, match="orders:BTC-USD: entry 1"):
            await run_clear(venue, await lease_of(venue, 1), {**ends, BTC: Record(**fields)})
    assert await mark(venue, 1) == b""


async def test_lost_outcomes_alone_make_the_engine_start_again(venue: SmallVenue) -> None:
    await take_over(venue, 0, 1)
    lease, ends = await lease_of(venue, 1), await tails(venue, 1)
    with pytest.raises(ServerBehind):
        await run_clear(venue, lease, ends, committed={BTC: 1})
    assert await mark(venue, 1) == OTHER_SERVER.encode()
    await run_clear(venue, lease, ends)


async def test_only_the_leader_clears(venue: SmallVenue) -> None:
    await take_over(venue, 0, 1)
    lease = await lease_of(venue, 1)
    await lease.release()
    await lease_of(venue, 1, "successor")
    with pytest.raises(Fenced):
        await run_clear(venue, lease, await tails(venue, 1))
    assert await mark(venue, 1) == OTHER_SERVER.encode()


# ---------------------------------------------------------------- backlog


async def test_orders_beyond_the_backlog_are_refused_and_cancels_are_not(
    venue: SmallVenue,
) -> None:
    admission = Admission(venue.link, venue.homes, backlog_max=3)
    items = [order(n, amount=1, may_wait=False) for n in (1, 2, 3, 4)]

    # The definition waits as well, for an engine that has never run.
    assert await admission.admit(items) == [2, 3, REFUSED, REFUSED]
    assert await admission.admit([order(5), order(6, SOL, may_wait=False)]) == [4, 2]

    assert await venue.balance(ALICE, "USD") == (98, 2, 0)
    outbox = await venue.stream(keys.outbox(ALICE))
    assert [(fields["c"], fields["w"]) for _, fields in outbox] == [
        (b"order 3", b"backlog"),
        (b"order 4", b"backlog"),
    ]
    await venue.link.call("HSET", keys.SETTLED, BTC, 2)
    assert await admission.admit([order(7, may_wait=False)]) == [5]
