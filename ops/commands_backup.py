"""``shardex backup`` and ``restore``: a whole venue in a directory, and back."""

from __future__ import annotations

import argparse
from pathlib import Path

import msgspec

from ops.backup import back_up
from ops.cli import EXIT_OK, Subparsers, add_command, print_data, settings_of
from ops.restore import restore_venue

_BACKUP = """\
Copies a venue with private servers, running or stopped, as of one moment: Redis, every
journal, the venue file. PostgreSQL and snapshots follow from the journals. Trading goes
on meanwhile; Redis forks once. DIR appears whole or not at all."""

_RESTORE = """\
Makes the var_dir of --config, which must be missing or empty, from a backup: every
file is compared with its digest, and PostgreSQL is rebuilt from the journals. What was
traded after the backup is gone, so clients begin anew (ResetSeqNumFlag, 141=Y). Then:
shardex up, and shardex reconcile."""


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
        f" {restored.cut_records:,} records of later journals cut off"
    )
    return EXIT_OK
