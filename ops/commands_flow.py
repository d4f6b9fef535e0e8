"""``shardex replay-flow``, ``simulate`` and ``demo-market``: order flow through FIX.

The first two check its outcome.
"""

from __future__ import annotations

import argparse
import gzip
import random
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import TextIO, TypeVar, cast

import msgspec

from ops.cli import (
    EXIT_FAILED,
    EXIT_OK,
    Subparsers,
    add_command,
    positive_number,
    print_data,
    settings_of,
)
from ops.commands_market import check_symbol
from ops.demo import ORDERS_PER_S, run_demo
from ops.endpoints import Endpoints, endpoints_path, read_endpoints
from ops.errors import CommandFailed, FlowFileError
from ops.fix_initiator import Identity
from ops.fix_tls import venue_context
from ops.flow import (
    EXPECTED_HEADER,
    FLOW_HEADER,
    FlowRow,
    format_expected_row,
    format_flow_row,
    read_depth,
    read_expected,
    read_flow,
)
from ops.flow_generator import FlowGenerator, FlowShape
from ops.flow_player import ReplayResult, Target, Truth, replay
from ops.flow_reference import expected_rows
from ops.logs import configure_logging
from ops.private_venue import PrivateSymbol, private_venue
from ops.processes import run_until_signal
from ops.settings import Settings
from ops.terminal import Terminal

_Row = TypeVar("_Row")

_SHOWN_MAX = 10
"""Mismatches and refusals that are printed; --json has all of them."""

_BAR_CELLS = 40
_BAR_STEP_ROWS = 500
_SHAPE = FlowShape(
    low_ticks=1_000,
    high_ticks=11_000,
    start_ticks=6_000,
    qty_lots_max=500,
    resting=300,
)
_REPLAY_DETAILS = """The flow goes through one FIX session, as the last user of endpoints.json (its
MsgSeqNums begin at 1 again), into a symbol whose book is empty; what still rests at the end, or
at Ctrl-C, is cancelled. Prices count the symbol's ticks, quantities its lots. Exit code 1 where
anything is refused or differs."""
_SIMULATE_DETAILS = """The same seed makes the same flow. Its expected outcome comes from the naive
book, which shares no code with the engine's."""


def add_parsers(commands: Subparsers) -> None:
    """Add replay-flow, simulate and demo-market."""
    parser = add_command(
        commands,
        "replay-flow",
        _replay_flow,
        summary="Send recorded order flow and check what it does",
        details=_REPLAY_DETAILS,
        json=True,
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="order flow (.csv or .csv.gz)")
    parser.add_argument("--expected", type=Path, metavar="FILE", help="its makers and quotes")
    parser.add_argument("--depth", type=Path, metavar="FILE", help="its depth")
    parser.add_argument("--rows", type=positive_number, metavar="N", help="only the first N rows")
    _add_common(parser, symbol_required=True)
    parser = add_command(
        commands,
        "simulate",
        _simulate,
        summary="Make a realistic order flow, send it and check what it does",
        details=_SIMULATE_DETAILS,
        json=True,
    )
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of the flow (default: 1)")
    parser.add_argument(
        "--orders",
        type=positive_number,
        default=20_000,
        metavar="N",
        help="rows to make (default: 20000)",
    )
    parser.add_argument(
        "--write",
        type=Path,
        metavar="FILE",
        help="also write the flow there, and its outcome to FILE with _expected in its name",
    )
    _add_common(parser, symbol_required=False)
    _add_demo_market(commands)


def _add_demo_market(commands: Subparsers) -> None:
    parser = add_command(
        commands,
        "demo-market",
        _demo_market,
        summary="Run the demo's participants",
        details="`up --demo` starts it as its child; it needs the demo's users and endpoints.json.",
    )
    parser.add_argument(
        "--orders-per-s",
        type=positive_number,
        default=ORDERS_PER_S,
        metavar="N",
        help=f"requests per second over all symbols (default: {ORDERS_PER_S})",
    )
    parser.add_argument(
        "--seed", type=int, metavar="N", help="of what they do (default: by chance)"
    )


