"""``shardex writer``: the writer to PostgreSQL, alone."""

from __future__ import annotations

import argparse

from ops.cli import Subparsers
from ops.endpoints import find_postgres, find_redis
from ops.process_command import add_process, run_process
from ops.writer_process import run_writer


def add_parsers(commands: Subparsers) -> None:
    """Add writer."""
    add_process(commands, "writer", _run, summary="Run the writer to PostgreSQL")


def _run(args: argparse.Namespace) -> int:
    return run_process(
        args,
        lambda settings: run_writer(
            settings, find_redis(settings, "writer"), find_postgres(settings)
        ),
    )
