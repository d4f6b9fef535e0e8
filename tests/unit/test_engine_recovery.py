"""engine.recovery: a restored shard, and a source that begins in journals where streams do not."""

from __future__ import annotations

import gc
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from engine.commands import decode_command
from engine.enums import Side
from engine.errors import JournalCorrupt, RecoveryGap
from engine.journal import Record
from engine.journal_file import JournalFile
from engine.journal_keys import hash_record
from engine.journal_reader import JournalReader, segment_paths
from engine.recovery import RecoverySource, restore
from engine.snapshot_store import SnapshotStore
from tests.matching_world import SYMBOL, World
from tests.router_helpers import ETH
from tests.unit.test_engine_snapshot_store import INCARNATION, flip, path_of, save, store_in


def record(symbol: str, seq: int) -> Record:
    return Record(symbol, seq, seq, 0, b"%s %d" % (symbol.encode(), seq))


def records(symbol: str, first: int, last: int) -> list[Record]:
    return [record(symbol, seq) for seq in range(first, last + 1)]


class MemoryStreams:
    """Streams that have been trimmed; `trims` are more trims, one for each question."""

    def __init__(self, **ranges: tuple[int, int]) -> None:
        self.firsts_of = {symbol: first for symbol, (first, _) in ranges.items()}
        self.ends_of = {symbol: last for symbol, (_, last) in ranges.items()}
        self.trims: list[dict[str, int]] = []
        self.positions: dict[str, int] | None = None

    async def ends(self) -> Mapping[str, int]:
        return self.ends_of

    async def firsts(self) -> Mapping[str, int]:
        if self.trims:
            self.firsts_of |= self.trims.pop(0)
        return self.firsts_of

    def move_to(self, positions: Mapping[str, int]) -> None:
        self.positions = dict(positions)

    async def read_batch(self, count: int) -> list[Record]:
        assert self.positions is not None, "nobody reads a stream before saying from where"
        batch: list[Record] = []
        for symbol, seq in self.positions.items():
            if seq < self.ends_of[symbol] and len(batch) < count:
                assert seq + 1 >= self.firsts_of[symbol], "what is trimmed is not asked for"
                self.positions[symbol] += 1
                batch.append(record(symbol, seq + 1))
        return batch


def journal(directory: Path, *batches: Sequence[Record], segment_bytes: int = 300) -> JournalReader:
    """Return a journal with these batches, in several segments."""
    file = JournalFile(
        directory,
        kind="commands",
        owner="shard-1",
        incarnations={},
        keeps_positions=True,
        now_ns=lambda: 1,
        segment_bytes_max=segment_bytes,
    )
    for batch in batches:
        for one in batch:
            file.append([one])
    file.close()
    return JournalReader(directory)


async def read_all(source: RecoverySource, count: int = 3) -> dict[str, list[int]]:
    """Read until nothing comes, and return the seqs of each symbol."""
    seqs: dict[str, list[int]] = {}
    while batch := await source.read_batch(count):
        assert len(batch) <= count
        for one in batch:
            assert one == record(one.key, one.seq)
            seqs.setdefault(one.key, []).append(one.seq)
    return seqs


async def test_stream_that_goes_far_enough_back_is_read_alone(tmp_path: Path) -> None:
    damaged = journal(tmp_path, records("A", 1, 9), segment_bytes=10_000)
    flip(segment_paths(tmp_path)[0], 120)
    source = RecoverySource({"own": damaged}, MemoryStreams(A=(6, 9)), {"A": 5})
    assert await source.ends() == {"A": 9}
    assert await read_all(source) == {"A": [6, 7, 8, 9]}


async def test_empty_stream_of_a_new_symbol_needs_no_journal() -> None:
    source = RecoverySource({}, MemoryStreams(A=(1, 0)), {"A": 0})
    assert await read_all(source) == {}


async def test_journal_fills_in_until_the_stream_takes_over(tmp_path: Path) -> None:
    mixed = [*records("A", 1, 5), *records("B", 1, 8), *records("A", 6, 9)]
    hashes = [hash_record("A", 1, [b"x"] * 9, 1)]
    reader = journal(tmp_path, mixed, hashes)
    source = RecoverySource({"own": reader}, MemoryStreams(A=(7, 12), B=(1, 9)), {"A": 2, "B": 6})
    assert await read_all(source) == {"A": list(range(3, 13)), "B": [7, 8, 9]}


async def test_second_journal_fills_in_what_the_first_one_lacks(tmp_path: Path) -> None:
    journals = {
        "own": journal(tmp_path / "own", records("A", 1, 4)),
        "other": journal(tmp_path / "other", records("A", 1, 9), records("B", 1, 9)),
    }
    source = RecoverySource(journals, MemoryStreams(A=(8, 9), B=(5, 9)), {"A": 0, "B": 2})
    assert await read_all(source) == {"A": list(range(1, 10)), "B": list(range(3, 10))}


