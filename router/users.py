"""Users: one integer SenderCompID each, which is the account; password hashes pass as text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from engine.commands import CancelAll, encode_command
from engine.ledger_entries import PasswordChanged, UserCreated, UserDisabled, encode_ledger_entry
from router import keys
from router.errors import HomeMismatch, LedgerRefused, Uncleared
from router.homes import Home, flat_homes
from router.redis_client import RedisLink
from router.scripts import Script, pack

_ADD = Script("user_add", before=("cleared", "ledger_append"))
_PASSWORD = Script("user_password", before=("cleared", "ledger_append"))
_DISABLE = Script("user_disable", before=("cleared", "streams", "ledger_append", "user_field"))
_ADD_TRIES_MAX = 100


class User(msgspec.Struct, frozen=True):
    """One user. ``created_us``: µs since 1970 UTC."""

    account: int
    username: str
    password_hash: str
    created_us: int
    disabled: bool


async def add_user(link: RedisLink, *, username: str, password_hash: str) -> int:
    """Create a user and return the account, which is the SenderCompID.

    Args:
        link: accounts database.

    Raises:
        LedgerRefused: the username is taken.
        Uncleared: it was not made: make the same call again.
        RedisUnavailable: no reply: ``find_user`` tells whether it was made.
    """
    account = int(await link.call("GET", keys.USER_IDS) or 0) + 1
    for _ in range(_ADD_TRIES_MAX):
        entry = encode_ledger_entry(UserCreated(account, username, password_hash))
        reply = await _ADD.run(link, account, username, password_hash, entry)
        if reply[0] == b"OK":
            return account
        if reply[0] == b"EXISTS":
            raise LedgerRefused(f"username {username}: taken by account {reply[1]}")
        if reply[0] == b"UNCLEARED":
            raise Uncleared(keys.ACCOUNTS_DB)
        account = reply[1]
    raise LedgerRefused(f"username {username}: too many users are being added at once")


async def change_password(link: RedisLink, *, account: int, password_hash: str) -> None:
    """Give a user another password; a session that is logged on stays so.

    Raises:
        LedgerRefused: there is no such user.
        RedisUnavailable: no reply, or not cleared: make the same call again.
    """
    entry = encode_ledger_entry(PasswordChanged(account, password_hash))
    reply = await _PASSWORD.run(link, account, password_hash, entry)
    if reply[0] == b"UNCLEARED":
        raise Uncleared(keys.ACCOUNTS_DB)
    if reply[0] == b"UNKNOWN":
        raise LedgerRefused(f"account {account}: there is no such user")


async def disable_user(link: RedisLink, *, account: int, homes: Mapping[str, Home]) -> bool:
    """Log a user out, cancel all orders, refuse further logons; False if that was so already.

    Args:
        link: accounts database.
        homes: of every symbol of the venue.

    Raises:
        LedgerRefused: there is no such user.
        HomeMismatch: a symbol is not what ``homes`` says; nothing was done.
        RedisUnavailable: no reply, or not cleared: make the same call again.
    """
    reply = await _DISABLE.run(
        link,
        account,
        encode_ledger_entry(UserDisabled(account)),
        encode_command(CancelAll(account)),
        pack(flat_homes(homes)),
    )
    if reply[0] == b"UNKNOWN":
        raise LedgerRefused(f"account {account}: there is no such user")
    if reply[0] == b"UNCLEARED":
        raise Uncleared(reply[1])
    if reply[0] == b"HOME":
        symbol = reply[1].decode()
        raise HomeMismatch(f"{symbol}: its home is not {homes[symbol].incarnation}")
    return bool(reply[0] == b"OK")


async def read_user(link: RedisLink, account: int) -> User | None:
    """Return a user, or None.

    Raises:
        RedisUnavailable: no reply.
    """
    return (await read_users(link, [account]))[0]


async def find_user(link: RedisLink, username: str) -> User | None:
    """Return the user of a name, or None.

    Raises:
        RedisUnavailable: no reply.
    """
    account = await link.call("HGET", keys.USERNAMES, username)
    return None if account is None else await read_user(link, int(account))


async def list_users(link: RedisLink) -> list[User]:
    """Return all users, in the order in which they were created.

    Raises:
        RedisUnavailable: no reply.
    """
    last = int(await link.call("GET", keys.USER_IDS) or 0)
    found = await read_users(link, range(1, last + 1))
    return [user for user in found if user is not None]


async def read_users(link: RedisLink, accounts: Iterable[int]) -> list[User | None]:
    """Return several users, None for an account that is none, in the order asked for.

    Raises:
        RedisUnavailable: no reply.
    """
    numbers = list(accounts)
    if not numbers:
        return []
    names = ("username", "password_hash", "created_us", "disabled")
    replies = await link.pipeline([("HMGET", keys.user(account), *names) for account in numbers])
    return [
        None
        if fields[0] is None
        else User(
            account, fields[0].decode(), fields[1].decode(), int(fields[2]), fields[3] == b"1"
        )
        for account, fields in zip(numbers, replies, strict=True)
    ]
