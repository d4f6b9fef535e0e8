"""Replaying journals: hashes wherever they stand, skips, poison, gaps, and several processes."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from engine.commands import CancelAll, encode_command
from engine.journal import Record
from engine.journal_file import JournalFile
from engine.journal_keys import LEDGER, hash_key, hash_record, skip_record
from engine.ledger_entries import UserCreated
from engine.shard import Shard
from ops import journal_replay, journal_replay_symbols
from ops.errors import CommandFailed
from ops.journal_replay import ReplayResult, replay_journal
from tests.persistence_events import INCARNATION, SYMBOL, random_history
from tests.persistence_servers import SECOND
from tests.replay_journals import BATCH, History, record_of, rewrite, write_journal

COUNT = 500


@pytest.fixture(scope="module")
def history() -> History:
    return random_history(7, COUNT)


def kinds(result: ReplayResult) -> list[tuple[str, str, int, int]]:
    return [(one.symbol, one.kind, one.first, one.last) for one in result.differences]


def counts(result: ReplayResult) -> tuple[int, int, int]:
    return result.commands, result.outputs_checked, result.outputs_unhashed


@pytest.mark.parametrize("lag", [0, 3, 100])
def test_hashes_may_stand_behind_later_commands_and_in_later_segments(
    tmp_path: Path, history: History, lag: int
) -> None:
    write_journal(tmp_path, {SYMBOL: history}, lag=lag, segment_bytes_max=4_000)
    assert len(list(tmp_path.glob("*.journal"))) > 3
    result = replay_journal(tmp_path)
    assert result.differences == []
    assert counts(result) == (COUNT, COUNT, 0)
    shard = Shard()
    for command, output in history:
        shard.apply(SYMBOL, output.seq, output.ts_us, command)
    assert [one.state_hash for one in result.symbols] == [shard.state_hash(SYMBOL)]


def test_outputs_before_the_first_hash_are_counted_not_compared(
    tmp_path: Path, history: History
) -> None:
    result = replay_journal(write_journal(tmp_path, {SYMBOL: history}, hashed_from=130))
    assert (counts(result), result.differences) == ((COUNT, COUNT - 129, 129), [])


def test_outputs_behind_the_last_hash_are_counted_not_compared(
    tmp_path: Path, history: History
) -> None:
    write_journal(tmp_path, {SYMBOL: history})
    rewrite(tmp_path, lambda one: None if (one.key, one.seq) == (hash_key(SYMBOL), COUNT) else one)
    assert counts(replay_journal(tmp_path)) == (COUNT, COUNT - BATCH, BATCH)


def test_more_outputs_than_may_wait_for_a_hash_are_let_go(
    tmp_path: Path, history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_replay_symbols, "PENDING_OUTPUTS_MAX", 200)
    write_journal(tmp_path, {SYMBOL: history}, lag=100)
    result = replay_journal(tmp_path)
    checked, unhashed = result.outputs_checked, result.outputs_unhashed
    assert (checked, unhashed, result.differences) == (2 * BATCH, COUNT - 2 * BATCH, [])


def test_a_hash_of_commands_that_are_not_there_is_a_difference(
    tmp_path: Path, history: History
) -> None:
    write_journal(tmp_path, {SYMBOL: history[:BATCH]})
    early = hash_record(SYMBOL, BATCH // 2, [b""] * BATCH, 0)
    rewrite(tmp_path, lambda one: early if one.key == early.key else one)
    result = replay_journal(tmp_path)
    assert kinds(result) == [(SYMBOL, "hash", BATCH // 2, BATCH // 2 + BATCH - 1)]


def test_one_wrong_hash_names_its_range_and_shows_the_outputs(
    tmp_path: Path, history: History
) -> None:
    write_journal(tmp_path, {SYMBOL: history})
    wrong = hash_record(SYMBOL, 2 * BATCH + 1, [b"else"] * BATCH, 0)
    rewrite(tmp_path, lambda one: wrong if (one.key, one.seq) == (wrong.key, wrong.seq) else one)
    result = replay_journal(tmp_path)
    assert kinds(result) == [(SYMBOL, "outputs", 2 * BATCH + 1, 3 * BATCH)]
    assert counts(result) == (COUNT, COUNT - BATCH, 0)
    assert result.outputs_differing == BATCH
    [difference] = result.differences
    assert difference.outputs[0].startswith(f"Output(symbol='{SYMBOL}', seq={2 * BATCH + 1}, ")
    assert difference.outputs[-1] == f"… and {BATCH - 20} more"
    assert str(difference).count("\n") == len(difference.outputs)


def test_a_command_that_is_missing_stops_its_symbol_alone(tmp_path: Path, history: History) -> None:
    second = random_history(8, 100, symbol=SECOND)
    write_journal(tmp_path, {SYMBOL: history, SECOND: second})
    rewrite(tmp_path, lambda one: None if (one.key, one.seq) == (SYMBOL, 60) else one)
    result = replay_journal(tmp_path)
    assert kinds(result) == [(SYMBOL, "sequence", 61, 61)]
    by_symbol = {one.symbol: (one.commands, one.outputs_checked) for one in result.symbols}
    assert by_symbol == {SYMBOL: (59, 50), SECOND: (100, 100)}
    assert [one.state_hash == "" for one in result.symbols] == [True, False]


def skipping_journal(directory: Path, history: History, *, with_skip: bool) -> Path:
    """Write a journal whose last command is no command; the skip stands behind it."""
    write_journal(directory, {SYMBOL: history})
    file = JournalFile(
        directory,
        kind="commands",
        owner="shard-1",
        incarnations={SYMBOL: INCARNATION},
        keeps_positions=True,
        now_ns=lambda: 0,
    )
    ts_ns = history[-1][1].ts_us * 1_000
    file.append([Record(SYMBOL, COUNT + 1, ts_ns, 0, b"nonsense")])
    if with_skip:
        file.append([skip_record(SYMBOL, COUNT + 1, "a bug", ts_ns)])
        file.append([Record(SYMBOL, COUNT + 2, ts_ns, 0, encode_command(CancelAll(1)))])
    file.close()
    return directory


def test_a_skip_that_stands_behind_its_command_is_obeyed(tmp_path: Path, history: History) -> None:
    result = replay_journal(skipping_journal(tmp_path, history, with_skip=True))
    assert (result.differences, counts(result)) == ([], (COUNT + 2, COUNT, 2))
    assert result.symbols[0].skipped == 1


def test_a_command_that_cannot_be_applied_is_a_difference(tmp_path: Path, history: History) -> None:
    result = replay_journal(skipping_journal(tmp_path, history, with_skip=False))
    assert kinds(result) == [(SYMBOL, "poison", COUNT + 1, COUNT + 1)]
    assert "cannot be applied: not a command" in result.differences[0].text


def test_the_ledger_is_followed_and_must_be_dense(tmp_path: Path, history: History) -> None:
    users = [UserCreated(n, f"user{n}", "hash") for n in range(1, 4)]
    write_journal(tmp_path, {SYMBOL: history}, ledger=users)
    assert replay_journal(tmp_path).ledger == {tmp_path.name: 3}
    rewrite(tmp_path, lambda one: None if (one.key, one.seq) == (LEDGER, 2) else one)
    result = replay_journal(tmp_path)
    assert kinds(result) == [(LEDGER, LEDGER, 3, 3)]
    assert result.outputs_checked == COUNT


def test_journals_in_several_processes_give_what_one_gives(
    tmp_path: Path, history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "journals"
    second = random_history(8, 100, symbol=SECOND)
    write_journal(root / "engine-1", {SYMBOL: history, SECOND: second})
    write_journal(root / "engine-1-standby", {SYMBOL: history}, hashed_from=COUNT)
    alone = replay_journal(root, processes=1)
    monkeypatch.setattr(journal_replay, "_IN_PROCESS_MAX", 0)
    together = replay_journal(root, processes=2)
    assert together.symbols == alone.symbols
    assert [one.symbol for one in together.symbols] == [SYMBOL, SECOND, SYMBOL]
    assert together.differences == alone.differences == []
    assert together.outputs_checked == COUNT + 100 + 1


def test_a_damaged_segment_is_one_difference_whoever_finds_it(
    tmp_path: Path, history: History
) -> None:
    second = random_history(8, 100, symbol=SECOND)
    write_journal(tmp_path, {SYMBOL: history, SECOND: second}, segment_bytes_max=8_000)
    path = sorted(tmp_path.glob("*.journal"))[1]
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    result = replay_journal(tmp_path, processes=2)
    assert kinds(result) == [("", "journal", 0, 0)]
    assert str(path) in result.differences[0].text
    assert 0 < result.commands < COUNT + 100


def test_what_is_no_journal_of_an_engine_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CommandFailed, match="there is no journal of an engine"):
        replay_journal(tmp_path)
    fix = JournalFile(
        tmp_path / "gateway-1",
        kind="fix",
        owner="gateway-1",
        incarnations={},
        keeps_positions=False,
        now_ns=lambda: 0,
    )
    fix.close()
    with pytest.raises(CommandFailed, match="a journal of fix, expected commands"):
        replay_journal(tmp_path / "gateway-1")


def test_other_rules_than_those_that_were_in_force_are_found(
    tmp_path: Path, history: History
) -> None:
    # Configuration that changes results is a command; here it says another fee.
    write_journal(tmp_path, {SYMBOL: history})
    definition = history[0][0]
    rules = msgspec.structs.replace(definition.rules, taker_fee_ppm=999)  # type: ignore[union-attr]
    payload = encode_command(msgspec.structs.replace(definition, rules=rules))
    forged = msgspec.structs.replace(record_of(tmp_path, SYMBOL, 1), payload=payload)
    rewrite(tmp_path, lambda one: forged if (one.key, one.seq) == (SYMBOL, 1) else one)
    result = replay_journal(tmp_path)
    assert kinds(result)[0] == (SYMBOL, "outputs", 1, BATCH)
    assert result.outputs_differing > BATCH