async def test_stream_trimmed_meanwhile_sends_it_back_to_the_journals(tmp_path: Path) -> None:
    streams = MemoryStreams(A=(4, 20))
    streams.trims = [{}, {"A": 9}, {"A": 15}]
    reader = journal(tmp_path, records("A", 1, 18))
    assert await read_all(RecoverySource({"own": reader}, streams, {"A": 0})) == {
        "A": list(range(1, 21))
    }


async def test_gap_that_nothing_fills_is_named(tmp_path: Path) -> None:
    journals = {
        "engine-1": journal(tmp_path / "own", records("A", 1, 4)),
        "engine-1-standby": journal(tmp_path / "other", records("A", 1, 6), records("B", 1, 1)),
    }
    source = RecoverySource(journals, MemoryStreams(A=(9, 9), B=(1, 3)), {"A": 2, "B": 0})
    assert [one.seq for one in await source.read_batch(10)] == [3, 4]
    assert [one.seq for one in await source.read_batch(10)] == [5, 6]
    with pytest.raises(RecoveryGap) as raised:
        await source.read_batch(10)
    assert str(raised.value) == (
        "A: seq 7 is needed, the stream begins at 9, and no journal fills the gap"
        " (engine-1 ends at 4, engine-1-standby ends at 6)"
    )
    assert (raised.value.symbol, raised.value.expected_seq) == ("A", 7)
    assert raised.value.stream_first_seq == 9


async def test_gap_without_a_journal_is_named() -> None:
    source = RecoverySource({}, MemoryStreams(A=(9, 9)), {"A": 2})
    with pytest.raises(RecoveryGap, match=r"seq 3 is needed.* begins at 9.*\(there is none\)"):
        await source.read_batch(10)


async def test_journal_that_begins_too_late_does_not_help(tmp_path: Path) -> None:
    reader = journal(tmp_path, records("A", 5, 9))
    source = RecoverySource({"own": reader}, MemoryStreams(A=(8, 9)), {"A": 2})
    with pytest.raises(RecoveryGap, match="seq 3 is needed"):
        await source.read_batch(10)


async def test_damaged_journal_is_an_error_with_its_place(tmp_path: Path) -> None:
    reader = journal(tmp_path, records("A", 1, 9), segment_bytes=10_000)
    flip(segment_paths(tmp_path)[0], 120)
    source = RecoverySource({"own": reader}, MemoryStreams(A=(8, 9)), {"A": 0})
    with pytest.raises(JournalCorrupt, match="corrupt at byte"):
        await read_all(source)


def test_restores_the_newest_good_snapshot_of_each_symbol(tmp_path: Path) -> None:
    store, world = store_in(tmp_path), World()
    save(store, world, 5)
    older = world.shard.state_hash(SYMBOL)
    save(store, world, 9)
    newer = world.shard.state_hash(SYMBOL)

    shard = restore(store, {SYMBOL: 20})
    assert (shard.position(SYMBOL), shard.state_hash(SYMBOL)) == (9, newer)
    shard = restore(store, {SYMBOL: 8})
    assert (shard.position(SYMBOL), shard.state_hash(SYMBOL)) == (5, older)
    flip(path_of(tmp_path, 9), 100)
    assert restore(store, {SYMBOL: 20}).position(SYMBOL) == 5
    both = SnapshotStore(tmp_path, {SYMBOL: INCARNATION, ETH: INCARNATION})
    shard = restore(both, {SYMBOL: 20, ETH: 20})
    assert (shard.symbols(), shard.position(ETH)) == ([SYMBOL], 0)
    assert restore(store, {SYMBOL: 4}).symbols() == []
    assert gc.isenabled()


async def test_snapshot_and_journal_give_the_state_without_them(tmp_path: Path) -> None:
    store, world = store_in(tmp_path / "snapshots"), World()
    save(store, world, 30)
    for number in range(30, 60):
        world.new(2, f"s{number}", Side.SELL, 2, 50 + number % 3)
    entries = [
        Record(SYMBOL, seq, 1_000_000 * seq, 0, data)
        for seq, data in enumerate(world.commands, start=1)
    ]
    reader = journal(tmp_path / "journal", entries)
    shard = restore(store, {SYMBOL: 60})
    end = len(entries)
    streams = MemoryStreams(**{SYMBOL: (end + 1, end)})
    source = RecoverySource({"own": reader}, streams, {SYMBOL: shard.position(SYMBOL)})
    while batch := await source.read_batch(7):
        for one in batch:
            shard.apply(SYMBOL, one.seq, one.ts_ns // 1_000, decode_command(one.payload))
    assert shard.state_hash(SYMBOL) == world.shard.state_hash(SYMBOL)
