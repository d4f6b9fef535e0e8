"""``shardex gateway``: one gateway, alone."""

from __future__ import annotations

import argparse
import re

from ops.cli import Subparsers
from ops.endpoints import find_redis
from ops.gateway_process import run_gateway
from ops.process_command import add_process, run_process
from ops.wiring import GATEWAY

_NAME = re.compile(rf"{GATEWAY}[A-Za-z0-9_-]{{0,32}}")


def add_parsers(commands: Subparsers) -> None:
    """Add gateway."""
    parser = add_process(commands, "gateway", _run, summary="Run one gateway")
    parser.add_argument(
        "--name",
        type=_name,
        default=f"{GATEWAY}-1",
        help=f"unique name that begins with {GATEWAY} (default: %(default)s)",
    )
    parser.add_argument("--port", type=int, help="instead of gateway.port; must be free")


def _name(text: str) -> str:
    # By it, audit and restore know whose journal is a gateway's.
    if not _NAME.fullmatch(text):
        raise argparse.ArgumentTypeError(
            f"expected {GATEWAY} and then letters, digits, - or _, received {text!r}"
        )
    return text


def _run(args: argparse.Namespace) -> int:
    return run_process(
        args,
        lambda settings: run_gateway(
            settings, find_redis(settings, "gateway"), args.name, args.port or settings.gateway.port
        ),
    )
