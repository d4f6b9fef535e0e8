"""``shardex phase``: the trading phase of symbols, to show and to change."""

from __future__ import annotations

import argparse
import asyncio
import secrets
import time
from collections.abc import Sequence
from contextlib import suppress

import msgspec
from msgspec.structs import replace

from engine.enums import TradingPhase
from engine.events import PhaseChanged, decode_output_events
from engine.instrument import DecimalGrid
from ops.cli import (
    EXIT_OK,
    Subparsers,
    add_command,
    connect,
    positive_number,
    print_data,
    print_table,
    settings_of,
)
from ops.commands_market import check_symbol
from ops.engine_roles import phase_name, read_phases
from ops.errors import CommandFailed, WrongUsage
from ops.settings import Settings
from ops.wiring import read_venue, shard_map
from router import keys
from router.dense_ids import entry_number
from router.homes import Home
from router.phases import PhaseRequest, PlacedChange, request_phase
from router.redis_client import RedisLink, retry_while_away

WAIT_DEFAULT_S = 30
WAIT_MAX_S = 3_600
"""A request is repeated for so long at most, while it is known by its name for a day."""
_NAMES = {phase_name(phase): phase for phase in TradingPhase}
_POLL_S = 0.02
_READ_MAX = 100
"""Outputs read at once while an auction goes on."""

_DETAILS = """\
Without PHASE it shows what the engines that lead said within the last second. With one it has
the symbol change, as a command among its orders, and waits until the engine has settled it.

  continuous       orders match as they come; first, an auction of what is crossed in the book
  pre-open         orders that can rest are taken and gathered for an auction; nothing matches
  opening-auction  the auction, which ends in continuous by itself
  halted           nothing is taken but status requests
  cancel-only      cancels and status requests
  closed           likewise, and DAY orders expire

A [[schedule]] of the symbol goes on: its next change is made when it is due."""


class PhaseOutcome(msgspec.Struct, frozen=True):
    """What came of a change.

    Attributes:
        symbol, seq: the command.
        phase: the one that the symbol is in now; None where that had been trimmed away already.
        changed: False: it was in that phase, or in the auction that leads there.
        auction_price, auction_volume: decimal text; None where there was no auction, or nothing
            crossed.
        newer_seq, newer_phase: of a change that somebody else made before this one was answered,
            and which stands; None where there was none. The phase is None too where no engine has
            settled that one in time.
    """

    symbol: str
    seq: int
    phase: str | None
    changed: bool
    auction_price: str | None
    auction_volume: str | None
    newer_seq: int | None = None
    newer_phase: str | None = None


def add_parsers(commands: Subparsers) -> None:
    """Add phase."""
    parser = add_command(
        commands,
        "phase",
        _phase,
        summary="Show or change the trading phase of a symbol",
        details=_DETAILS,
        json=True,
    )
    parser.add_argument("symbol", metavar="SYMBOL", nargs="?")
    parser.add_argument("phase", metavar="PHASE", nargs="?", help=", ".join(_NAMES))
    parser.add_argument("--all", action="store_true", help="of every symbol, instead of SYMBOL")
    parser.add_argument(
        "--wait",
        type=positive_number,
        default=WAIT_DEFAULT_S,
        metavar="SECONDS",
        help=f"for the engine to settle it, up to {WAIT_MAX_S} (default: {WAIT_DEFAULT_S})",
    )


def _phase(args: argparse.Namespace) -> int:
    settings = settings_of(args)
    symbols, phase = _asked(settings, args)
    if phase is None:
        return _show(settings, symbols, json=args.json)
    if args.wait > WAIT_MAX_S:
        raise WrongUsage(f"--wait: expected at most {WAIT_MAX_S} s, received {args.wait}")
    outcomes = asyncio.run(_change(settings, symbols, phase, args.wait))
    if args.json:
        print_data(msgspec.to_builtins(outcomes if args.all else outcomes[0]))
    else:
        print("\n".join(text_of(outcome) for outcome in outcomes))
    return EXIT_OK


def _asked(settings: Settings, args: argparse.Namespace) -> tuple[list[str], TradingPhase | None]:
    """Return which symbols are meant, and the phase that they shall change to."""
    words = [word for word in (args.symbol, args.phase) if word is not None]
    if args.all:
        symbols = [symbol.name for symbol in settings.symbols]
    elif words:
        check_symbol(settings, words[0])
        symbols = [words.pop(0)]
    else:
        raise WrongUsage("which symbol? Name one, or all of them with --all")
    if len(words) > 1:
        raise WrongUsage(f"--all: expected no symbol, received {words[0]}")
    if words and words[0] not in _NAMES:
        raise WrongUsage(f"expected one of {', '.join(_NAMES)}, received {words[0]}")
    return symbols, _NAMES[words[0]] if words else None


# ---------------------------------------------------------------- showing


