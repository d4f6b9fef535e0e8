"""``shardex engine``: the engine of one shard, alone."""

from __future__ import annotations

import argparse

from ops.cli import Subparsers
from ops.endpoints import find_redis
from ops.engine_process import run_engine
from ops.process_command import add_process, run_process


def add_parsers(commands: Subparsers) -> None:
    """Add engine."""
    parser = add_process(commands, "engine", _run, summary="Run the engine of one shard")
    parser.add_argument("--shard", type=int, required=True, metavar="ID", help="of [[shards]]")
    parser.add_argument(
        "--standby",
        action="store_true",
        help="be the shard's second engine: follow the first, and lead when it is gone",
    )


def _run(args: argparse.Namespace) -> int:
    return run_process(
        args,
        lambda settings: run_engine(
            settings, find_redis(settings, "engine"), args.shard, standby=args.standby
        ),
    )
