"""``shardex user``: who may trade."""

from __future__ import annotations

import argparse
import asyncio
import getpass
import sys
from datetime import UTC, datetime

from gateway.auth import hash_password
from ops import commands_user_access, commands_user_settings
from ops.accounts import check_username, resolve_account
from ops.cli import EXIT_OK, Subparsers, add_command, connect, print_data, print_table, settings_of
from ops.errors import CommandFailed
from ops.journalled import journal_note, journalled
from ops.settings import Settings
from ops.wiring import read_venue
from router.ledger_journal import Journalled, read_ledger_end
from router.redis_client import RedisLink
from router.users import add_user, change_password, disable_user, list_users

PASSWORD_LENGTH_MAX = 128

_JOURNALLED = """\
It waits until the journal of the leading engine has the entry, and says so where no engine runs
that could."""

_PASSWORD = f"""\
The password is asked for, or read as one line from standard input with --password-stdin; never
given as an argument, where other users of the machine could see it. {_JOURNALLED}"""

_DISABLED = f"""\
It is for good: who shall trade again gets a new user. A drop-copy user is a copy of nobody then.
The reports of the cancels stay in the account's outbox: it cannot log on to read them. Deposits
and withdrawals remain possible for the operator, so that what the account has can be paid out.
{_JOURNALLED}"""


def add_parsers(commands: Subparsers) -> None:
    """Add user add, list, passwd and disable."""
    group = commands.add_parser(
        "user", help="Add, show, set and disable users, their keys and drop copies"
    )
    actions = group.add_subparsers(metavar="ACTION", required=True)
    parser = add_command(
        actions, "add", _add, summary="Add a user; prints the SenderCompID", details=_PASSWORD,
        json=True,
    )  # fmt: skip
    parser.add_argument("username", metavar="USERNAME", help="Username (553) of the Logon")
    parser.add_argument("--password-stdin", action="store_true", help="read it from standard input")
    add_command(actions, "list", _list, summary="List all users", json=True)
    parser = add_command(
        actions,
        "passwd",
        _passwd,
        summary="Change a password",
        details=_PASSWORD,
    )
    parser.add_argument("account", metavar="ACCOUNT", help="SenderCompID or username")
    parser.add_argument("--password-stdin", action="store_true", help="read it from standard input")
    parser = add_command(
        actions,
        "disable",
        _disable,
        summary="Log a user out, cancel all orders, refuse further logons",
        details=_DISABLED,
    )
    parser.add_argument("account", metavar="ACCOUNT", help="SenderCompID or username")
    commands_user_access.add_actions(actions)
    commands_user_settings.add_actions(actions)


def _add(args: argparse.Namespace) -> int:
    settings = settings_of(args)
    check_username(args.username)
    password_hash = hash_password(_read_password(from_stdin=args.password_stdin))

    async def add() -> tuple[int, Journalled]:
        async with connect(settings) as link:
            account = await add_user(link, username=args.username, password_hash=password_hash)
            return account, await _last_journalled(settings, link)

    account, journal = asyncio.run(add())
    if args.json:
        print_data(
            {
                "sender_comp_id": account,
                "username": args.username,
                "journalled_by": journal.engine or None,
            }
        )
    else:
        _print(settings, f"{args.username}: SenderCompID {account}", journal)
    return EXIT_OK


def _list(args: argparse.Namespace) -> int:
    settings = settings_of(args)

    async def read() -> list[dict[str, object]]:
        async with connect(settings) as link:
            return [
                {
                    "sender_comp_id": user.account,
                    "username": user.username,
                    "created_at": _moment(user.created_us),
                    "disabled": user.disabled,
                }
                for user in await list_users(link)
            ]

    users = asyncio.run(read())
    if args.json:
        print_data(users)
        return EXIT_OK
    rows = [
        (
            str(user["username"]),
            str(user["sender_comp_id"]),
            str(user["created_at"]),
            "disabled" if user["disabled"] else "",
        )
        for user in users
    ]
    print_table(("username", "SenderCompID", "created", ""), rows)
    return EXIT_OK


def _passwd(args: argparse.Namespace) -> int:
    settings = settings_of(args)
    password_hash = hash_password(_read_password(from_stdin=args.password_stdin))

    async def change() -> tuple[str, Journalled]:
        async with connect(settings) as link:
            user = await resolve_account(link, args.account)
            await change_password(link, account=user.account, password_hash=password_hash)
            return user.username, await _last_journalled(settings, link)

    username, journal = asyncio.run(change())
    _print(settings, f"{username}: password changed", journal)
    return EXIT_OK


def _disable(args: argparse.Namespace) -> int:
    settings = settings_of(args)

    async def disable() -> tuple[str, bool, Journalled]:
        async with connect(settings) as link:
            user = await resolve_account(link, args.account)
            homes = await read_venue(settings, link)
            is_new = await disable_user(link, account=user.account, homes=homes)
            return user.username, is_new, await _last_journalled(settings, link)

    username, is_new, journal = asyncio.run(disable())
    _print(settings, f"{username}: {'disabled' if is_new else 'was disabled already'}", journal)
    return EXIT_OK


async def _last_journalled(settings: Settings, link: RedisLink) -> Journalled:
    """Wait until all that stands in the ledger now, the command's own entry too, is journalled."""
    return await journalled(settings, link, await read_ledger_end(link))


def _print(settings: Settings, line: str, journal: Journalled) -> None:
    print(line)
    if note := journal_note(settings, journal):
        print(note)


def _read_password(*, from_stdin: bool) -> bytes:
    """Return a password from standard input, or asked for twice.

    Raises:
        CommandFailed: it is empty, too long, not what FIX can carry, or the two differ.
    """
    if from_stdin:
        password = sys.stdin.readline().rstrip("\r\n")
    elif not sys.stdin.isatty():
        raise CommandFailed("no terminal to ask for the password: use --password-stdin")
    else:
        password = getpass.getpass("Password: ")
        if getpass.getpass("Again: ") != password:
            raise CommandFailed("the two passwords differ")
    if not 1 <= len(password) <= PASSWORD_LENGTH_MAX or not password.isprintable():
        raise CommandFailed(f"expected a password of 1 to {PASSWORD_LENGTH_MAX} characters")
    return password.encode()


def _moment(us: int) -> str:
    return datetime.fromtimestamp(us // 1_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
