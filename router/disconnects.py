"""Cancel on disconnect: whose client is gone for good, and the cancels that follow.

``disconnects`` holds, for each account that wants this, when it counts as gone: the end of its
session's lease and its grace, moved on by each renewal. Whoever looks first decides
(``scripts/session_disconnect.lua``), once.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from engine.commands import CancelAll, encode_command
from engine.enums import CancelReason
from router import keys
from router.errors import HomeMismatch, Uncleared
from router.homes import Home, flat_homes
from router.redis_client import RedisLink
from router.scripts import Script, pack

DUE_MAX = 100
"""Accounts that one look returns; the others come with the next."""

_DISCONNECT = Script("session_disconnect", before=("cleared", "streams"))


class Disconnected(msgspec.Struct, frozen=True):
    """An account's orders have been canceled.

    Attributes:
        streams: symbols that the cancel was put into.
        missed: symbols of shards that are away: tried again.
    """

    streams: int
    missed: int


async def read_due(link: RedisLink) -> list[int]:
    """Return accounts whose clients have been gone for too long, those first who went first.

    Args:
        link: accounts database.

    Raises:
        RedisUnavailable: no reply.
    """
    (seconds, us), flat = await link.pipeline(
        [("TIME",), ("ZRANGE", keys.DISCONNECTS, 0, DUE_MAX - 1, "WITHSCORES")]
    )
    now_ms = int(seconds) * 1_000 + int(us) // 1_000
    pairs = zip(flat[::2], flat[1::2], strict=True)
    return [int(account) for account, due_ms in pairs if int(due_ms) <= now_ms]


async def disconnect(
    link: RedisLink, account: int, homes: Mapping[str, Home]
) -> Disconnected | None:
    """Cancel an account's orders if that is due; None: it is not, or somebody else has done it.

    Args:
        link: accounts database.
        homes: of every symbol of the venue.

    Raises:
        HomeMismatch: a symbol is not what ``homes`` says; nothing was done.
        RedisUnavailable: no reply, or not cleared: make the same call again.
        OutOfMemory: nothing was done.
    """
    command = encode_command(CancelAll(account, CancelReason.DISCONNECTED))
    reply = await _DISCONNECT.run(link, account, command, pack(flat_homes(homes)))
    if reply[0] == b"UNCLEARED":
        raise Uncleared(keys.ACCOUNTS_DB)
    if reply[0] == b"HOME":
        symbol = reply[1].decode()
        raise HomeMismatch(f"{symbol}: its home is not {homes[symbol].incarnation}")
    return Disconnected(reply[1], reply[2]) if reply[0] == b"OK" else None
