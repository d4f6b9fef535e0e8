"""engine.snapshot: a state comes back as it was; anything else is refused by name."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable

import msgspec
import pytest

from engine.commands import CancelAll, OrderConditions
from engine.enums import OrdType, SelfTradePrevention, Side, TimeInForce
from engine.errors import SnapshotCorrupt, SnapshotVersion
from engine.events import (
    MassCancelReported,
    OrderCanceled,
    OrderRefilled,
    OrderTriggered,
    decode_output,
)
from engine.limits import RECENT_CL_ORD_IDS_MAX
from engine.open_order import OpenOrder
from engine.shard import Shard
from engine.snapshot import FORMAT_VERSION, decode_snapshot, encode_snapshot
from tests.matching_world import SYMBOL, World, rules

_PREFIX = struct.Struct("<8sHQI")


def busy_world() -> World:
    """Return a symbol with partly filled, renamed and done orders of two accounts."""
    world = World()
    world.new(1, "a", Side.BUY, 10, 99)
    world.new(2, "b", Side.SELL, 4, 99)
    world.new(2, "c", Side.SELL, 7, 101, stp=SelfTradePrevention.CANCEL_BOTH)
    world.new(2, "d", Side.SELL, 7, 101, post_only=True, time_in_force=TimeInForce.DAY)
    world.new(1, "e", Side.BUY, 1, 101, ord_type=OrdType.MARKET, time_in_force=TimeInForce.IOC)
    world.apply(world.replacing(2, "f", "c", Side.SELL, 6, 102))
    world.change_rules(rules(version=2, maker_ppm=3, taker_ppm=5))
    world.new(1, "g", Side.BUY, 3, 98)
    world.cancel(1, "h", "g")
    return world


def crowded_world() -> World:
    """Return a symbol with stop orders, icebergs and orders with a time, too."""
    world = busy_world()
    stop, gtd = OrdType.STOP, TimeInForce.GTD
    at, below = OrderConditions(stop_ticks=105), OrderConditions(stop_ticks=90)
    iceberg, timed = OrderConditions(max_floor_lots=2), OrderConditions(expire_us=900_000)
    all_three = OrderConditions(stop_ticks=103, max_floor_lots=2, expire_us=900_000)
    waiting = {"ord_type": OrdType.STOP_LIMIT, "time_in_force": gtd, "conditions": all_three}
    world.new(1, "q", Side.BUY, 3, 110, ord_type=stop, conditions=at)
    world.new(3, "r", Side.BUY, 3, 110, ord_type=stop, conditions=at)
    world.new(3, "s", Side.BUY, 6, 103, **waiting)  # type: ignore[arg-type]
    world.new(3, "t", Side.SELL, 3, 80, ord_type=stop, conditions=below)
    world.new(3, "u", Side.SELL, 9, 104, conditions=iceberg)
    world.new(3, "v", Side.SELL, 9, 107, time_in_force=gtd, conditions=timed)
    world.new(2, "w", Side.SELL, 2, 103)
    return world


def snapshot_of(world: World) -> bytes:
    return encode_snapshot(SYMBOL, world.shard.state(SYMBOL))


def sealed(body: bytes, *, version: int = FORMAT_VERSION) -> bytes:
    """Return bytes with a right length and checksum."""
    return _PREFIX.pack(b"SHARDEXS", version, len(body), zlib.crc32(body)) + body


def restored(world: World) -> Shard:
    symbol, state = decode_snapshot(snapshot_of(world), name="test")
    shard = Shard()
    shard.restore_symbol(symbol, state)
    return shard


def test_state_comes_back_whole() -> None:
    world = busy_world()
    shard = restored(world)
    shard.check_invariants()
    assert shard.symbols() == [SYMBOL]
    assert shard.position(SYMBOL) == len(world.commands)
    assert shard.state_hash(SYMBOL) == world.shard.state_hash(SYMBOL)
    assert shard.matcher(SYMBOL).content() == world.shard.matcher(SYMBOL).content()
    assert shard.state(SYMBOL).ts_us == world.shard.state(SYMBOL).ts_us
    before, after = world.shard.matcher(SYMBOL), shard.matcher(SYMBOL)
    for seq, order in before.book.orders.items():
        assert all(
            getattr(after.book.orders[seq], name) == getattr(order, name)
            for name in OpenOrder.__slots__
        )


def test_waiting_hiding_and_timed_orders_come_back_and_go_on() -> None:
    world = crowded_world()
    shard = restored(world)
    shard.check_invariants()
    assert shard.matcher(SYMBOL).content() == world.shard.matcher(SYMBOL).content()
    held = shard.matcher(SYMBOL)
    assert (len(held.stops.orders), held.book.orders[15].hidden_lots) == (4, 7)
    copy = World()
    copy.shard, copy.commands = shard, list(world.commands)
    copy.balances = {key: list(amounts) for key, amounts in world.balances.items()}
    copy.opens, copy.rules, copy.ts_us = dict(world.opens), world.rules, world.ts_us
    for one in (world, copy):
        one.settlements.clear()
        one.new(4, "x", Side.BUY, 20, 104)
        one.tick(950_000)
        one.mass_cancel(3, "y")
    assert copy.settlements == world.settlements
    assert shard.state_hash(SYMBOL) == world.shard.state_hash(SYMBOL)
    events = [
        type(event)
        for settlement in copy.settlements
        for event in decode_output(settlement.event).events
    ]
    assert {OrderTriggered, OrderRefilled, OrderCanceled, MassCancelReported} <= set(events)


def test_empty_symbol_comes_back() -> None:
    assert restored(World()).state_hash(SYMBOL) == World().shard.state_hash(SYMBOL)


def test_sum_beyond_64_bits_comes_back() -> None:
    world = busy_world()
    order = next(iter(world.shard.matcher(SYMBOL).book.orders.values()))
    order.rated_price_qty = 2**62 * 1_000_000 + 7
    found = restored(world).matcher(SYMBOL).book.orders[order.order_id]
    assert found.rated_price_qty == order.rated_price_qty


def test_oldest_cl_ord_id_is_forgotten_first_after_a_restore() -> None:
    world = World()
    for number in range(RECENT_CL_ORD_IDS_MAX):
        world.new(1, f"c{number}", Side.BUY, 1, 1)
        world.cancel_all(1)
    world.shard = restored(world)
    world.new(1, "last", Side.BUY, 1, 1)
    world.cancel_all(1)
    used = world.shard.matcher(SYMBOL).accounts[1].has_used
    assert (used("c0"), used("c1"), used("last")) == (False, True, True)


def test_restored_state_shares_nothing_with_the_one_it_was_made_from() -> None:
    world = busy_world()
    data = snapshot_of(world)
    world.cancel_all(1)
    world.cancel_all(2)
    assert encode_snapshot(SYMBOL, decode_snapshot(data, name="test")[1]) == data


def test_symbol_is_restored_once_and_before_its_inputs() -> None:
    world = busy_world()
    symbol, state = decode_snapshot(snapshot_of(world), name="test")
    with pytest.raises(AssertionError, match="restored before"):
        world.shard.restore_symbol(symbol, state)


def test_other_version_is_refused_by_its_number() -> None:
    body = snapshot_of(busy_world())[_PREFIX.size :]
    with pytest.raises(SnapshotVersion, match="snapshot file: format version 1, expected 3"):
        decode_snapshot(sealed(body, version=1), name="file")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda data: b"", "bytes: expected 22 or more, found 0"),
        (lambda data: data[:21], "bytes: expected 22 or more, found 21"),
        (lambda data: b"SHARDEXJ" + data[8:], "magic: expected b'SHARDEXS', found b'SHARDEXJ'"),
        (lambda data: data[:-1], "bytes of the body: expected"),
        (lambda data: data + b"\0", "bytes of the body: expected"),
        (lambda data: data[:-1] + bytes([data[-1] ^ 1]), "checksum: expected"),
        (lambda data: sealed(b"\x93\x01\x02\x03"), "body: expected a symbol's state"),
        (lambda data: sealed(b""), "body: expected a symbol's state"),
    ],
)
def test_what_is_no_whole_snapshot_is_refused_by_name(
    change: Callable[[bytes], bytes], expected: str
) -> None:
    with pytest.raises(SnapshotCorrupt, match="snapshot file: ") as raised:
        decode_snapshot(change(snapshot_of(busy_world())), name="file")
    assert expected in str(raised.value)


def test_state_that_is_not_the_one_of_the_digest_is_refused() -> None:
    world = busy_world()
    world.new(1, "i", Side.SELL, 1, 101)
    symbol, digest, _ = msgspec.msgpack.decode(snapshot_of(world)[_PREFIX.size :])
    content = msgspec.msgpack.decode(world.shard.state(SYMBOL).encode())
    orders = content[3][1]
    assert [order[2] for order in orders] == ["a", "d", "i", "f"]
    orders[1], orders[2] = orders[2], orders[1]
    body = msgspec.msgpack.encode([symbol, digest, content])
    with pytest.raises(SnapshotCorrupt, match="digest of the state: expected"):
        decode_snapshot(sealed(body), name="file")


def test_state_that_an_assertion_left_half_changed_counts_as_the_next_input() -> None:
    world = busy_world()
    last = world.shard.position(SYMBOL)
    with pytest.raises(AssertionError, match="stamps never fall"):
        world.shard.apply(SYMBOL, last + 1, 0, CancelAll(1))
    assert world.shard.position(SYMBOL) == last + 1
