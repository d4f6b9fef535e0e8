"""What must hold when the torture is over and the venue at rest.

The venue's own `reconcile` and `audit`; what each client was told, against PostgreSQL, and its own
open orders as the venue lists them; copies, against originals; phases, against what was asked for;
market data as subscribers followed it, against the books that the engines' journals give;
PostgreSQL against what those journals alone say; what the processes logged. Each check yields
lines; none means right.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple, TypeVar

from engine.errors import ExchangeError
from marketdata.subscriber import MarketSubscriber
from ops.audit_journals import audit_journals
from ops.database_diff import diff_databases
from ops.journal_replay import replay_journal
from ops.journal_replay_into import replay_into
from ops.private_venue import PrivateVenue
from ops.reconcile_reader import reconcile
from ops.torture_copier import Copier
from ops.torture_market import bounded, check_market_data, replay_commands
from ops.torture_phases import PhaseOperator
from ops.torture_record import Record
from ops.torture_trader import Trader
from ops.torture_watcher import Watcher
from persistence.schema import create_database
from persistence.told import StoredFill, StoredOrder, StoredReports, read_reports
from router.redis_client import RedisLink

JOURNALS = "journals"
_REBUILT = "rebuilt"
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


class Witnesses(NamedTuple):
    """Who can say what has happened.

    Attributes:
        traders, copier: have logged out.
        watchers, subscriber: have followed all symbols, and still do.
        operator: has changed phases.
    """

    traders: list[Trader]
    copier: Copier
    watchers: list[Watcher]
    subscriber: MarketSubscriber
    operator: PhaseOperator


async def check_venue(
    venue: PrivateVenue, link: RedisLink, witnesses: Witnesses
) -> AsyncIterator[str]:
    """Yield what is wrong with a venue at rest.

    Args:
        link: accounts database.
    """
    url = venue.endpoints.postgres_url
    result = await reconcile(venue.settings, link, url)
    for line in bounded("reconcile", result.differences):
        yield line
    for trader in witnesses.traders:
        timeout_s = venue.settings.postgres.connect_timeout_s
        stored = await read_reports(url, trader.account, connect_timeout_s=timeout_s)
        for line in _check_trader(trader, stored):
            yield line
    for line in check_copier(witnesses.copier):
        yield line
    journals = venue.settings.var_dir / JOURNALS
    replayed = await asyncio.to_thread(replay_commands, journals)
    for line in witnesses.operator.check(replayed.changes):
        yield line
    for line in await check_market_data(
        venue, link, replayed.shard, witnesses.subscriber, witnesses.watchers
    ):
        yield line
    for line in await check_journals(venue):
        yield line
    for line in check_logs(venue.settings.var_dir):
        yield line


# ---------------------------------------------------------------- what clients were told


def _check_trader(trader: Trader, stored: StoredReports) -> Iterator[str]:
    who = f"client {trader.account}"
    yield from check_record(trader.account, trader.record, stored)
    yield from bounded(f"{who}: list", trader.record.lists.differences())
    yield from bounded(f"{who}: over a dead line", trader.unheard())


def check_record(account: int, record: Record, stored: StoredReports) -> Iterator[str]:
    """Yield how what a client was told differs from what is stored: each report, order and fill."""
    who = f"client {account}"
    if record.wrong_count:
        yield from bounded(f"{who} was told", record.wrong, record.wrong_count)
    yield from bounded(f"{who}: never answered", record.unanswered.items())
    own = re.compile(rf"{account}-\d+-R\d+")
    told = {one for one in record.exec_ids if not own.fullmatch(one)}
    yield from bounded(f"{who}: execution never told", stored.exec_ids - told)
    yield from bounded(f"{who}: execution that is not stored", told - stored.exec_ids)
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
        name: StoredFill(one.liquidity, Decimal(one.price), Decimal(one.quantity), Decimal(one.fee))
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
    yield from bounded(what, texts)


def check_copier(copier: Copier) -> Iterator[str]:
    """Yield how the copies of reports differ from the reports."""
    complaints = copier.complaints
    yield from bounded("drop copy", complaints.wrong, complaints.wrong_count)
    yield from bounded("drop copy", copier.differences())
    yield from bounded("drop copy: over a dead line", copier.unheard())


# ---------------------------------------------------------------- journals


async def check_journals(venue: PrivateVenue) -> list[str]:
    """Replay the engines' journals, rebuild the database from them, and compare it, row for row."""
    settings, live = venue.settings, venue.endpoints.postgres_url
    journals = settings.var_dir / JOURNALS
    replayed = await asyncio.to_thread(replay_journal, journals)
    lines = list(bounded("replay", replayed.differences))
    audited = await asyncio.to_thread(audit_journals, journals)
    lines += bounded("audit", audited.differences, audited.difference_count)
    if replayed.outputs_unhashed:
        lines.append(f"replay: {replayed.outputs_unhashed:,} outputs without a hash")
    timeout_s = settings.postgres.connect_timeout_s
    rebuilt = await create_database(live, _REBUILT, connect_timeout_s=timeout_s)
    try:
        done = await replay_into([journals], rebuilt, settings)
    except ExchangeError as error:
        return [*lines, f"rebuild: {error}"]
    lines += bounded("rebuild", done.differences)
    for table in await asyncio.to_thread(diff_databases, live, rebuilt):
        lines += bounded(f"rebuilt table {table.table}", table.first or [str(table)])
    return lines


# ---------------------------------------------------------------- logs


def check_logs(var_dir: Path) -> Iterator[str]:
    """Yield what the processes, and `up`, logged that must never happen."""
    for path in sorted([*(var_dir / "log").glob("*.log"), var_dir.parent / "up.log"]):
        found = [
            line for line in path.read_text(errors="replace").splitlines() if _BUGS.search(line)
        ]
        yield from bounded(f"{path.name}", found)
