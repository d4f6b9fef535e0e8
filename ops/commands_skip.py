"""``shardex skip``: have the engine pass over a command that it cannot apply."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from enum import Enum

import msgspec

from engine.commands import Command
from engine.events import Skipped, decode_output
from engine.instrument import DecimalGrid, SymbolRules
from ops.cli import (
    EXIT_FAILED,
    EXIT_OK,
    Subparsers,
    add_command,
    connect,
    positive_number,
    print_data,
    settings_of,
)
from ops.errors import CommandFailed
from ops.settings import Settings
from router import keys
from router.dense_ids import last_entry, last_number
from router.redis_client import RedisLink
from router.skips import Skippable, add_skip, check_reason, find_skippable

WAIT_DEFAULT_S = 30
_POLL_S = 0.05
_PAYLOAD_SHOWN_BYTES = 60

_DETAILS = """\
An engine that cannot apply a command stops its shard before anything of it counts, and says
"SYMBOL seq SEQ cannot be applied". This records that the command is passed over, in Redis and
in the engines' journals, and takes the lease from whoever leads; the next engine goes on
behind it. The book stays as it is, what the command reserved is available again, and its
sender is told that it was refused, with your reason. It cannot be undone. Refused for what is
settled and for a definition of the symbol. Waits until the engine has passed it."""


class Outcome(msgspec.Struct, frozen=True):
    """What came of a skip.

    Attributes:
        symbol, seq, reason: as asked for.
        command: the kind of the command; None where the bytes are none.
        account, cl_ord_id: whose it was; 0 and '' where nobody is told.
        freed: what is available again: asset and decimal amount; empty for nothing.
        settled: the last seq of the symbol that is settled.
    """

    symbol: str
    seq: int
    reason: str
    command: str | None
    account: int
    cl_ord_id: str
    freed: dict[str, str]
    settled: int


def add_parsers(commands: Subparsers) -> None:
    """Add skip."""
    parser = add_command(
        commands,
        "skip",
        _skip,
        summary="Pass over a command that stops its engine",
        details=_DETAILS,
        json=True,
    )
    parser.add_argument("symbol", metavar="SYMBOL")
    parser.add_argument("seq", metavar="SEQ", type=positive_number, help="as the engine named it")
    parser.add_argument("--reason", required=True, metavar="TEXT", help="the sender is told")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument(
        "--wait",
        type=positive_number,
        default=WAIT_DEFAULT_S,
        metavar="SECONDS",
        help=f"for the engine to pass it (default: {WAIT_DEFAULT_S})",
    )


def _skip(args: argparse.Namespace) -> int:
    settings = settings_of(args)
    check_reason(args.reason)
    found = asyncio.run(_find(settings, args.symbol, args.seq))
    # Data on standard output stays alone there.
    print("\n".join(describe(found)), file=sys.stderr if args.json else sys.stdout, flush=True)
    if not args.yes and not _confirmed():
        print("Nothing was changed.", file=sys.stderr)
        return EXIT_FAILED
    outcome = asyncio.run(_do(settings, found, args.reason, args.wait))
    if args.json:
        print_data(msgspec.to_builtins(outcome))
    else:
        print(_text_of(outcome))
    return EXIT_OK


async def _find(settings: Settings, symbol: str, seq: int) -> Skippable:
    async with connect(settings) as link:
        return await find_skippable(link, symbol, seq)


async def _do(settings: Settings, found: Skippable, reason: str, wait_s: int) -> Outcome:
    async with connect(settings) as link:
        await add_skip(link, found, reason)
        return await wait_until_passed(link, found, reason, wait_s)


def _confirmed() -> bool:
    if not sys.stdin.isatty():
        raise CommandFailed("no terminal to ask at: use --yes")
    print("Skip it? This cannot be undone. [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def describe(found: Skippable) -> list[str]:
    """Return what an operator must see before deciding: the input, and where it stands."""
    head = (
        f"{found.home.symbol} seq {found.seq} (settled up to {found.settled}, the stream ends at"
        f" {found.last}): "
    )
    command = found.command
    if command is None:
        shown = found.payload[:_PAYLOAD_SHOWN_BYTES]
        more = "..." if len(found.payload) > len(shown) else ""
        return [f"{head}no command, {len(found.payload)} bytes: {shown!r}{more}"]
    return [head + type(command).__name__, "  " + ", ".join(_fields(command, found.home.rules))]


def _fields(command: Command, rules: SymbolRules) -> list[str]:
    grids = {
        "price_ticks": DecimalGrid(rules.tick_size),
        "qty_lots": DecimalGrid(rules.lot_size),
    }
    fields = msgspec.structs.asdict(command)
    parts = []
    for name, value in fields.items():
        if name in grids:
            parts.append(f"{name.partition('_')[0]} {grids[name].format(value)}")
        elif name == "reserved":
            asset = rules.hold_asset(fields["side"])
            parts.append(f"reserved {_amount(rules, asset, value)} {asset}")
        else:
            text = value.name.lower() if isinstance(value, Enum) else value
            parts.append(f"{name} {text}")
    return parts


async def wait_until_passed(
    link: RedisLink, found: Skippable, reason: str, wait_s: float
) -> Outcome:
    """Wait until an engine has passed an input, and return what came of it.

    Args:
        link: accounts database.
        wait_s: longest wait, in seconds.

    Raises:
        CommandFailed: no engine has passed it in time; it stays recorded.
        RedisUnavailable: no reply; it stays recorded.
    """
    symbol, seq = found.home.symbol, found.seq
    key = keys.events(symbol)
    deadline_s = time.monotonic() + wait_s
    async with link.sibling(found.home.db) as shard_link:
        while last_number(await shard_link.call(*last_entry(key))) < seq:
            if time.monotonic() > deadline_s:
                raise CommandFailed(
                    f"{symbol} seq {seq}: recorded, but no engine has passed it within {wait_s} s;"
                    " it will, as soon as one runs (shardex status)"
                )
            await asyncio.sleep(_POLL_S)
        entries = await shard_link.call("XRANGE", key, f"{seq}-0", f"{seq}-0")
    settled = int(await link.call("HGET", keys.SETTLED, symbol))
    kind = None if found.command is None else type(found.command).__name__
    if not entries:
        # Writer and market data were quick, and it is trimmed; what it said is not known here.
        return Outcome(symbol, seq, reason, kind, 0, "", {}, settled)
    output = decode_output(entries[0][1][1])
    event = output.events[0] if output.events else None
    if not isinstance(event, Skipped):
        raise CommandFailed(f"{symbol} seq {seq}: was applied all the same: {output.events}")
    rules = found.home.rules
    freed = {one.asset: _amount(rules, one.asset, one.available) for one in output.changes}
    return Outcome(symbol, seq, reason, kind, event.account, event.cl_ord_id, freed, settled)


def _text_of(outcome: Outcome) -> str:
    text = f"{outcome.symbol} seq {outcome.seq}: skipped, settled up to {outcome.settled}"
    for asset, amount in outcome.freed.items():
        text += f"; {amount} {asset} available again"
    if outcome.account:
        text += f"; account {outcome.account} is told that {outcome.cl_ord_id} was refused"
    return text


def _amount(rules: SymbolRules, asset: str, amount: int) -> str:
    scale = rules.base_scale if asset == rules.base else rules.quote_scale
    return DecimalGrid.of_scale(scale).format(amount)
