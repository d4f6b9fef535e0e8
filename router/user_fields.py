"""Fields of a user's record beyond name and password, each with its ledger entry."""

from __future__ import annotations

from engine.ledger_entries import UserChanged, encode_ledger_entry
from router import keys
from router.errors import LedgerRefused, Uncleared
from router.redis_client import RedisLink
from router.scripts import Script

_SET = Script("user_set", before=("cleared", "ledger_append", "user_field"))


async def set_user_field(link: RedisLink, *, account: int, field: str, value: str) -> None:
    """Give a field of a user's record another value, and tell the gateways.

    Args:
        link: accounts database.
        value: the whole value; empty: none.

    Raises:
        LedgerRefused: there is no such user.
        RedisUnavailable: no reply, or not cleared: make the same call again.
    """
    entry = encode_ledger_entry(UserChanged(account, field, value))
    reply = await _SET.run(link, account, field, value, entry)
    if reply[0] == b"UNCLEARED":
        raise Uncleared(keys.ACCOUNTS_DB)
    if reply[0] == b"UNKNOWN":
        raise LedgerRefused(f"account {account}: there is no such user")
