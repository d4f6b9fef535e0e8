"""Repair on a real Redis: entry by entry, once, with its money, or not at all."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from engine.commands import NewOrder, SetPhase, encode_command
from engine.enums import (
    OrdType,
    PhaseReason,
    SelfTradePrevention,
    Side,
    TimeInForce,
    TradingPhase,
)
from engine.journal import Record
from engine.journal_keys import LEDGER, skip_record
from router import keys
from router.admission import Admission, PublishItem
from router.errors import Fenced, HistoryDiffers, StreamGap
from router.lease import Lease
from router.ledger import deposit, withdraw
from router.phases import PhaseRequest, request_phase, schedule_phase
from router.redis_client import RedisLink
from router.repair import OWNER_PREFIX, Lost, Repair, Short
from router.user_access import UserAccess, read_access, set_addresses, set_public_keys
from router.user_fields import set_user_field
from router.users import add_user, change_password, disable_user
from tests.router_helpers import BACKLOG_MAX, BTC, ETH, SmallVenue, clear_server, small_venue

ALICE = 1
SESSION = 3


class Failure:
    """A small venue that can be set back to an earlier state, and the journal that it cannot."""

    def __init__(self, venue: SmallVenue) -> None:
        self.venue = venue
        self.journal: list[Record] = []
        self.done: list[Lost] = []
        self._kept: dict[str, object] = {}

    async def keep(self) -> None:
        """Remember the present state: what the replica has."""
        self._kept = await self.venue.dump()

    async def lose(self) -> None:
        """Write the journal, and go back to what was kept."""
        for symbol in (BTC, ETH):
            for seq, fields in await self.venue.stream(keys.orders(symbol), db=1):
                self._journal(symbol, seq, fields["c"], fields["t"])
        for n, fields in await self.venue.stream(keys.LEDGER):
            self._journal(LEDGER, n, fields["e"], fields["t"])
        for db in range(3):
            async with self.venue.link.sibling(db) as link:
                await link.call("FLUSHDB")
                for name, value in self._kept.items():
                    number, _, key = name.partition(" ")
                    if int(number) == db:
                        assert isinstance(value, bytes)
                        await link.call("RESTORE", key, 0, value)

    def _journal(self, key: str, seq: int, payload: bytes, stamp: bytes) -> None:
        self.journal.append(Record(key, seq, int(stamp) * 1_000, 0, payload))

    async def repair(self) -> list[Short]:
        owner = f"{OWNER_PREFIX}test"
        lease = Lease(self.venue.new_link(1), owner=owner, ttl_ms=60_000)
        homes = self.venue.shard_homes(1)
        repair = Repair(self.venue.link, lease, homes, with_ledger=True)
        found = await repair.look(lambda: self.journal)
        assert await lease.try_acquire() is None
        self.done.clear()
        try:
            return await repair.run(found, on_done=self.done.append)
        finally:
            await lease.release()

    async def money(self, asset: str) -> int:
        """Return what all accounts have of an asset."""
        return sum([sum(await self.venue.balance(one, asset)) for one in (0, ALICE, 2)])


@pytest.fixture
async def failure(redis_url: str) -> AsyncIterator[Failure]:
    async with small_venue(redis_url) as venue:
        account = await add_user(venue.link, username="alice", password_hash="h")
        assert account == ALICE
        await deposit(venue.link, account=ALICE, asset="USD", amount=10_000, ref="r1")
        await venue.link.call("HSET", keys.session(ALICE), "epoch", 1, "number", SESSION)
        failure = Failure(venue)
        await failure.keep()
        yield failure


def order(number: int, symbol: str = BTC, *, qty_lots: int = 1, session: int = SESSION) -> NewOrder:
    """Return an order to buy at 1.00 USD; it needs 100 smallest units a lot."""
    return NewOrder(
        account=ALICE,
        session=session,
        msg_seq_num=number,
        cl_ord_id=f"a{number}",
        side=Side.BUY,
        ord_type=OrdType.LIMIT,
        time_in_force=TimeInForce.GTC,
        post_only=False,
        stp=SelfTradePrevention.NONE,
        price_ticks=100,
        qty_lots=qty_lots,
        rules_version=1,
        reserved=100 * qty_lots,
    )


async def admit(venue: SmallVenue, *orders: tuple[str, NewOrder]) -> None:
    items = [
        PublishItem(ALICE, 1, one.msg_seq_num, symbol, encode_command(one), "USD", one.reserved, 1)
        for symbol, one in orders
    ]
    results = await Admission(venue.link, venue.homes, backlog_max=BACKLOG_MAX).admit(items)
    assert all(result > 0 for result in results)


async def content(link: RedisLink, key: str) -> object:
    """Return what a key holds; a hash in the order of its fields' names."""
    if await link.call("TYPE", key) != b"hash":
        return await link.call("DUMP", key)
    flat = await link.call("HGETALL", key)
    return sorted(zip(flat[::2], flat[1::2], strict=True))


