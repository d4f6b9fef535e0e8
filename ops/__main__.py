"""``shardex`` and ``python -m ops``: the command line.

Each group of commands is a module with ``add_parsers``; a command is a function from its arguments
to an exit code. Only the module of the command that is asked for is loaded: all of the project
takes several times as long as most commands, and every process of a venue is one of them. What can
be told in one line is told in one line; a traceback is a bug of ours.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

from engine.errors import ExchangeError
from ops.cli import EXIT_CODES, EXIT_FAILED, EXIT_USAGE
from ops.errors import WrongUsage
from ops.wiring import VERSION

COMMANDS = {
    "up": "commands_up",
    "status": "commands_status",
    "failover": "commands_failover",
    "forget-standby": "commands_failover",
    "reconcile": "commands_reconcile",
    "repair": "commands_repair",
    "replay": "commands_replay",
    "diff": "commands_replay",
    "audit": "commands_audit",
    "backup": "commands_backup",
    "restore": "commands_backup",
    "skip": "commands_skip",
    "phase": "commands_phase",
    "user": "commands_users",
    "deposit": "commands_ledger",
    "withdraw": "commands_ledger",
    "balances": "commands_ledger",
    "symbols": "commands_market",
    "book": "commands_market",
    "watch": "commands_market",
    "fixlog": "commands_fixlog",
    "replay-flow": "commands_flow",
    "simulate": "commands_flow",
    "demo-market": "commands_flow",
    "torture": "commands_torture",
    "acl": "commands_acl",
    "gateway": "commands_gateway",
    "engine": "commands_engine",
    "marketdata": "commands_marketdata",
    "writer": "commands_writer",
}
"""The module of ``ops`` that has each command."""


def build_parser(command: str | None = None) -> argparse.ArgumentParser:
    """Return the parser of the module that has a command, or else of all commands.

    Args:
        command: what is asked for; where it is no command, all are loaded to list them.
    """
    parser = argparse.ArgumentParser(
        prog="shardex",
        description="A FIX 4.4 exchange sharded by symbol over Redis Streams.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"shardex {VERSION}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    modules = [COMMANDS[command]] if command in COMMANDS else dict.fromkeys(COMMANDS.values())
    for module in modules:
        import_module(f"ops.{module}").add_parsers(commands)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    Args:
        arguments: None takes the process's own.
    """
    if not __debug__:
        print("shardex: python -O removes the checks of invariants: refused", file=sys.stderr)
        return EXIT_FAILED
    given = sys.argv[1:] if arguments is None else arguments
    args = build_parser(given[0] if given else None).parse_args(given)
    try:
        code: int = args.run(args)
    except ExchangeError as error:
        print(f"shardex: {error}", file=sys.stderr)
        return EXIT_USAGE if isinstance(error, WrongUsage) else EXIT_FAILED
    except BrokenPipeError:
        # Whoever read our output has had enough of it, as `| head` does.
        sys.stderr.close()
        return EXIT_FAILED
    except KeyboardInterrupt:
        return EXIT_FAILED
    return code


if __name__ == "__main__":
    sys.exit(main())
