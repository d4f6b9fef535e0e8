"""Users, deposits and withdrawals on a real Redis: each once, and never below zero."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from engine.commands import CancelAll, decode_command
from engine.ledger_entries import (
    Deposited,
    PasswordChanged,
    UserCreated,
    UserDisabled,
    Withdrawn,
    decode_ledger_entry,
)
from router import keys
from router.admission import FENCED, Admission, PublishItem
from router.errors import HomeMismatch, LedgerRefused, RedisUnavailable
from router.ledger import Balance, Transfer, deposit, read_balances, read_totals, withdraw
from router.sessions import Disabled, Opened, Sessions
from router.subscriber import Subscriber
from router.users import (
    add_user,
    change_password,
    disable_user,
    find_user,
    list_users,
    read_user,
)
from tests.helpers import DEADLINE_MS
from tests.router_helpers import (
    BACKLOG_MAX,
    BTC,
    ETH,
    SOL,
    LossyProxy,
    SmallVenue,
    make_link,
    small_venue,
)

LARGEST = 2**62


@pytest.fixture
async def venue(redis_url: str) -> AsyncIterator[SmallVenue]:
    async with small_venue(redis_url) as venue:
        yield venue


async def ledger(venue: SmallVenue) -> list[object]:
    """Return all entries; their numbers are dense and their stamps do not fall."""
    entries = await venue.stream(keys.LEDGER)
    stamps = [int(fields["t"]) for _, fields in entries]
    assert [number for number, _ in entries] == list(range(1, len(entries) + 1))
    assert stamps == sorted(stamps)
    return [decode_ledger_entry(fields["e"]) for _, fields in entries]


async def test_users_get_consecutive_accounts_whoever_adds_them(
    venue: SmallVenue, redis_url: str
) -> None:
    async def add(number: int) -> int:
        async with make_link(redis_url) as link:
            return await add_user(link, username=f"user{number}", password_hash="hash")

    accounts = await asyncio.gather(*(add(number) for number in range(20)))

    assert sorted(accounts) == list(range(1, 21))
    users = await list_users(venue.link)
    assert [user.account for user in users] == list(range(1, 21))
    for number, account in enumerate(accounts):
        assert (await find_user(venue.link, f"user{number}")) == users[account - 1]
    assert await ledger(venue) == [
        UserCreated(user.account, user.username, "hash") for user in users
    ]


async def test_username_is_given_once(venue: SmallVenue) -> None:
    await add_user(venue.link, username="alice", password_hash="a")

    with pytest.raises(LedgerRefused, match="taken by account 1"):
        await add_user(venue.link, username="alice", password_hash="b")

    user = await read_user(venue.link, 1)
    assert user is not None
    assert (user.password_hash, user.disabled) == ("a", False)
    assert await read_user(venue.link, 2) is None
    assert await find_user(venue.link, "bob") is None


async def test_password_changes_for_known_users_only(venue: SmallVenue) -> None:
    await add_user(venue.link, username="alice", password_hash="a")

    await change_password(venue.link, account=1, password_hash="b")
    with pytest.raises(LedgerRefused, match="no such user"):
        await change_password(venue.link, account=2, password_hash="b")

    user = await read_user(venue.link, 1)
    assert user is not None
    assert user.password_hash == "b"
    assert (await ledger(venue))[-1] == PasswordChanged(1, "b")


async def test_deposit_and_withdrawal_move_balance_and_total(venue: SmallVenue) -> None:
    await add_user(venue.link, username="alice", password_hash="a")

    first = await deposit(venue.link, account=1, asset="USD", amount=100, ref="in")
    second = await withdraw(venue.link, account=1, asset="USD", amount=30, ref="out")

    assert (first, second) == (Transfer(2, is_new=True), Transfer(3, is_new=True))
    assert await read_balances(venue.link, 1) == {"USD": Balance(70, 0, 0)}
    assert await read_totals(venue.link) == {"USD": 70}
    assert (await ledger(venue))[1:] == [
        Deposited(1, "USD", 100, "in"),
        Withdrawn(1, "USD", 30, "out"),
    ]


async def test_same_request_under_one_reference_counts_once(
    venue: SmallVenue, redis_url: str
) -> None:
    await add_user(venue.link, username="alice", password_hash="a")
    async with LossyProxy(redis_url) as proxy, make_link(proxy.url) as link:
        # Known to the server before, so that the lost reply is that of the script.
        with pytest.raises(LedgerRefused):
            await deposit(link, account=9, asset="USD", amount=1, ref="other")
        proxy.replies_to_lose = 1
        with pytest.raises(RedisUnavailable):
            await deposit(link, account=1, asset="USD", amount=100, ref="in")

        for _ in range(2):
            transfer = await deposit(link, account=1, asset="USD", amount=100, ref="in")
            assert transfer == Transfer(2, is_new=False)

    assert await read_totals(venue.link) == {"USD": 100}


@pytest.mark.parametrize(
    ("kind", "account", "asset", "amount"),
    [("out", 1, "USD", 100), ("in", 2, "USD", 100), ("in", 1, "BTC", 100), ("in", 1, "USD", 99)],
)
async def test_other_request_under_a_used_reference_is_refused(
    venue: SmallVenue, kind: str, account: int, asset: str, amount: int
) -> None:
    for name in ("alice", "bob"):
        await add_user(venue.link, username=name, password_hash="a")
    await deposit(venue.link, account=1, asset="USD", amount=100, ref="one")
    before = await venue.dump()

    transfer = deposit if kind == "in" else withdraw
    with pytest.raises(LedgerRefused, match="another request"):
        await transfer(venue.link, account=account, asset=asset, amount=amount, ref="one")

    assert await venue.dump() == before


async def test_refused_transfers_change_nothing(venue: SmallVenue) -> None:
    await add_user(venue.link, username="alice", password_hash="a")
    await deposit(venue.link, account=1, asset="USD", amount=5, ref="one")
    before = await venue.dump()

    for amount, account, reason in ((6, 1, "less than that"), (1, 9, "no such user")):
        with pytest.raises(LedgerRefused, match=reason):
            await withdraw(venue.link, account=account, asset="USD", amount=amount, ref="two")
    for amount, ref in ((0, "two"), (-1, "two"), (LARGEST + 1, "two"), (1, ""), (1, "x" * 65)):
        with pytest.raises(LedgerRefused):
            await deposit(venue.link, account=1, asset="USD", amount=amount, ref=ref)

    assert await venue.dump() == before


async def test_total_of_an_asset_stops_at_2_to_the_62(venue: SmallVenue) -> None:
    for name in ("alice", "bob"):
        await add_user(venue.link, username=name, password_hash="a")
    await deposit(venue.link, account=1, asset="USD", amount=LARGEST - 1, ref="a")
    await deposit(venue.link, account=2, asset="USD", amount=1, ref="b")

    for amount in (1, LARGEST):
        with pytest.raises(LedgerRefused, match="2\\^62"):
            await deposit(venue.link, account=2, asset="USD", amount=amount, ref="c")

    assert await read_totals(venue.link) == {"USD": LARGEST}
    assert await read_balances(venue.link, 2) == {"USD": Balance(1, 0, 0)}
    await withdraw(venue.link, account=1, asset="USD", amount=LARGEST - 1, ref="d")
    assert await read_totals(venue.link) == {"USD": 1}


async def test_withdrawals_at_once_never_overdraw(venue: SmallVenue, redis_url: str) -> None:
    await add_user(venue.link, username="alice", password_hash="a")
    await deposit(venue.link, account=1, asset="USD", amount=100, ref="in")

    async def take(number: int) -> bool:
        async with make_link(redis_url) as link:
            try:
                await withdraw(link, account=1, asset="USD", amount=7, ref=f"out{number}")
            except LedgerRefused:
                return False
            return True

    taken = await asyncio.gather(*(take(number) for number in range(20)))

    assert sum(taken) == 14
    assert await read_balances(venue.link, 1) == {"USD": Balance(2, 0, 0)}


async def test_disabling_fences_the_session_and_cancels_behind_all_orders(
    venue: SmallVenue,
) -> None:
    await add_user(venue.link, username="alice", password_hash="a")
    sessions = Sessions(venue.link, owner="gateway-1", ttl_ms=60_000)
    session = await sessions.logon(1, reset=False)
    assert isinstance(session, Opened)
    admission = Admission(venue.link, venue.homes, backlog_max=BACKLOG_MAX)
    assert await admission.admit([PublishItem(1, session.epoch, 1, BTC, b"x")]) == [2]
    subscriber = Subscriber(venue.link.url, ["control"], name="test", timeout_ms=DEADLINE_MS)
    await subscriber.open()

    assert await disable_user(venue.link, account=1, homes=venue.homes)

    assert await subscriber.messages() == [("control", b"disabled 1")]
    subscriber.close()
    for symbol, db, seq in ((BTC, 1, 3), (ETH, 1, 2), (SOL, 2, 2)):
        number, fields = (await venue.stream(keys.orders(symbol), db=db))[-1]
        assert (number, decode_command(fields["c"])) == (seq, CancelAll(1))
    assert await admission.admit([PublishItem(1, session.epoch, 2, BTC, b"y")]) == [FENCED]
    assert await sessions.renew({1: session.epoch}) == [1]
    assert await sessions.logon(1, reset=False) == Disabled()
    assert (await ledger(venue))[-1] == UserDisabled(1)


async def test_disabling_again_or_an_unknown_user_changes_nothing(venue: SmallVenue) -> None:
    await add_user(venue.link, username="alice", password_hash="a")
    assert await disable_user(venue.link, account=1, homes=venue.homes)
    before = await venue.dump()

    assert not await disable_user(venue.link, account=1, homes=venue.homes)
    with pytest.raises(LedgerRefused, match="no such user"):
        await disable_user(venue.link, account=2, homes=venue.homes)

    assert await venue.dump() == before


async def test_disabling_with_another_home_writes_nothing(venue: SmallVenue) -> None:
    await add_user(venue.link, username="alice", password_hash="a")
    async with venue.link.sibling(2) as link:
        await link.call("SET", keys.home(SOL), "other")
    before = await venue.dump()

    with pytest.raises(HomeMismatch, match=SOL):
        await disable_user(venue.link, account=1, homes=venue.homes)

    assert await venue.dump() == before
