"""Reads a venue and reconciles it.

PostgreSQL's transaction begins first, then Redis is read at one moment (`venue_cut.lua`), then the
streams up to that moment, which never change. So the venue may trade on meanwhile, and PostgreSQL's
positions are not ahead of the cut. How the numbers of that moment are proved depends on what there
is:

- Replay: no stream of orders has been trimmed. Everything is recomputed from the first entries on,
  PostgreSQL at its own positions on the way.
- Snapshots: a stream has been trimmed. PostgreSQL and the outputs behind its positions must give
  what Redis has; and for each symbol the book is restored from the engines' newest good snapshot,
  the commands behind that are applied again, and their outputs, the open orders and the best prices
  must come out as they are. Where no snapshot can be read (another machine has them) the report
  says what was not checked.
- Journals (asked for): like the first, the commands coming from the engines' journals.

Each symbol's newest snapshot is checked in any case: what it and the commands behind it give is
what Redis has, or what all commands give. A damaged one is a difference although the engines have
an older one, or a journal: somebody has to look at that disk.

Limits. A replay applies some 25,000 entries a second (a million orders: 40 s) and has the books in
memory, two copies of open orders and balances, and one bite of a stream; from a journal, one
segment too; then one symbol's book again, from its snapshot. From snapshots it takes the commands
since they were made, and the outputs that PostgreSQL lacks; in memory is one symbol's book at a
time, and open orders and balances. What is trimmed while it is read makes it look again, at most
LOOKS_MAX times.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

import msgspec

from engine.errors import JournalCorrupt, JournalMismatch, SnapshotCorrupt
from engine.journal_reader import JournalReader, segment_paths
from engine.shard import SymbolState
from engine.snapshot_store import SnapshotStore
from ops.errors import CommandFailed
from ops.reconcile import (
    Difference,
    Differences,
    Opens,
    Owner,
    check_balances,
    check_opens,
    check_stored_balances,
    check_totals,
    expected_balances,
    without_holds,
)
from ops.reconcile_cut import amounts_of, check_cut
from ops.reconcile_replay import Behind, Holdings, Replay
from ops.reconcile_streams import Reading, StreamMoved, SymbolReading, read_journal
from ops.settings import Settings
from ops.wiring import journal_directory, snapshot_directory
from persistence.stored import stored_tables
from router import keys
from router.redis_client import RedisLink
from router.skips import Skips, read_skips
from router.venue_cut import SymbolCut, read_venue_cut

LOOKS_MAX = 5
"""Looks at a venue whose streams are trimmed while they are read; then what is gone is a
difference."""

BY_REPLAY = "replay from the first entry"
BY_SNAPSHOTS = "snapshots and PostgreSQL"
BY_JOURNALS = "journals"


class Reconciled(msgspec.Struct, frozen=True):
    """What was found, and how much was looked at.

    Attributes:
        differences: none means clean.
        proof: BY_REPLAY, BY_SNAPSHOTS or BY_JOURNALS.
        snapshots: symbol → seq of the snapshot of it that was checked, if there is any.
        unchecked: what this proof could not say, one line each.
        replayed: inputs that were applied again.
        settled: symbol → seq up to which its inputs were looked at.
        written: stream → PostgreSQL's position.
        unsettled: commands that were under way at the cut.
        accounts: how many, the fees' included.
        elapsed_s: how long it took.
    """

    differences: list[Difference]
    proof: str
    snapshots: dict[str, int]
    unchecked: list[str]
    replayed: int
    settled: dict[str, int]
    written: dict[str, int]
    unsettled: int
    accounts: int
    elapsed_s: float


async def reconcile(
    settings: Settings, link: RedisLink, postgres_url: str, *, full: bool = False
) -> Reconciled:
    """Reconcile streams, Redis and PostgreSQL.

    Args:
        link: accounts database.
        postgres_url: where the writer writes.
        full: replay the engines' journals, from the first command on.

    Raises:
        RedisUnavailable, PostgresUnavailable: no reply.
        SchemaMismatch: PostgreSQL has no tables.
        DecodeError: see ``read_venue_cut``.
        CommandFailed: ``full``, and the journals of a shard are not here.
    """
    began_s = time.monotonic()
    looks_left = LOOKS_MAX
    while True:
        looks_left -= 1
        look = _Look(settings, link, may_move=looks_left > 0)
        try:
            await look.run(postgres_url, full=full)
        except StreamMoved:
            continue
        return look.result(time.monotonic() - began_s)


class _Look:
    """One try: a cut, and what is compared with it."""

    def __init__(self, settings: Settings, link: RedisLink, *, may_move: bool) -> None:
        self._settings = settings
        self._link = link
        self._may_move = may_move
        self._found = Differences()
        self._proof = BY_REPLAY
        self._snapshots: dict[str, int] = {}
        self._unchecked: list[str] = []
        self._replayed = 0

    async def run(self, postgres_url: str, *, full: bool) -> None:
        """Look once.

        Raises:
            StreamMoved: what was needed has been trimmed meanwhile.
        """
        timeout_s = self._settings.postgres.connect_timeout_s
        behind: Behind | None = None
        async with stored_tables(postgres_url, connect_timeout_s=timeout_s) as tables:
            self._cut = cut = await read_venue_cut(self._link)
            self._reading = Reading(self._found, self._link, cut, may_move=self._may_move)
            if full:
                self._proof = BY_JOURNALS
            elif any(one.orders.first > 1 for one in cut.symbols.values()):
                self._proof = BY_SNAPSHOTS
                # At once, while Redis has them still.
                behind = await self._reading.behind(tables.positions)
            self._stored = await tables.read()
        position = self._stored.positions.get(keys.LEDGER, 0)
        self._transfers = await self._reading.transfers(position)
        await check_cut(self._found, self._link, cut)
        self._check_positions()
        if self._transfers is not None:
            check_totals(self._found, self._all_transfers(), cut.totals)
        self._skips = await self._read_skips()
        if self._proof == BY_SNAPSHOTS:
            await self._prove_by_snapshots(behind)
        else:
            replay = await self._prove_by_replay()
            for symbol, one in cut.symbols.items():
                await self._check_snapshot(symbol, one, replay)

    def result(self, elapsed_s: float) -> Reconciled:
        """Return what was found."""
        cut = self._cut
        return Reconciled(
            differences=self._found.all(),
            proof=self._proof,
            snapshots=self._snapshots,
            unchecked=self._unchecked,
            replayed=self._replayed,
            settled={symbol: one.settled for symbol, one in cut.symbols.items()},
            written=self._stored.positions,
            unsettled=sum(max(0, one.orders.last - one.settled) for one in cut.symbols.values()),
            accounts=len(cut.balances),
            elapsed_s=round(elapsed_s, 3),
        )

    def _check_positions(self) -> None:
        ends = {symbol: one.settled for symbol, one in self._cut.symbols.items()}
        ends[keys.LEDGER] = self._cut.ledger.last
        for stream, position in self._stored.positions.items():
            if position > ends.get(stream, 0):
                text = f"is {position}, afterwards the stream was at {ends.get(stream, 0)}"
                self._found.add("postgres position", stream, text)

    async def _read_skips(self) -> Skips:
        skips: Skips = {}
        for symbol, cut in self._cut.symbols.items():
            async with self._link.sibling(cut.db) as link:
                skips |= await read_skips(link, (symbol,))
        return skips

    # ------------------------------------------------------------ from the first command on

    async def _prove_by_replay(self) -> Replay:
        """Apply all commands, compare what they give with everything, and return it."""
        found, cut, stored = self._found, self._cut, self._stored
        replay, then = Replay(self._skips), Holdings()
        is_whole = await self._apply_all(replay, then)
        self._replayed = sum(map(replay.shard.position, cut.symbols))
        if not is_whole or self._transfers is None:
            found.add("replay", "balances and open orders", "cannot be compared without it")
            return replay
        check_stored_balances(
            found, stored.balances, expected_balances(then.owned, self._transfers[0])
        )
        check_opens(found, "postgres open order", stored.opens, without_holds(then.opens))
        expected = expected_balances(replay.owned, self._all_transfers())
        check_balances(found, amounts_of(cut.balances), expected)
        check_opens(found, "open order", cut.opens, replay.opens)
        for symbol in cut.symbols:
            self._check_best_prices(replay, symbol)
        return replay

    async def _apply_all(self, replay: Replay, then: Holdings) -> bool:
        """Apply the commands of all symbols; False where that was not possible."""
        is_whole = True
        shards: dict[tuple[int, int], list[str]] = {}
        for symbol, one in self._cut.symbols.items():
            shards.setdefault((one.shard, one.db), []).append(symbol)
        for (shard, db), symbols in shards.items():
            async with self._link.sibling(db) as link:
                readings = {
                    symbol: SymbolReading(
                        self._reading,
                        link,
                        symbol,
                        replay,
                        then=then,
                        stored=self._stored.positions.get(symbol, 0),
                    )
                    for symbol in symbols
                }
                if self._proof == BY_JOURNALS:
                    await self._read_journal(shard, readings)
                # What a journal lacks stands in the stream; without journals everything does.
                for reading in readings.values():
                    is_whole &= await reading.read_stream()
        return is_whole

    async def _read_journal(self, shard: int, readings: Mapping[str, SymbolReading]) -> None:
        """Apply the commands of that engine's journal of a shard that has most of them."""
        ends = {symbol: self._cut.symbols[symbol].settled for symbol in readings}
        journals = [journal_directory(self._settings, name) for name in keys.engine_names(shard)]
        journals = [journal for journal in journals if segment_paths(journal)]
        if not journals:
            names = " or ".join(keys.engine_names(shard))
            raise CommandFailed(f"shard {shard}: no journal {names} in {self._settings.var_dir}")

        def covered(journal: Path) -> int:
            try:
                positions = JournalReader(journal).positions()
            except (JournalCorrupt, JournalMismatch):
                return 0
            return sum(min(end, positions.get(symbol, 0)) for symbol, end in ends.items())

        await read_journal(self._found, max(journals, key=covered), readings, ends)

    # ------------------------------------------------------------ from snapshots

    async def _prove_by_snapshots(self, behind: Behind | None) -> None:
        """Compare PostgreSQL and what follows with Redis, and each symbol with its commands."""
        found, cut, stored = self._found, self._cut, self._stored
        if behind is None or self._transfers is None:
            found.add("replay", "balances", "cannot be compared without it")
        else:
            check_balances(
                found,
                amounts_of(cut.balances),
                behind.balances(stored.balances, self._transfers[1]),
                by="PostgreSQL and the outputs behind it",
            )
            check_opens(
                found,
                "postgres open order",
                behind.opens(stored.opens),
                without_holds(cut.opens),
                by="Redis",
            )
        for symbol, one in cut.symbols.items():
            if one.settled:
                await self._prove_symbol(symbol, one)

    async def _prove_symbol(self, symbol: str, cut: SymbolCut) -> None:
        """Apply what follows a snapshot, and compare outputs, open orders and best prices."""
        replay = Replay(self._skips)
        state = self._newest_snapshot(symbol, cut)
        if state is not None:
            if not self._is_restored(replay, symbol, state):
                return
        elif cut.orders.first > 1:
            self._unchecked.append(
                f"{symbol}: events and open orders against its commands: no snapshot of it that"
                f" its stream follows is under {self._settings.var_dir}"
            )
            return
        first = replay.shard.position(symbol)
        is_whole = await self._read_on(self._reading, symbol, cut, replay)
        self._replayed += replay.shard.position(symbol) - first
        if is_whole:
            check_opens(self._found, "open order", _of(symbol, self._cut.opens), replay.opens)
            self._check_best_prices(replay, symbol)

    async def _check_snapshot(self, symbol: str, cut: SymbolCut, all_applied: Replay) -> None:
        """Apply what follows a snapshot, and compare with what all commands have given."""
        replay = Replay(self._skips)
        state = self._newest_snapshot(symbol, cut)
        if state is None or not self._is_restored(replay, symbol, state):
            return
        # What is wrong with the stream, or with Redis, has been found already.
        reading = Reading(Differences(), self._link, self._cut, may_move=self._may_move)
        is_whole = await self._read_on(reading, symbol, cut, replay)
        if not is_whole or all_applied.shard.position(symbol) != cut.settled:
            return
        if replay.shard.state_hash(symbol) != all_applied.shard.state_hash(symbol):
            text = "and the commands behind it give another book than all commands do"
            self._found.add("snapshot", f"{symbol} at {self._snapshots[symbol]}", text)

    async def _read_on(self, reading: Reading, symbol: str, cut: SymbolCut, replay: Replay) -> bool:
        """Apply what follows in the symbol's stream; False where not all could be applied."""
        async with self._link.sibling(cut.db) as link:
            one = SymbolReading(reading, link, symbol, replay, then=Holdings(), stored=0)
            return await one.read_stream()

    def _is_restored(self, replay: Replay, symbol: str, state: SymbolState) -> bool:
        """Begin a replay with a snapshot, unless that contradicts itself."""
        self._snapshots[symbol] = state.seq
        try:
            replay.restore(symbol, state)
        except AssertionError as error:
            self._found.add("snapshot", f"{symbol} at {state.seq}", str(error))
            return False
        return True

    def _newest_snapshot(self, symbol: str, cut: SymbolCut) -> SymbolState | None:
        """Return the newest good one at or below the cut that the stream follows."""
        found: SymbolState | None = None
        for name in keys.engine_names(cut.shard):
            directory = snapshot_directory(self._settings, name)
            if directory.is_dir():
                store = SnapshotStore(directory, {symbol: cut.incarnation}, is_owner=False)
                state = store.newest_good(symbol, at_most=cut.settled)
                self._note_refused(store)
                if state is not None and (found is None or state.seq > found.seq):
                    found = state
        if found is not None and found.seq + 1 < cut.orders.first:
            return None
        return found

    def _note_refused(self, store: SnapshotStore) -> None:
        for path, error in store.refused.items():
            where = f"{path.parent.name}/{path.name}"
            if isinstance(error, SnapshotCorrupt):
                self._found.add("snapshot", where, str(error))
            elif path.exists():
                # Neither removed by its engine meanwhile, nor ours to judge.
                self._unchecked.append(f"snapshot {where}: {error}")

    def _all_transfers(self) -> dict[Owner, int]:
        assert self._transfers is not None, "Invariant: the ledger has been read"
        then, later = self._transfers
        transfers = dict(then)
        for name, amount in later.items():
            transfers[name] = transfers.get(name, 0) + amount
        return transfers

    def _check_best_prices(self, replay: Replay, symbol: str) -> None:
        cut = self._cut.symbols[symbol]
        if cut.settled and cut.bbo != (best := replay.best_prices(symbol)):
            self._found.add("best prices", symbol, f"are {cut.bbo}, of the book {best}")


def _of(symbol: str, opens: Opens) -> dict[int, dict[str, str]]:
    """Return the open orders of one symbol."""
    prefix = keys.open_field(symbol, "")
    return {
        account: {name: text for name, text in of.items() if name.startswith(prefix)}
        for account, of in opens.items()
    }
