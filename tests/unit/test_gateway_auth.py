"""Who may log on, with users in a real Redis."""

from __future__ import annotations

import asyncio
import threading
from base64 import b64encode
from collections.abc import AsyncIterator

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.auth import Authenticator, Caller, LogonLimits, hash_password
from gateway.logon_signature import LogonSignature, sign_logon
from gateway.session_events import LogonRequested
from router import keys
from router.errors import RedisUnavailable
from router.redis_client import RedisLink
from router.user_access import set_addresses, set_public_keys
from router.users import add_user
from tests.helpers import eventually_async
from tests.router_helpers import make_link
from tests.venue import PASSWORD, PASSWORD_HASH

NOW_NS = 1_767_323_045_000_000_000
NOW_US = NOW_NS // 1_000
SECOND_NS = 10**9
GOOD = LogonRequested(b"", 1, "user", PASSWORD, 30, False, 1, None, False)
HOME, ELSEWHERE = "192.0.2.1", "192.0.2.2"
WRONG = "Wrong Username (553), Password (554), or signature (96)"
LIMITS = LogonLimits(
    failures_free=2,
    address_failures_free=20,
    wait_max_s=60,
    pending_max=10,
    signed_window_s=5,
)
KEY = Ed25519PrivateKey.generate()
PUBLIC_KEY = b64encode(KEY.public_key().public_bytes_raw()).decode()


@pytest.fixture
async def link(redis_url: str) -> AsyncIterator[RedisLink]:
    """A Redis with one user, account 1."""
    async with make_link(redis_url) as link:
        assert await add_user(link, username="user", password_hash=PASSWORD_HASH) == 1
        yield link


class World:
    """An authenticator and its clock."""

    def __init__(self, link: RedisLink, **limits: object) -> None:
        self.now_ns = NOW_NS
        self.authenticator = Authenticator(
            link, msgspec.structs.replace(LIMITS, **limits), now_ns=lambda: self.now_ns
        )

    async def check(
        self, address: str = HOME, certificate: str | None = None, **changed: object
    ) -> str | None:
        """Return the text of the denial: '' for a silent one, None when the user may log on."""
        logon = msgspec.structs.replace(GOOD, **changed)
        denied = await self.authenticator.check(logon, Caller(address, certificate))
        return None if denied is None else denied.text or ""

    async def signed(
        self, *, late_us: int = 0, key: Ed25519PrivateKey = KEY, **changed: object
    ) -> str | None:
        """Check a Logon without a password that is signed at the given time."""
        values = (b"A", b"1", b"SHARDEX", b"1", b"%d" % late_us)
        signature = LogonSignature(sign_logon(key, values), b"\x01".join(values), NOW_US + late_us)
        return await self.check(**{"password": None, "signature": signature, **changed})


@pytest.fixture
async def world(link: RedisLink) -> AsyncIterator[World]:
    made = World(link)
    yield made
    made.authenticator.close()


async def test_password_is_checked_against_its_hash(world: World) -> None:
    assert await world.check() is None
    assert await world.check(password=b"x") == WRONG
    assert await world.check(password=None) == WRONG
    world.now_ns += 60 * SECOND_NS
    assert await world.check(username="somebody") == WRONG


async def test_unknown_account_is_denied_without_a_word(world: World) -> None:
    assert await world.check(sender_comp_id=99) == ""


async def test_failures_make_the_account_wait_at_that_address_alone(world: World) -> None:
    for _ in range(5):
        assert await world.check() is None, "successes do not count"
    for _ in range(3):
        assert await world.check(password=b"x") == WRONG
    assert await world.check() == "Too many failed logons; try again in 1 s"
    assert await world.check(ELSEWHERE) is None, "nobody is locked out from elsewhere"
    world.now_ns += SECOND_NS
    assert await world.check(password=b"x") == WRONG
    assert await world.check() == "Too many failed logons; try again in 2 s"
    world.now_ns += 2 * SECOND_NS
    assert await world.check() is None
    for _ in range(2):
        assert await world.check(password=b"x") == WRONG, "a success has cleared the count"


async def test_failures_of_an_address_make_it_wait_whatever_the_account(link: RedisLink) -> None:
    world = World(link, address_failures_free=4)
    for account in range(100, 105):
        assert await world.check(sender_comp_id=account) == ""
    assert await world.check() == ""
    assert await world.check(ELSEWHERE) is None
    world.now_ns += SECOND_NS
    assert await world.check() is None
    assert await world.check(sender_comp_id=106) == ""
    assert await world.check() == "", "no success clears what the address has done"
    world.authenticator.close()


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("fe80::1%eth0", "fe80::2%eth1", True),
    ],
)
async def test_network_of_an_ipv6_client_counts_as_one_address(
    world: World, first: str, second: str, same: bool
) -> None:
    for _ in range(3):
        await world.check(first, password=b"x")
    assert (await world.check(second) is not None) is same


