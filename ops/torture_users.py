"""Who takes part in the torture besides the demo's users, and what an operator has set for them."""

from __future__ import annotations

import asyncio
import secrets
from typing import NamedTuple

from gateway.auth import hash_password
from ops.demo_users import read_demo_users
from ops.endpoints import Credentials
from ops.errors import CommandFailed
from ops.private_venue import PrivateVenue
from ops.torture_watcher import SUBSCRIPTIONS
from router.redis_client import RedisLink
from router.user_settings import NO_SETTINGS, UserSettings, change_settings
from router.users import add_user

GRACE_S = 1
"""Of the traders whose orders an operator has canceled when they are gone."""

_CANCELED_EVERY, _CANCELED_FIRST = 4, 3
_SAYS_CANCEL_FIRST = 1


class Users(NamedTuple):
    """Who logs on.

    Attributes:
        traders: the first of the demo's users.
        canceled: accounts of those whose orders are canceled when they are gone.
        say_cancel: accounts of those whose Logons ask for that.
        copied: accounts of those of whom there is a drop copy.
        copier: who gets it.
        watchers: who watch the market.
    """

    traders: list[Credentials]
    canceled: list[int]
    say_cancel: list[int]
    copied: list[int]
    copier: Credentials
    watchers: list[Credentials]


async def ensure_users(venue: PrivateVenue, link: RedisLink, count: int) -> Users:
    """Add the users that are not there yet, and set what an operator sets.

    Args:
        venue: it runs, and has the demo's users.
        link: accounts database.
        count: of traders.

    Raises:
        CommandFailed: the venue has fewer users.
        RedisUnavailable, LedgerRefused: not all was done.
    """
    traders = _demo_users(venue, count)
    accounts = [int(one.sender_comp_id) for one in traders]
    copied = accounts[: max(1, count // 2)]
    by_operator = accounts[_CANCELED_FIRST::_CANCELED_EVERY]
    by_logon = accounts[_SAYS_CANCEL_FIRST::_CANCELED_EVERY]
    names = ["torture-copier", *(f"torture-watcher-{n + 1}" for n in range(len(SUBSCRIPTIONS)))]
    copier, *watchers = [await _add(link, name) for name in names]
    await _set(link, int(copier.sender_comp_id), UserSettings(drop_copy=tuple(copied)))
    for account in by_operator:
        await _set(link, account, UserSettings(cancel_on_disconnect_s=GRACE_S))
    return Users(traders, [*by_operator, *by_logon], by_logon, copied, copier, watchers)


async def _add(link: RedisLink, name: str) -> Credentials:
    password = secrets.token_hex(8)
    password_hash = await asyncio.to_thread(hash_password, password.encode())
    account = await add_user(link, username=name, password_hash=password_hash)
    return Credentials(str(account), name, password)


async def _set(link: RedisLink, account: int, settings: UserSettings) -> None:
    await change_settings(link, account=account, settings=settings, before=NO_SETTINGS)


def _demo_users(venue: PrivateVenue, count: int) -> list[Credentials]:
    users = read_demo_users(venue.settings.var_dir)
    accounts = [] if users is None else [*users.traders, *users.visitors]
    if users is None or len(accounts) < count:
        raise CommandFailed(f"the private venue has {len(accounts)} users, {count} are wanted")
    return [Credentials(str(one), str(one), users.password) for one in accounts[:count]]
