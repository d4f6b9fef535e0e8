"""Reads a venue and reconciles it: all of it by a replay, or what a single cut can show.

PostgreSQL is read first, then Redis at one moment (`venue_cut.lua`), then the streams up to that
moment, which never change. So the venue may trade on meanwhile, and PostgreSQL's positions are not
ahead of the cut. The replay stops at PostgreSQL's positions on its way and compares there.

Limits: the replay reads every orders stream from its first entry, some 25,000 entries a second (a
million orders: 40 s); in memory are the books, two copies of open orders and balances, and one bite
of a stream.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

import msgspec

from engine.commands import decode_command
from engine.errors import DecodeError
from engine.events import encode_output
from engine.instrument import SymbolRules
from ops.reconcile import (
    Amounts,
    Difference,
    Differences,
    Owner,
    Replay,
    add_reserved,
    add_transfers,
    check_balances,
    check_dense,
    check_ends,
    check_held,
    check_money,
    check_opens,
    check_pending,
    check_stored_balances,
    check_totals,
    expected_balances,
    without_holds,
)
from ops.settings import Settings
from persistence.stored import StoredState, read_stored_state
from router import keys
from router.dense_ids import entry_number, last_entry, last_number
from router.errors import StreamGap
from router.ledger import Balance
from router.open_orders import parse_open_order
from router.redis_client import RedisLink
from router.venue_cut import Extent, SymbolCut, VenueCut, read_entries, read_venue_cut

PUBLISH_WAIT_S = 5.0
"""How long outputs that were settled at the cut may take to be published: a moment in a running
venue; an engine that ended in between publishes them at its next start."""

_POLL_S = 0.02


class Reconciled(msgspec.Struct, frozen=True):
    """What was found, and how much was looked at.

    Attributes:
        differences: none means clean.
        settled: symbol → seq up to which its inputs were replayed.
        written: stream → PostgreSQL's position.
        unsettled: commands that were under way at the cut.
        accounts: how many, the fees' included.
        elapsed_s: how long it took.
    """

    differences: list[Difference]
    settled: dict[str, int]
    written: dict[str, int]
    unsettled: int
    accounts: int
    elapsed_s: float


async def reconcile_cut(link: RedisLink) -> list[Difference]:
    """Return what one cut through Redis shows, without a replay: it costs little, however old the
    venue is.

    Args:
        link: accounts database.

    Raises:
        RedisUnavailable: no reply.
        DecodeError: see ``read_venue_cut``.
    """
    found = Differences()
    await _check_cut(found, link, await read_venue_cut(link))
    return found.all()


async def reconcile(settings: Settings, link: RedisLink, postgres_url: str) -> Reconciled:
    """Reconcile streams, Redis and PostgreSQL.

    Args:
        link: accounts database.
        postgres_url: where the writer writes.

    Raises:
        RedisUnavailable, PostgresUnavailable: no reply.
        SchemaMismatch: PostgreSQL has no tables.
        DecodeError: see ``read_venue_cut``.
    """
    began_s = time.monotonic()
    stored = await read_stored_state(
        postgres_url, connect_timeout_s=settings.postgres.connect_timeout_s
    )
    cut = await read_venue_cut(link)
    found = Differences()
    await _check_cut(found, link, cut)
    await _Reconciliation(found, link, cut, stored).run()
    return Reconciled(
        differences=found.all(),
        settled={symbol: one.settled for symbol, one in cut.symbols.items()},
        written=stored.positions,
        unsettled=sum(max(0, one.orders.last - one.settled) for one in cut.symbols.values()),
        accounts=len(cut.balances),
        elapsed_s=round(time.monotonic() - began_s, 3),
    )


def amounts_of(balances: Mapping[int, Mapping[str, Balance]]) -> dict[Owner, Amounts]:
    """Return balances by account and asset."""
    return {
        (account, asset): (one.available, one.pending, one.held)
        for account, of in balances.items()
        for asset, one in of.items()
    }


def holds_of(
    opens: Mapping[int, Mapping[str, str]], rules: Mapping[str, SymbolRules]
) -> dict[Owner, int]:
    """Return what open orders hold, by account and asset.

    Raises:
        KeyError: an order's symbol has no rules.
        ValueError, TypeError: an order's text is not what it must be.
    """
    holds: dict[Owner, int] = {}
    for account, of in opens.items():
        for name, text in of.items():
            order = parse_open_order(text.encode())
            owner = account, rules[name.partition("|")[0]].hold_asset(order.side)
            holds[owner] = holds.get(owner, 0) + order.hold
    return holds


async def _check_cut(found: Differences, link: RedisLink, cut: VenueCut) -> None:
    """Check what needs no replay."""
    balances = amounts_of(cut.balances)
    check_money(found, balances, cut.totals)
    _check_holds(found, cut, balances)
    _check_extent(found, keys.LEDGER, cut.ledger, is_whole=True)
    for account, outbox in cut.outboxes.items():
        _check_extent(found, keys.outbox(account), outbox)
    for symbol in cut.homeless:
        found.add("home", symbol, "has been settled, but has no home")
    reserved: dict[Owner, int] = {}
    is_read = True
    for symbol, one in cut.symbols.items():
        _check_extent(found, keys.orders(symbol), one.orders, is_whole=True)
        _check_extent(found, keys.events(symbol), one.events)
        check_ends(
            found,
            symbol,
            admitted=one.orders.last,
            settled=one.settled,
            published=one.events.last,
        )
        is_read &= await _add_unsettled(found, link, symbol, one, reserved)
    if is_read:
        check_pending(found, balances, reserved)


def _check_extent(
    found: Differences, stream: str, extent: Extent, *, is_whole: bool = False
) -> None:
    check_dense(
        found,
        stream,
        first=extent.first,
        last=extent.last,
        length=extent.length,
        is_whole=is_whole,
    )


def _check_holds(found: Differences, cut: VenueCut, balances: Mapping[Owner, Amounts]) -> None:
    rules = {symbol: one.rules for symbol, one in cut.symbols.items()}
    readable: dict[int, dict[str, str]] = {}
    for account, of in cut.opens.items():
        for name, text in of.items():
            try:
                holds_of({account: {name: text}}, rules)
            except (KeyError, ValueError, TypeError):
                found.add("held", f"account {account} {name}", f"is no open order: {text}")
            else:
                readable.setdefault(account, {})[name] = text
    check_held(found, balances, holds_of(readable, rules))


async def _add_unsettled(
    found: Differences,
    link: RedisLink,
    symbol: str,
    cut: SymbolCut,
    reserved: dict[Owner, int],
) -> bool:
    """Add what a symbol's commands behind `settled` reserve; False if they are not all there."""
    key = keys.orders(symbol)
    async with link.sibling(cut.db) as shard_link:
        try:
            async for bite in read_entries(shard_link, key, cut.settled + 1, cut.orders.last):
                add_reserved(reserved, cut.rules, [values[0] for _, values in bite])
        except StreamGap as gap:
            _add_gap(found, gap)
            return False
        except DecodeError as error:
            found.add("replay", symbol, f"behind {cut.settled}: {error}")
            return False
    return True


