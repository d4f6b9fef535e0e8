"""``shardex reconcile``: does everything add up, to the last unit."""

from __future__ import annotations

import argparse
import asyncio

import msgspec

from ops.cli import (
    EXIT_FAILED,
    EXIT_OK,
    Subparsers,
    add_command,
    print_data,
    settings_of,
)
from ops.reconcile_reader import Reconciled, reconcile
from ops.venue_servers import VenueServers, venue_servers
from ops.wiring import accounts_link

_DETAILS = """\
Compares, at one moment: money per asset; balances in Redis and in PostgreSQL; what is held and
pending, and why; open orders; every event, byte for byte; that no stream lacks an entry. The
venue may trade meanwhile; where it is stopped, its private servers are started for as long as this
takes. Prints every difference; any makes it exit with 1.

How it proves that depends on what is there, and the last line says it:
  by replay from the first entry     until orders are trimmed: all commands are applied again,
                                     some 25,000/s; in memory are all books and balances
  by snapshots and PostgreSQL        afterwards: PostgreSQL and the events behind it must give
                                     what Redis has; each symbol's newest snapshot and the
                                     commands behind it must give its events, open orders and
                                     best prices; takes as long as what has come since the
                                     snapshots, with one book at a time in memory
  by journals                        with --full: as the first, from the engines' journals
Each symbol's newest snapshot is checked in every case; a damaged one is a difference.
Snapshots and journals are read under var_dir; what could not be checked without them is said,
and is no difference."""


def add_parsers(commands: Subparsers) -> None:
    """Add reconcile."""
    parser = add_command(
        commands,
        "reconcile",
        _reconcile,
        summary="Prove that streams, balances, open orders and PostgreSQL agree",
        details=_DETAILS,
        json=True,
    )
    parser.add_argument(
        "--full", action="store_true", help="replay the engines' journals from the first command"
    )


def _reconcile(args: argparse.Namespace) -> int:
    settings = settings_of(args)

    async def read(servers: VenueServers) -> Reconciled:
        async with accounts_link(settings, servers.redis_url, name="shardex-command") as link:
            return await reconcile(settings, link, servers.postgres_url, full=args.full)

    with venue_servers(settings) as servers:
        result = asyncio.run(read(servers))
    if args.json:
        print_data(msgspec.to_builtins(result))
    else:
        _print(result)
    return EXIT_FAILED if result.differences else EXIT_OK


def _print(result: Reconciled) -> None:
    for one in result.differences:
        print(one)
    for text in result.unchecked:
        print(f"not checked: {text}")
    if result.snapshots:
        print(f"snapshots: {', '.join(f'{s} at {seq:,}' for s, seq in result.snapshots.items())}")
    inputs = sum(result.settled.values())
    count = len(result.differences)
    print(
        f"{f'{count:,} differences' if count else 'clean'}: {inputs:,} inputs of"
        f" {len(result.settled)} symbols, {result.replayed:,} of them replayed,"
        f" {result.unsettled:,} under way, {result.accounts:,} accounts, {result.elapsed_s} s;"
        f" by {result.proof}"
    )
