"""``shardex up``: the whole exchange in one terminal."""

from __future__ import annotations

import argparse

from ops.cli import EXIT_OK, Subparsers, add_command, settings_of
from ops.data_dir import DataDirectory
from ops.logs import configure_logging
from ops.processes import run_until_signal
from ops.terminal import Terminal
from ops.up import Demo, run_up

_DETAILS = """\
Private Redis and PostgreSQL servers are started unless redis_url and postgres_url name
others. All data, journals and logs stand in var_dir; starting again goes on with the same books,
balances and FIX sequence numbers. var_dir/endpoints.json says where to connect. Ctrl-C stops
everything cleanly, and the exit code is 0."""


def add_parsers(commands: Subparsers) -> None:
    """Add up."""
    parser = add_command(
        commands, "up", _up, summary="Start the whole exchange, until Ctrl-C", details=_DETAILS
    )
    parser.add_argument(
        "--standby", action="store_true", help="with a second engine per shard that takes over"
    )
    demo = parser.add_mutually_exclusive_group()
    demo.add_argument("--demo", action="store_true", help="with demo users and a simulated market")
    demo.add_argument(
        "--demo-quiet", action="store_true", help="with demo users, without a simulated market"
    )


def _up(args: argparse.Namespace) -> int:
    settings = settings_of(args)
    configure_logging("warning")
    demo = Demo.MARKET if args.demo else Demo.QUIET if args.demo_quiet else Demo.NONE
    # Here, where Ctrl-C still interrupts: the servers of a run that was killed may need a while.
    with DataDirectory.open(settings.var_dir) as data:
        run_until_signal(
            run_up(settings, args.config, demo, data, Terminal(), standby=args.standby)
        )
    return EXIT_OK
