"""``shardex watch``: a symbol's ladder and tape, live, from the public channels alone."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import zip_longest

import msgspec

from engine.enums import Side
from marketdata.feed_codec import BboMessage, LevelText, Message, TradesMessage
from marketdata.replica import BboText, MarketReplica
from marketdata.subscriber import MarketSubscriber
from ops.terminal import Terminal

REDRAW_INTERVAL_S = 0.1

_BAR_WIDTH = 16


async def watch(
    url: str, symbol: str, *, levels: int, as_json: bool, terminal: Terminal, timeout_ms: int
) -> None:
    """Follow a symbol until cancelled.

    On a terminal the ladder is redrawn in place. Elsewhere, each trade and each best bid and offer
    is a line; with ``as_json`` each message of the channels is one, as it came.

    Args:
        url: the Redis server.
        levels: per side.
        timeout_ms: longest wait for a reply.

    Raises:
        DecodeError: what is published is of another version.
    """
    interactive = terminal.interactive and not as_json

    def show(message: Message) -> None:
        lines = [msgspec.json.encode(message).decode()] if as_json else message_lines(message)
        for line in lines:
            print(line)
        sys.stdout.flush()

    subscriber = MarketSubscriber(
        url,
        [symbol],
        on_message=(lambda message: None) if interactive else show,
        timeout_ms=timeout_ms,
    )
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(subscriber.run())
        if interactive:
            tasks.create_task(_redraw(subscriber, symbol, levels, terminal))
        elif not as_json:
            tasks.create_task(_say_joined(subscriber, symbol))


async def _say_joined(subscriber: MarketSubscriber, symbol: str) -> None:
    replica = subscriber.replicas[symbol]
    while not replica.joined:
        await subscriber.changed()
    print(f"{symbol} joined at seq {replica.seq}: {_quote(replica.bbo)}", flush=True)


async def _redraw(
    subscriber: MarketSubscriber, symbol: str, levels: int, terminal: Terminal
) -> None:
    terminal.show([f"{symbol}: waiting for a snapshot (market data must be running)"])
    while True:
        await subscriber.changed()
        terminal.show(ladder_lines(subscriber.replicas[symbol], levels))
        await asyncio.sleep(REDRAW_INTERVAL_S)


def message_lines(message: Message) -> list[str]:
    """Return the lines for a message where there is no terminal to draw on."""
    if isinstance(message, TradesMessage):
        return [
            f"{_time(message.ts)} {message.symbol} trade"
            f" {one.qty} @ {one.price} {one.side} {one.id}"
            for one in message.trades
        ]
    if isinstance(message, BboMessage):
        return [f"{_time(message.ts)} {message.symbol} {_quote(message)}"]
    return []


def _quote(bbo: BboMessage | BboText) -> str:
    bid = f"{bbo.bid_qty} @ {bbo.bid_price}" if bbo.bid_price else "-"
    ask = f"{bbo.ask_qty} @ {bbo.ask_price}" if bbo.ask_price else "-"
    return f"bid {bid}  ask {ask}"


def ladder_lines(replica: MarketReplica, levels: int) -> list[str]:
    """Return the ladder, worst ask on top, with the latest trades beside it, newest first."""
    asks = replica.levels(Side.SELL, levels)
    bids = replica.levels(Side.BUY, levels)
    largest = max((float(qty) for _, qty, _ in (*asks, *bids)), default=1.0)
    ladder = [*_side_lines(asks[::-1], largest), "-" * 30, *_side_lines(bids, largest)]
    tape = [f"{one.side:<4} {one.qty:>10} @ {one.price}" for one in reversed(replica.tape)]
    state = "" if replica.joined else "  (rejoining)"
    lines = [f"{replica.symbol}  seq {replica.seq}{state}", ""]
    lines.append(f"{'quantity':>12} {'price':>12} {'orders':>6}  {'':<{_BAR_WIDTH}}  trades")
    for left, right in zip_longest(ladder, tape[: len(ladder)], fillvalue=""):
        lines.append(f"{left:<{33 + _BAR_WIDTH}} {right}".rstrip())
    return lines


def _side_lines(levels: Sequence[LevelText], largest: float) -> list[str]:
    return [
        f"{qty:>12} {price:>12} {orders:>6}  {'█' * round(_BAR_WIDTH * float(qty) / largest)}"
        for price, qty, orders in levels
    ]


def _time(ts_us: int) -> str:
    second, rest_us = divmod(ts_us, 1_000_000)
    return f"{datetime.fromtimestamp(second, UTC):%H:%M:%S}.{rest_us // 1_000:03d}"
