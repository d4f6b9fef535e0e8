"""The shard's loop over ports in memory: what may overlap, what waits, what stops it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import pytest

from engine import runner
from engine.commands import Command, decode_command
from engine.errors import PoisonCommand, SequenceGap
from engine.events import Skipped, decode_output, encode_output
from engine.journal import Record
from engine.journal_keys import digest_of, hash_key, skip_key
from engine.limits import RING_SLOTS
from engine.settlement import encode_settlement
from engine.shard import Applied, Shard
from tests.helpers import DEADLINE_S
from tests.router_helpers import BTC, ETH
from tests.runner_world import START_NS, LeaseLost, World, define, history, order


async def test_commands_are_journalled_matched_and_committed_in_order() -> None:
    world = World()
    records = history(8)
    world.source.feed(*records)

    async with world.running():
        await world.until(lambda: len(world.committer.seqs) == len(records))

    assert world.journal.commands() == records
    assert world.committer.seqs == [(one.key, one.seq) for one in records]
    outputs = [decode_output(one.event) for batch in world.committer.batches for one in batch]
    assert [output.ts_us for output in outputs] == [one.ts_ns // 1_000 for one in records]
    accounts = [[account for account, _ in one.reports()] for one in world.committer.batches[-1]]
    assert accounts[-1] == [2, 1]


async def test_commit_waits_for_the_journal_and_matching_does_not() -> None:
    world = World()
    world.journal.open.clear()
    world.source.feed(*history(4))

    async with world.running():
        await world.until(lambda: world.runner.counters()["applied"] == 6)
        assert world.committer.calls == 0
        world.journal.open.set()
        await world.until(lambda: len(world.committer.seqs) == 6)


async def test_reading_journalling_and_matching_go_on_during_a_commit() -> None:
    world = World()
    world.committer.open.clear()
    records = history(40)
    world.source.feed(*records[:2])

    async with world.running():
        await world.until(lambda: world.committer.calls == 1)
        world.source.feed(*records[2:])
        await world.until(lambda: len(world.journal.commands()) == len(records))
        await world.until(lambda: world.runner.counters()["applied"] == len(records))
        assert world.committer.seqs == []
        world.committer.open.set()
        await world.until(lambda: len(world.committer.seqs) == len(records))

    assert len(world.committer.batches) == 2


async def test_start_passes_over_what_is_journalled_and_committed() -> None:
    records = history(12)
    world = World(journalled={BTC: 4, ETH: 2}, committed={BTC: 3, ETH: 5})
    world.source.feed(*records)

    async with world.running():
        await world.until(lambda: world.runner.is_live)
        await world.until(lambda: world.runner.committed[BTC] == 7)
        await world.until(lambda: world.runner.committed[ETH] == 7)

    past_journal = {BTC: 4, ETH: 2}
    past_commit = {BTC: 3, ETH: 5}
    assert world.journal.commands() == [r for r in records if r.seq > past_journal[r.key]]
    assert world.committer.seqs == [(r.key, r.seq) for r in records if r.seq > past_commit[r.key]]


@pytest.mark.parametrize("cut", [1, 3, 1_000])
async def test_outputs_are_the_same_bytes_however_batches_are_cut(cut: int) -> None:
    records = history(60)
    whole, cut_up = World(), World(cut=cut)
    for world in (whole, cut_up):
        world.source.feed(*records)
        async with world.running():
            await world.until(lambda world=world: len(world.committer.seqs) == len(records))

    flat = [
        [one for batch in world.committer.batches for one in batch] for world in (whole, cut_up)
    ]
    assert flat[0] == flat[1]
    assert whole.shard.state_hash(BTC) == cut_up.shard.state_hash(BTC)


async def test_journal_has_the_hash_of_every_output_before_it_is_committed() -> None:
    world = World()
    world.committer.open.clear()
    records = history(20)
    world.source.feed(*records[:7])

    async with world.running():
        await world.until(lambda: world.committer.calls == 1)
        assert sum(one.last - one.first + 1 for _, one in world.journal.hashes()) == 7
        world.source.feed(*records[7:])
        world.committer.open.set()
        await world.until(lambda: len(world.committer.seqs) == len(records))

    check_hashes(world, {BTC: 1, ETH: 1})


async def test_hashes_that_the_journal_lacks_are_made_again_and_only_those() -> None:
    records = history(20)
    # The journal says less about BTC than is committed, and more about ETH.
    journalled = {BTC: 11, ETH: 11, hash_key(BTC): 4, hash_key(ETH): 9}
    world = World(journalled=journalled, committed={BTC: 8, ETH: 6})
    world.source.feed(*records)

    async with world.running():
        await world.until(lambda: world.runner.committed == {BTC: 11, ETH: 11})

    check_hashes(world, {BTC: 5, ETH: 10})
    past = {BTC: 8, ETH: 6}
    assert world.committer.seqs == [(r.key, r.seq) for r in records if r.seq > past[r.key]]


def check_hashes(world: World, first: Mapping[str, int]) -> None:
    """The journal's hashes are of the outputs from ``first`` on, without a gap, to the last."""
    shard = Shard()
    outputs = {
        (one.key, one.seq): encode_settlement(
            shard.apply(one.key, one.seq, one.ts_ns // 1_000, decode_command(one.payload))
        ).event
        for one in world.source.records
    }
    following = dict(first)
    for symbol, one in world.journal.hashes():
        assert one.first == following[symbol]
        covered = [outputs[symbol, seq] for seq in range(one.first, one.last + 1)]
        assert one.digest == digest_of(covered)
        following[symbol] = one.last + 1
    assert following == {symbol: shard.position(symbol) + 1 for symbol in first}


async def test_restored_shard_goes_on_behind_its_position() -> None:
    records = history(20)
    whole = World()
    whole.source.feed(*records)
    async with whole.running():
        await whole.until(lambda: len(whole.committer.seqs) == len(records))
    world = World(committed={BTC: 5, ETH: 5})
    restored = [one for one in records if one.seq <= 5]
    for one in restored:
        world.shard.apply(one.key, one.seq, one.ts_ns // 1_000, decode_command(one.payload))
    world.restart()
    world.source.feed(*(one for one in records if one.seq > 5))

    async with world.running():
        await world.until(lambda: world.runner.committed == {BTC: 11, ETH: 11})

    assert world.shard.state_hash(BTC) == whole.shard.state_hash(BTC)
    assert world.committer.seqs == [(r.key, r.seq) for r in records if r.seq > 5]


async def test_poison_command_stops_the_shard_and_names_itself() -> None:
    world = World()
    stranger = order(ETH, 1)
    world.source.feed(define(BTC), order(BTC, 2), stranger)

    with pytest.raises(PoisonCommand, match=f"{ETH} seq 1") as caught:
        await world.runner.run()

    assert (caught.value.symbol, caught.value.seq) == (ETH, 1)
    assert (ETH, 1) not in world.committer.seqs


async def test_what_came_before_a_poison_command_is_committed_and_nothing_behind_it() -> None:
    world = World()
    broken = Record(BTC, 3, START_NS + 3_000, 0, b"garbage")
    world.source.feed(
        define(BTC), define(ETH), order(BTC, 2), order(ETH, 2), broken, order(ETH, 3), order(BTC, 4)
    )

    with pytest.raises(PoisonCommand, match=f"{BTC} seq 3"):
        await world.runner.run()

    assert world.committer.seqs == [(BTC, 1), (ETH, 1), (BTC, 2), (ETH, 2)]
    assert {one.last for symbol, one in world.journal.hashes() if symbol == BTC} == {2}


async def test_command_that_does_not_decode_is_poison_too() -> None:
    world = World()
    world.source.feed(define(BTC), Record(BTC, 2, START_NS + 2_000, 0, b"garbage"))

    with pytest.raises(PoisonCommand, match=f"{BTC} seq 2"):
        await world.runner.run()


async def test_bug_that_no_assertion_has_foreseen_names_its_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    apply = Shard.apply

    def stumble(shard: Shard, symbol: str, seq: int, ts_us: int, command: Command) -> Applied:
        if seq == 3:
            raise KeyError(seq)
        return apply(shard, symbol, seq, ts_us, command)

    monkeypatch.setattr(Shard, "apply", stumble)
    world = World()
    world.source.feed(define(BTC), order(BTC, 2), order(BTC, 3))

    with pytest.raises(PoisonCommand, match=f"{BTC} seq 3 cannot be applied: KeyError: 3"):
        await world.runner.run()


async def test_missing_command_is_no_poison() -> None:
    world = World()
    world.source.feed(define(BTC), order(BTC, 3))

    with pytest.raises(SequenceGap):
        await world.runner.run()


async def test_lost_lease_ends_the_run_even_during_a_commit() -> None:
    world = World()
    world.committer.open.clear()
    world.source.feed(*history(4))
    run = asyncio.create_task(world.runner.run())
    await world.until(lambda: world.committer.calls == 1)

    world.lease_lost.set()

    with pytest.raises(LeaseLost):
        await run
    assert world.committer.seqs == []


async def test_shard_has_rebuilt_once_all_that_was_committed_is_applied_again() -> None:
    world = World(committed={BTC: 4, ETH: 2})
    records = history(12)
    world.source.feed(*records[:4])

    async with world.running():
        await world.until(lambda: world.runner.is_live)
        assert not world.runner.has_rebuilt
        world.source.feed(*records[4:])
        await world.until(lambda: world.runner.has_rebuilt)


async def test_skipped_input_is_passed_over_and_the_rest_goes_on() -> None:
    world = World(skips={BTC: {2: "broken"}})
    world.source.feed(
        define(BTC), Record(BTC, 2, START_NS + 2_000, 0, b"garbage"), order(BTC, 3), define(ETH)
    )

    async with world.running():
        await world.until(lambda: len(world.committer.seqs) == 4)

    outputs = [decode_output(one.event) for batch in world.committer.batches for one in batch]
    assert [type(event) for event in outputs[1].events] == [Skipped]
    check_hashes_of(world, BTC, [encode_output(one) for one in outputs if one.symbol == BTC])
    [skip] = [one for one in world.journal.records if one.key == skip_key(BTC)]
    assert (skip.seq, skip.payload) == (2, b"broken")


async def test_skip_of_an_input_whose_outcome_was_hashed_before_is_journalled_too() -> None:
    world = World(journalled={BTC: 2, hash_key(BTC): 2}, skips={BTC: {2: "by hand"}})
    world.source.feed(define(BTC), order(BTC, 2))

    async with world.running():
        await world.until(lambda: len(world.committer.seqs) == 2)

    assert [(one.key, one.seq) for one in world.journal.records] == [(skip_key(BTC), 2)]


async def test_skip_that_the_journal_has_is_not_written_again() -> None:
    journalled = {BTC: 3, hash_key(BTC): 1, skip_key(BTC): 2}
    world = World(journalled=journalled, skips={BTC: {2: "broken"}})
    world.source.feed(define(BTC), Record(BTC, 2, START_NS + 2_000, 0, b"garbage"), order(BTC, 3))

    async with world.running():
        await world.until(lambda: len(world.committer.seqs) == 3)

    assert not [one for one in world.journal.records if one.key == skip_key(BTC)]


def check_hashes_of(world: World, symbol: str, outputs: Sequence[bytes]) -> None:
    for name, one in world.journal.hashes():
        if name == symbol:
            assert one.digest == digest_of(outputs[one.first - 1 : one.last])


async def test_refused_journal_writes_are_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "JOURNAL_RETRY_DELAY_S", 0)
    world = World()
    world.journal.refusals = 3
    records = history(4)
    world.source.feed(*records)

    async with world.running():
        await world.until(lambda: len(world.committer.seqs) == len(records))

    assert world.journal.commands() == records


async def test_full_ring_stops_reading_and_loses_nothing() -> None:
    world = World(cut=500)
    world.committer.open.clear()
    records = history(RING_SLOTS + 1_000)
    world.source.feed(*records)

    async with world.running():
        await world.until(lambda: world.committer.calls == 1)
        await world.until(lambda: world.runner.counters()["ring_used"] > RING_SLOTS - 600)
        assert len(world.journal.commands()) <= RING_SLOTS
        world.committer.open.set()
        await world.until(lambda: len(world.committer.seqs) == len(records))

    assert world.committer.seqs == [(one.key, one.seq) for one in records]


async def test_stop_commits_what_was_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "DRAIN_TIMEOUT_S", DEADLINE_S)
    world = World()
    world.committer.open.clear()
    world.source.feed(*history(10))
    run = asyncio.create_task(world.runner.run())
    await world.until(lambda: world.committer.calls == 1)

    world.runner.stop()
    world.committer.open.set()
    await run

    assert len(world.committer.seqs) == 12


async def test_stop_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "DRAIN_TIMEOUT_S", 0.05)
    world = World()
    world.committer.open.clear()
    world.source.feed(*history(10))
    run = asyncio.create_task(world.runner.run())
    await world.until(lambda: world.committer.calls == 1)

    world.runner.stop()
    await run

    assert world.committer.seqs == []


async def test_counters_tell_positions_and_age() -> None:
    world = World()
    records = history(6)
    world.source.feed(*records)

    async with world.running():
        await world.until(lambda: len(world.committer.seqs) == len(records))

    counters = world.runner.counters()
    assert counters["is_live"] == 1
    assert (counters["journalled"], counters["applied"], counters["committed"]) == (8, 8, 8)
    assert counters["applied_seq"] == counters["committed_seq"] == {BTC: 5, ETH: 3}
    age_us = counters["commit_age_p99_us"]
    assert isinstance(age_us, int)
    assert 4_500 < age_us < 5_500
