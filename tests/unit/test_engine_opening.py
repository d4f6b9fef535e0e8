"""An auction in parts: what may happen between them, and how much one input does."""

from __future__ import annotations

import pytest

from engine import opening
from engine.enums import Liquidity, PhaseReason, Side, TradingPhase
from engine.events import Event, OrderFilled, PhaseChanged
from engine.limits import (
    AUCTION_TRADES_PER_INPUT_MAX,
    EXPIRIES_PER_INPUT_MAX,
    OPEN_ORDERS_PER_ACCOUNT_MAX,
    OUTPUT_EVENTS_MAX,
)
from tests.matching_world import SYMBOL, World

PRE_OPEN, AUCTION = TradingPhase.PRE_OPEN, TradingPhase.OPENING_AUCTION
CONTINUOUS, HALTED = TradingPhase.CONTINUOUS, TradingPhase.HALTED


def fills(events: list[Event]) -> list[tuple[str, int, int]]:
    """Return ClOrdID, price and lots of each fill of an auction."""
    return [
        (event.cl_ord_id, event.last_price_ticks, event.last_qty_lots)
        for event in events
        if isinstance(event, OrderFilled) and event.liquidity is Liquidity.AUCTION
    ]


def phases(events: list[Event]) -> list[tuple[TradingPhase, PhaseReason, int, int]]:
    """Return the changes of the phase."""
    return [
        (event.phase, event.reason, event.auction_ticks, event.auction_lots)
        for event in events
        if isinstance(event, PhaseChanged)
    ]


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    """A world in pre-open, whose auctions make one trade per input."""
    monkeypatch.setattr(opening, "AUCTION_TRADES_PER_INPUT_MAX", 1)
    world = World()
    world.set_phase(PRE_OPEN)
    return world


def phase_of(world: World) -> TradingPhase:
    return world.shard.matcher(SYMBOL).phase


def test_each_input_makes_a_part_and_ticks_are_due_until_the_end(world: World) -> None:
    for number in range(3):
        world.new(1, f"b{number}", Side.BUY, 1, 100)
        world.new(2, f"s{number}", Side.SELL, 1, 100)
    first = world.set_phase(CONTINUOUS).events
    assert phases(first) == [(AUCTION, PhaseReason.OPERATOR, 100, 3)]
    assert fills(first) == [("b0", 100, 1), ("s0", 100, 1)]
    assert world.shard.due_us(SYMBOL) == 1
    assert fills(world.query(1, "b1").events) == [("b1", 100, 1), ("s1", 100, 1)]
    assert fills(world.tick().events) == [("b2", 100, 1), ("s2", 100, 1)]
    last = world.tick().events
    assert phases(last) == [(CONTINUOUS, PhaseReason.AUCTION_DONE, 0, 0)]
    assert (fills(last), world.shard.due_us(SYMBOL)) == ([], 0)


def test_what_is_canceled_meanwhile_does_not_trade(world: World) -> None:
    world.new(1, "b0", Side.BUY, 1, 100)
    world.new(1, "b1", Side.BUY, 1, 100)
    world.new(2, "s0", Side.SELL, 2, 100)
    assert fills(world.set_phase(CONTINUOUS).events) == [("b0", 100, 1), ("s0", 100, 1)]
    end = world.cancel(1, "x1", "b1").events
    assert fills(end) == []
    assert phases(end) == [(CONTINUOUS, PhaseReason.AUCTION_DONE, 0, 0)]
    assert [order.cl_ord_id for order in world.shard.matcher(SYMBOL).open_orders()] == ["s0"]


def test_a_cross_that_is_left_beyond_the_price_is_an_auction_of_its_own(world: World) -> None:
    # At 100 four lots trade. Without b2 what is left of s1 crosses b3, below that price.
    world.new(1, "b1", Side.BUY, 1, 106)
    world.new(1, "b2", Side.BUY, 3, 105)
    world.new(1, "b3", Side.BUY, 1, 99)
    world.new(2, "s1", Side.SELL, 4, 98)
    begun = world.set_phase(CONTINUOUS).events
    assert phases(begun) == [(AUCTION, PhaseReason.OPERATOR, 100, 4)]
    assert fills(begun) == [("b1", 100, 1), ("s1", 100, 1)]
    next_one = world.cancel(1, "x1", "b2").events
    # The last trade was at 100, and 99 is the nearest price at which anything can.
    assert phases(next_one) == [(AUCTION, PhaseReason.AUCTION_DONE, 99, 1)]
    assert fills(world.tick().events) == [("b3", 99, 1), ("s1", 99, 1)]
    assert phases(world.tick().events) == [(CONTINUOUS, PhaseReason.AUCTION_DONE, 0, 0)]


@pytest.mark.parametrize("phase", [HALTED, TradingPhase.CLOSED, PRE_OPEN])
def test_an_auction_can_be_stopped_and_another_begins_with_the_next_opening(
    world: World, phase: TradingPhase
) -> None:
    for number in range(2):
        world.new(1, f"b{number}", Side.BUY, 1, 100)
        world.new(2, f"s{number}", Side.SELL, 1, 100)
    world.set_phase(CONTINUOUS)
    assert phases(world.set_phase(phase).events) == [(phase, PhaseReason.OPERATOR, 0, 0)]
    assert (world.tick().events, world.shard.due_us(SYMBOL)) == ([], 0)
    again = world.set_phase(CONTINUOUS).events
    assert phases(again) == [(AUCTION, PhaseReason.OPERATOR, 100, 1)]
    assert fills(again) == [("b1", 100, 1), ("s1", 100, 1)]


def test_an_input_that_has_done_much_leaves_the_auction_to_the_next(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_the_end = 1 + EXPIRIES_PER_INPUT_MAX
    # As if this input's own part, three events, left room for no trade.
    monkeypatch.setattr(opening, "OUTPUT_EVENTS_MAX", at_the_end + 3)
    world.new(1, "b", Side.BUY, 1, 100)
    world.new(2, "s", Side.SELL, 1, 100)
    world.set_phase(CONTINUOUS)
    assert (phase_of(world), world.shard.due_us(SYMBOL)) == (AUCTION, 1)
    monkeypatch.setattr(opening, "OUTPUT_EVENTS_MAX", at_the_end + 4)
    assert fills(world.tick().events) == [("b", 100, 1), ("s", 100, 1)]


def test_the_largest_outputs_of_an_auction_are_within_the_limit() -> None:
    # What was due, a mass cancel, and then as many trades as there is room for.
    before = EXPIRIES_PER_INPUT_MAX + 1 + OPEN_ORDERS_PER_ACCOUNT_MAX
    room = OUTPUT_EVENTS_MAX - opening.EVENTS_AT_THE_END - before
    trades = min(AUCTION_TRADES_PER_INPUT_MAX, room // opening.EVENTS_PER_TRADE)
    assert trades > 0, "an auction gets on with every input"
    used = before + trades * opening.EVENTS_PER_TRADE + opening.EVENTS_AT_THE_END
    assert used <= OUTPUT_EVENTS_MAX
