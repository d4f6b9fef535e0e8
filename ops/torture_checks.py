"""What must hold when the torture is over and the venue at rest.

The venue's own `reconcile`; what each client was told, against PostgreSQL; market data as a
subscriber followed it, against the books that the engines' journals give; PostgreSQL against what
those journals alone say; what the processes logged. Each check yields lines; none means right.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import TypeVar

from engine.book import LimitBook
from engine.commands import decode_command
from engine.enums import Side
from engine.errors import ExchangeError
from engine.instrument import DecimalGrid
from engine.journal_keys import LEDGER
from engine.journal_reader import JournalReader
from engine.open_order import OpenOrder
from engine.shard import Shard
from marketdata.feed_codec import LevelText, SnapshotMessage, decode_snapshot
from marketdata.replica import MarketReplica
from marketdata.subscriber import MarketSubscriber
from ops.database_diff import diff_databases
from ops.journal_replay import choose_sources, journals_in, replay_journal
from ops.journal_replay_into import replay_into
from ops.journal_replay_symbols import read_skips
from ops.private_venue import PrivateVenue
from ops.reconcile_reader import reconcile
from ops.torture_record import Record
from ops.torture_trader import Trader
from persistence.schema import create_database
from persistence.told import StoredFill, StoredOrder, StoredReports, read_reports
from router import keys
from router.redis_client import RedisLink

SHOWN_MAX = 3
"""Differences of one kind that are shown in full."""

LEVELS_MAX = 100_000
REPLICA_WAIT_S = 10.0
"""How long the last increments may take to reach a subscriber."""

JOURNALS = "journals"
_REBUILT = "rebuilt"
_POLL_S = 0.1
_Name = TypeVar("_Name")
_STATUSES = {
    "0": "new",
    "1": "partially_filled",
    "2": "filled",
    "4": "canceled",
    "8": "rejected",
    "C": "expired",
}
_BUGS = re.compile(
    r"stopped by a bug|Traceback \(most recent call last\)|AssertionError|Invariant: "
    r"|never retrieved|ALARM reconcile"
)


async def check_venue(
    venue: PrivateVenue, link: RedisLink, traders: list[Trader], subscriber: MarketSubscriber
) -> AsyncIterator[str]:
    """Yield what is wrong with a venue at rest, whose traders have logged out.

    Args:
        link: accounts database.
        traders: who have logged out.
        subscriber: who has followed all symbols, and still does.
    """
    url = venue.endpoints.postgres_url
    result = await reconcile(venue.settings, link, url)
    for line in _bounded("reconcile", result.differences):
        yield line
    for trader in traders:
        timeout_s = venue.settings.postgres.connect_timeout_s
        stored = await read_reports(url, trader.account, connect_timeout_s=timeout_s)
        for line in check_record(trader.account, trader.record, stored):
            yield line
        for line in _bounded(f"client {trader.account}: over a dead line", trader.unheard()):
            yield line
    for line in await _check_market_data(venue, link, subscriber):
        yield line
    for line in await check_journals(venue):
        yield line
    for line in check_logs(venue.settings.var_dir):
        yield line


# ---------------------------------------------------------------- what clients were told


def check_record(account: int, record: Record, stored: StoredReports) -> Iterator[str]:
    """Yield how what a client was told differs from what is stored: each report, order and fill."""
    who = f"client {account}"
    if record.wrong_count:
        yield from _bounded(f"{who} was told", record.wrong, record.wrong_count)
    yield from _bounded(f"{who}: never answered", record.unanswered.items())
    own = re.compile(rf"{account}-\d+-R\d+")
    told = {one for one in record.exec_ids if not own.fullmatch(one)}
    yield from _bounded(f"{who}: execution never told", stored.exec_ids - told)
    yield from _bounded(f"{who}: execution that is not stored", told - stored.exec_ids)
    if record.cancel_rejects < stored.cancel_rejects:
        yield (
            f"{who}: {stored.cancel_rejects} cancels were refused,"
            f" {record.cancel_rejects} such answers came"
        )
    orders = {
        order_id: StoredOrder(
            one.cl_ord_id, _STATUSES[one.status], Decimal(one.cum), Decimal(one.leaves)
        )
        for order_id, one in record.orders.items()
    }
    yield from _compared(f"{who}: order", orders, stored.orders)
    fills = {
        name: StoredFill(
            one.side.name.lower(), Decimal(one.price), Decimal(one.quantity), Decimal(one.fee)
        )
        for name, one in record.fills.items()
    }
    yield from _compared(f"{who}: fill", fills, stored.fills)


def _compared(
    what: str, told: Mapping[_Name, object], stored: Mapping[_Name, object]
) -> Iterator[str]:
    if told == stored:
        return
    names = [name for name in {**told, **stored} if told.get(name) != stored.get(name)]
    texts = [f"{name}: told {told.get(name)}, stored {stored.get(name)}" for name in names]
    yield from _bounded(what, texts)


def _bounded(what: str, found: Iterable[object], count: int = 0) -> Iterator[str]:
    """Yield the first few, and how many more there are; ``count``: if not all were kept."""
    texts = sorted(map(str, found))
    for text in texts[:SHOWN_MAX]:
        yield f"{what}: {text}"
    more = max(count, len(texts)) - SHOWN_MAX
    if more > 0:
        yield f"{what}: {more:,} more"


# ---------------------------------------------------------------- market data


async def _check_market_data(
    venue: PrivateVenue, link: RedisLink, subscriber: MarketSubscriber
) -> list[str]:
    """Compare a subscriber's books, and the snapshots, with what the commands make of them."""
    shard = await asyncio.to_thread(_shard_of, venue.settings.var_dir / JOURNALS)
    lines: list[str] = []
    for symbol in venue.settings.symbols:
        book = _levels(shard.matcher(symbol.name).book, DecimalGrid(symbol.tick_size))
        replica = subscriber.replicas[symbol.name]
        deadline_s = time.monotonic() + REPLICA_WAIT_S
        followed = _followed(replica)
        while followed != book and time.monotonic() < deadline_s:
            await asyncio.sleep(_POLL_S)
            followed = _followed(replica)
        if followed != book:
            lines += _bounded(f"{symbol.name}: subscriber", _unlike(followed, book))
        data = await link.call("GET", keys.md_snapshot(symbol.name))
        snapshot = _of_snapshot(decode_snapshot(data))
        if snapshot != book:
            lines += _bounded(f"{symbol.name}: snapshot", _unlike(snapshot, book))
    return lines


