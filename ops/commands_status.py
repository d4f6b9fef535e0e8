"""``shardex status``: is everything there, and does it keep up."""

from __future__ import annotations

import argparse
import asyncio
import sys

import msgspec

from ops.cli import (
    EXIT_FAILED,
    EXIT_OK,
    Subparsers,
    add_command,
    connect,
    print_data,
    print_table,
    settings_of,
)
from ops.endpoints import find_postgres
from ops.status import Status, read_status

_DETAILS = """\
Problems (a process is missing, a shard has no leader, PostgreSQL is away) make it exit
with 1; warnings (a halted symbol, long streams, lags, memory) do not. Their limits:
docs/configuration.md."""

_MEGABYTE = 1 << 20


def add_parsers(commands: Subparsers) -> None:
    """Add status."""
    add_command(
        commands,
        "status",
        _status,
        summary="Show processes, leaders, phases, lags, stream lengths, memory and versions",
        details=_DETAILS,
        json=True,
    )


def _status(args: argparse.Namespace) -> int:
    settings = settings_of(args)

    async def read() -> Status:
        async with connect(settings) as link:
            return await read_status(settings, link, find_postgres(settings))

    status = asyncio.run(read())
    if args.json:
        print_data(msgspec.to_builtins(status))
    else:
        _print(status)
    if status.problems:
        print(f"shardex: {'; '.join(status.problems)}", file=sys.stderr)
        return EXIT_FAILED
    return EXIT_OK


def _print(status: Status) -> None:
    print_table(
        ("process", "pid", "version", "up", "heartbeat"),
        [
            (one.name, str(one.pid), one.version, f"{one.uptime_s} s", f"{one.heartbeat_age_s} s")
            for one in status.processes
        ],
    )
    print()
    if status.engines:
        print_table(
            ("engine", "role", "behind", "compared", "not compared"),
            [
                (one.name, one.role, *(f"{n:,}" for n in (one.lag, one.compared, one.uncompared)))
                for one in status.engines
            ],
        )
        print()
    print_table(
        ("shard", "leader", "epoch"),
        [
            (shard, leader.owner if leader else "nobody", str(leader.epoch) if leader else "-")
            for shard, leader in status.leaders.items()
        ],
    )
    print()
    print_table(
        (
            "symbol",
            "phase",
            "orders",
            "settled",
            "published",
            "marketdata",
            "writer",
            "kept events",
        ),
        [
            (
                symbol,
                status.phases.get(symbol, "-"),
                *(f"{n:,}" for n in (one.admitted, one.settled, one.published, one.marketdata)),
                f"{one.writer:,}",
                f"{one.events_length:,}",
            )
            for symbol, one in status.progress.symbols.items()
        ],
    )
    progress, boxes, stores = status.progress, status.outboxes, status.session_stores
    used, limit = status.redis_used_memory // _MEGABYTE, status.redis_maxmemory // _MEGABYTE
    print()
    print("lag         " + "  ".join(f"{name} {lag:,}" for name, lag in status.lags.items()))
    print(f"ledger      {progress.ledger:,} entries, {progress.ledger_written:,} in PostgreSQL")
    print(f"outboxes    {boxes.streams:,} with {boxes.entries:,} entries")
    print(f"sent        {stores.streams:,} session stores with {stores.entries:,} entries")
    print(f"Redis       {status.redis_version}, {used:,} of {limit:,} MB")
    print(f"PostgreSQL  {status.postgres_version or 'away'}, schema {status.schema_version}")
    for text in status.warnings:
        print(f"warning: {text}")
