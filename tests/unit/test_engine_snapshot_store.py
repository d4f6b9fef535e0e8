"""engine.snapshot_store: which file is used, which are kept, and what a failed write leaves."""

from __future__ import annotations

import logging
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from engine.enums import Side
from engine.snapshot import encode_snapshot
from engine.snapshot_store import SnapshotStore
from tests.matching_world import SYMBOL, World

INCARNATION = "0123456789abcdef"
WRITER = 7


def store_in(directory: Path, incarnation: str = INCARNATION) -> SnapshotStore:
    return SnapshotStore(directory, {SYMBOL: incarnation})


def grow(world: World, until: int) -> None:
    """Apply orders until the symbol is at this seq."""
    while len(world.commands) < until:
        world.new(1, f"c{len(world.commands)}", Side.BUY, 1, 50)


def save(store: SnapshotStore, world: World, seq: int) -> None:
    """Save the symbol at a seq."""
    grow(world, seq)
    store.write_new(SYMBOL, seq, encode_snapshot(SYMBOL, world.shard.state(SYMBOL)), writer=WRITER)
    store.adopt({SYMBOL: seq}, writer=WRITER)


def path_of(directory: Path, seq: int) -> Path:
    return directory / f"{SYMBOL}.{seq:016d}.snapshot"


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def newest(store: SnapshotStore, at_most: int = 1_000) -> int | None:
    state = store.newest_good(SYMBOL, at_most=at_most)
    return None if state is None else state.seq


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """Have the system refuse larger files, as a full disk would."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_two_newest_are_kept(tmp_path: Path) -> None:
    directory = tmp_path / "deep" / "snapshots"
    store, world = store_in(directory), World()
    assert (newest(store), store.floor(SYMBOL)) == (None, 0)
    save(store, world, 5)
    assert (newest(store), store.floor(SYMBOL)) == (5, 0)
    save(store, world, 9)
    assert (newest(store), store.floor(SYMBOL)) == (9, 5)
    save(store, world, 20)
    assert (newest(store), store.floor(SYMBOL)) == (20, 9)
    assert names(directory) == [
        f"{SYMBOL}.0000000000000009.snapshot",
        f"{SYMBOL}.0000000000000020.snapshot",
    ]
    assert directory.stat().st_mode & 0o777 == 0o700
    assert path_of(directory, 20).stat().st_mode & 0o777 == 0o600


def test_symbols_whose_names_begin_alike_are_apart(tmp_path: Path) -> None:
    store, world = store_in(tmp_path), World()
    other = tmp_path / f"{SYMBOL}-X.0000000000000030.snapshot"
    other.write_bytes(b"")
    (tmp_path / f"{SYMBOL}.bak.snapshot").write_bytes(b"")
    for seq in (5, 9, 20):
        save(store, world, seq)
    assert (newest(store), store.floor(SYMBOL)) == (20, 9)
    assert other.exists()


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "bytes of the body"),
        (lambda path: path.write_bytes(b""), "bytes: expected 22 or more, found 0"),
        (lambda path: path.write_bytes(path.read_bytes() + b"x"), "bytes of the body"),
        (lambda path: flip(path, 8), "format version"),
        (lambda path: flip(path, 200), "checksum"),
        (lambda path: (path.unlink(), path.mkdir()), "Is a directory"),
    ],
)
def test_damaged_one_is_passed_over_by_name_and_the_one_before_used(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    damage: Callable[[Path], object],
    reason: str,
) -> None:
    store, world = store_in(tmp_path), World()
    save(store, world, 5)
    save(store, world, 9)
    path = path_of(tmp_path, 9)
    damage(path)
    with caplog.at_level(logging.WARNING, "engine"):
        assert newest(store) == 5
    assert len(caplog.messages) == 1
    assert path.name in caplog.messages[0]
    assert reason in caplog.messages[0]


def flip(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)


def test_none_is_good(tmp_path: Path) -> None:
    store, world = store_in(tmp_path), World()
    for seq in (5, 9):
        save(store, world, seq)
        flip(path_of(tmp_path, seq), 100)
    assert newest(store) is None


def test_damaged_one_holds_no_entries_of_streams_and_goes_with_the_next_save(
    tmp_path: Path,
) -> None:
    store, world = store_in(tmp_path), World()
    save(store, world, 5)
    save(store, world, 9)
    flip(path_of(tmp_path, 9), 100)
    assert newest(store) == 5
    assert store.floor(SYMBOL) == 0
    save(store, world, 12)
    assert (newest(store), store.floor(SYMBOL)) == (12, 5)
    assert len(names(tmp_path)) == 2


def test_damaged_one_is_written_again_at_the_same_seq(tmp_path: Path) -> None:
    store, world = store_in(tmp_path), World()
    save(store, world, 5)
    save(store, world, 9)
    flip(path_of(tmp_path, 9), 100)
    assert newest(store) == 5
    save(store, world, 9)
    assert (newest(store), store.floor(SYMBOL)) == (9, 5)


def test_one_that_is_ahead_of_what_is_committed_is_passed_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store, world = store_in(tmp_path), World()
    save(store, world, 5)
    save(store, world, 9)
    path = path_of(tmp_path, 9)
    assert (newest(store, 9), newest(store, 8), newest(store, 4)) == (9, 5, None)
    assert f"{path} is passed over: beyond seq 8" in "\n".join(caplog.messages)


def test_save_removes_those_of_a_history_that_is_lost(tmp_path: Path) -> None:
    store, world = store_in(tmp_path), World()
    save(store, world, 5)
    save(store, world, 9)
    rest = World()
    save(store, rest, 7)
    assert (newest(store), store.floor(SYMBOL)) == (7, 5)
    assert len(names(tmp_path)) == 2


def test_one_of_another_incarnation_symbol_or_seq_is_passed_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store, world = store_in(tmp_path), World()
    save(store, world, 5)
    assert newest(store_in(tmp_path, "fedcba9876543210")) is None
    assert "incarnation: expected fedcba9876543210, found 0123456789abcdef" in caplog.messages[0]
    path_of(tmp_path, 5).rename(path_of(tmp_path, 6))
    assert newest(store) is None
    assert "seq: expected 6, found 5" in caplog.messages[1]
    path_of(tmp_path, 6).rename(tmp_path / "PIG-EUR.0000000000000005.snapshot")
    pigs = SnapshotStore(tmp_path, {"PIG-EUR": INCARNATION})
    assert pigs.newest_good("PIG-EUR", at_most=9) is None
    assert f"symbol: expected PIG-EUR, found {SYMBOL}" in caplog.messages[2]


def test_unfinished_one_is_never_used_and_goes_at_the_next_start(tmp_path: Path) -> None:
    store, world = store_in(tmp_path), World()
    save(store, world, 5)
    grow(world, 9)
    data = encode_snapshot(SYMBOL, world.shard.state(SYMBOL))
    store.write_new(SYMBOL, 9, data, writer=WRITER)
    assert (newest(store), store.floor(SYMBOL)) == (5, 0)
    assert len(names(tmp_path)) == 2
    assert newest(store_in(tmp_path)) == 5
    assert names(tmp_path) == [f"{SYMBOL}.0000000000000005.snapshot"]


def test_two_writers_never_share_a_file(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    store.write_new(SYMBOL, 9, b"one", writer=1)
    store.write_new(SYMBOL, 9, b"other", writer=2)
    store.adopt({SYMBOL: 9}, writer=1)
    assert path_of(tmp_path, 9).read_bytes() == b"one"
    with pytest.raises(FileExistsError):
        store.write_new(SYMBOL, 9, b"again", writer=2)


def test_disk_that_refuses_leaves_nothing_behind(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    with file_size_limit(1_000), pytest.raises(OSError, match="File too large"):
        store.write_new(SYMBOL, 9, bytes(2_000), writer=WRITER)
    assert names(tmp_path) == []
