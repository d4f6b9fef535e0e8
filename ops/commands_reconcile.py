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
    connect,
    print_data,
    settings_of,
)
from ops.endpoints import find_postgres
from ops.reconcile_reader import Reconciled, reconcile

_DETAILS = """\
Replays the orders streams and compares, at one moment: money per asset; balances in
Redis and in PostgreSQL; what is held and pending, and why; open orders; every event,
byte for byte; that no stream lacks an entry. The venue may trade meanwhile. Prints
every difference; any makes it exit with 1."""


def add_parsers(commands: Subparsers) -> None:
    """Add reconcile."""
    add_command(
        commands,
        "reconcile",
        _reconcile,
        summary="Prove that streams, balances, open orders and PostgreSQL agree",
        details=_DETAILS,
        json=True,
    )


def _reconcile(args: argparse.Namespace) -> int:
    settings = settings_of(args)

    async def read() -> Reconciled:
        async with connect(settings) as link:
            return await reconcile(settings, link, find_postgres(settings))

    result = asyncio.run(read())
    if args.json:
        print_data(msgspec.to_builtins(result))
    else:
        _print(result)
    return EXIT_FAILED if result.differences else EXIT_OK


def _print(result: Reconciled) -> None:
    for one in result.differences:
        print(one)
    inputs = sum(result.settled.values())
    count = len(result.differences)
    print(
        f"{f'{count:,} differences' if count else 'clean'}: {inputs:,} inputs of"
        f" {len(result.settled)} symbols replayed, {result.unsettled:,} under way,"
        f" {result.accounts:,} accounts, {result.elapsed_s} s"
    )