async def test_everything_comes_back_with_its_number_stamp_and_money(failure: Failure) -> None:
    venue, link = failure.venue, failure.venue.link
    await admit(venue, (BTC, order(1)), (ETH, order(2)))
    bob = await add_user(link, username="bob", password_hash="h")
    await deposit(link, account=bob, asset="BTC", amount=7, ref="r2")
    await withdraw(link, account=ALICE, asset="USD", amount=300, ref="r3")
    await change_password(link, account=bob, password_hash="i")
    await set_public_keys(link, account=bob, public_keys=["key"])
    await set_addresses(link, account=bob, addresses=["192.0.2.0/24"])
    await set_user_field(link, account=bob, field="drop_copy", value=str(ALICE))
    await set_user_field(link, account=ALICE, field="drop_copy", value=str(bob))
    await set_user_field(link, account=ALICE, field="max_open_orders", value="5")
    await disable_user(link, account=bob, homes=venue.homes)
    await admit(venue, (BTC, order(3, qty_lots=2)))
    names = (
        "ledger",
        "totals",
        "ledger:refs",
        "usernames",
        "user:1",
        "user:2",
        "user_ids",
        "bal:2",
        "copies",
    )
    before = [await content(link, name) for name in names]
    streams = [await venue.stream(keys.orders(one), db=1) for one in (BTC, ETH)]
    money = [await failure.money(asset) for asset in ("USD", "BTC")]
    await failure.lose()

    assert await failure.repair() == []

    assert [await content(link, name) for name in names] == before
    assert [await venue.stream(keys.orders(one), db=1) for one in (BTC, ETH)] == streams
    assert [await failure.money(asset) for asset in ("USD", "BTC")] == money
    assert await read_access(link, bob) == UserAccess(("key",), ("192.0.2.0/24",))
    # Its outcomes are committed, too: the orders rest.
    assert await venue.balance(ALICE, "USD") == (9_300, 0, 400)
    assert await link.call("HGET", keys.SETTLED, BTC) == b"4"
    assert await link.call("HGET", keys.session(ALICE), "dealt") == b"3"
    assert [one.record.ts_ns for one in failure.done] == sorted(
        one.record.ts_ns for one in failure.done
    )
    for db in (0, 1):
        async with link.sibling(db) as database:
            assert await database.call("GET", keys.CLEARED) == b""


async def test_a_second_repair_changes_nothing(failure: Failure) -> None:
    await admit(failure.venue, (BTC, order(1)), (BTC, order(2)))
    await deposit(failure.venue.link, account=ALICE, asset="USD", amount=5, ref="r2")
    await failure.lose()
    assert await failure.repair() == []
    before = await failure.venue.dump()

    assert await failure.repair() == []

    assert failure.done == []
    after = await failure.venue.dump()
    assert {k: v for k, v in after.items() if "lease" not in k} == {
        k: v for k, v in before.items() if "lease" not in k
    }


async def test_what_the_account_has_not_is_left_lost_and_the_other_stream_goes_on(
    failure: Failure,
) -> None:
    await admit(failure.venue, (BTC, order(1, qty_lots=60)), (BTC, order(2)), (ETH, order(3)))
    await failure.lose()
    # Somebody spent it before the loss was found.
    await failure.venue.link.call("HINCRBY", keys.balances(ALICE), "USD:a", -5_000)

    [short] = await failure.repair()

    assert (short.lost.key, short.lost.record.seq, short.available) == (BTC, 2, 4_900)
    assert (short.lost.asset, short.lost.amount) == ("USD", 6_000)
    assert [(one.key, one.record.seq) for one in failure.done] == [(ETH, 2)]
    assert await failure.venue.balance(ALICE, "USD") == (4_900, 0, 100)
    assert len(await failure.venue.stream(keys.orders(BTC), db=1)) == 1

    await failure.venue.give(ALICE, "USD", 5_000)
    assert await failure.repair() == []
    assert await failure.venue.balance(ALICE, "USD") == (3_800, 0, 6_200)


