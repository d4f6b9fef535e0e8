"""Cancel on disconnect on a real Redis: decided once, by whoever looks, whatever has died."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from engine.commands import CancelAll, encode_command
from engine.enums import CancelReason
from router import keys
from router.admission import FENCED, Admission, PublishItem
from router.disconnects import Disconnected, disconnect, read_due
from router.errors import Fenced, HomeMismatch, Uncleared
from router.sessions import OnDisconnect, Opened, Sessions
from router.user_fields import set_user_field
from router.users import add_user, disable_user
from tests.helpers import eventually_async
from tests.router_helpers import BACKLOG_MAX, BTC, ETH, SOL, SmallVenue, small_venue

ALICE, BOB = 1, 2
CANCEL = encode_command(CancelAll(ALICE, CancelReason.DISCONNECTED))
LONG_MS = 3_600_000


@pytest.fixture
async def venue(redis_url: str) -> AsyncIterator[SmallVenue]:
    async with small_venue(redis_url) as venue:
        for account, name in ((ALICE, "alice"), (BOB, "bob")):
            assert await add_user(venue.link, username=name, password_hash="h") == account
        await venue.link.call("HSET", keys.SETTLED, BTC, 1, ETH, 1, SOL, 1)
        yield venue


class Client:
    """Alice's session at a gateway whose lease is ``ttl_ms``."""

    def __init__(self, venue: SmallVenue, *, ttl_ms: int = LONG_MS) -> None:
        self.venue = venue
        self.sessions = Sessions(venue.link, owner="gateway-1", ttl_ms=ttl_ms)
        self.admission = Admission(venue.new_link(), venue.homes, backlog_max=BACKLOG_MAX)
        self.epoch = 0

    async def log_on(self, how: OnDisconnect = OnDisconnect.CANCEL) -> Opened:
        opened = await self.sessions.logon(ALICE, reset=False, on_disconnect=how)
        assert isinstance(opened, Opened)
        self.epoch = opened.epoch
        return opened

    async def leave(self) -> None:
        await self.sessions.release(ALICE, self.epoch, dealt=9, next_out=9)

    async def order(self, number: int, symbol: str = BTC) -> list[int]:
        item = PublishItem(ALICE, self.epoch, number, symbol, b"order", "", 0, 1)
        return await self.admission.admit([item])


async def due_ms(venue: SmallVenue) -> int | None:
    """Return when Alice counts as gone, by the server's clock."""
    score = await venue.link.call("ZSCORE", keys.DISCONNECTS, ALICE)
    return None if score is None else int(score)


class DueIn:
    """Looks that what is done inside has Alice count as gone so many seconds later."""

    def __init__(self, venue: SmallVenue, seconds: int) -> None:
        self._venue = venue
        self._later_ms = 1_000 * seconds
        self._begun_ms = 0

    async def __aenter__(self) -> None:
        self._begun_ms = await self._now_ms()

    async def __aexit__(self, *exc_info: object) -> None:
        due = await due_ms(self._venue)
        assert due is not None
        assert self._begun_ms <= due - self._later_ms <= await self._now_ms()

    async def _now_ms(self) -> int:
        seconds, us = await self._venue.link.call("TIME")
        return int(seconds) * 1_000 + int(us) // 1_000


async def commands(venue: SmallVenue, symbol: str) -> list[bytes]:
    entries = await venue.stream(keys.orders(symbol), db=venue.homes[symbol].db)
    return [fields["c"] for _, fields in entries[1:]]


async def grace(venue: SmallVenue, text: str) -> None:
    await set_user_field(venue.link, account=ALICE, field="cancel_on_disconnect_s", value=text)


async def is_due(venue: SmallVenue) -> bool:
    return await read_due(venue.link) == [ALICE]


async def until_due(venue: SmallVenue) -> None:
    async def looks() -> bool:
        return await is_due(venue)

    await eventually_async(looks)


async def test_who_logs_out_is_canceled_where_it_may_have_orders(venue: SmallVenue) -> None:
    client = Client(venue)
    await client.log_on()
    assert await read_due(venue.link) == []
    assert await disconnect(venue.link, ALICE, venue.homes) is None
    assert await client.order(1) == [2]
    await client.leave()

    assert await is_due(venue)
    assert await disconnect(venue.link, ALICE, venue.homes) == Disconnected(1, 0)
    assert await disconnect(venue.link, ALICE, venue.homes) is None
    assert await commands(venue, BTC) == [b"order", CANCEL]
    assert await commands(venue, ETH) == await commands(venue, SOL) == []
    assert await read_due(venue.link) == []


