"""What the commands share: their parsers, settings, connections, printing and exit codes."""

from __future__ import annotations

import argparse
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeAlias

import orjson

from ops.data_dir import check_layout
from ops.endpoints import find_redis
from ops.settings import DEFAULT_CONFIG, Settings, load_settings
from ops.terminal import table
from ops.wiring import accounts_link
from router.redis_client import RedisLink

Subparsers: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2

EXIT_CODES = """exit codes:
  0  done
  1  refused or failed; one line on standard error says why
  2  wrong usage"""

Run = Callable[[argparse.Namespace], int]


def add_command(
    commands: Subparsers,
    name: str,
    run: Run,
    *,
    summary: str,
    details: str = "",
    json: bool = False,
) -> argparse.ArgumentParser:
    """Add a command with the options that all have, and return its parser for its own.

    Args:
        run: does it, and returns the exit code.
        summary: one line for the list of commands.
        details: what else its --help says.
        json: whether it prints data, and so has --json.
    """
    parser = commands.add_parser(
        name,
        help=summary,
        description=f"{summary}.\n\n{details}".strip(),
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--config",
        type=Path,
        default=DEFAULT_CONFIG,
        metavar="FILE",
        help=f"venue file (default: {DEFAULT_CONFIG})",
    )
    if json:
        parser.add_argument("--json", action="store_true", help="print data as JSON")
    parser.set_defaults(run=run)
    return parser


def settings_of(args: argparse.Namespace) -> Settings:
    """Return the settings that a command's --config and the environment give.

    It is here that a data directory of another version is refused: every command comes by here,
    but those that are given journals, which look for themselves.

    Raises:
        SettingsError: see there.
        DataDirectoryMismatch: var_dir is of another version; nothing was touched.
    """
    settings = load_settings(args.config)
    check_layout(settings.var_dir)
    return settings


@asynccontextmanager
async def connect(settings: Settings) -> AsyncIterator[RedisLink]:
    """Give a link to the accounts database of the exchange that is configured or runs here.

    Raises:
        CommandFailed: there is none.
    """
    async with accounts_link(settings, find_redis(settings), name="shardex-command") as link:
        yield link


def print_data(data: Any) -> None:
    """Print data as JSON, indented."""
    print(orjson.dumps(data, option=orjson.OPT_INDENT_2).decode())


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows under their headings."""
    print("\n".join(table(header, rows)))


def positive_number(text: str) -> int:
    """Return a whole number above 0 from the command line: a ``type`` for argparse.

    Raises:
        ArgumentTypeError: it is none.
    """
    if not (text.isascii() and text.isdigit() and int(text)):
        raise argparse.ArgumentTypeError(f"expected a whole number above 0, received {text}")
    return int(text)