def _add_common(parser: argparse.ArgumentParser, *, symbol_required: bool) -> None:
    parser.add_argument(
        "--symbol",
        required=symbol_required,
        metavar="S",
        help="what to trade" + ("" if symbol_required else " (with --private: default SIM)"),
    )
    parser.add_argument(
        "--speed", type=_speed, metavar="X", help="times the recorded pace, or max (the default)"
    )
    parser.add_argument(
        "--private", action="store_true", help="in a venue of its own, which goes afterwards"
    )
    parser.add_argument("--tick-size", metavar="D", help="of the private venue (default: 0.01)")
    parser.add_argument("--lot-size", metavar="D", help="of the private venue (default: 1)")


def _speed(text: str) -> float | None:
    if text == "max":
        return None
    with suppress(ValueError):
        speed = float(text)
        if 0 < speed < float("inf"):
            return speed
    raise argparse.ArgumentTypeError(f"expected max or a number above 0, received {text}")


# ---------------------------------------------------------------- the commands


def _replay_flow(args: argparse.Namespace) -> int:
    rows = _read(args.file, lambda lines: list(islice(read_flow(lines), args.rows)))
    expected = _read(args.expected, lambda lines: list(islice(read_expected(lines), args.rows)))
    depth = _read(args.depth, lambda lines: list(read_depth(lines)))
    if not rows:
        raise CommandFailed(f"{args.file}: no rows")
    return _play(args, rows, Truth(expected, depth))


def _simulate(args: argparse.Namespace) -> int:
    if not args.private and args.symbol is None:
        raise CommandFailed("say what to trade: --symbol of the exchange that runs, or --private")
    rows = list(FlowGenerator(_SHAPE, random.Random(args.seed).random).rows(args.orders))
    expected = list(expected_rows(rows))
    if args.write is not None:
        _write(args.write, FLOW_HEADER, map(format_flow_row, rows))
        _write(_expected_path(args.write), EXPECTED_HEADER, map(format_expected_row, expected))
    return _play(args, rows, Truth(expected))


def _demo_market(args: argparse.Namespace) -> int:
    settings = settings_of(args)
    configure_logging(settings.log_level)
    run_until_signal(run_demo(settings, orders_per_s=args.orders_per_s, seed=args.seed))
    return EXIT_OK


def _play(args: argparse.Namespace, rows: Sequence[FlowRow], truth: Truth) -> int:
    if not args.private and (args.tick_size or args.lot_size):
        raise CommandFailed("--tick-size and --lot-size belong to --private")
    settings = settings_of(args)
    progress = _Progress(Terminal(), len(rows), show=not args.json)
    results: list[ReplayResult] = []

    async def play(target: Target) -> None:
        results.append(
            await replay(target, rows, truth, speed=args.speed, on_progress=progress.show)
        )

    async def run() -> None:
        if not args.private:
            await play(_running_target(settings, args.symbol))
            return
        private = PrivateSymbol(
            args.symbol or "SIM", args.tick_size or "0.01", args.lot_size or "1"
        )
        progress.say("Starting a private venue ...")
        async with private_venue([private], parent=settings.var_dir) as venue:
            await play(
                target_of(venue.endpoints, private.name, private.tick_size, private.lot_size)
            )

    run_until_signal(run())
    progress.done()
    if not results:
        raise CommandFailed("interrupted")
    [result] = results
    if args.json:
        print_data({**msgspec.to_builtins(result), "is_right": result.is_right})
    else:
        print("\n".join(describe(result)))
    return EXIT_OK if result.is_right else EXIT_FAILED