async def test_who_dies_with_its_gateway_is_canceled_when_the_lease_ends(venue: SmallVenue) -> None:
    client = Client(venue, ttl_ms=50)
    await client.log_on()
    assert await client.order(1, SOL) == [2]
    await until_due(venue)

    looks = [disconnect(venue.new_link(), ALICE, venue.homes) for _ in range(4)]
    done = await asyncio.gather(*looks)

    assert sorted(done, key=lambda one: one is None) == [Disconnected(1, 0), None, None, None]
    assert await commands(venue, SOL) == [b"order", CANCEL]
    # What the gateway still has in hand comes too late.
    assert await client.order(2, SOL) == [FENCED]
    assert await client.sessions.renew({ALICE: client.epoch}) == [ALICE]
    with pytest.raises(Fenced):
        await client.leave()
    assert await read_due(venue.link) == []


async def test_renewals_move_the_end_on_and_a_logon_takes_it_back(venue: SmallVenue) -> None:
    await grace(venue, "100")
    client = Client(venue, ttl_ms=1_000)
    async with DueIn(venue, 101):
        await client.log_on(OnDisconnect.AS_SET)
    client.sessions = Sessions(venue.link, owner="gateway-1", ttl_ms=50_000)
    async with DueIn(venue, 150):
        assert await client.sessions.renew({ALICE: client.epoch}) == []
    async with DueIn(venue, 100):
        await client.leave()
    await client.log_on(OnDisconnect.KEEP)
    assert await due_ms(venue) is None
    await client.sessions.renew({ALICE: client.epoch})
    await client.leave()
    assert await due_ms(venue) is None


@pytest.mark.parametrize(
    ("setting", "how", "is_canceled"),
    [
        ("", OnDisconnect.AS_SET, False),
        ("0", OnDisconnect.AS_SET, True),
        ("0", OnDisconnect.KEEP, False),
        ("", OnDisconnect.CANCEL, True),
    ],
)
async def test_the_logon_goes_before_the_setting(
    venue: SmallVenue, setting: str, how: OnDisconnect, *, is_canceled: bool
) -> None:
    await grace(venue, setting)
    client = Client(venue)
    await client.log_on(how)
    await client.leave()
    assert await is_due(venue) is is_canceled


async def test_a_stranger_changes_nothing_about_who_is_gone(venue: SmallVenue) -> None:
    client = Client(venue)
    await client.log_on()
    await client.leave()
    before = await due_ms(venue)
    opened = await client.log_on(OnDisconnect.UNCHANGED)
    # While the stranger's number is taken the session seems to be served.
    assert await disconnect(venue.link, ALICE, venue.homes) is None
    await client.sessions.release(ALICE, opened.epoch, dealt=0, next_out=9, is_gone=False)
    assert before is not None and await due_ms(venue) == before
    assert await disconnect(venue.link, ALICE, venue.homes) == Disconnected(0, 0)
    await client.sessions.release(ALICE, opened.epoch + 1, dealt=0, next_out=9)
    assert await due_ms(venue) is None


async def test_a_shard_that_is_away_is_canceled_later_the_others_at_once(
    venue: SmallVenue,
) -> None:
    client = Client(venue)
    await client.log_on()
    assert [await client.order(1), await client.order(2, SOL)] == [[2], [2]]
    await client.leave()
    async with venue.link.sibling(2) as link:
        mark = await link.call("GET", keys.CLEARED)
        await link.call("SET", keys.CLEARED, "")
        async with DueIn(venue, 1):
            assert await disconnect(venue.link, ALICE, venue.homes) == Disconnected(1, 1)
        await link.call("SET", keys.CLEARED, mark)
    await until_due(venue)
    assert await disconnect(venue.link, ALICE, venue.homes) == Disconnected(1, 0)
    assert await commands(venue, BTC) == [b"order", CANCEL]
    assert await commands(venue, SOL) == [b"order", CANCEL]


async def test_nothing_is_decided_on_a_server_that_is_not_cleared_or_another_venue(
    venue: SmallVenue,
) -> None:
    client = Client(venue)
    await client.log_on()
    assert await client.order(1) == [2]
    await client.leave()
    mark = await venue.link.call("GET", keys.CLEARED)
    await venue.link.call("SET", keys.CLEARED, "")
    with pytest.raises(Uncleared):
        await disconnect(venue.link, ALICE, venue.homes)
    await venue.link.call("SET", keys.CLEARED, mark)
    await venue.link.call("HSET", keys.home(BTC), "incarnation", "other")
    with pytest.raises(HomeMismatch):
        await disconnect(venue.link, ALICE, venue.homes)
    assert await is_due(venue)
    assert await commands(venue, BTC) == [b"order"]


async def test_who_is_disabled_is_canceled_once(venue: SmallVenue) -> None:
    client = Client(venue)
    await client.log_on()
    assert await client.order(1) == [2]
    await client.leave()
    assert await disable_user(venue.link, account=ALICE, homes=venue.homes)
    assert await due_ms(venue) is None
    assert await disconnect(venue.link, ALICE, venue.homes) is None
    assert await commands(venue, BTC) == [b"order", encode_command(CancelAll(ALICE))]
    assert await commands(venue, SOL) == []
