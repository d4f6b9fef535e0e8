"""``shardex`` and ``python -m ops``: the command line.

Each group of commands is a module with ``add_parsers``; a command is a function from its arguments
to an exit code. What can be told in one line is told in one line; a traceback is a bug of ours.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from engine.errors import ExchangeError
from ops import (
    commands_acl,
    commands_audit,
    commands_backup,
    commands_failover,
    commands_fixlog,
    commands_flow,
    commands_ledger,
    commands_market,
    commands_phase,
    commands_processes,
    commands_reconcile,
    commands_repair,
    commands_replay,
    commands_skip,
    commands_status,
    commands_torture,
    commands_up,
    commands_users,
)
from ops.cli import EXIT_CODES, EXIT_FAILED
from ops.wiring import VERSION

_GROUPS = (
    commands_up,
    commands_status,
    commands_failover,
    commands_reconcile,
    commands_repair,
    commands_replay,
    commands_audit,
    commands_backup,
    commands_skip,
    commands_phase,
    commands_users,
    commands_ledger,
    commands_market,
    commands_fixlog,
    commands_flow,
    commands_torture,
    commands_acl,
    commands_processes,
)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="shardex",
        description="A FIX 4.4 exchange sharded by symbol over Redis Streams.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"shardex {VERSION}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for group in _GROUPS:
        group.add_parsers(commands)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    Args:
        arguments: None takes the process's own.
    """
    if not __debug__:
        print("shardex: python -O removes the checks of invariants: refused", file=sys.stderr)
        return EXIT_FAILED
    args = build_parser().parse_args(arguments)
    try:
        code: int = args.run(args)
    except ExchangeError as error:
        print(f"shardex: {error}", file=sys.stderr)
        return EXIT_FAILED
    except BrokenPipeError:
        # Whoever read our output has had enough of it, as `| head` does.
        sys.stderr.close()
        return EXIT_FAILED
    except KeyboardInterrupt:
        return EXIT_FAILED
    return code


if __name__ == "__main__":
    sys.exit(main())