class _Reconciliation:
    """The replay, and what is compared with it."""

    def __init__(
        self, found: Differences, link: RedisLink, cut: VenueCut, stored: StoredState
    ) -> None:
        self._found = found
        self._link = link
        self._cut = cut
        self._stored = stored
        self._replay = Replay()
        self._transfers: dict[Owner, int] = {}
        self._ledger_position = 0
        self._is_whole = True

    async def run(self) -> None:
        """Replay to PostgreSQL's positions, remember, replay to the cut, and compare."""
        found, cut, stored, replay = self._found, self._cut, self._stored, self._replay
        ends = {symbol: one.settled for symbol, one in cut.symbols.items()}
        ends[keys.LEDGER] = cut.ledger.last
        for stream, position in stored.positions.items():
            if position > ends.get(stream, 0):
                text = f"is {position}, afterwards the stream was at {ends.get(stream, 0)}"
                found.add("postgres position", stream, text)
        await self._advance({s: min(end, stored.positions.get(s, 0)) for s, end in ends.items()})
        owned = {owner: list(amounts) for owner, amounts in replay.owned.items()}
        opens = {account: dict(of) for account, of in replay.opens.items()}
        transfers = dict(self._transfers)
        if self._is_whole:
            await self._advance(ends)
        if not self._is_whole:
            found.add("replay", "balances and open orders", "cannot be compared without it")
            return
        check_stored_balances(found, stored.balances, expected_balances(owned, transfers))
        check_opens(found, "postgres open order", stored.opens, without_holds(opens))
        check_totals(found, self._transfers, cut.totals)
        expected = expected_balances(replay.owned, self._transfers)
        check_balances(found, amounts_of(cut.balances), expected)
        check_opens(found, "open order", cut.opens, replay.opens)
        for symbol, one in cut.symbols.items():
            if one.settled and one.bbo != (best := replay.best_prices(symbol)):
                found.add("best prices", symbol, f"are {one.bbo}, of the book {best}")

    async def _advance(self, ends: Mapping[str, int]) -> None:
        """Go on with each stream, up to and with an entry."""
        for stream, end in ends.items():
            try:
                if stream == keys.LEDGER:
                    await self._read_ledger(end)
                else:
                    await self._replay_symbol(stream, self._cut.symbols[stream], end)
            except StreamGap as gap:
                _add_gap(self._found, gap)
            except (AssertionError, DecodeError, ValueError) as error:
                seq = self._replay.shard.position(stream) + 1
                self._found.add("replay", stream, f"stops before {seq}: {error}")
            else:
                continue
            self._is_whole = False

    async def _read_ledger(self, end: int) -> None:
        first = self._ledger_position + 1
        async for bite in read_entries(self._link, keys.LEDGER, first, end):
            add_transfers(self._transfers, [values[0] for _, values in bite])
        self._ledger_position = end

    async def _replay_symbol(self, symbol: str, cut: SymbolCut, end: int) -> None:
        first = self._replay.shard.position(symbol) + 1
        async with self._link.sibling(cut.db) as link:
            published = await self._published(link, symbol, end)
            async for bite in read_entries(link, keys.orders(symbol), first, end):
                outputs = {}
                for seq, (command, stamp) in bite:
                    applied = self._replay.apply(symbol, seq, int(stamp), decode_command(command))
                    if seq <= published:
                        outputs[seq] = encode_output(applied.output)
                await self._compare_events(link, keys.events(symbol), outputs)

    async def _published(self, link: RedisLink, symbol: str, end: int) -> int:
        """Return how far a symbol's outputs are published, which is ``end`` after a moment."""
        deadline_s = time.monotonic() + PUBLISH_WAIT_S
        while True:
            published = last_number(await link.call(*last_entry(keys.events(symbol))))
            if published >= end:
                return published
            if time.monotonic() > deadline_s:
                text = (
                    f"end at {published}, settled is {end}: the engine has not published the rest"
                )
                self._found.add("events", keys.events(symbol), text)
                return published
            await asyncio.sleep(_POLL_S)

    async def _compare_events(
        self, link: RedisLink, key: str, outputs: Mapping[int, bytes]
    ) -> None:
        """Compare outputs with a stream's entries; below its first one they have been trimmed."""
        if not outputs:
            return
        wanted = min(outputs), max(outputs), "COUNT", len(outputs)
        entries = {n: fields for n, fields in await link.call("XRANGE", key, *wanted)}
        missing = [seq for seq in outputs if b"%d-0" % seq not in entries]
        # Read behind the entries: what was trimmed meanwhile must not seem to be missing.
        first = await link.call("XRANGE", key, "-", "+", "COUNT", 1) if missing else []
        for seq in missing:
            if first and seq > entry_number(first[0][0]):
                self._found.add("events", key, f"has no entry {seq}")
        for seq, output in outputs.items():
            fields = entries.get(b"%d-0" % seq)
            if fields is not None and fields != [b"e", output]:
                self._found.add("events", key, f"entry {seq} is not what its command gives")


def _add_gap(found: Differences, gap: StreamGap) -> None:
    found.add("dense", gap.key, f"expected entry {gap.expected}, found {gap.received or 'none'}")
