"""engine.trading: what is done in portions, and what is due without an input."""

from __future__ import annotations

from typing import Any

import pytest

from engine import trading
from engine.commands import OrderConditions, Tick, encode_command
from engine.enums import CancelReason, OrdType, SelfTradePrevention, Side, TimeInForce
from engine.events import OrderAccepted, OrderCanceled, OrderFilled, OrderTriggered, Output
from engine.shard import Shard
from engine.snapshot import decode_snapshot, encode_snapshot
from engine.turn import Turn
from tests.matching_world import SYMBOL, World


def count(output: Output, kind: type) -> int:
    return sum(isinstance(event, kind) for event in output.events)


def world_of_stops(number: int) -> World:
    """Return a symbol in which a trade at 100 reaches so many stops, and enough is for sale."""
    world = World()
    for place in range(number):
        conditions = OrderConditions(stop_ticks=100)
        world.new(1, f"s{place}", Side.BUY, 1, 110, ord_type=OrdType.STOP, conditions=conditions)
    world.new(2, "offer", Side.SELL, number + 1, 100)
    return world


def test_cascade_goes_on_with_the_next_inputs() -> None:
    world = world_of_stops(350)
    output = world.new(3, "begin", Side.BUY, 1, 100)
    assert (count(output, OrderTriggered), world.shard.due_us(SYMBOL)) == (100, 1)
    # The price goes away from them before their turn: they were reached, and stay so.
    world.new(2, "low", Side.BUY, 1, 90, stp=SelfTradePrevention.NONE)
    output = world.new(3, "sell", Side.SELL, 1, 90)
    assert isinstance(output.events[1], OrderFilled)
    assert (output.events[1].last_price_ticks, count(output, OrderTriggered)) == (90, 100)
    assert count(world.tick(), OrderTriggered) == 50
    assert world.balance(1, "COW")[0] == 1_350
    assert world.shard.due_us(SYMBOL) == 0


def test_input_with_many_events_triggers_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trading, "STOP_TRIGGERS_EVENTS_MAX", 9)
    world = world_of_stops(10)
    output = world.new(3, "begin", Side.BUY, 1, 100)
    assert count(output, OrderTriggered) == 2
    assert (len(output.events), count(output, OrderFilled)) == (9, 6)
    assert count(world.tick(), OrderTriggered) == 3


def test_reached_stops_are_in_a_snapshot() -> None:
    world = world_of_stops(150)
    world.new(3, "begin", Side.BUY, 1, 100)
    symbol, state = decode_snapshot(encode_snapshot(SYMBOL, world.shard.state(SYMBOL)), name="test")
    copy = Shard()
    copy.restore_symbol(symbol, state)
    assert copy.due_us(SYMBOL) == 1
    seq, ts_us = copy.position(SYMBOL) + 1, world.ts_us + 1
    again = copy.apply(SYMBOL, seq, ts_us, Tick())
    assert again.output.events == world.shard.apply(SYMBOL, seq, ts_us, Tick()).output.events
    assert count(again.output, OrderTriggered) == 50
    assert copy.state_hash(SYMBOL) == world.shard.state_hash(SYMBOL)


def test_asking_what_is_due_changes_nothing() -> None:
    world = world_of_stops(3)
    world.new(1, "timed", Side.BUY, 1, 90, **gtd(50_000))
    before = world.shard.state_hash(SYMBOL)
    assert world.shard.due_us(SYMBOL) == 50_000
    assert world.shard.state_hash(SYMBOL) == before


def gtd(expire_us: int) -> dict[str, Any]:
    """Return the terms of an order that is good till a stamp."""
    return {
        "time_in_force": TimeInForce.GTD,
        "conditions": OrderConditions(expire_us=expire_us),
    }


@pytest.mark.parametrize(("till_us", "trades"), [(5_000, 0), (5_001, 1)])
def test_due_order_does_not_meet_the_input_whose_stamp_is_its_time(
    till_us: int, trades: int
) -> None:
    world = World()
    world.ts_us = 3_000
    world.new(1, "offer", Side.SELL, 2, 100, **gtd(till_us))
    output = world.new(2, "bid", Side.BUY, 2, 100)
    assert output.ts_us == 5_000
    assert count(output, OrderFilled) == 2 * trades
    assert isinstance(output.events[0], OrderAccepted if trades else OrderCanceled)
    assert world.shard.matcher(SYMBOL).book.best_bid() == (None if trades else 100)


def test_expiry_goes_on_with_the_next_inputs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trading, "EXPIRIES_PER_INPUT_MAX", 4)
    world = World()
    for place in range(10):
        world.new(1, f"c{place}", Side.BUY, 1, 100, **gtd(90_000 - place))
    assert world.shard.due_us(SYMBOL) == 89_991
    sizes = [len(world.tick(100_000).events) for _ in range(4)]
    assert (sizes, world.shard.due_us(SYMBOL)) == ([4, 4, 2, 0], 0)
    assert world.balance(1, "EUR") == [1_000_000, 0, 0]


@pytest.mark.parametrize("restored", [False, True])
def test_day_orders_end_oldest_first_over_several_inputs(
    monkeypatch: pytest.MonkeyPatch, restored: bool
) -> None:
    monkeypatch.setattr(trading, "EXPIRIES_PER_INPUT_MAX", 3)
    world = World()
    for place in range(10):
        kept = place in (2, 5)
        time_in_force = TimeInForce.GTC if kept else TimeInForce.DAY
        world.new(1, f"c{place}", Side.BUY, 1, 100 - place, time_in_force=time_in_force)
    conditions = OrderConditions(stop_ticks=110)
    terms: dict[str, Any] = {"ord_type": OrdType.STOP, "time_in_force": TimeInForce.DAY}
    world.new(1, "stop", Side.BUY, 1, 120, conditions=conditions, **terms)
    shard, seq = world.shard, world.shard.position(SYMBOL)
    turn = Turn(seq + 1, world.ts_us)
    shard.matcher(SYMBOL).expire_day_orders(turn)
    ended = [event for event in turn.events if isinstance(event, OrderCanceled)]
    assert shard.due_us(SYMBOL) == 1
    if restored:
        snapshot = encode_snapshot(SYMBOL, shard.state(SYMBOL))
        shard = Shard()
        shard.restore_symbol(*decode_snapshot(snapshot, name="test"))
    while shard.due_us(SYMBOL) == 1:
        seq += 1
        events = shard.apply(SYMBOL, seq, world.ts_us, Tick()).output.events
        ended += [event for event in events if isinstance(event, OrderCanceled)]
        shard.check_invariants()
    assert [event.cl_ord_id for event in ended] == [
        *(f"c{place}" for place in (0, 1, 3, 4, 6, 7, 8, 9)),
        "stop",
    ]
    assert {event.reason for event in ended} == {CancelReason.TIME_EXPIRED}
    assert sorted(shard.matcher(SYMBOL).accounts[1].open) == ["c2", "c5"]


def test_skipped_input_expires_and_triggers_nothing() -> None:
    world = World()
    world.new(1, "timed", Side.BUY, 1, 100, **gtd(5_000))
    for _ in range(5):
        output = world.skip(encode_command(Tick()), "for a test")
        assert len(output.events) == 1
    assert world.shard.due_us(SYMBOL) == 5_000
    (event,) = world.tick().events
    assert isinstance(event, OrderCanceled)


def test_orders_that_never_expire_cost_no_entry() -> None:
    world = World()
    world.new(1, "a", Side.BUY, 1, 100, time_in_force=TimeInForce.DAY)
    assert world.shard.matcher(SYMBOL).expiry._heap == []
