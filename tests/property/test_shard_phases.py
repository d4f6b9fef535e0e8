"""Random commands amid changes of the trading phase: openings, halts, closes, and price bands.

`World` counts the money and checks book, orders and holds after every command. Here are the phases:
what trades when, that an auction is the one a slow obvious rule finds, however it is cut, and that
a copy of the state at any point goes on with the same bytes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import opening, trading
from engine.commands import decode_command
from engine.enums import Liquidity, PhaseReason, Side, TimeInForce, TradingPhase
from engine.events import OrderAccepted, OrderFilled, OrderReplaced, Output, PhaseChanged
from engine.expiry import NEVER
from engine.open_order import OpenOrder
from engine.settlement import encode_settlement
from engine.shard import Shard
from engine.snapshot import decode_snapshot, encode_snapshot
from tests.matching_world import SYMBOL, World, rules
from tests.property.test_shard_conservation import KINDS_OF_STEPS, Step, outputs, steps_of

STEPS = st.lists(steps_of([*KINDS_OF_STEPS, *["phase"] * 4]), min_size=20, max_size=50)
BANDS = st.builds(
    lambda band, halts: rules(min_price="3", band_ppm=band, halts=halts and band > 0),
    st.sampled_from([0, 20_000, 300_000]),
    st.booleans(),
)


def phase_before_each(world: World, steps: list[Step]) -> Iterator[tuple[TradingPhase, Output]]:
    """Run steps; yield the phase before each with its output."""
    before = TradingPhase.CONTINUOUS
    for output in outputs(world, steps):
        yield before, output
        before = world.shard.matcher(SYMBOL).phase


@settings(max_examples=120, deadline=None)
@given(BANDS, STEPS)
def test_each_phase_takes_and_trades_what_it_says(symbol_rules: object, steps: list[Step]) -> None:
    world = World(symbol_rules)  # type: ignore[arg-type]
    for before, output in phase_before_each(world, steps):
        phase = before
        for event in output.events:
            if isinstance(event, PhaseChanged):
                assert event.phase is not phase or event.reason is PhaseReason.AUCTION_DONE
                phase = event.phase
            elif isinstance(event, OrderFilled):
                auction = event.liquidity is Liquidity.AUCTION
                wanted = TradingPhase.OPENING_AUCTION if auction else TradingPhase.CONTINUOUS
                assert phase is wanted
            elif isinstance(event, OrderAccepted | OrderReplaced):
                assert phase in (TradingPhase.CONTINUOUS, TradingPhase.PRE_OPEN)
        matcher = world.shard.matcher(SYMBOL)
        assert matcher.phase is phase
        assert (world.shard.due_us(SYMBOL) == 1) == (phase is TradingPhase.OPENING_AUCTION)
        opg = [o for o in matcher.open_orders() if o.time_in_force is TimeInForce.OPG]
        assert not opg or phase not in (TradingPhase.CONTINUOUS, TradingPhase.CLOSED)
        if phase is TradingPhase.CLOSED and before is not phase:
            assert all(o.time_in_force is not TimeInForce.DAY for o in matcher.open_orders())


@settings(max_examples=80, deadline=None)
@given(STEPS, st.integers(1, 3))
def test_an_auction_in_parts_is_the_one_that_single_lots_make(
    steps: list[Step], part_max: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(opening, "AUCTION_TRADES_PER_INPUT_MAX", part_max)
        world = World()
        world.set_phase(TradingPhase.PRE_OPEN)
        for _ in outputs(world, [step for step in steps if step[0] != "phase"]):
            pass
        matcher = world.shard.matcher(SYMBOL)
        expected = naive_auction(list(matcher.book.by_priority()), matcher.last_ticks)
        parts = [world.set_phase(TradingPhase.CONTINUOUS)]
        while matcher.phase is TradingPhase.OPENING_AUCTION:
            parts.append(world.tick())
        events = [event for part in parts for event in part.events]
        assert all(
            sum(isinstance(event, OrderFilled) for event in part.events) <= 2 * part_max
            for part in parts[:-1]
        )
        assert trades_in(events) == expected
        matcher.book.check_invariants()


ENDING = st.tuples(
    st.sampled_from([TimeInForce.DAY, TimeInForce.DAY, TimeInForce.OPG, TimeInForce.GTC]),
    st.sampled_from(Side),
    st.integers(1, 9),
    st.integers(98, 102),
)
TURNS = st.sampled_from(
    [TradingPhase.CLOSED, TradingPhase.PRE_OPEN, *[TradingPhase.CONTINUOUS] * 2]
)


@settings(max_examples=120, deadline=None)
@given(
    st.lists(ENDING, min_size=8, max_size=20),
    st.lists(TURNS, min_size=1, max_size=3),
    st.lists(steps_of([*KINDS_OF_STEPS, *["phase"] * 6]), max_size=20),
    st.integers(1, 2),
)
def test_what_is_to_end_never_trades_and_keeps_its_terms(
    orders: list[tuple[TimeInForce, Side, int, int]],
    turns: list[TradingPhase],
    steps: list[Step],
    at_once: int,
) -> None:
    def run() -> Iterator[Output]:
        """Gather orders of which many end at once; then whatever may happen to them."""
        yield world.set_phase(TradingPhase.PRE_OPEN)
        for number, (time_in_force, side, qty, price) in enumerate(orders):
            yield world.new(1, f"e{number}", side, qty, price, time_in_force=time_in_force)
        for phase in turns:
            yield world.set_phase(phase)
        yield from outputs(world, steps)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trading, "EXPIRIES_PER_INPUT_MAX", at_once)
        world = World()
        matcher = world.shard.matcher(SYMBOL)
        ended: set[int] = set()
        before: dict[int, OpenOrder] = {}
        for output in run():
            ended |= {o.order_id for o in before.values() if _expire_us(o) <= output.ts_us}
            for event in output.events:
                if isinstance(event, OrderFilled | OrderReplaced):
                    assert event.order_seq not in ended
                if isinstance(event, PhaseChanged) and event.phase in _ENDS:
                    over = _ENDS[event.phase]
                    ended |= {o.order_id for o in before.values() if o.time_in_force in over}
            before = {order.order_id: order for order in matcher.open_orders()}
        while world.shard.due_us(SYMBOL) == 1:
            world.tick()
        assert ended.isdisjoint(order.order_id for order in matcher.open_orders())
        assert matcher.phase is not TradingPhase.OPENING_AUCTION


_ENDS = {
    TradingPhase.CONTINUOUS: (TimeInForce.OPG,),
    TradingPhase.CLOSED: (TimeInForce.DAY, TimeInForce.OPG),
}


def _expire_us(order: OpenOrder) -> int:
    return (order.conditions.expire_us if order.conditions is not None else 0) or NEVER


def trades_in(events: list[object]) -> tuple[int, Counter[int]]:
    """Return the price of an auction, 0 without one, and what each order traded in it."""
    traded: Counter[int] = Counter()
    price = 0
    for event in events:
        if isinstance(event, PhaseChanged) and event.auction_lots:
            price = event.auction_ticks
        if isinstance(event, OrderFilled) and event.liquidity is Liquidity.AUCTION:
            assert event.last_price_ticks == price
            traded[event.order_seq] += event.last_qty_lots
    return price, traded


def naive_auction(orders: list[OpenOrder], reference_ticks: int) -> tuple[int, Counter[int]]:
    """Return the same by trying every price, and by handing out single lots."""
    total = {order: order.leaves_qty_lots + order.hidden_lots for order in orders}
    best: tuple[int, int, int, int] = (0, 0, 0, 0)
    # Nothing changes between two prices of orders but how far the last trade is.
    around = {order.price_ticks + more for order in orders for more in (-1, 0, 1)}
    for price in around | {reference_ticks}:
        sides = [
            sum(total[o] for o in orders if o.side is side and sign * o.price_ticks <= sign * price)
            for side, sign in ((Side.BUY, -1), (Side.SELL, 1))
        ]
        distance = abs(price - reference_ticks) if reference_ticks else 0
        best = min(best, (-min(sides), abs(sides[0] - sides[1]), distance, price))
    price, volume = best[3], -best[0]
    traded: Counter[int] = Counter()
    for side, sign in ((Side.BUY, -1), (Side.SELL, 1)):
        left = volume
        prices = {o.price_ticks for o in orders if sign * o.price_ticks <= sign * price}
        for level in sorted(prices, key=lambda one: sign * one):
            queue = [o for o in orders if o.side is side and o.price_ticks == level]
            left = take_by_parts(queue, left, traded)
    return (price if volume else 0), +traded


def take_by_parts(queue: list[OpenOrder], wanted: int, traded: Counter[int]) -> int:
    """Take lots from a queue: what is shown first, then part after part in turn."""
    waiting = [(order, order.leaves_qty_lots, order.hidden_lots) for order in queue]
    while waiting and wanted:
        order, shown, hidden = waiting.pop(0)
        taken = min(shown, wanted)
        traded[order.order_id] += taken
        wanted -= taken
        if hidden and taken == shown:
            assert order.conditions is not None
            part = min(hidden, order.conditions.max_floor_lots)
            waiting.append((order, part, hidden - part))
    return wanted


@settings(max_examples=60, deadline=None)
@given(BANDS, STEPS, st.integers(1, 2), st.integers(0, 60))
def test_a_snapshot_at_any_point_goes_on_with_the_same_bytes(
    symbol_rules: object, steps: list[Step], part_max: int, cut: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(opening, "AUCTION_TRADES_PER_INPUT_MAX", part_max)
        world = World(symbol_rules)  # type: ignore[arg-type]
        for _ in outputs(world, steps):
            pass
        shard = Shard()
        for seq, data in enumerate(world.commands, start=1):
            applied = shard.apply(SYMBOL, seq, world.stamps[seq - 1], decode_command(data))
            assert encode_settlement(applied) == world.settlements[seq - 1]
            if seq == 1 + cut % len(world.commands):
                image = encode_snapshot(SYMBOL, shard.state(SYMBOL))
                name, state = decode_snapshot(image, name="copy")
                shard = Shard()
                shard.restore_symbol(name, state)
        assert shard.state_hash(SYMBOL) == world.shard.state_hash(SYMBOL)
