"""Market data at the end of a torture, against the books that the engines' commands give."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from engine.book import LimitBook
from engine.commands import decode_command
from engine.enums import Side, TradingPhase
from engine.instrument import DecimalGrid
from engine.journal_keys import LEDGER
from engine.journal_reader import JournalReader
from engine.open_order import OpenOrder
from engine.shard import Shard
from marketdata.feed_codec import SnapshotMessage, decode_snapshot
from marketdata.replica import MarketReplica
from marketdata.subscriber import MarketSubscriber
from ops.journal_replay import choose_sources, journals_in
from ops.journal_replay_symbols import read_skips
from ops.private_venue import PrivateVenue
from ops.torture_books import Row, Subscription
from ops.torture_phases import Change, operators_change
from ops.torture_watcher import Watcher
from router import keys
from router.redis_client import RedisLink

SHOWN_MAX = 3
"""Differences of one kind that are shown in full."""

LEVELS_MAX = 100_000
FOLLOWED_WITHIN_S = 60.0
"""How long the last changes may take to reach a subscriber."""

_POLL_S = 0.1
_Sides = dict[Side, list[Row]]


class Replayed(NamedTuple):
    """Every symbol as its commands leave it, and the operator's changes of phase among them."""

    shard: Shard
    changes: dict[str, list[Change]]


def bounded(what: str, found: Iterable[object], count: int = 0) -> Iterator[str]:
    """Yield the first few, and how many more there are; ``count``: if not all were kept."""
    texts = sorted(map(str, found))
    for text in texts[:SHOWN_MAX]:
        yield f"{what}: {text}"
    more = max(count, len(texts)) - SHOWN_MAX
    if more > 0:
        yield f"{what}: {more:,} more"


def replay_commands(journals: Path) -> Replayed:
    """Apply all commands in the engines' journals."""
    sources, _ = choose_sources(journals_in(journals))
    by_journal: dict[Path, set[str]] = {}
    for key, journal in sources.items():
        by_journal.setdefault(journal, set()).add(key)
    shard, changes = Shard(), dict[str, list[Change]]()
    for journal, symbols in by_journal.items():
        skips = read_skips(JournalReader(journal))
        for record in JournalReader(journal):
            if record.key == LEDGER or record.key not in symbols:
                continue
            symbol, seq, ts_us = record.key, record.seq, record.ts_ns // 1_000
            reason = skips.get(symbol, {}).get(seq)
            if reason is not None:
                shard.skip(symbol, seq, ts_us, record.payload, reason)
                continue
            command = decode_command(record.payload)
            shard.apply(symbol, seq, ts_us, command)
            if (change := operators_change(seq, command)) is not None:
                changes.setdefault(symbol, []).append(change)
    return Replayed(shard, changes)


async def check_market_data(
    venue: PrivateVenue,
    link: RedisLink,
    shard: Shard,
    subscriber: MarketSubscriber,
    watchers: Sequence[Watcher],
) -> list[str]:
    """Compare all that subscribers see, and the snapshots, with what the commands make of it."""
    lines: list[str] = []
    for watcher in watchers:
        who, complaints = f"client {watcher.account}", watcher.complaints
        lines += bounded(f"{who} was told", complaints.wrong, complaints.wrong_count)
    deadline_s = time.monotonic() + FOLLOWED_WITHIN_S
    for symbol in venue.settings.symbols:
        name, tick = symbol.name, DecimalGrid(symbol.tick_size)
        matcher = shard.matcher(name)
        if matcher.phase is not TradingPhase.CONTINUOUS:
            lines.append(f"{name} is {matcher.phase.name} in the end")
        book = matcher.book
        while True:
            wrong = list(_unlike_book(name, book, tick, subscriber.replicas[name], watchers))
            if not wrong or time.monotonic() > deadline_s:
                break
            await asyncio.sleep(_POLL_S)
        lines += wrong
        data = await link.call("GET", keys.md_snapshot(name))
        snapshot = _of_snapshot(decode_snapshot(data))
        lines += bounded(f"{name}: snapshot", _unlike(snapshot, _levels(book, tick, LEVELS_MAX)))
    return lines


def _unlike_book(
    symbol: str,
    book: LimitBook[OpenOrder],
    tick: DecimalGrid,
    replica: MarketReplica,
    watchers: Sequence[Watcher],
) -> Iterator[str]:
    """Yield what followers of a symbol do not see as it is."""
    whole = _levels(book, tick, LEVELS_MAX)
    yield from bounded(f"{symbol}: subscriber", _unlike(_followed(replica), whole))
    for watcher in watchers:
        who = f"{symbol}: client {watcher.account}"
        if (phase := watcher.phases.get(symbol)) != TradingPhase.CONTINUOUS.name:
            yield f"{who} was told last of the phase {phase}"
        for one in watcher.subscriptions:
            seen = watcher.books[one.name, symbol]
            if not seen.is_known:
                yield f"{who}: no snapshot of {one.name}"
            sides = {side: seen.rows(side) for side in Side}
            expected = _as_subscribed(symbol, book, tick, one)
            yield from bounded(f"{who}, {one.name}", _unlike(sides, expected))


def _as_subscribed(
    symbol: str, book: LimitBook[OpenOrder], tick: DecimalGrid, one: Subscription
) -> _Sides:
    if not one.by_order:
        return _levels(book, tick, one.depth or LEVELS_MAX)
    sides: _Sides = {Side.BUY: [], Side.SELL: []}
    for order in book.by_priority():
        price, lots = tick.format(order.level.price_ticks), str(order.leaves_qty_lots)
        sides[order.side].append((f"{symbol}-{order.order_id}", price, lots))
    return sides


def _levels(book: LimitBook[OpenOrder], tick: DecimalGrid, depth: int) -> _Sides:
    """Return what a book shows, best first. Lots are whole units."""
    return {
        side: [
            (tick.format(price), str(lots), str(orders))
            for price, lots, orders in book.levels(side, depth)
        ]
        for side in Side
    }


def _followed(replica: MarketReplica) -> _Sides:
    return {
        side: [
            (price, lots, str(orders)) for price, lots, orders in replica.levels(side, LEVELS_MAX)
        ]
        for side in Side
    }


def _of_snapshot(snapshot: SnapshotMessage) -> _Sides:
    return {
        side: [(price, lots, str(orders)) for price, lots, orders in levels]
        for side, levels in ((Side.BUY, snapshot.bids), (Side.SELL, snapshot.asks))
    }


def _unlike(seen: Mapping[Side, list[Row]], expected: Mapping[Side, list[Row]]) -> Iterator[str]:
    """Yield rows that only one has; or, of the same rows, that their order differs."""
    for side, rows in expected.items():
        if seen[side] == rows:
            continue
        different = sorted({*rows} ^ {*seen[side]})
        for row in different:
            where = "the book" if row in rows else "market data"
            yield f"{side.name.lower()} {row} is in {where} only"
        if not different:
            yield f"{side.name.lower()} {rows} came as {seen[side]}"