def _shard_of(journals: Path) -> Shard:
    """Return every symbol as the commands in the engines' journals leave it."""
    sources, _ = choose_sources(journals_in(journals))
    by_journal: dict[Path, set[str]] = {}
    for key, journal in sources.items():
        by_journal.setdefault(journal, set()).add(key)
    shard = Shard()
    for journal, symbols in by_journal.items():
        skips = read_skips(JournalReader(journal))
        for record in JournalReader(journal):
            if record.key == LEDGER or record.key not in symbols:
                continue
            symbol, seq, ts_us = record.key, record.seq, record.ts_ns // 1_000
            reason = skips.get(symbol, {}).get(seq)
            if reason is None:
                shard.apply(symbol, seq, ts_us, decode_command(record.payload))
            else:
                shard.skip(symbol, seq, ts_us, record.payload, reason)
    return shard


def _levels(book: LimitBook[OpenOrder], tick: DecimalGrid) -> dict[Side, list[LevelText]]:
    """Return what a book shows, best first. Lots are whole units."""
    return {
        side: [
            (tick.format(price), str(lots), orders)
            for price, lots, orders in book.levels(side, LEVELS_MAX)
        ]
        for side in (Side.BUY, Side.SELL)
    }


def _followed(replica: MarketReplica) -> dict[Side, list[LevelText]]:
    return {side: replica.levels(side, LEVELS_MAX) for side in (Side.BUY, Side.SELL)}


def _of_snapshot(snapshot: SnapshotMessage) -> dict[Side, list[LevelText]]:
    return {Side.BUY: snapshot.bids, Side.SELL: snapshot.asks}


def _unlike(seen: dict[Side, list[LevelText]], book: dict[Side, list[LevelText]]) -> Iterator[str]:
    for side, levels in book.items():
        for level in sorted({*levels} ^ {*seen[side]}):
            where = "the book" if level in levels else "market data"
            yield f"{side.name.lower()} {level} is in {where} only"


# ---------------------------------------------------------------- journals


async def check_journals(venue: PrivateVenue) -> list[str]:
    """Replay the engines' journals, rebuild the database from them, and compare it, row for row."""
    settings, live = venue.settings, venue.endpoints.postgres_url
    journals = settings.var_dir / JOURNALS
    replayed = await asyncio.to_thread(replay_journal, journals)
    lines = list(_bounded("replay", replayed.differences))
    if replayed.outputs_unhashed:
        lines.append(f"replay: {replayed.outputs_unhashed:,} outputs without a hash")
    timeout_s = settings.postgres.connect_timeout_s
    rebuilt = await create_database(live, _REBUILT, connect_timeout_s=timeout_s)
    try:
        done = await replay_into([journals], rebuilt, settings)
    except ExchangeError as error:
        return [*lines, f"rebuild: {error}"]
    lines += _bounded("rebuild", done.differences)
    for table in await asyncio.to_thread(diff_databases, live, rebuilt):
        lines += _bounded(f"rebuilt table {table.table}", table.first or [str(table)])
    return lines


# ---------------------------------------------------------------- logs


def check_logs(var_dir: Path) -> Iterator[str]:
    """Yield what the processes, and `up`, logged that must never happen."""
    for path in sorted([*(var_dir / "log").glob("*.log"), var_dir.parent / "up.log"]):
        found = [
            line for line in path.read_text(errors="replace").splitlines() if _BUGS.search(line)
        ]
        yield from _bounded(f"{path.name}", found)