async def test_a_withdrawal_of_more_than_is_available_stops_the_ledger(failure: Failure) -> None:
    await withdraw(failure.venue.link, account=ALICE, asset="USD", amount=9_000, ref="r2")
    await failure.lose()
    await failure.venue.link.call("HINCRBY", keys.balances(ALICE), "USD:a", -5_000)

    [short] = await failure.repair()

    assert (short.lost.key, short.lost.record.seq, short.available) == (LEDGER, 3, 5_000)
    assert await failure.venue.balance(ALICE, "USD") == (5_000, 0, 0)
    assert len(await failure.venue.stream(keys.LEDGER)) == 2


async def test_dealt_rises_only_in_the_session_that_the_command_came_in(failure: Failure) -> None:
    await admit(failure.venue, (BTC, order(5, session=SESSION - 1)))
    await failure.lose()
    assert await failure.repair() == []
    assert await failure.venue.link.call("HGET", keys.session(ALICE), "dealt") is None


async def test_a_stream_that_went_on_without_the_journal_is_refused(failure: Failure) -> None:
    await admit(failure.venue, (BTC, order(1)))
    await failure.lose()
    await admit(failure.venue, (BTC, order(2)))
    with pytest.raises(HistoryDiffers, match="orders:BTC-USD: entry 2"):
        await failure.repair()


async def test_a_journal_that_does_not_begin_at_one_is_refused(failure: Failure) -> None:
    await admit(failure.venue, (BTC, order(1)), (BTC, order(2)))
    await failure.lose()
    failure.journal.pop(0)
    with pytest.raises(StreamGap, match="journal of BTC-USD: expected 1, received 2"):
        await failure.repair()


async def test_a_repair_without_the_lease_writes_nothing(failure: Failure) -> None:
    await admit(failure.venue, (BTC, order(1)))
    await failure.lose()
    lease = Lease(failure.venue.new_link(1), owner=f"{OWNER_PREFIX}x", ttl_ms=60_000)
    homes = failure.venue.shard_homes(1)
    repair = Repair(failure.venue.link, lease, homes, with_ledger=True)
    found = await repair.look(lambda: failure.journal)
    before = await failure.venue.dump()
    with pytest.raises(Fenced):
        await repair.run(found, on_done=failure.done.append)
    assert await failure.venue.dump() == before


async def test_a_lost_skip_comes_back_and_its_command_is_passed_over(failure: Failure) -> None:
    await admit(failure.venue, (BTC, order(1)))
    await failure.lose()
    failure.journal.append(skip_record(BTC, 2, "by hand", 5_000))

    assert await failure.repair() == []

    async with failure.venue.link.sibling(1) as link:
        assert await link.call("HGET", keys.skips(BTC), 2) == b"5 by hand"
    assert await failure.venue.balance(ALICE, "USD") == (10_000, 0, 0)


async def test_scheduled_changes_that_come_back_are_not_made_again(failure: Failure) -> None:
    venue, link = failure.venue, failure.venue.link
    home, due_us = venue.homes[BTC], 1_000_000
    assert await schedule_phase(link, home, TradingPhase.PRE_OPEN, scheduled_us=due_us)
    await request_phase(link, PhaseRequest(home, TradingPhase.HALTED, "r1"))
    await failure.lose()
    assert await failure.repair() == []
    await clear_server(link, 0, 1)
    assert not await schedule_phase(link, home, TradingPhase.PRE_OPEN, scheduled_us=due_us)
    (number, last) = (await venue.stream(keys.orders(BTC), db=1))[-1]
    assert last["c"] == encode_command(SetPhase(TradingPhase.HALTED, PhaseReason.OPERATOR))
    async with link.sibling(1) as shard_link:
        newest = await shard_link.call("HGET", keys.phase(BTC), "seq")
    assert int(newest) == number
