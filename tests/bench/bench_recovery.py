"""What snapshots cost a shard, and how fast it is back: `python -m tests.bench.bench_recovery`.

A symbol with 100,000 resting orders of 1,000 accounts that have 100 done orders each.

- pause: how long the fork for a snapshot stops the shard; and what the first commands behind it
  cost more than others, because each page that they write to is copied once.
- restore: reading that snapshot until the shard could go on, its digest compared.
- replay: commands per second, from the journal through the engine's loop, of which half cross.
  Nothing of it is committed or journalled again.

Everything is checked: the digests after the child's snapshot, after restoring, after the replay.
"""

from __future__ import annotations

import asyncio
import gc
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import uvloop

from engine.commands import DefineSymbol, NewOrder, decode_command, encode_command
from engine.enums import OrdType, SelfTradePrevention, Side, TimeInForce
from engine.journal import Record
from engine.journal_file import JournalFile
from engine.journal_keys import hash_key
from engine.journal_reader import JournalReader
from engine.recovery import RecoverySource, restore
from engine.runner import ShardRunner
from engine.settlement import encode_settlement
from engine.shard import Shard, digest_of
from engine.snapshot import encode_snapshot
from engine.snapshot_keeper import SnapshotKeeper
from engine.snapshot_store import SnapshotStore
from tests.helpers import eventually_async
from tests.matching_world import SYMBOL, rules
from tests.unit.test_engine_snapshot_store import INCARNATION

RESTING = 100_000
ACCOUNTS = 1_000
DONE_PER_ACCOUNT = 100
REPLAYED = 100_000
AFTER = 2_000
RUNS = 5
WRITE_BATCH = 256
TIMEOUT_S = 300

_RULES = rules()
_MIDDLE_TICKS = 500


class Market:
    """Makes the commands of a symbol and applies them.

    Attributes:
        seq: Of the last one.
        records: As a journal has them; whoever needs the memory clears it.
    """

    def __init__(self, seed: int) -> None:
        self.shard = Shard()
        self.seq = 0
        self.records: list[Record] = []
        self._random = random.Random(seed)
        self._apply(encode_command(DefineSymbol(INCARNATION, _RULES)))

    def new(self, account: int, side: Side, price_ticks: int, qty_lots: int) -> None:
        """Apply a limit order."""
        self._apply(
            encode_command(
                NewOrder(
                    account=account,
                    session=account,
                    msg_seq_num=self.seq,
                    cl_ord_id=f"order-{self.seq:012d}-{self._random.getrandbits(64):016x}",
                    side=side,
                    ord_type=OrdType.LIMIT,
                    time_in_force=TimeInForce.GTC,
                    post_only=False,
                    stp=SelfTradePrevention.CANCEL_NEWEST,
                    price_ticks=price_ticks,
                    qty_lots=qty_lots,
                    rules_version=1,
                    reserved=_RULES.hold_of(side, price_ticks, qty_lots),
                )
            )
        )

    def pair(self) -> None:
        """Apply an order at the best price of its side, and one that fills exactly that."""
        maker, taker = self._random.sample(range(1, ACCOUNTS + 1), 2)
        qty_lots = self._random.randint(1, 50)
        self.new(maker, Side.BUY, _MIDDLE_TICKS, qty_lots)
        self.new(taker, Side.SELL, _MIDDLE_TICKS, qty_lots)

    def rest(self) -> None:
        """Apply an order that rests, most of them near the middle."""
        offset = 1 + min(int(self._random.expovariate(1 / 60)), _MIDDLE_TICKS - 2)
        side = self._random.choice((Side.BUY, Side.SELL))
        price_ticks = _MIDDLE_TICKS + (offset if side is Side.SELL else -offset)
        self.new(self._random.randint(1, ACCOUNTS), side, price_ticks, self._random.randint(1, 50))

    def _apply(self, data: bytes) -> None:
        self.seq += 1
        record = Record(SYMBOL, self.seq, 1_000 * self.seq, 0, data)
        self.records.append(record)
        applied = self.shard.apply(
            SYMBOL, record.seq, record.ts_ns // 1_000, decode_command(record.payload)
        )
        encode_settlement(applied)


