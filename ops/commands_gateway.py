"""``shardex gateway``: one gateway, alone."""

from __future__ import annotations

import argparse

from ops.cli import Subparsers
from ops.endpoints import find_redis
from ops.gateway_process import run_gateway
from ops.process_command import add_process, run_process


def add_parsers(commands: Subparsers) -> None:
    """Add gateway."""
    parser = add_process(commands, "gateway", _run, summary="Run one gateway")
    parser.add_argument("--name", default="gateway-1", help="unique name (default: gateway-1)")
    parser.add_argument("--port", type=int, help="instead of gateway.port; must be free")


def _run(args: argparse.Namespace) -> int:
    return run_process(
        args,
        lambda settings: run_gateway(
            settings, find_redis(settings, "gateway"), args.name, args.port or settings.gateway.port
        ),
    )
