"""``shardex replay`` and ``diff``: the journals are enough, and here is the proof."""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path
from urllib.parse import urlsplit

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

_REPLAY = """\
Applies every command of an engine's journal again and compares what comes out with the
hashes that the engine wrote beside them; then checks every book, and that money only
moved. A journal may be being written meanwhile. With --into it fills an empty database
from the journals instead, which then equals the live one row for row (shardex diff);
of two journals of a shard it takes the longer one, symbol by symbol. Prints every
difference; any, and any damage, makes it exit with 1."""

_DIFF = f"""\
Reads every table of both databases, each from one snapshot, in the order of its primary
key, and compares row for row; numbers by value. Prints the first {DIFFERENCES_SHOWN_MAX}
differences of each table and counts all; any makes it exit with 1."""


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
        "--into", metavar="POSTGRES_URL", help="fill this database, which must have no tables"
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
    parser.add_argument("url_a", metavar="URL_A", help="such as postgresql://user@host/database")
    parser.add_argument("url_b", metavar="URL_B")


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
    rebuilt = asyncio.run(replay_into([args.journal], _postgres_url(args.into), settings))
    if args.json:
        print_data(msgspec.to_builtins(rebuilt))
    else:
        _print_rebuilt(rebuilt)
    return EXIT_FAILED if rebuilt.differences else EXIT_OK


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
    tables = compare_databases(_postgres_url(args.url_a), _postgres_url(args.url_b))
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


def _postgres_url(text: str) -> str:
    """Return the URL of a database.

    Raises:
        CommandFailed: it is none.
    """
    if urlsplit(text).scheme not in ("postgresql", "postgres"):
        raise CommandFailed(f"{text}: expected postgresql://user:password@host:port/database")
    return text
