"""``shardex user key`` and ``user addresses``: how a user may log on."""

from __future__ import annotations

import argparse
import asyncio
from base64 import b64encode
from collections.abc import Awaitable, Callable
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from gateway.logon_signature import parse_public_key
from ops.accounts import resolve_account
from ops.cli import EXIT_OK, Subparsers, add_command, connect, print_data, settings_of
from ops.errors import CommandFailed, WrongUsage
from ops.journalled import journal_note, journalled
from ops.settings import Settings
from router.ledger_journal import Journalled, read_ledger_end
from router.redis_client import RedisLink
from router.user_access import UserAccess, read_access, set_addresses, set_public_keys
from router.users import User

_KEYS = """\
With a key a user may log on by a signature instead of a password: RawData (96) is the Ed25519
signature, in base64, over the values of MsgType, SenderCompID, TargetCompID, MsgSeqNum and
SendingTime (35, 49, 56, 34, 52), joined by SOH. A change counts from the next Logon on."""

_ADDRESSES = """\
Shows the networks that a user may log on from, or replaces them; --any: every one, as at the
beginning. A Logon from elsewhere is answered like a wrong password. A change counts from the next
Logon on; behind a proxy the proxy's address is what counts."""

_Change = Callable[[RedisLink, User, UserAccess], Awaitable[str]]


def add_actions(actions: Subparsers) -> None:
    """Add user key and user addresses to the actions of user."""
    group = actions.add_parser("key", help="Add, remove and list public keys for signed Logons")
    keys = group.add_subparsers(metavar="ACTION", required=True)
    for name, run, summary in (
        ("add", _add_key, "Add a public key"),
        ("remove", _remove_key, "Remove a public key"),
    ):
        parser = add_command(keys, name, run, summary=summary, details=_KEYS)
        parser.add_argument("account", metavar="ACCOUNT", help="SenderCompID or username")
        source = parser.add_mutually_exclusive_group(required=True)
        source.add_argument("key", metavar="KEY", nargs="?", help="32 bytes in base64")
        source.add_argument("--file", type=Path, metavar="PEM", help="a PEM file with the key")
    parser = add_command(keys, "list", _list_keys, summary="List a user's public keys", json=True)
    parser.add_argument("account", metavar="ACCOUNT", help="SenderCompID or username")
    parser = add_command(
        actions,
        "addresses",
        _addresses,
        summary="Show or set where a user may log on from",
        details=_ADDRESSES,
        json=True,
    )
    parser.add_argument("account", metavar="ACCOUNT", help="SenderCompID or username")
    parser.add_argument("networks", metavar="CIDR", nargs="*", help="such as 192.0.2.0/24")
    parser.add_argument("--any", action="store_true", help="from everywhere")


def _add_key(args: argparse.Namespace) -> int:
    key = _public_key(args)

    async def add(link: RedisLink, user: User, access: UserAccess) -> str:
        if key in access.public_keys:
            raise CommandFailed(f"{user.username}: has this key already")
        await set_public_keys(link, account=user.account, public_keys=[*access.public_keys, key])
        return f"{user.username}: key added"

    return _change(args, add)


def _remove_key(args: argparse.Namespace) -> int:
    key = _public_key(args)

    async def remove(link: RedisLink, user: User, access: UserAccess) -> str:
        if key not in access.public_keys:
            raise CommandFailed(f"{user.username}: has no such key")
        left = [one for one in access.public_keys if one != key]
        await set_public_keys(link, account=user.account, public_keys=left)
        return f"{user.username}: key removed"

    return _change(args, remove)


def _list_keys(args: argparse.Namespace) -> int:
    _show(args, _read(args).public_keys, nothing="no keys")
    return EXIT_OK


def _addresses(args: argparse.Namespace) -> int:
    if args.any and args.networks:
        raise WrongUsage("expected networks or --any, received both")
    if not args.any and not args.networks:
        _show(args, _read(args).addresses, nothing="from everywhere")
        return EXIT_OK

    async def change(link: RedisLink, user: User, access: UserAccess) -> str:
        await set_addresses(link, account=user.account, addresses=args.networks)
        return f"{user.username}: may log on from {', '.join(args.networks) or 'everywhere'}"

    return _change(args, change)


def _public_key(args: argparse.Namespace) -> str:
    """Return the key that the arguments name, in base64.

    Raises:
        CommandFailed: it is no Ed25519 public key.
    """
    if args.file is None:
        try:
            return parse_public_key(args.key)
        except ValueError as error:
            raise CommandFailed(f"{args.key}: not an Ed25519 public key: {error}") from None
    try:
        key = load_pem_public_key(args.file.read_bytes())
    except (OSError, ValueError, UnsupportedAlgorithm) as error:
        raise CommandFailed(f"{args.file}: not a public key: {error}") from None
    if not isinstance(key, Ed25519PublicKey):
        raise CommandFailed(f"{args.file}: expected an Ed25519 key")
    return b64encode(key.public_bytes_raw()).decode("ascii")


def _read(args: argparse.Namespace) -> UserAccess:
    settings = settings_of(args)

    async def read() -> UserAccess:
        async with connect(settings) as link:
            user = await resolve_account(link, args.account)
            return await read_access(link, user.account)

    return asyncio.run(read())


def _show(args: argparse.Namespace, lines: tuple[str, ...], *, nothing: str) -> None:
    if args.json:
        print_data(list(lines))
    else:
        print("\n".join(lines) or nothing)


def _change(args: argparse.Namespace, change: _Change) -> int:
    """Carry out a change, wait until it is journalled, and say so."""
    settings = settings_of(args)
    line, journal = asyncio.run(_changed(settings, args.account, change))
    print(line)
    if note := journal_note(settings, journal):
        print(note)
    return EXIT_OK


async def _changed(settings: Settings, account: str, change: _Change) -> tuple[str, Journalled]:
    async with connect(settings) as link:
        user = await resolve_account(link, account)
        line = await change(link, user, await read_access(link, user.account))
        return line, await journalled(settings, link, await read_ledger_end(link))
