"""``shardex backup`` and ``restore``: a whole venue in a directory, and back."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from ops.backup import back_up
from ops.cli import EXIT_OK, Subparsers, add_command, print_data, settings_of
from ops.restore import restore_venue

_BACKUP = """\
Copies a venue with private servers, running or stopped, as of one moment: Redis, every
journal, the venue file. PostgreSQL and snapshots follow from the journals, so those of
the engines must be there from their first segment on; they are read first. Trading goes
on meanwhile; Redis forks once. DIR appears whole or not at all."""

_RESTORE = """\
Makes the var_dir of --config, which must be missing or empty, from a backup: every
file is compared with its digest, and PostgreSQL is rebuilt from the journals. What was
traded after the backup is gone, and its OrderIDs, ExecIDs, trade ids and market data
numbers are given again to others. So every member who was there is refused until it
begins anew (ResetSeqNumFlag, 141=Y), and must forget the reports that came after the
backup; subscribers of market data start again. Then: shardex up, and shardex reconcile."""

_MEMBERS = """\
tell all members: everything after {moment} UTC is void, and its OrderIDs, ExecIDs and trade
ids are given again; forget those reports, then log on with 141=Y (refused without it).
tell subscribers of market data: numbers have gone back; forget what you have, and join anew."""


def add_parsers(commands: Subparsers) -> None:
    """Add backup and restore."""
    parser = add_command(
        commands, "backup", _back_up, summary="Copy the venue", details=_BACKUP, json=True
    )
    parser.add_argument("target", type=Path, metavar="DIR", help="the backup; must not exist")
    parser = add_command(
        commands,
        "restore",
        _restore,
        summary="Make a venue from a backup",
        details=_RESTORE,
        json=True,
    )
    parser.add_argument("source", type=Path, metavar="DIR", help="the backup")


def _back_up(args: argparse.Namespace) -> int:
    manifest = back_up(settings_of(args), args.config, args.target.absolute())
    if args.json:
        print_data(msgspec.to_builtins(manifest))
    else:
        size_bytes = sum(one.size_bytes for one in manifest.files.values())
        state = "running" if manifest.was_running else "stopped"
        print(
            f"backed up: {args.target}: {len(manifest.files)} files, {size_bytes:,} bytes,"
            f" of a venue that is {state}"
        )
    return EXIT_OK


def _restore(args: argparse.Namespace) -> int:
    settings = settings_of(args)
    restored = restore_venue(settings, args.config, args.source.absolute())
    if args.json:
        print_data(msgspec.to_builtins(restored))
        return EXIT_OK
    if restored.is_other_venue_file:
        print(f"the venue file in {args.source} is not {args.config}: compare them before `up`")
    print(
        f"restored: {settings.var_dir}: {sum(restored.positions.values()):,} entries of"
        f" {len(restored.positions)} streams, {restored.rebuilt.rows:,} rows rebuilt,"
        f" {restored.cut_records:,} later records of engines and {restored.cut_messages:,} later"
        " messages of gateways cut off (the backup keeps them)"
    )
    print(members_text(restored.manifest.moment_us))
    return EXIT_OK


def members_text(moment_us: int) -> str:
    """Return what an operator tells the members after a restore.

    The moment stands there whole: what was told in its second before it is valid, and is not told
    again.

    Args:
        moment_us: of the backup, µs since 1970.
    """
    moment = datetime.fromtimestamp(0, UTC) + timedelta(microseconds=moment_us)
    return _MEMBERS.format(moment=f"{moment:%Y-%m-%d %H:%M:%S.%f}")
