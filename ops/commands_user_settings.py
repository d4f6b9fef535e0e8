"""``shardex user show``, ``set`` and ``drop-copy``: limits, cancel on disconnect, drop copy."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from msgspec.structs import replace

from engine.instrument import DecimalGrid
from ops.accounts import parse_amount, resolve_account
from ops.cli import EXIT_OK, Subparsers, add_command, connect, print_data, print_table, settings_of
from ops.errors import CommandFailed, WrongUsage
from ops.journalled import journal_note, journalled
from ops.settings import Settings
from router.ledger_journal import Journalled, read_ledger_end
from router.redis_client import RedisLink
from router.user_access import UserAccess, read_access
from router.user_settings import UserSettings, change_settings, read_copies, read_settings
from router.users import User

_OFF = "off"

_SET = """\
Only what is named is changed; off: no limit of its own, or no cancel on disconnect. Limits count at
once, in sessions that are logged on too; cancel on disconnect from the next Logon on, which may
say otherwise (tag 8013). A value is price × quantity of one order, by the asset that it is paid in;
assets that are not named have no limit."""

_DROP_COPY = """\
The user gets a copy of every report (35=8 and 9, with Account 1) that these accounts are told, from
now on, and sends no orders any more. Log it on: when some 100,000 reports wait for it, no more
copies are made, and it is told how many are missing. Disabling it ends its copies for good."""

_Change = Callable[[RedisLink, User, UserSettings], Awaitable[UserSettings]]


def add_actions(actions: Subparsers) -> None:
    """Add user show, set and drop-copy to the actions of user."""
    parser = add_command(
        actions, "show", _show, summary="Show all that is settled about a user", json=True
    )
    parser.add_argument("account", metavar="ACCOUNT", help="SenderCompID or username")
    parser = add_command(
        actions,
        "set",
        _set,
        summary="Set a user's limits and cancel on disconnect",
        details=_SET,
    )
    parser.add_argument("account", metavar="ACCOUNT", help="SenderCompID or username")
    for option in _OPTIONS:
        parser.add_argument(
            option.flag,
            dest=option.field,
            metavar=option.metavar,
            nargs=option.nargs,
            help=option.help,
        )
    parser = add_command(
        actions,
        "drop-copy",
        _drop_copy,
        summary="Have a user get copies of other accounts' reports",
        details=_DROP_COPY,
    )
    parser.add_argument("account", metavar="ACCOUNT", help="SenderCompID or username")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--of", metavar="ACCOUNT", nargs="+", help="whose reports, all of them")
    source.add_argument("--none", action="store_true", help="of nobody; it may send orders again")


def _set(args: argparse.Namespace) -> int:
    settings = settings_of(args)
    given = [(option, getattr(args, option.field)) for option in _OPTIONS]
    changes = {
        option.field: option.parse(settings, text) for option, text in given if text is not None
    }
    if not changes:
        raise WrongUsage("expected something to set: see shardex user set --help")

    async def change(_link: RedisLink, _user: User, before: UserSettings) -> UserSettings:
        return replace(before, **changes)

    return _change(args, settings, change)


def _drop_copy(args: argparse.Namespace) -> int:
    async def change(link: RedisLink, user: User, before: UserSettings) -> UserSettings:
        if user.disabled and args.of:
            raise CommandFailed(f"{user.username} is disabled and could never read them")
        of = [await resolve_account(link, text) for text in args.of or ()]
        return replace(before, drop_copy=tuple(sorted({one.account for one in of})))

    return _change(args, settings_of(args), change)


def _change(args: argparse.Namespace, settings: Settings, change: _Change) -> int:
    """Carry out a change, wait until it is journalled, and say so."""

    async def carry_out() -> tuple[User, list[str], Journalled]:
        async with connect(settings) as link:
            user = await resolve_account(link, args.account)
            before = await read_settings(link, user.account)
            wanted = await change(link, user, before)
            changed = await change_settings(
                link, account=user.account, settings=wanted, before=before
            )
            return user, changed, await journalled(settings, link, await read_ledger_end(link))

    user, changed, journal = asyncio.run(carry_out())
    print(f"{user.username}: {', '.join(changed) + ' changed' if changed else 'nothing changed'}")
    if note := journal_note(settings, journal):
        print(note)
    return EXIT_OK


def _show(args: argparse.Namespace) -> int:
    settings = settings_of(args)

    async def read() -> tuple[User, UserSettings, UserAccess, tuple[int, ...]]:
        async with connect(settings) as link:
            user = await resolve_account(link, args.account)
            account = user.account
            copied_to = (await read_copies(link)).get(account, ())
            found = await read_settings(link, account)
            return user, found, await read_access(link, account), copied_to

    user, found, access, copied_to = asyncio.run(read())
    scales = settings.scales()
    shown: dict[str, object] = {
        "username": user.username,
        "sender_comp_id": user.account,
        "disabled": user.disabled,
        "max_open_orders": found.max_open_orders,
        "max_order_value": {
            asset: DecimalGrid.of_scale(scales.get(asset, 0)).format(amount)
            for asset, amount in found.max_order_value.items()
        },
        "orders_per_s": found.orders_per_s,
        "cancel_on_disconnect_s": found.cancel_on_disconnect_s,
        "drop_copy_of": list(found.drop_copy),
        "copied_to": list(copied_to),
        "public_keys": list(access.public_keys),
        "addresses": list(access.addresses),
    }
    if args.json:
        print_data(shown)
    else:
        print_table(("setting", "value"), [(name, _text(value)) for name, value in shown.items()])
    return EXIT_OK


def _text(value: object) -> str:
    if isinstance(value, dict):
        value = [f"{name}={one}" for name, one in value.items()]
    if isinstance(value, list):
        return " ".join(map(str, value))
    return "" if value is None else str(value)


def _count(_settings: Settings, text: str) -> int | None:
    """Return a number that an option gives; None: off."""
    if text == _OFF:
        return None
    if not (text.isascii() and text.isdigit()):
        raise WrongUsage(f"{text}: expected a number or off")
    return int(text)


def _values(settings: Settings, texts: list[str]) -> dict[str, int]:
    """Return the largest values by asset; empty: off."""
    values: dict[str, int] = {}
    if texts == [_OFF]:
        return values
    for text in texts:
        asset, is_pair, amount = text.partition("=")
        if not is_pair:
            raise WrongUsage(f"{text}: expected ASSET=AMOUNT, such as USD=100000, or off")
        values[asset] = parse_amount(settings, asset, amount)
    return values


class _Option(NamedTuple):
    """One option of ``user set``.

    Attributes:
        flag, metavar, nargs, help: of the command line.
        field: of UserSettings that it sets.
        parse: makes the field's value of what the command line gives.
    """

    flag: str
    field: str
    metavar: str
    nargs: str | None
    help: str
    parse: Callable[[Settings, Any], object]


_OPTIONS = (
    _Option(
        "--max-open-orders",
        "max_open_orders",
        "N|off",
        None,
        "open at once, all symbols",
        _count,
    ),
    _Option(
        "--max-order-value",
        "max_order_value",
        "ASSET=AMOUNT",
        "+",
        "of one order; or off",
        _values,
    ),
    _Option(
        "--orders-per-s",
        "orders_per_s",
        "N|off",
        None,
        "orders and replaces per second",
        _count,
    ),
    _Option(
        "--cancel-on-disconnect",
        "cancel_on_disconnect_s",
        "SECONDS|off",
        None,
        "cancel its orders so long after its client is gone",
        _count,
    ),
)