async def test_many_at_once_do_not_slip_through(world: World) -> None:
    texts = await asyncio.gather(*(world.check(password=b"x") for _ in range(9)))
    assert texts.count(WRONG) == 3


async def test_attempt_that_redis_did_not_answer_counts_for_nothing(
    world: World, link: RedisLink
) -> None:
    away = World(RedisLink("redis://127.0.0.1:1", db=0, name="away", timeout_ms=100))
    for _ in range(9):
        with pytest.raises(RedisUnavailable):
            await away.check()
    away.authenticator.close()
    await link.call("SET", keys.session(1), "no hash")
    await set_public_keys(link, account=1, public_keys=[PUBLIC_KEY])
    for _ in range(9):
        with pytest.raises(Exception, match="WRONGTYPE"):
            await world.signed()
    await link.call("DEL", keys.session(1))
    assert await world.signed() is None


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


# ---------------------------------------------------------------- addresses


async def test_user_logs_on_only_from_the_addresses_that_are_set(
    world: World, link: RedisLink
) -> None:
    await set_addresses(link, account=1, addresses=["192.0.2.2/31", "2001:db8::/32"])
    assert await world.check() == WRONG, "the same as for a wrong password"
    assert await world.check(ELSEWHERE) is None
    assert await world.check("2001:db8::7") is None
    assert await world.check("") == WRONG
    await set_addresses(link, account=1, addresses=[])
    assert await world.check() is None


async def test_address_is_looked_at_before_the_password(world: World, link: RedisLink) -> None:
    await set_addresses(link, account=1, addresses=["192.0.2.2"])
    world.authenticator.close()
    assert await world.check() == WRONG, "no thread was asked to check the password"


# ---------------------------------------------------------------- certificates


async def test_certificate_must_be_of_the_sender_comp_id(link: RedisLink) -> None:
    world = World(link, needs_certificate=True)
    assert await world.check(certificate="1") is None
    for other in ("2", "01", ""):
        text = await world.check(certificate=other) or ""
        assert text.startswith("SenderCompID (49) is 1, the client certificate is of")
    assert (await world.check() or "").endswith("is of nobody")
    world.authenticator.close()


# ---------------------------------------------------------------- signed Logons


async def test_signed_logon_needs_no_password(world: World, link: RedisLink) -> None:
    assert await world.signed() == WRONG, "the user has no keys"
    await set_public_keys(link, account=1, public_keys=["bm9uZQ==", PUBLIC_KEY])
    assert await world.signed(late_us=1) is None
    assert await world.signed(late_us=2, username=None) is None
    assert await world.signed(late_us=3, username="somebody") == WRONG


async def test_password_beside_a_signature_must_be_right_too(world: World, link: RedisLink) -> None:
    await set_public_keys(link, account=1, public_keys=[PUBLIC_KEY])
    assert await world.signed(password=PASSWORD) is None
    assert await world.signed(late_us=1, password=b"x") == WRONG


async def test_signature_of_another_key_or_of_other_content_is_none(
    world: World, link: RedisLink
) -> None:
    await set_public_keys(link, account=1, public_keys=[PUBLIC_KEY])
    assert await world.signed(key=Ed25519PrivateKey.generate()) == WRONG
    for signature in (b"", b"AAAA", b"not base64"):
        other = LogonSignature(signature, b"content", NOW_US)
        world.now_ns += 300 * SECOND_NS
        assert await world.check(password=None, signature=other) == WRONG
    assert await world.check(signature=other) == WRONG, "a right password does not make up for it"


async def test_copy_of_a_signed_logon_is_refused_on_every_gateway(
    world: World, link: RedisLink
) -> None:
    await set_public_keys(link, account=1, public_keys=[PUBLIC_KEY])
    another = World(link)
    assert await world.signed(late_us=10) is None
    assert await world.signed(late_us=10) == WRONG
    assert await another.signed(late_us=10) == WRONG
    assert await another.signed(late_us=9) == WRONG, "older than one that was accepted"
    assert await another.signed(late_us=11) is None
    another.authenticator.close()


@pytest.mark.parametrize("late_us", [-5_000_001, 5_000_001])
async def test_signed_logon_is_taken_near_its_sending_time_only(
    world: World, link: RedisLink, late_us: int
) -> None:
    await set_public_keys(link, account=1, public_keys=[PUBLIC_KEY])
    assert await world.signed(late_us=late_us) == WRONG
    assert await world.signed(late_us=late_us + (1 if late_us < 0 else -1)) is None
