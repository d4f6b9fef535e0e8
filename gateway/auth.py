"""Who may log on: user, password, and how often somebody may try. Argon2 runs in threads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from gateway.session_events import LogonRequested
from gateway.throttle import AttemptTable
from router.redis_client import RedisLink
from router.users import read_user

_THREADS = 2
_KEYS_MAX = 10_000
"""SenderCompIDs, and network addresses, whose failures are remembered."""

_WRONG = "Wrong Username (553) or Password (554)"


def hash_password(password: bytes) -> str:
    """Return the argon2id hash that is stored for a user; takes some 50 ms."""
    return PasswordHasher().hash(password)


class Denied:
    """A Logon that is not accepted.

    Args:
        text: of the Logout; None: the connection is closed without a word.
    """

    __slots__ = ("text",)

    def __init__(self, text: str | None) -> None:
        self.text = text


class Authenticator:
    """Decide about Logons.

    Args:
        link: accounts database.
        attempts_per_minute: failures per SenderCompID.
        attempts_per_address: failures per network address and minute.
        pending_max: passwords that may wait to be checked.
        now_ns: the clock.
    """

    def __init__(
        self,
        link: RedisLink,
        *,
        attempts_per_minute: int,
        attempts_per_address: int,
        pending_max: int,
        now_ns: Callable[[], int],
    ) -> None:
        self._link = link
        self._by_account = AttemptTable(per_minute=attempts_per_minute, keys_max=_KEYS_MAX)
        self._by_address = AttemptTable(per_minute=attempts_per_address, keys_max=_KEYS_MAX)
        self._pending = 0
        self._pending_max = pending_max
        self._now_ns = now_ns
        self._hasher = PasswordHasher()
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="argon2")

    async def check(self, logon: LogonRequested, address: str) -> Denied | None:
        """Return why a Logon is denied, or None when the user is who they say.

        Args:
            logon: what the client sent.
            address: where it comes from.

        Raises:
            RedisUnavailable: no reply.
        """
        account = logon.sender_comp_id
        now_ns = self._now_ns()
        if not self._by_address.take(address, now_ns):
            return Denied(None)
        user = await read_user(self._link, account)
        if user is None:
            return Denied(None)
        if not self._by_account.take(account, now_ns):
            return Denied("Too many failed logons; try again later")
        if self._pending >= self._pending_max:
            return Denied("Too many logons at once; try again later")
        if logon.username != user.username or logon.password is None:
            return Denied(_WRONG)
        if not await self._verify(user.password_hash, logon.password):
            return Denied(_WRONG)
        self._by_address.give_back(address)
        self._by_account.give_back(account)
        return Denied("User disabled") if user.disabled else None

    def close(self) -> None:
        """End the threads; a check that is under way ends first."""
        self._threads.shutdown()

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
            return self._hasher.verify(password_hash, password)
        except (VerificationError, InvalidHashError):
            return False
