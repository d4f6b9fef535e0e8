"""``shardex replay`` and ``diff``: the journals are enough, and here is the proof."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

import msgspec

from ops.cli import (
    EXIT_FAILED,
    EXIT_OK,
    Subparsers,
    add_command,
    positive_number,
    print_data,
    print_table,
    settings_of,
)
from ops.data_dir import check_layout
from ops.database_diff import DIFFERENCES_SHOWN_MAX, TableDifference, compare_databases
from ops.errors import CommandFailed
from ops.journal_replay import ReplayResult, replay_journal
from ops.journal_replay_into import Rebuilt, replay_into
from ops.settings import Settings
from ops.venue_servers import venue_servers
from persistence.schema import create_database

_LIVE = "live"

_DATABASE = """\
A database is `live`, the venue's own; `live/NAME`, another one on its server, which runs for
the time of the command where the venue is stopped; or a URL such as
postgresql://user@host/name, whose password stands in PGPASSWORD or in the file that
PGPASSFILE names, never on the command line."""

_REPLAY = f"""\
Applies every command of an engine's journal again and compares what comes out with the
hashes that the engine wrote beside them; then checks every book, and that money only
moved. A journal may be being written meanwhile. With --into it fills an empty database
from the journals instead, which then equals the live one row for row (shardex diff);
live/NAME is made if it is not there. Of two journals of a shard it takes the longer one,
symbol by symbol. Prints every difference; any, and any damage, makes it exit with 1.

{_DATABASE}"""

_DIFF = f"""\
Reads every table of both databases, each from one snapshot, in the order of its primary
key, and compares row for row; numbers by value. Prints the first {DIFFERENCES_SHOWN_MAX}
differences of each table and counts all; any makes it exit with 1. A venue that runs goes
on: members' orders that a closed symbol refuses are rows, too. So stop it, rebuild, then
compare.

{_DATABASE}"""


def add_parsers(commands: Subparsers) -> None:
    """Add replay and diff."""
    parser = add_command(
        commands,
        "replay",
        _replay,
        summary="Recompute every event from the journals, or rebuild the database",
        details=_REPLAY,
        json=True,
    )
    parser.add_argument(
        "--journal",
        type=Path,
        required=True,
        metavar="DIR",
        help="an engine's journal, or a directory of them, such as var/journals",
    )
    parser.add_argument(
        "--into", metavar="DATABASE", help="fill this database, which must have no tables"
    )
    parser.add_argument(
        "--processes",
        type=positive_number,
        metavar="N",
        help="work in so many processes (default: one per processor)",
    )
    parser = add_command(
        commands,
        "diff",
        _diff,
        summary="Compare two databases of the exchange, row for row",
        details=_DIFF,
        json=True,
    )
    parser.add_argument("database_a", metavar="A", help="such as live")
    parser.add_argument("database_b", metavar="B", help="such as postgresql://user@host/database")


def _replay(args: argparse.Namespace) -> int:
    for directory in args.journal.absolute().parents[:2]:
        # What it may stand in: var/journals, or a journal there.
        check_layout(directory)
    if args.into is not None:
        return _rebuild(args)
    result = replay_journal(args.journal, processes=args.processes)
    if args.json:
        print_data(msgspec.to_builtins(result))
    else:
        _print_replay(result)
    return EXIT_FAILED if result.differences else EXIT_OK


def _print_replay(result: ReplayResult) -> None:
    rows = [
        (
            f"{one.journal} {one.symbol}",
            f"{one.commands:,}",
            f"{one.skipped:,}",
            f"{one.outputs_checked:,}",
            f"{one.outputs_differing:,}",
            f"{one.outputs_unhashed:,}",
            one.state_hash or "-",
        )
        for one in result.symbols
    ]
    header = ("journal", "commands", "skipped", "checked", "differing", "without hash", "state")
    print_table(header, rows)
    for difference in result.differences:
        print(difference)
    count = len(result.differences)
    ledger = max(result.ledger.values(), default=0)
    print(
        f"{f'{count:,} differences' if count else 'clean'}: {len(result.journals)} journals,"
        f" {result.commands:,} commands, {result.outputs_checked:,} outputs checked,"
        f" {result.outputs_unhashed:,} without a recorded hash, {ledger:,} ledger entries,"
        f" {result.elapsed_s:.1f} s, {result.commands_per_s:,} commands/s"
    )


def _rebuild(args: argparse.Namespace) -> int:
    settings = settings_of(args)
    with _live_url(args, args.into) as live:
        rebuilt = asyncio.run(_fill(settings, args.journal, args.into, live))
    if args.json:
        print_data(msgspec.to_builtins(rebuilt))
    else:
        _print_rebuilt(rebuilt)
    return EXIT_FAILED if rebuilt.differences else EXIT_OK


async def _fill(settings: Settings, journals: Path, database: str, live: str) -> Rebuilt:
    """Fill a database from journals; one on the venue's server is made if it is not there."""
    url, name = database_url(database, live), _name_on_live(database)
    if name:
        await create_database(live, name, connect_timeout_s=settings.postgres.connect_timeout_s)
    return await replay_into([journals], url, settings)


