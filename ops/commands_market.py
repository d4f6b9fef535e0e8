"""``shardex symbols``, ``book`` and ``watch``: what is traded, and at which prices."""

from __future__ import annotations

import argparse
import asyncio

from engine.instrument import DecimalGrid
from marketdata.feed_codec import SnapshotMessage, decode_snapshot
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
from ops.endpoints import find_redis
from ops.engine_roles import phase_name, read_phases
from ops.errors import CommandFailed
from ops.processes import run_until_signal
from ops.settings import Settings
from ops.terminal import Terminal
from ops.watch import watch
from ops.wiring import read_venue, shard_map
from router import keys

_LEVELS = 10


def add_parsers(commands: Subparsers) -> None:
    """Add symbols, book and watch."""
    add_command(
        commands,
        "symbols",
        _symbols,
        summary="List the symbols, their rules in force, trading phases and where they live",
        json=True,
    )
    parser = add_command(
        commands,
        "book",
        _book,
        summary="Show a symbol's depth once",
        details="From the snapshot that market data writes at most half a second after a change.",
        json=True,
    )
    parser.add_argument("symbol", metavar="SYMBOL")
    _add_levels(parser)
    parser = add_command(
        commands,
        "watch",
        _watch,
        summary="Show a symbol's ladder and trades live, until Ctrl-C",
        details="Where the output is no terminal, each trade and quote is a line; with --json\n"
        "each message of the channels is one (docs/market-data.md).",
        json=True,
    )
    parser.add_argument("symbol", metavar="SYMBOL")
    _add_levels(parser)


def _add_levels(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--levels",
        type=positive_number,
        default=_LEVELS,
        metavar="N",
        help=f"per side (default: {_LEVELS})",
    )


def _symbols(args: argparse.Namespace) -> int:
    settings = settings_of(args)

    async def read() -> list[dict[str, object]]:
        async with connect(settings) as link:
            homes = await read_venue(settings, link)
            phases = await read_phases(link, shard_map(settings, link.url).shards)
        rows = []
        for home in homes.values():
            rules = home.rules
            lots, quote = DecimalGrid(rules.lot_size), DecimalGrid.of_scale(rules.quote_scale)
            prices = DecimalGrid(rules.tick_size)
            rows.append(
                {
                    "symbol": home.symbol,
                    "base": rules.base,
                    "quote": rules.quote,
                    "tick_size": rules.tick_size,
                    "lot_size": rules.lot_size,
                    "min_qty": lots.format(rules.min_qty_lots),
                    "max_qty": lots.format(rules.max_qty_lots),
                    "min_price": prices.format(rules.min_price_ticks),
                    "max_price": prices.format(rules.max_price_ticks),
                    "price_band_ppm": rules.band_ppm,
                    "price_band_action": "halt" if rules.band_halts else "reject",
                    "min_notional": quote.format(rules.min_notional),
                    "maker_fee_ppm": rules.maker_fee_ppm,
                    "taker_fee_ppm": rules.taker_fee_ppm,
                    "rules_version": rules.version,
                    "phase": phase_name(phases[home.symbol]) if home.symbol in phases else None,
                    "shard": home.shard,
                    "db": home.db,
                    "incarnation": home.incarnation,
                }
            )
        return rows

    rows = asyncio.run(read())
    if args.json:
        print_data(rows)
    elif rows:
        shown = [key for key in rows[0] if key not in ("base", "quote", "incarnation")]
        print_table(shown, [[_text(row[key]) for key in shown] for row in rows])
    return EXIT_OK


def _text(value: object) -> str:
    return "-" if value is None else str(value)


def _book(args: argparse.Namespace) -> int:
    settings = settings_of(args)
    check_symbol(settings, args.symbol)

    async def read() -> SnapshotMessage:
        async with connect(settings) as link:
            body = await link.call("GET", keys.md_snapshot(args.symbol))
        if body is None:
            raise CommandFailed(f"{args.symbol}: market data has not written a snapshot yet")
        return decode_snapshot(body)

    book = asyncio.run(read())
    bids, asks = book.bids[: args.levels], book.asks[: args.levels]
    if args.json:
        names = ("price", "qty", "orders")
        print_data(
            {
                "symbol": book.symbol,
                "seq": book.seq,
                "bids": [dict(zip(names, level, strict=True)) for level in bids],
                "asks": [dict(zip(names, level, strict=True)) for level in asks],
            }
        )
        return EXIT_OK
    print(f"{book.symbol} at seq {book.seq}")
    rows = [("ask", price, qty, str(orders)) for price, qty, orders in reversed(asks)]
    rows += [("bid", price, qty, str(orders)) for price, qty, orders in bids]
    print_table(("", "price", "quantity", "orders"), rows)
    return EXIT_OK


def _watch(args: argparse.Namespace) -> int:
    settings = settings_of(args)
    check_symbol(settings, args.symbol)
    run_until_signal(
        watch(
            find_redis(settings),
            args.symbol,
            levels=args.levels,
            as_json=args.json,
            terminal=Terminal(),
            timeout_ms=settings.redis.call_timeout_ms,
        )
    )
    return EXIT_OK


def check_symbol(settings: Settings, symbol: str) -> None:
    """Refuse a symbol that the venue has not.

    Raises:
        CommandFailed: it has not.
    """
    known = [one.name for one in settings.symbols]
    if symbol not in known:
        raise CommandFailed(f"{symbol}: no such symbol; there are {', '.join(known)}")