def _show(settings: Settings, symbols: Sequence[str], *, json: bool) -> int:
    async def read() -> dict[str, TradingPhase]:
        async with connect(settings) as link:
            return await read_phases(link, shard_map(settings, link.url).shards)

    found = {symbol: phase_name(phase) for symbol, phase in asyncio.run(read()).items()}
    rows = [{"symbol": symbol, "phase": found.get(symbol)} for symbol in symbols]
    if json:
        print_data(rows)
    else:
        shown = [[one["symbol"] or "", one["phase"] or "unknown: nobody leads"] for one in rows]
        print_table(["symbol", "phase"], shown)
    return EXIT_OK


# ---------------------------------------------------------------- changing


async def _change(
    settings: Settings, symbols: Sequence[str], phase: TradingPhase, wait_s: int
) -> list[PhaseOutcome]:
    async with connect(settings) as link:
        homes = await read_venue(settings, link)
        placed = []
        for symbol in symbols:
            request = PhaseRequest(homes[symbol], phase, secrets.token_hex(8))
            placed.append((homes[symbol], await _within(wait_s, link, request)))
        deadline_s = time.monotonic() + wait_s
        return [await wait_for_change(link, home, one, deadline_s) for home, one in placed]


async def wait_for_change(
    link: RedisLink, home: Home, placed: PlacedChange, deadline_s: float
) -> PhaseOutcome:
    """Wait until an engine has settled a change, and the one that stands now.

    Args:
        link: accounts database.
        deadline_s: of ``time.monotonic``. For the newer one nobody waits longer, nor fails.

    Raises:
        CommandFailed: not in time; it stands in the stream.
        RedisUnavailable: no reply; likewise.
    """
    outcome = await _wait_for(link, home, placed.seq, deadline_s)
    if placed.last_seq == placed.seq:
        return outcome
    newer_phase = None
    with suppress(CommandFailed):
        newer_phase = (await _wait_for(link, home, placed.last_seq, deadline_s)).phase
    return replace(outcome, newer_seq=placed.last_seq, newer_phase=newer_phase)


async def _within(wait_s: int, link: RedisLink, request: PhaseRequest) -> PlacedChange:
    try:
        async with asyncio.timeout(wait_s):
            return await retry_while_away(lambda: request_phase(link, request), what="phase")
    except TimeoutError:
        raise CommandFailed(
            f"{request.home.symbol}: no answer within {wait_s} s; whether its phase will change is"
            " not known"
        ) from None


async def _wait_for(link: RedisLink, home: Home, seq: int, deadline_s: float) -> PhaseOutcome:
    """Wait until an engine has settled a change, and the auction that it began.

    Raises:
        CommandFailed: not in time; it stands in the stream.
        RedisUnavailable: no reply; likewise.
    """
    key, next_seq = keys.events(home.symbol), seq
    changes: list[PhaseChanged] = []
    async with link.sibling(home.db) as shard_link:
        while True:
            found = await shard_link.call("XRANGE", key, f"{next_seq}-0", "+", "COUNT", _READ_MAX)
            for entry_id, fields in found:
                if entry_number(entry_id) != next_seq:
                    return PhaseOutcome(home.symbol, seq, None, True, None, None)
                events = decode_output_events(fields[1]).events
                changes += [event for event in events if isinstance(event, PhaseChanged)]
                next_seq += 1
                if not changes or changes[-1].phase is not TradingPhase.OPENING_AUCTION:
                    return _outcome(home, seq, changes)
            if time.monotonic() > deadline_s:
                raise CommandFailed(_too_late(home.symbol, seq, changes))
            if not found:
                await asyncio.sleep(_POLL_S)


def _too_late(symbol: str, seq: int, changes: Sequence[PhaseChanged]) -> str:
    if changes:
        return f"{symbol} seq {seq}: the auction goes on; it ends by itself"
    return (
        f"{symbol} seq {seq}: it stands in the stream, but no engine has settled it in time; one"
        " will, as soon as it runs (shardex status)"
    )


def _outcome(home: Home, seq: int, changes: Sequence[PhaseChanged]) -> PhaseOutcome:
    if not changes:
        return PhaseOutcome(home.symbol, seq, None, False, None, None)
    price = volume = None
    # What is canceled while an auction goes on may leave a cross, which has a price of its own.
    auctions = [change for change in changes if change.auction_lots]
    if auctions:
        prices, lots = DecimalGrid(home.rules.tick_size), DecimalGrid(home.rules.lot_size)
        price = prices.format(auctions[0].auction_ticks)
        volume = lots.format(auctions[0].auction_lots)
    return PhaseOutcome(home.symbol, seq, phase_name(changes[-1].phase), True, price, volume)


def text_of(outcome: PhaseOutcome) -> str:
    """Return the line that tells an operator what came of a change."""
    symbol = outcome.symbol
    if not outcome.changed:
        text = f"{symbol}: is in that phase already, or on its way there"
    elif outcome.phase is None:
        text = f"{symbol}: settled (seq {outcome.seq}), and trimmed already; shardex phase {symbol}"
    else:
        text = f"{symbol}: {outcome.phase} (seq {outcome.seq})"
    if outcome.auction_volume is not None:
        text += f"; auction: {outcome.auction_volume} at {outcome.auction_price}"
    if outcome.newer_seq is not None:
        stands = outcome.newer_phase or f"see shardex phase {symbol}"
        text += f"; changed again since (seq {outcome.newer_seq}): {stands}"
    return text
