"""The demo's users: traders for the simulated market, visitors for whoever tries the exchange.

Their SenderCompIDs are consecutive, the username is the SenderCompID, and all have one password.
They are made once; a later start finds them by var/demo.json (mode 0600), and only adds deposits of
assets that are new.
"""

from __future__ import annotations

import asyncio
import secrets
from pathlib import Path

import msgspec

from engine.instrument import AMOUNT_MAX
from gateway.auth import hash_password
from ops.errors import CommandFailed
from ops.private_file import write_private_file
from ops.settings import Settings
from router import keys
from router.errors import LedgerRefused
from router.ledger import deposit
from router.redis_client import RedisLink
from router.users import add_user, read_users

TRADERS = 8
VISITORS = 4

_QUOTE_UNITS = 10**10
_BASE_UNITS = 10**8
_TRIES_MAX = 10
# All demo users together stay below a tenth of what an asset's total may be.
_AMOUNT_MAX = AMOUNT_MAX // (10 * (TRADERS + VISITORS))


class DemoUsers(msgspec.Struct, frozen=True):
    """Who they are: accounts, which are SenderCompIDs and usernames too."""

    password: str
    traders: list[int]
    visitors: list[int]


def read_demo_users(var_dir: Path) -> DemoUsers | None:
    """Return the demo users of a data directory, or None when there are none yet.

    Raises:
        CommandFailed: the file is damaged or may not be read.
    """
    path = _path(var_dir)
    try:
        return msgspec.json.decode(path.read_bytes(), type=DemoUsers)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as error:
        raise CommandFailed(f"{path} cannot be read: {error}") from error


async def ensure_demo_users(link: RedisLink, settings: Settings) -> DemoUsers:
    """Create the demo users unless they exist, and give each ample balances in every asset.

    Args:
        link: accounts database.

    Raises:
        LedgerRefused: a username or reference of theirs is taken by somebody else.
        RedisUnavailable: no reply; doing it again is safe.
    """
    users = read_demo_users(settings.var_dir)
    if users is None or not await _exist(link, users):
        users = await _create(link)
        write_private_file(_path(settings.var_dir), msgspec.json.encode(users) + b"\n")
    quotes = {symbol.quote for symbol in settings.symbols}
    for asset in settings.assets:
        units = _QUOTE_UNITS if asset.name in quotes else _BASE_UNITS
        amount = min(units * 10**asset.scale, _AMOUNT_MAX)
        for account in (*users.traders, *users.visitors):
            ref = f"demo:{account}:{asset.name}"
            await deposit(link, account=account, asset=asset.name, amount=amount, ref=ref)
    return users


async def _exist(link: RedisLink, users: DemoUsers) -> bool:
    found = await read_users(link, [*users.traders, *users.visitors])
    return all(user is not None and user.username == str(user.account) for user in found)


async def _create(link: RedisLink) -> DemoUsers:
    password = secrets.token_hex(8)
    # One hash for the one password of all: that it is the same for all is no secret here.
    password_hash = await asyncio.to_thread(hash_password, password.encode())
    for _ in range(_TRIES_MAX):
        first = int(await link.call("GET", keys.USER_IDS) or 0) + 1
        accounts = [
            await add_user(link, username=str(first + index), password_hash=password_hash)
            for index in range(TRADERS + VISITORS)
        ]
        # Otherwise somebody else added a user meanwhile, and names and numbers differ.
        if accounts == list(range(first, first + len(accounts))):
            return DemoUsers(password, accounts[:TRADERS], accounts[TRADERS:])
    raise LedgerRefused("demo users: other users are being added all the time")


def _path(var_dir: Path) -> Path:
    return var_dir / "demo.json"
