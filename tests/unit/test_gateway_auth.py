"""Who may log on, with users in a real Redis."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator

import msgspec
import pytest

from gateway.auth import Authenticator, hash_password
from gateway.session_events import LogonRequested
from router import keys
from router.redis_client import RedisLink
from router.users import add_user
from tests.helpers import eventually_async
from tests.router_helpers import make_link
from tests.venue import PASSWORD, PASSWORD_HASH

NOW_NS = 1_767_323_045_000_000_000
GOOD = LogonRequested(b"", 1, "user", PASSWORD, 30, False, 1, None, False)
HOME, ELSEWHERE = "192.0.2.1", "192.0.2.2"


@pytest.fixture
async def link(redis_url: str) -> AsyncIterator[RedisLink]:
    """A Redis with one user, account 1."""
    async with make_link(redis_url) as link:
        assert await add_user(link, username="user", password_hash=PASSWORD_HASH) == 1
        yield link


class World:
    """An authenticator and its clock."""

    def __init__(self, link: RedisLink, *, pending_max: int = 10) -> None:
        self.now_ns = NOW_NS
        self.authenticator = Authenticator(
            link,
            attempts_per_minute=2,
            attempts_per_address=4,
            pending_max=pending_max,
            now_ns=lambda: self.now_ns,
        )

    async def check(self, address: str = HOME, **changed: object) -> str | None:
        """Return the text of the denial: '' for a silent one, None when the user may log on."""
        logon = msgspec.structs.replace(GOOD, **changed)
        denied = await self.authenticator.check(logon, address)
        return None if denied is None else denied.text or ""


@pytest.fixture
async def world(link: RedisLink) -> AsyncIterator[World]:
    made = World(link)
    yield made
    made.authenticator.close()


async def test_password_is_checked_against_its_hash(world: World) -> None:
    assert await world.check() is None
    wrong = "Wrong Username (553) or Password (554)"
    assert await world.check(password=b"x") == wrong
    world.now_ns += 60 * 10**9
    assert await world.check(password=None) == wrong
    assert await world.check(username="somebody") == wrong


async def test_unknown_account_is_denied_without_a_word(world: World) -> None:
    assert await world.check(sender_comp_id=99) == ""


async def test_failures_of_an_account_are_limited_wherever_they_come_from(world: World) -> None:
    for _ in range(5):
        assert await world.check() is None, "successes do not count"
    await world.check(password=b"x")
    await world.check(ELSEWHERE, password=b"x")
    assert await world.check() == "Too many failed logons; try again later"
    world.now_ns += 60 * 10**9
    assert await world.check() is None


async def test_failures_of_an_address_are_limited_whatever_the_account(world: World) -> None:
    for account in range(100, 104):
        assert await world.check(sender_comp_id=account) == ""
    assert await world.check() == ""
    assert await world.check(ELSEWHERE) is None


async def test_disabled_user_is_told_so_only_with_the_right_password(
    world: World, link: RedisLink
) -> None:
    await link.call("HSET", keys.user(1), "disabled", 1)
    assert await world.check() == "User disabled"
    assert (await world.check(password=b"x") or "").startswith("Wrong")


async def test_stored_hash_that_is_none_denies(world: World, link: RedisLink) -> None:
    await link.call("HSET", keys.user(1), "password_hash", "nonsense")
    assert (await world.check() or "").startswith("Wrong")


async def test_passwords_that_wait_to_be_checked_are_limited(link: RedisLink) -> None:
    world = World(link, pending_max=1)
    go_on = threading.Event()
    for _ in range(2):
        world.authenticator._threads.submit(go_on.wait)
    first = asyncio.create_task(world.check())
    await eventually_async(lambda: world.authenticator._pending)
    assert await world.check() == "Too many logons at once; try again later"
    go_on.set()
    assert await first is None
    world.authenticator.close()


async def test_hash_of_a_new_password_verifies(link: RedisLink, world: World) -> None:
    await link.call("HSET", keys.user(1), "password_hash", hash_password(b"new"))
    assert await world.check(password=b"new") is None
    assert await world.check() is not None