def _print_rebuilt(rebuilt: Rebuilt) -> None:
    print_table(
        ("stream", "journal", "up to"),
        [
            (stream, journal, f"{rebuilt.positions.get(stream, 0):,}")
            for stream, journal in sorted(rebuilt.sources.items())
        ],
    )
    for difference in rebuilt.differences:
        print(difference)
    count = len(rebuilt.differences)
    print(
        f"{f'{count:,} differences' if count else 'rebuilt'}:"
        f" {sum(rebuilt.positions.values()):,} entries of {len(rebuilt.positions)} streams,"
        f" {rebuilt.rows:,} rows, {rebuilt.elapsed_s:.1f} s"
    )


def _diff(args: argparse.Namespace) -> int:
    a, b = args.database_a, args.database_b
    with _live_url(args, a, b) as live:
        tables = compare_databases(database_url(a, live), database_url(b, live))
    is_equal = all(one.is_equal for one in tables)
    if args.json:
        print_data({"equal": is_equal, "tables": msgspec.to_builtins(tables)})
    else:
        _print_diff(tables)
    return EXIT_OK if is_equal else EXIT_FAILED


def _print_diff(tables: list[TableDifference]) -> None:
    header = ("table", "rows in A", "rows in B", "only in A", "only in B", "changed")
    rows = [
        (
            one.table,
            *(f"{n:,}" for n in (one.rows_a, one.rows_b, one.only_a, one.only_b, one.changed)),
        )
        for one in tables
    ]
    print_table(header, rows)
    for one in tables:
        if one.shape:
            print(f"{one.table}: {one.shape}")
        for text in one.first:
            print(f"{one.table}: {text}")
    count = sum(one.only_a + one.only_b + one.changed + bool(one.shape) for one in tables)
    rows_a = sum(one.rows_a for one in tables)
    print(
        f"{f'{count:,} differences' if count else 'equal'}:"
        f" {len(tables)} tables, {rows_a:,} rows in A"
    )


@contextmanager
def _live_url(args: argparse.Namespace, *databases: str) -> Iterator[str]:
    """Give the URL of the venue's own database, if one of these is on its server; else nothing.

    The private server of a stopped venue runs until the context is left.
    """
    if all(_name_on_live(text) is None for text in databases):
        yield ""
        return
    with venue_servers(settings_of(args), with_redis=False) as servers:
        yield servers.postgres_url


def _name_on_live(text: str) -> str | None:
    """Return which database of the venue's server is meant, empty: its own; None: another URL."""
    head, _, name = text.partition("/")
    return name if head == _LIVE else None


def database_url(text: str, live: str) -> str:
    """Return the URL of a database that is named on the command line.

    Args:
        text: ``live``, ``live/NAME``, or a URL.
        live: URL of the venue's own database.

    Raises:
        CommandFailed: it is none of these, or has a password, which everybody could read (`ps`).
    """
    name = _name_on_live(text)
    if name is not None:
        return urlsplit(live)._replace(path=f"/{quote(name)}").geturl() if name else live
    parts = urlsplit(text)
    if parts.scheme not in ("postgresql", "postgres"):
        raise CommandFailed(
            f"{text}: no database: expected {_LIVE}, {_LIVE}/NAME or postgresql://user@host/name"
        )
    if parts.password is not None or "password" in parse_qs(parts.query):
        raise CommandFailed(
            "a password on the command line can be read by everybody on this machine: leave it"
            f" out, and set PGPASSWORD or PGPASSFILE; or name {_LIVE} or {_LIVE}/NAME"
        )
    return text
