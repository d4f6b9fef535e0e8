"""Money in and out, and what accounts have.

Deposits and withdrawals are entries of the dense ``ledger`` stream, each with a reference that
counts
once: after a lost reply the same call is simply made again.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from engine.instrument import AMOUNT_MAX
from engine.ledger_entries import Deposited, Withdrawn, encode_ledger_entry
from engine.limits import DEPOSIT_REF_LENGTH_MAX
from router import keys
from router.errors import LedgerRefused, Uncleared
from router.redis_client import RedisLink
from router.scripts import Script

_TRANSFER = Script("ledger_transfer", before=("cleared", "ledger_append"))


class Balance(msgspec.Struct, frozen=True):
    """What an account has of one asset, in its smallest unit."""

    available: int
    pending: int
    held: int


class Transfer(msgspec.Struct, frozen=True):
    """A deposit or withdrawal that stands in the ledger.

    Attributes:
        entry: its number.
        is_new: False when it was carried out before, under the same reference.
    """

    entry: int
    is_new: bool


async def deposit(link: RedisLink, *, account: int, asset: str, amount: int, ref: str) -> Transfer:
    """Add to what an account has available.

    Args:
        link: accounts database.
        amount: in the asset's smallest unit.
        ref: the operator's reference; the same request again changes nothing.

    Raises:
        LedgerRefused: the amount is not from 1 to 2^62, the reference empty, too long or used for
            something else, the account unknown, or the asset's total would exceed 2^62.
        RedisUnavailable: no reply, or not cleared: make the same call again.
    """
    return await _transfer(link, "deposit", Deposited(account, asset, amount, ref))


async def withdraw(link: RedisLink, *, account: int, asset: str, amount: int, ref: str) -> Transfer:
    """Take from what an account has available.

    Args: as of ``deposit``.

    Raises:
        LedgerRefused: as of ``deposit``, or more than is available.
        RedisUnavailable: no reply, or not cleared: make the same call again.
    """
    return await _transfer(link, "withdraw", Withdrawn(account, asset, amount, ref))


async def _transfer(link: RedisLink, kind: str, entry: Deposited | Withdrawn) -> Transfer:
    account, asset, amount, ref = entry.account, entry.asset, entry.amount, entry.ref
    if not 1 <= amount <= AMOUNT_MAX:
        raise LedgerRefused(f"amount: expected 1 to 2^62 smallest units, received {amount}")
    if not 1 <= len(ref) <= DEPOSIT_REF_LENGTH_MAX:
        raise LedgerRefused(f"ref: expected 1 to {DEPOSIT_REF_LENGTH_MAX} characters")
    reply = await _TRANSFER.run(link, account, asset, amount, kind, ref, encode_ledger_entry(entry))
    code = reply[0]
    if code in (b"OK", b"AGAIN"):
        return Transfer(reply[1], is_new=code == b"OK")
    if code == b"UNCLEARED":
        raise Uncleared(keys.ACCOUNTS_DB)
    reasons: Mapping[bytes, str] = {
        b"REF": f"ref {ref}: used for another request (ledger entry {reply[-1]})",
        b"UNKNOWN": f"account {account}: there is no such user",
        b"TOTAL": f"{asset}: all accounts together would have more than 2^62 smallest units",
        b"FUNDS": f"account {account} has less than that of {asset} available",
    }
    raise LedgerRefused(reasons[code])


async def read_balances(link: RedisLink, account: int) -> dict[str, Balance]:
    """Return what an account has, by asset, in the order of the assets' names.

    Args:
        link: accounts database.

    Raises:
        RedisUnavailable: no reply.
    """
    return parse_balances(await link.call("HGETALL", keys.balances(account)))


def parse_balances(fields: list[bytes]) -> dict[str, Balance]:
    """Return the balances that the fields and values of ``bal:{account}`` say."""
    values = {
        name.decode(): int(value) for name, value in zip(fields[::2], fields[1::2], strict=True)
    }
    assets = sorted({name.rpartition(":")[0] for name in values})
    return {
        asset: Balance(
            values.get(keys.available(asset), 0),
            values.get(keys.pending(asset), 0),
            values.get(keys.held(asset), 0),
        )
        for asset in assets
    }


async def read_totals(link: RedisLink) -> dict[str, int]:
    """Return deposits − withdrawals of each asset, in its smallest unit.

    Args:
        link: accounts database.

    Raises:
        RedisUnavailable: no reply.
    """
    fields = await link.call("HGETALL", keys.TOTALS)
    pairs = zip(fields[::2], fields[1::2], strict=True)
    return {asset.decode(): int(total) for asset, total in pairs}
