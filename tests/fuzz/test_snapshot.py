"""Snapshots of any bytes: what is not exactly what was written is refused, and raises nothing else.

A snapshot is cut at every byte, has every bit flipped, has pieces replaced, and is noise. On disk
the one before it is used then, whole.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.enums import Side
from engine.errors import SnapshotCorrupt, SnapshotVersion
from engine.snapshot import decode_snapshot, encode_snapshot
from engine.snapshot_store import SnapshotStore
from tests.matching_world import SYMBOL, World

INCARNATIONS = {SYMBOL: "0123456789abcdef"}
WRITER = 1


def small_world() -> World:
    world = World()
    world.new(1, "a", Side.BUY, 10, 99)
    world.new(2, "b", Side.SELL, 4, 99)
    world.new(2, "c", Side.SELL, 7, 101)
    return world


DATA = encode_snapshot(SYMBOL, small_world().shard.state(SYMBOL))


def assert_refused(data: bytes) -> None:
    with pytest.raises((SnapshotCorrupt, SnapshotVersion)):
        decode_snapshot(data, name="fuzz")


def test_cut_anywhere() -> None:
    for length in range(len(DATA)):
        assert_refused(DATA[:length])


def test_every_flipped_bit() -> None:
    for place in range(len(DATA)):
        for bit in range(8):
            damaged = bytearray(DATA)
            damaged[place] ^= 1 << bit
            assert_refused(bytes(damaged))


@given(st.integers(0, len(DATA)), st.integers(0, 40), st.binary(max_size=40))
def test_pieces_replaced(start: int, length: int, piece: bytes) -> None:
    damaged = DATA[:start] + piece + DATA[start + length :]
    if damaged != DATA:
        assert_refused(damaged)


@given(st.binary(max_size=200))
def test_noise(noise: bytes) -> None:
    assert_refused(noise)
    assert_refused(DATA[:22] + noise)


@settings(
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    deadline=None,
)
@given(st.integers(0, len(DATA) - 1), st.integers(1, 255))
def test_damaged_file_is_never_half_used(tmp_path: Path, place: int, change: int) -> None:
    world = small_world()
    older = len(world.commands)
    older_hash = world.shard.state_hash(SYMBOL)
    store = SnapshotStore(tmp_path, INCARNATIONS)
    store.write_new(SYMBOL, older, DATA, writer=WRITER)
    store.adopt({SYMBOL: older}, writer=WRITER)
    world.new(3, "d", Side.BUY, 1, 1)
    newer = bytearray(encode_snapshot(SYMBOL, world.shard.state(SYMBOL)))
    newer[place] ^= change
    store.write_new(SYMBOL, older + 1, bytes(newer), writer=WRITER)
    store.adopt({SYMBOL: older + 1}, writer=WRITER)

    found = SnapshotStore(tmp_path, INCARNATIONS).newest_good(SYMBOL, at_most=older + 1)

    assert found is not None
    world.shard = type(world.shard)()
    world.shard.restore_symbol(SYMBOL, found)
    assert world.shard.state_hash(SYMBOL) == older_hash