def _running_target(settings: Settings, name: str) -> Target:
    """Return where to play in the exchange that runs here.

    Raises:
        CommandFailed: none does, or it has no such symbol.
    """
    check_symbol(settings, name)
    [symbol] = [one for one in settings.symbols if one.name == name]
    path = endpoints_path(settings.var_dir)
    endpoints = read_endpoints(path)
    if endpoints is None:
        raise CommandFailed(
            f"no exchange runs here ({path} is missing):"
            " start one (shardex up --demo-quiet), or use --private"
        )
    target = target_of(endpoints, symbol.name, symbol.tick_size, symbol.lot_size)
    return msgspec.structs.replace(target, tls=venue_context(settings.gateway))


def target_of(endpoints: Endpoints, symbol: str, tick_size: str, lot_size: str) -> Target:
    """Return where to play: the first gateway, as the last of the users.

    Raises:
        CommandFailed: the exchange has no users to lend.
    """
    if not endpoints.users:
        raise CommandFailed("the exchange has no demo users: start it with --demo or --demo-quiet")
    user = endpoints.users[-1]
    identity = Identity(user.sender_comp_id, endpoints.target_comp_id, user.username, user.password)
    gateway = endpoints.fix[0]
    return Target(
        gateway.host, gateway.port, identity, endpoints.redis_url, symbol, tick_size, lot_size
    )


def describe(result: ReplayResult) -> list[str]:
    """Return what a person wants to know of a result, as lines."""
    rate = result.rows / max(result.elapsed_s, 0.001)
    lines = [
        f"{result.symbol}: {result.rows:,} rows in {result.elapsed_s:.1f} s ({rate:,.0f} rows/s), "
        f"{result.trades:,} trades, {len(result.refusals):,} refused"
    ]
    lines += [f"  row {one.seq}: {one.text}" for one in result.refusals[:_SHOWN_MAX]]
    if result.rows_checked:
        lines.append(
            f"checked: {result.rows_checked:,} rows, {result.quotes_checked:,} quotes, "
            f"{result.depths_checked:,} depths; {len(result.mismatches):,} mismatches"
        )
    for one in result.mismatches[:_SHOWN_MAX]:
        lines.append(
            f"  row {one.seq} {one.what}: expected {one.expected}, received {one.received}"
        )
    return lines


class _Progress:
    """A bar on a terminal; nothing elsewhere."""

    def __init__(self, terminal: Terminal, total: int, *, show: bool) -> None:
        self._terminal = terminal
        self._total = total
        self._is_shown = show
        self._next = 0

    def say(self, text: str) -> None:
        """Print a line, where a person reads."""
        if self._is_shown:
            self._terminal.say(text)

    def show(self, done: int) -> None:
        """Draw how many rows are done, where enough has changed."""
        if self._is_shown and done >= self._next:
            self._next = done + _BAR_STEP_ROWS
            bar = ("█" * (done * _BAR_CELLS // self._total)).ljust(_BAR_CELLS, "░")
            self._terminal.show([f"{bar} {done:,} of {self._total:,} rows"])

    def done(self) -> None:
        """Take the bar away."""
        self._terminal.show([])


# ---------------------------------------------------------------- files


def _read(path: Path | None, read: Callable[[Iterable[str]], list[_Row]]) -> list[_Row]:
    if path is None:
        return []
    try:
        with _open(path, "rt") as file:
            return read(file)
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise FlowFileError(f"{path}: {error}") from error
    except FlowFileError as error:
        raise FlowFileError(f"{path}: {error}") from error


def _write(path: Path, header: str, lines: Iterable[str]) -> None:
    try:
        with _open(path, "wt") as file:
            file.write(header + "\n")
            file.writelines(line + "\n" for line in lines)
    except OSError as error:
        raise FlowFileError(f"{path}: {error}") from error


def _open(path: Path, mode: str) -> TextIO:
    opener = gzip.open if path.suffix == ".gz" else open
    return cast(TextIO, opener(path, mode, encoding="ascii"))


def _expected_path(flow: Path) -> Path:
    name = flow.name
    if "_flow" in name:
        return flow.with_name(name.replace("_flow", "_expected"))
    stem, dot, suffixes = name.partition(".")
    return flow.with_name(f"{stem}_expected{dot}{suffixes}")
