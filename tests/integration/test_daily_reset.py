"""The daily reset of sequence numbers: in Redis, and told to whoever is logged on."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import pytest

from gateway.daily_reset import TEXT
from router import keys
from router.redis_client import RedisLink
from router.sessions import Opened, Sessions
from tests.router_helpers import make_link
from tests.venue import PASSWORD, USD, Venue, limit_order

ALICE, BOB = 1, 2
DAY_MS = 86_400_000
DAY_S = 86_400


@pytest.fixture
async def link(redis_url: str) -> AsyncIterator[RedisLink]:
    async with make_link(redis_url) as link:
        yield link


def far_s() -> int:
    """Return the second of the day that is half a day away: it does not come during a test."""
    return (int(time.time()) + DAY_S // 2) % DAY_S


def make(link: RedisLink, *, daily_reset_s: int | None) -> Sessions:
    return Sessions(link, owner="gateway-1", ttl_ms=60_000, daily_reset_s=daily_reset_s)


async def play_session(sessions: Sessions, account: int = ALICE) -> Opened:
    """Log on, use nine numbers each way, and release."""
    opened = await sessions.logon(account, reset=False)
    assert isinstance(opened, Opened)
    await sessions.release(account, opened.epoch, dealt=opened.next_in + 8, next_out=10)
    return opened


async def test_numbers_go_on_where_there_is_no_reset(link: RedisLink) -> None:
    sessions = make(link, daily_reset_s=None)
    await play_session(sessions)
    await link.call("HSET", keys.session(ALICE), "began_ms", 1)
    assert await sessions.overdue([ALICE]) == []
    assert (await play_session(sessions)).next_in == 10


async def test_first_logon_after_the_reset_begins_at_one(link: RedisLink) -> None:
    sessions = make(link, daily_reset_s=far_s())
    first, second = await play_session(sessions), await play_session(sessions)
    assert (second.number, second.next_in, second.next_out) == (first.number, 10, 10)
    assert await sessions.overdue([ALICE]) == []

    now_ms = int(time.time() * 1_000)
    await link.call("HSET", keys.session(ALICE), "began_ms", now_ms - DAY_MS)
    assert await sessions.overdue([ALICE]) == [ALICE]
    third, fourth = await play_session(sessions), await play_session(sessions)
    assert (third.number, third.next_in, third.next_out) == (first.number + 1, 1, 1)
    assert (fourth.number, fourth.next_in, fourth.next_out) == (third.number, 10, 10)
    assert await sessions.overdue([ALICE, BOB]) == [BOB], "BOB was never logged on"


async def test_client_that_is_logged_on_is_told(venue: Venue) -> None:
    hour, minute = divmod(far_s() // 60, 60)
    # Time enough to ask for what is lacking, behind the Logout.
    settings = {"session_reset_time": f"{hour:02d}:{minute:02d}", "logout_timeout_s": 60}
    daily = venue.settings.gateway.model_copy(update=settings)
    async with venue.gateway(settings=daily) as gateway:
        account = await venue.add_user("user")
        await venue.deposit(account, "USD", 10_000 * USD)
        peer = await venue.log_on(gateway, account, "user")
        peer.send(limit_order("a", 1, "1", "100"))
        await peer.expect("8", t34="2", t11="a")
        await venue.link.call("HSET", keys.session(account), "began_ms", 1)
        await peer.expect("5", t34="3", t58=TEXT)
        # What the client lacks is still sent again.
        peer.send("35=2|7=2|16=0")
        await peer.expect("8", t34="2", t43="Y", t11="a")
        await peer.expect("4", t34="3", t36="4")
        peer.send("35=5")
        await peer.expect_closed()
        await venue.released(account)

        again = await venue.connect(gateway)
        again.logon(account, "user", PASSWORD)
        await again.expect("A", t34="1")
        again.send("35=1|112=GO")
        await again.expect("0", t34="2", t112="GO")