class EndOfStream:
    """A stream of which everything but the end has been trimmed."""

    def __init__(self, last: int) -> None:
        self._last = last

    async def ends(self) -> Mapping[str, int]:
        """Return the last seq."""
        return {SYMBOL: self._last}

    async def firsts(self) -> Mapping[str, int]:
        """Return a seq behind the last: nothing is left."""
        return {SYMBOL: self._last + 1}

    def move_to(self, positions: Mapping[str, int]) -> None:
        """Check that the journal had all."""
        assert positions == {SYMBOL: self._last}, positions

    async def read_batch(self, count: int) -> list[Record]:
        """Wait for ever."""
        await asyncio.Event().wait()
        raise AssertionError("Invariant: an event that nobody sets is not set")


class NoJournal:
    """What must not be written to: everything is journalled already."""

    async def append(self, records: object) -> None:
        """Fail."""
        raise AssertionError("Invariant: nothing is journalled again")

    def add(self, records: object) -> None:
        """Fail."""
        raise AssertionError("Invariant: nothing is hashed again")


class NoCommitter:
    """What must not be committed to."""

    async def commit(self, batch: object) -> None:
        """Fail."""
        raise AssertionError("Invariant: nothing is committed again")


def build() -> Market:
    """Return the market that the module's docstring describes."""
    market = Market(seed=1)
    for _ in range(ACCOUNTS * DONE_PER_ACCOUNT // 2):
        market.pair()
    for _ in range(RESTING):
        market.rest()
    matcher = market.shard.matcher(SYMBOL)
    assert len(matcher.book.orders) == RESTING, "what rests does not cross"
    assert sum(len(one.done) for one in matcher.accounts.values()) == ACCOUNTS * DONE_PER_ACCOUNT
    return market


def timed_pairs(market: Market) -> float:
    """Apply pairs, and return the µs that one command took in the mean."""
    started_ns = time.perf_counter_ns()
    for _ in range(AFTER // 2):
        market.pair()
    return (time.perf_counter_ns() - started_ns) / 1_000 / AFTER


async def saves(market: Market, store: SnapshotStore) -> list[dict[str, float]]:
    """Save several times, with commands before and during each; return the figures of each."""
    keeper = SnapshotKeeper(
        market.shard,
        store,
        committed=lambda: {SYMBOL: market.seq},
        durable=lambda: {SYMBOL: market.seq},
        on_saved=_nothing,
        interval_s=TIMEOUT_S,
        inputs_min=1,
        timeout_s=TIMEOUT_S,
    )
    rows = []
    for _ in range(RUNS):
        before_us = timed_pairs(market)
        digest, seq = market.shard.state_hash(SYMBOL), market.seq
        started = time.perf_counter()
        saving = asyncio.create_task(keeper.save())
        await asyncio.sleep(0)  # it forks before it first waits
        after_us = timed_pairs(market)
        assert await saving, "the snapshot was saved"
        took_s = time.perf_counter() - started
        state = store.newest_good(SYMBOL, at_most=seq)
        assert state is not None
        assert digest_of(state.encode()) == digest, "it has what was there at the fork"
        del state
        gc.collect()
        pause_us = keeper.pause_us
        rows.append(
            {"pause_us": pause_us, "before_us": before_us, "after_us": after_us, "took_s": took_s}
        )
    return rows


async def _nothing(floors: Mapping[str, int]) -> None:
    """Be told of a save."""


def timed_restore(store: SnapshotStore, market: Market) -> float:
    """Return the seconds until a shard could go on."""
    started = time.perf_counter()
    shard = restore(store, {SYMBOL: market.seq})
    took_s = time.perf_counter() - started
    assert shard.position(SYMBOL) == market.seq, "the snapshot is of now"
    assert shard.state_hash(SYMBOL) == market.shard.state_hash(SYMBOL)
    del shard
    _forget()
    return took_s


def _forget() -> None:
    """Free a shard that was restored; an engine never does, so the collector passes it over."""
    gc.unfreeze()
    gc.collect()


async def timed_replay(store: SnapshotStore, market: Market, reader: JournalReader) -> float:
    """Return how many commands per second come back from the journal, behind the snapshot."""
    shard = restore(store, {SYMBOL: market.seq})
    positions = {SYMBOL: shard.position(SYMBOL)}
    count = market.seq - positions[SYMBOL]
    assert count == REPLAYED, "the snapshot is of the time before"
    runner = ShardRunner(
        shard=shard,
        source=RecoverySource({"own": reader}, EndOfStream(market.seq), positions),
        journal=NoJournal(),
        journalled={SYMBOL: market.seq, hash_key(SYMBOL): market.seq},
        skips={},
        committer=NoCommitter(),
        committed={SYMBOL: market.seq},
        keep_lease=_for_ever,
        now_ns=time.time_ns,
    )
    started = time.perf_counter()
    running = asyncio.create_task(runner.run())
    await eventually_async(lambda: runner.is_live or running.done(), TIMEOUT_S)
    rate = count / (time.perf_counter() - started)
    runner.stop()
    await running
    assert shard.state_hash(SYMBOL) == market.shard.state_hash(SYMBOL), "replay gives the same"
    return rate


async def _for_ever() -> None:
    await asyncio.Event().wait()


def write_journal(directory: Path, records: list[Record]) -> JournalReader:
    """Write a journal as an engine does, in batches."""
    file = JournalFile(
        directory,
        kind="commands",
        owner="shard-1",
        incarnations={SYMBOL: INCARNATION},
        keeps_positions=True,
        now_ns=time.time_ns,
    )
    for start in range(0, len(records), WRITE_BATCH):
        file.append(records[start : start + WRITE_BATCH])
    file.close()
    return JournalReader(directory)


async def measure(directory: Path) -> dict[str, float]:
    """Measure everything, print and return medians."""
    market = build()
    market.records.clear()  # an engine does not keep them: each page counts for a fork
    store = SnapshotStore(directory / "snapshots", {SYMBOL: INCARNATION})
    rows = await saves(market, store)
    found = {key: statistics.median(row[key] for row in rows) for key in rows[0]}
    found["pause_max_us"] = max(row["pause_us"] for row in rows)
    data = encode_snapshot(SYMBOL, market.shard.state(SYMBOL))
    store.write_new(SYMBOL, market.seq, data, writer=0)
    store.adopt({SYMBOL: market.seq}, writer=0)
    found["snapshot_bytes"] = len(data)
    found["restore_s"] = statistics.median(timed_restore(store, market) for _ in range(RUNS))
    market.records.clear()
    for _ in range(REPLAYED // 2):
        market.pair()
    reader = write_journal(directory / "journal", market.records)
    market.records.clear()
    rates = []
    for _ in range(RUNS):
        rates.append(await timed_replay(store, market, reader))
        _forget()
    found["replay_per_s"] = statistics.median(rates)
    return found


def main() -> dict[str, float]:
    """Measure, print and return the figures."""
    with tempfile.TemporaryDirectory() as directory:
        found = uvloop.run(measure(Path(directory)))
    print(
        f"{RESTING:,} resting orders, {ACCOUNTS * DONE_PER_ACCOUNT:,} done ones of {ACCOUNTS:,}"
        f" accounts, Python {sys.version.split()[0]}\n"
        f"snapshot: pause {found['pause_us'] / 1e3:.1f} ms (max {found['pause_max_us'] / 1e3:.1f}),"
        f" {found['snapshot_bytes']:,.0f} bytes written within {found['took_s']:.2f} s;"
        f" the {AFTER:,} commands behind the fork {found['after_us']:.1f} us each instead of"
        f" {found['before_us']:.1f}\n"
        f"restore: {found['restore_s']:.2f} s; replay: {found['replay_per_s']:,.0f} commands/s"
    )
    return found


if __name__ == "__main__":
    main()
