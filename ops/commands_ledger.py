"""``shardex deposit``, ``withdraw`` and ``balances``: the money of accounts."""

from __future__ import annotations

import argparse
import asyncio

from engine.instrument import DecimalGrid
from ops.accounts import parse_amount, resolve_account
from ops.cli import EXIT_OK, Subparsers, add_command, connect, print_data, print_table, settings_of
from ops.journalled import journal_note, journalled
from ops.settings import Settings
from router.ledger import Balance, Transfer, deposit, read_balances, withdraw
from router.ledger_journal import Journalled
from router.users import User, list_users

_DETAILS = """\
The reference counts once: the same request under the same --ref changes nothing more
and succeeds again; another request under it is refused. So after a doubt, simply repeat the
command. It waits until the journal of the leading engine has the entry, and says so where no
engine runs that could."""


def add_parsers(commands: Subparsers) -> None:
    """Add deposit, withdraw and balances."""
    for name, run, summary in (
        ("deposit", _deposit, "Add to what an account has available"),
        ("withdraw", _withdraw, "Take from what an account has available"),
    ):
        parser = add_command(commands, name, run, summary=summary, details=_DETAILS, json=True)
        parser.add_argument("account", metavar="ACCOUNT", help="SenderCompID or username")
        parser.add_argument("asset", metavar="ASSET", help="name of an [[assets]] block")
        parser.add_argument("amount", metavar="AMOUNT", help="decimal, such as 1000.50")
        parser.add_argument("--ref", required=True, help="your reference, unique for ever")
    parser = add_command(
        commands,
        "balances",
        _balances,
        summary="Show balances",
        details="Available: to spend or withdraw. Pending: reserved for orders on their way to\n"
        "the engine. Held: by open orders. Account 0 takes the fees.",
        json=True,
    )
    parser.add_argument(
        "account", metavar="ACCOUNT", nargs="?", help="SenderCompID or username (default: all)"
    )


def _deposit(args: argparse.Namespace) -> int:
    return _transfer(args, settings_of(args), is_deposit=True)


def _withdraw(args: argparse.Namespace) -> int:
    return _transfer(args, settings_of(args), is_deposit=False)


def _transfer(args: argparse.Namespace, settings: Settings, *, is_deposit: bool) -> int:
    amount = parse_amount(settings, args.asset, args.amount)

    async def transfer() -> tuple[User, Transfer, Journalled]:
        async with connect(settings) as link:
            user = await resolve_account(link, args.account)
            move = deposit if is_deposit else withdraw
            done = await move(
                link, account=user.account, asset=args.asset, amount=amount, ref=args.ref
            )
            return user, done, await journalled(settings, link, done.entry)

    user, done, journal = asyncio.run(transfer())
    if args.json:
        print_data(
            {
                "sender_comp_id": user.account,
                "asset": args.asset,
                "amount": args.amount,
                "ref": args.ref,
                "entry": done.entry,
                "is_new": done.is_new,
                "journalled_by": journal.engine or None,
            }
        )
    else:
        what = "deposited" if is_deposit else "withdrawn"
        again = "" if done.is_new else "; it had been done before, nothing changed"
        print(f"{args.amount} {args.asset} {what}, account {user.account} ({args.ref}){again}")
        if note := journal_note(settings, journal):
            print(note)
    return EXIT_OK


def _balances(args: argparse.Namespace) -> int:
    settings = settings_of(args)
    accounts = asyncio.run(_read(settings, args.account))
    scales = settings.scales()
    rows = []
    for account, username, balances in accounts:
        for asset, balance in balances.items():
            # An asset that left exchange.toml with nothing in it may still have fields.
            text = DecimalGrid.of_scale(scales.get(asset, 0)).format
            amounts = (text(balance.available), text(balance.pending), text(balance.held))
            rows.append((username, account, asset, *amounts))
    if args.json:
        keys = ("username", "sender_comp_id", "asset", "available", "pending", "held")
        print_data([dict(zip(keys, row, strict=True)) for row in rows])
    else:
        header = ("username", "SenderCompID", "asset", "available", "pending", "held")
        print_table(header, [[str(cell) for cell in row] for row in rows])
    return EXIT_OK


async def _read(
    settings: Settings, account: str | None
) -> list[tuple[int, str, dict[str, Balance]]]:
    async with connect(settings) as link:
        if account == "0":
            return [(0, "(fees)", await read_balances(link, 0))]
        if account is not None:
            user = await resolve_account(link, account)
            return [(user.account, user.username, await read_balances(link, user.account))]
        found = [(0, "(fees)", await read_balances(link, 0))]
        for user in await list_users(link):
            found.append((user.account, user.username, await read_balances(link, user.account)))
        return found
