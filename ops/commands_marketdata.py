"""``shardex marketdata``: market data, alone."""

from __future__ import annotations

import argparse

from ops.cli import Subparsers
from ops.endpoints import find_redis
from ops.marketdata_process import run_marketdata
from ops.process_command import add_process, run_process


def add_parsers(commands: Subparsers) -> None:
    """Add marketdata."""
    add_process(commands, "marketdata", _run, summary="Run market data")


def _run(args: argparse.Namespace) -> int:
    return run_process(
        args,
        lambda settings: run_marketdata(settings, find_redis(settings, "marketdata")),
    )
