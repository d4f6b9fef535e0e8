"""Who may log on: certificate, address, password or signature, and how often somebody may try.

Failures make the pair of SenderCompID and network address wait, so that nobody locks a user out
from elsewhere, and the address as a whole, whatever the account. Cheapest first: what has to wait
costs one look into a table, what is not admitted from its address no argon2, which runs in threads.
An IPv6 client has a network of 2^64 addresses: there the network counts.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv6Address, IPv6Network, ip_address
from typing import Final

import msgspec
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from gateway.logon_signature import LogonSignature, is_signed_by
from gateway.session_events import LogonRequested
from gateway.throttle import NS_PER_SECOND, BackoffTable
from router.redis_client import RedisLink
from router.user_access import UserAccess, read_access, take_signed_logon
from router.users import User, read_user

_THREADS = 2
_KEYS_MAX = 10_000
"""Pairs of SenderCompID and address, and addresses, whose failures are remembered."""
_IPV6_PREFIX = 64
_NS_PER_US = 1_000

_WRONG = "Wrong Username (553), Password (554), or signature (96)"

_HASHER: Final = PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1)

logger = logging.getLogger("gateway")


def hash_password(password: bytes) -> str:
    """Return the argon2id hash that is stored for a user; takes some 25 ms.

    Source of the parameters: OWASP Password Storage Cheat Sheet, argon2id. The library's own are
    for interactive use by one person: 170 ms of CPU and 64 MiB a logon, which a gateway pays for
    each of hundreds that come back at once.
    """
    return _HASHER.hash(password)


class Denied:
    """A Logon that is not accepted.

    Args:
        text: of the Logout; None: the connection is closed without a word.
    """

    __slots__ = ("text",)

    def __init__(self, text: str | None) -> None:
        self.text = text


class Caller(msgspec.Struct, frozen=True):
    """Where a Logon comes from.

    Args:
        address: the network address; empty where there is none.
        certificate_name: common name of the client's certificate; None where there is none.
    """

    address: str
    certificate_name: str | None = None


class LogonLimits(msgspec.Struct, frozen=True, kw_only=True):
    """How often and how late somebody may try; see ``GatewaySettings``."""

    failures_free: int
    address_failures_free: int
    wait_max_s: int
    pending_max: int
    signed_window_s: int
    needs_certificate: bool = False


class Authenticator:
    """Decide about Logons.

    Args:
        link: accounts database.
        limits: see there.
        now_ns: the clock.
    """

    def __init__(self, link: RedisLink, limits: LogonLimits, *, now_ns: Callable[[], int]) -> None:
        self._link = link
        self._limits = limits
        wait_max_ns = limits.wait_max_s * NS_PER_SECOND
        self._by_pair = BackoffTable(
            failures_free=limits.failures_free, wait_max_ns=wait_max_ns, keys_max=_KEYS_MAX
        )
        self._by_address = BackoffTable(
            failures_free=limits.address_failures_free, wait_max_ns=wait_max_ns, keys_max=_KEYS_MAX
        )
        self._pending = 0
        self._now_ns = now_ns
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="argon2")

    async def check(self, logon: LogonRequested, caller: Caller) -> Denied | None:
        """Return why a Logon is denied, or None when the user is who they say.

        Args:
            logon: what the client sent.
            caller: where it comes from.

        Raises:
            RedisUnavailable: no reply; the attempt counts for nothing.
        """
        account = logon.sender_comp_id
        if self._limits.needs_certificate and caller.certificate_name != str(account):
            owner = caller.certificate_name or "nobody"
            return Denied(f"SenderCompID (49) is {account}, the client certificate is of {owner}")
        place = _place(caller.address)
        if self._by_address.wait_ns(place, self._now_ns()):
            return Denied(None)
        user = await read_user(self._link, account)
        if user is None:
            self._by_address.fail(place, self._now_ns())
            return Denied(None)
        wait_ns = self._by_pair.wait_ns((account, place), self._now_ns())
        if wait_ns:
            wait_s = -(-wait_ns // NS_PER_SECOND)
            return Denied(f"Too many failed logons; try again in {wait_s} s")
        if self._pending >= self._limits.pending_max:
            return Denied("Too many logons at once; try again later")
        return await self._decide(user, logon, caller.address, place)

    def close(self) -> None:
        """End the threads; a check that is under way ends first."""
        self._threads.shutdown()

    async def _decide(
        self, user: User, logon: LogonRequested, address: str, place: str
    ) -> Denied | None:
        """Look whether somebody is who they say, and count it if not.

        It counts for the pair from the beginning, so that many at once do not slip through.
        """
        pair = (user.account, place)
        self._by_pair.fail(pair, self._now_ns())
        try:
            fault = await self._fault(user, logon, address)
        except BaseException:
            self._by_pair.forgive(pair)
            raise
        if fault:
            self._by_address.fail(place, self._now_ns())
            logger.warning("%d: logon from %s denied: %s", user.account, address, fault)
            return Denied(_WRONG)
        self._by_pair.clear(pair)
        return Denied("User disabled") if user.disabled else None

    async def _fault(self, user: User, logon: LogonRequested, address: str) -> str:
        """Return what is wrong with a Logon, for our log alone; empty: nothing."""
        access = await read_access(self._link, user.account)
        if not access.admits(address):
            return "not from this address"
        if logon.username != user.username and not (logon.username is None and logon.signature):
            return "wrong Username"
        if logon.signature is None and logon.password is None:
            return "no Password"
        if logon.password is not None and not await self._verify(
            user.password_hash, logon.password
        ):
            return "wrong Password"
        if logon.signature is not None:
            return await self._signature_fault(user, access, logon.signature)
        return ""

    async def _signature_fault(self, user: User, access: UserAccess, signed: LogonSignature) -> str:
        if not is_signed_by(signed, access.public_keys):
            return "wrong signature"
        late_us = abs(self._now_ns() // _NS_PER_US - signed.sending_time_us)
        if late_us > self._limits.signed_window_s * 1_000_000:
            return f"signed {late_us // 1_000} ms away from our clock"
        if not await take_signed_logon(
            self._link, user.account, sending_time_us=signed.sending_time_us
        ):
            return "a copy of a signed Logon, or older than one"
        return ""

    async def _verify(self, password_hash: str, password: bytes) -> bool:
        self._pending += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(
                self._threads, self._matches, password_hash, password
            )
        finally:
            self._pending -= 1

    def _matches(self, password_hash: str, password: bytes) -> bool:
        try:
            return _HASHER.verify(password_hash, password)
        except (VerificationError, InvalidHashError):
            return False


def _place(address: str) -> str:
    """Return what an address counts as: itself, of IPv6 its network."""
    if ":" not in address:
        return address
    found = ip_address(address.partition("%")[0])
    if not isinstance(found, IPv6Address):
        return address
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(IPv6Network((found, _IPV6_PREFIX), strict=False))
