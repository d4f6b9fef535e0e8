"""What an operator settles about one user: limits, cancel on disconnect, drop copy.

Fields of the user's record, and of the ledger, as passwords are: the ledger rebuilds them. Limits
and drop copy count at once; cancel on disconnect from the next Logon on.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import msgspec

from engine.instrument import AMOUNT_MAX
from engine.limits import OUTBOX_WITH_COPIES_MAX
from router import keys
from router.errors import LedgerRefused
from router.redis_client import RedisLink
from router.user_fields import set_user_field

logger = logging.getLogger("router")

GRACE_MAX_S = 86_400
"""Longest grace of cancel on disconnect: a day."""

COUNT_MAX = 1_000_000
"""Largest limit of open orders, and of orders per second."""

DROP_COPY_MAX = 1_000
"""Accounts that one drop-copy user gets copies of: bounds the field that is written as a whole."""

COPIES_MAX = 8
"""Drop-copy users of one account: each is one more write per report."""

FIELDS = (
    "max_open_orders",
    "max_order_value",
    "orders_per_s",
    "cancel_on_disconnect_s",
    "drop_copy",
)


class UserSettings(msgspec.Struct, frozen=True):
    """Of one user; None, or an asset that is not named: no limit of its own.

    Attributes:
        max_open_orders: orders that may be open at once, over all symbols.
        max_order_value: quote asset → the largest value of one order, in its smallest unit.
        orders_per_s: orders and replaces per second.
        cancel_on_disconnect_s: seconds after its client is gone until its orders are canceled;
            None: they stay.
        drop_copy: whose reports are copied to this user, who then sends no orders; ascending.
    """

    max_open_orders: int | None = None
    max_order_value: Mapping[str, int] = {}
    orders_per_s: int | None = None
    cancel_on_disconnect_s: int | None = None
    drop_copy: tuple[int, ...] = ()


NO_SETTINGS = UserSettings()


def parse_settings(values: Sequence[bytes | None]) -> UserSettings:
    """Return the settings that the fields of a record hold, in the order of ``FIELDS``."""
    texts = [(value or b"").decode() for value in values]
    pairs = (pair.split("=") for pair in texts[1].split())
    return UserSettings(
        _number(texts[0]),
        {asset: int(amount) for asset, amount in pairs},
        _number(texts[2]),
        _number(texts[3]),
        tuple(int(account) for account in texts[4].split()),
    )


async def read_settings(link: RedisLink, account: int) -> UserSettings:
    """Return a user's settings; of an account that is none: no settings.

    Args:
        link: accounts database.

    Raises:
        RedisUnavailable: no reply.
    """
    return parse_settings(await link.call("HMGET", keys.user(account), *FIELDS))


async def change_settings(
    link: RedisLink, *, account: int, settings: UserSettings, before: UserSettings
) -> list[str]:
    """Change what differs between two settings, each in one step; return the fields.

    Args:
        link: accounts database.
        settings: to be in force.
        before: in force now.

    Raises:
        LedgerRefused: there is no such user, or a value is out of its range.
        RedisUnavailable: no reply, or not cleared: some may be changed; make the same call again.
    """
    _check_range("open orders", settings.max_open_orders, 1, COUNT_MAX)
    _check_range("orders per second", settings.orders_per_s, 1, COUNT_MAX)
    _check_range("seconds of grace", settings.cancel_on_disconnect_s, 0, GRACE_MAX_S)
    for asset, amount in settings.max_order_value.items():
        _check_range(f"order value in {asset}", amount, 1, AMOUNT_MAX)
    if set(settings.drop_copy) - set(before.drop_copy):
        await _check_copies(link, account, settings.drop_copy)
    old, new = _texts(before), _texts(settings)
    changed = [field for field in FIELDS if old[field] != new[field]]
    for field in changed:
        await set_user_field(link, account=account, field=field, value=new[field])
    return changed


async def read_copies(link: RedisLink) -> dict[int, tuple[int, ...]]:
    """Return, for each account whose reports are copied, the accounts that get copies.

    Args:
        link: accounts database.

    Raises:
        RedisUnavailable: no reply.
    """
    flat = await link.call("HGETALL", keys.COPIES)
    pairs = zip(flat[::2], flat[1::2], strict=True)
    return {int(account): tuple(map(int, others.split())) for account, others in pairs}


class CopiesLost(msgspec.Struct, frozen=True):
    """Copies that a user does not get: too many wait to be sent to it.

    Attributes:
        account: the user.
        count: how many so far.
        since_us: stamp of the first, µs since 1970 UTC.
    """

    account: int
    count: int
    since_us: int


async def read_lost_copies(link: RedisLink) -> list[CopiesLost]:
    """Return the users whose outboxes take no more copies now, by account.

    Args:
        link: accounts database.

    Raises:
        RedisUnavailable: no reply.
    """
    takers = sorted({taker for takers in (await read_copies(link)).values() for taker in takers})
    if not takers:
        return []
    found = await link.pipeline(
        [("HMGET", keys.LOST, account, f"{account}:since") for account in takers]
    )
    return [
        CopiesLost(account, int(count), int(since_us))
        for account, (count, since_us) in zip(takers, found, strict=True)
        if count is not None
    ]


def log_full_outboxes(accounts: Sequence[int]) -> None:
    """Say which users' outboxes take no more copies, as a script found."""
    for account in accounts:
        logger.warning(
            "Account %s gets no more copies: its outbox has %s entries",
            account,
            OUTBOX_WITH_COPIES_MAX,
        )


async def _check_copies(link: RedisLink, account: int, wanted: tuple[int, ...]) -> None:
    if account in wanted:
        raise LedgerRefused(f"account {account}: a drop copy of itself")
    if len(wanted) > DROP_COPY_MAX:
        raise LedgerRefused(f"account {account}: expected at most {DROP_COPY_MAX} accounts")
    copies = await read_copies(link)
    for other in wanted:
        takers = {*copies.get(other, ()), account}
        if len(takers) > COPIES_MAX:
            raise LedgerRefused(f"account {other}: copied to {COPIES_MAX} users already")


def _check_range(what: str, value: int | None, low: int, high: int) -> None:
    if value is not None and not low <= value <= high:
        raise LedgerRefused(f"{what}: expected {low} to {high}, received {value}")


def _texts(settings: UserSettings) -> dict[str, str]:
    """Return the fields' values; empty: none."""
    values = settings.max_order_value.items()
    return {
        "max_open_orders": _text(settings.max_open_orders),
        "max_order_value": " ".join(f"{asset}={amount}" for asset, amount in sorted(values)),
        "orders_per_s": _text(settings.orders_per_s),
        "cancel_on_disconnect_s": _text(settings.cancel_on_disconnect_s),
        "drop_copy": " ".join(map(str, settings.drop_copy)),
    }


def _number(text: str) -> int | None:
    return int(text) if text else None


def _text(number: int | None) -> str:
    return "" if number is None else str(number)
