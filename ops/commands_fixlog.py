"""``shardex fixlog``: the raw FIX messages that gateways journalled, readably."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from datetime import UTC, datetime
from heapq import merge

import orjson

from gateway.fixlog import FixLogFilter, FixLogLine, read_fixlog
from ops.cli import EXIT_OK, Subparsers, add_command, settings_of
from ops.errors import CommandFailed, WrongUsage
from ops.settings import Settings
from ops.wiring import gateway_journals, journal_directory

_DETAILS = """\
Reads the journals in var_dir, of all gateways or one, in the order of time; may run beside them.
< came from the client, > went to it. Passwords were never written. Times are UTC."""


def add_parsers(commands: Subparsers) -> None:
    """Add fixlog."""
    parser = add_command(
        commands,
        "fixlog",
        _fixlog,
        summary="Show the FIX messages that gateways received and sent",
        details=_DETAILS,
        json=True,
    )
    parser.add_argument("--gateway", metavar="NAME", help="only of this one, such as gateway-1")
    parser.add_argument("--session", type=int, metavar="ID", help="only of this SenderCompID")
    parser.add_argument("--type", metavar="TYPES", help="only these MsgTypes (35), such as D,F,8")
    parser.add_argument(
        "--from", dest="from_time", metavar="TIME", help="not earlier, such as 2026-01-31T12:00:00"
    )
    parser.add_argument("--until", metavar="TIME", help="earlier than this")


def _fixlog(args: argparse.Namespace) -> int:
    settings = settings_of(args)
    show = FixLogFilter(
        session=args.session,
        msg_types=frozenset(args.type.split(",")) if args.type else None,
        from_ns=parse_time(args.from_time) if args.from_time else None,
        until_ns=parse_time(args.until) if args.until else None,
    )
    for gateway, line in _read(settings, args.gateway, show):
        if args.json:
            fields = {name: getattr(line, name) for name in line.__struct_fields__}
            print(orjson.dumps({"gateway": gateway, **fields}).decode())
        else:
            print(f"{gateway} {line.format()}")
    return EXIT_OK


def _read(
    settings: Settings, gateway: str | None, show: FixLogFilter
) -> Iterator[tuple[str, FixLogLine]]:
    """Return the messages of one gateway, or of all, in the order of time.

    Raises:
        CommandFailed: there is no journal.
    """
    root = journal_directory(settings, "")
    found = [path for path in gateway_journals(root) if gateway in (None, path.name)]
    if not found:
        raise CommandFailed(f"{root}: there is no journal of {gateway or 'a gateway'}")

    def lines(name: str) -> Iterator[tuple[str, FixLogLine]]:
        return ((name, line) for line in read_fixlog(root / name, show))

    return merge(*(lines(path.name) for path in found), key=lambda pair: pair[1].ts_ns)


def parse_time(text: str) -> int:
    """Return an ISO 8601 time, UTC unless it says otherwise, in ns since 1970.

    Raises:
        WrongUsage: it is none.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise WrongUsage(f"{text}: expected a time such as 2026-01-31T12:00:00") from error
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return ((since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds) * 1_000
