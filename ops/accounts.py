"""Naming accounts and amounts on the command line."""

from __future__ import annotations

import re

from engine.instrument import DecimalGrid
from ops.errors import CommandFailed
from ops.settings import Settings
from router.redis_client import RedisLink
from router.users import User, find_user, read_user

_USERNAME = re.compile(r"[!-~]{1,64}")


async def resolve_account(link: RedisLink, text: str) -> User:
    """Return the user that an operator names by SenderCompID (digits) or by username.

    Raises:
        CommandFailed: there is none.
        RedisUnavailable: no reply.
    """
    is_number = text.isascii() and text.isdigit()
    user = await (read_user(link, int(text)) if is_number else find_user(link, text))
    if user is None:
        raise CommandFailed(f"{text}: there is no such user")
    return user


def check_username(username: str) -> None:
    """Refuse a username that FIX cannot carry, or that could be taken for a SenderCompID.

    Raises:
        CommandFailed: says why.
    """
    if not _USERNAME.fullmatch(username):
        raise CommandFailed(f"username {username!r}: expected 1 to 64 printable ASCII characters")
    if username.isdigit():
        raise CommandFailed(f"username {username}: digits alone would be a SenderCompID")


def asset_grid(settings: Settings, asset: str) -> DecimalGrid:
    """Return the grid of an asset's amounts.

    Raises:
        CommandFailed: the venue has no such asset.
    """
    scale = settings.scales().get(asset)
    if scale is None:
        raise CommandFailed(f"{asset}: no [[assets]] block has this name")
    return DecimalGrid.of_scale(scale)


def parse_amount(settings: Settings, asset: str, text: str) -> int:
    """Return a decimal amount in the asset's smallest unit.

    Raises:
        CommandFailed: it is no multiple of that, or the asset is unknown.
    """
    grid = asset_grid(settings, asset)
    amount = grid.parse(text)
    if amount is None:
        raise CommandFailed(f"{text}: expected a plain decimal, a multiple of {grid.step} {asset}")
    return amount
