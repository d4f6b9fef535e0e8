"""``shardex torture``: does the exchange survive everything, and lose nothing."""

from __future__ import annotations

import argparse
import logging
import time

from ops.cli import (
    EXIT_FAILED,
    EXIT_OK,
    Subparsers,
    add_command,
    positive_number,
    settings_of,
)
from ops.processes import run_until_signal
from ops.terminal import Terminal
from ops.torture import Torture
from ops.torture_cast import CLIENTS_MAX, Options
from ops.torture_parts import POSTGRES, REDIS
from ops.torture_summary import summary

_DETAILS = """\
In a private venue with a directory and ports of its own: FIX clients trade through two
gateways while gateways, engines, standbys, writer, market data, Redis and PostgreSQL are
killed (-9), paused and restarted. Then everything must have come back by itself, and add
up: what each client was told, Redis, PostgreSQL, journals and market data. The last line
is a summary; exit code 1 where anything is lost, doubled or different, and the venue's
directory is kept then. A seed gives the same plan and the same choices of the clients;
when processes run is up to the machine, so that no two runs are the same."""

_MESSAGES_PER_S = 500
_PATIENCE_S = 30
_KINDS = ("gateway", "engine", "standby", "writer", "marketdata", REDIS, POSTGRES)
_PLAIN_PROGRESS_S = 15.0


def add_parsers(commands: Subparsers) -> None:
    """Add torture."""
    parser = add_command(
        commands,
        "torture",
        _torture,
        summary="Kill parts of a private venue at random, and prove that nothing is lost",
        details=_DETAILS,
    )
    duration = parser.add_mutually_exclusive_group()
    duration.add_argument(
        "--minutes", type=positive_number, default=20, metavar="M", help="default: 20"
    )
    duration.add_argument("--seconds", type=positive_number, metavar="S", help="instead of minutes")
    parser.add_argument("--seed", type=positive_number, metavar="N", help="default: by the clock")
    parser.add_argument(
        "--clients",
        type=positive_number,
        default=CLIENTS_MAX,
        metavar="N",
        help=f"FIX sessions (default, and at most: {CLIENTS_MAX})",
    )
    parser.add_argument(
        "--messages-per-s",
        type=positive_number,
        default=_MESSAGES_PER_S,
        metavar="N",
        help=f"of all clients together (default: {_MESSAGES_PER_S})",
    )
    parser.add_argument(
        "--patience",
        type=positive_number,
        default=_PATIENCE_S,
        metavar="S",
        help="seconds that trading may stand still while all is up; twice that until everything"
        f" is at rest at the end (default: {_PATIENCE_S})",
    )
    parser.add_argument(
        "--only",
        nargs="+",
        choices=_KINDS,
        default=(),
        metavar="KIND",
        help=f"strike these only: {', '.join(_KINDS)}",
    )
    parser.add_argument("--no-standby", action="store_true", help="one engine per shard")
    parser.add_argument("--fail-fast", action="store_true", help="end at the first failure")


def _torture(args: argparse.Namespace) -> int:
    options = Options(
        seconds=args.seconds or 60 * args.minutes,
        seed=args.seed or time.time_ns() % 1_000_000 + 1,
        clients=args.clients,
        messages_per_s=args.messages_per_s,
        standby=not args.no_standby,
        patience_s=args.patience,
        only=tuple(args.only),
        fail_fast=args.fail_fast,
        parent=settings_of(args).var_dir,
    )
    # Its own clients lose connections all the time; what counts is said by the run itself.
    logging.disable(logging.WARNING)
    progress = _Progress(Terminal())
    torture = Torture(options, say=progress.say, show=progress.show)

    async def run() -> None:
        await torture.run()
        progress.finish()

    progress.say(f"torture: seed {options.seed}, {options.seconds} s")
    run_until_signal(run())
    if not progress.is_finished:
        progress.say(f"torture: interrupted, seed {options.seed}")
        return EXIT_FAILED
    print("\n".join(summary(torture)))
    return EXIT_FAILED if torture.failures else EXIT_OK


class _Progress:
    """A line in place on a terminal; elsewhere a line now and then."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self._began_s = time.monotonic()
        self._said_s = self._began_s
        self.is_finished = False

    def say(self, text: str) -> None:
        """Print a line that stays."""
        self._terminal.say(text)

    def show(self, text: str) -> None:
        """Show how far it is."""
        now_s = time.monotonic()
        line = f"{now_s - self._began_s:6.0f} s  {text}"
        self._terminal.show([line])
        if not self._terminal.interactive and now_s - self._said_s >= _PLAIN_PROGRESS_S:
            self._said_s = now_s
            self._terminal.say(line)

    def finish(self) -> None:
        """Take the line away: the run has come to its end."""
        self._terminal.show([])
        self.is_finished = True
