"""Random commands of several accounts: money, books and bytes stay right after every one.

`World` checks after each command that money is conserved per input, that no balance is negative,
that the engine's holds and settlement's agree, and the invariants of book and orders. Here are the
commands, the naive book as a second opinion, and replay as a third.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import trading
from engine.commands import (
    DefineSymbol,
    NewOrder,
    OrderConditions,
    ReplaceOrder,
    decode_command,
)
from engine.enums import (
    Liquidity,
    OrdType,
    SelfTradePrevention,
    Side,
    TimeInForce,
    TradingPhase,
)
from engine.events import (
    CancelRejected,
    OrderAccepted,
    OrderFilled,
    OrderRejected,
    Output,
)
from engine.instrument import SymbolRules
from engine.settlement import encode_settlement
from engine.shard import Shard
from router.open_orders import OpenOrder
from tests.matching_follower import Follower
from tests.matching_world import SYMBOL, UNIT, World, rules

ACCOUNTS = (1, 2, 3)
RARE = ["query", "cancel all", "mass cancel", "tick"]
PHASES = [
    *[TradingPhase.PRE_OPEN, TradingPhase.CONTINUOUS] * 3,
    *[phase for phase in TradingPhase if phase is not TradingPhase.PRE_OPEN],
]
Step = tuple[str, int, Side, int, int, int, dict[str, object]]

LIMIT, MARKET, STOP, STOP_LIMIT = OrdType.LIMIT, OrdType.MARKET, OrdType.STOP, OrdType.STOP_LIMIT
DAY, GTC, GTD, IOC = TimeInForce.DAY, TimeInForce.GTC, TimeInForce.GTD, TimeInForce.IOC
#: Type, time in force, post-only, and which conditions.
KINDS = (
    *[(LIMIT, GTC, False, "")] * 6,
    *[(LIMIT, time_in_force, False, "") for time_in_force in TimeInForce],
    (LIMIT, GTC, True, ""),
    (MARKET, IOC, False, ""),
    (MARKET, TimeInForce.FOK, False, ""),
    (MARKET, GTC, False, ""),
    (LIMIT, IOC, True, ""),
    *[(STOP, GTC, False, "stop"), (STOP, GTD, False, "stop till")] * 2,
    *[(STOP_LIMIT, DAY, False, "stop"), (STOP_LIMIT, GTD, False, "stop show till")] * 2,
    *[(LIMIT, GTC, False, "show"), (LIMIT, DAY, False, "show")] * 2,
    *[(LIMIT, GTD, False, "till"), (LIMIT, GTD, True, "till show")],
    *[(LIMIT, GTC, False, "min"), (LIMIT, IOC, False, "min"), (MARKET, IOC, False, "min")],
    *[(MARKET, IOC, False, "cash")] * 2,
)
TERMS = st.builds(
    lambda kind, stp, size: {
        "ord_type": kind[0],
        "time_in_force": kind[1],
        "post_only": kind[2],
        "stp": stp,
        "special": kind[3],
        "size": size,
    },
    st.sampled_from(KINDS),
    st.sampled_from(SelfTradePrevention),
    st.integers(1, 40),
)


def steps_of(kinds: list[str]) -> st.SearchStrategy[Step]:
    """Return steps of these kinds, each as often as it stands there."""
    return st.tuples(
        st.sampled_from(kinds),
        st.sampled_from(ACCOUNTS),
        st.sampled_from(Side),
        st.integers(1, 8) | st.integers(1, 900),
        st.integers(95, 105) | st.integers(1, 1000),
        st.integers(0, 30),
        TERMS,
    )


KINDS_OF_STEPS = ["new"] * 8 + ["replace", "stale replace", "lower", "cancel"] * 2 + RARE
STEPS = steps_of(KINDS_OF_STEPS)
RULES = st.builds(
    lambda maker, taker: rules(maker_ppm=maker, taker_ppm=taker),
    st.sampled_from([0, 1, 333, 10_000, 1_000_000]),
    st.sampled_from([0, 7, 20_000, 1_000_000]),
)


def order_terms(world: World, terms: dict[str, object], price: int, qty: int) -> dict[str, object]:
    """Return the terms of an order with its conditions, made to fit its price and quantity."""
    special, size = str(terms["special"]), terms["size"]
    assert isinstance(size, int)
    if not special:
        conditions = None
    else:
        conditions = OrderConditions(
            stop_ticks=max(1, price - 20 + size) if "stop" in special else 0,
            max_floor_lots=min(qty, 1 + size // 4) if "show" in special else 0,
            min_qty_lots=min(qty, size) if "min" in special else 0,
            expire_us=world.ts_us + 1_000 * size if "till" in special else 0,
            cash=price * qty * 9 if "cash" in special else 0,
        )
    plain = {name: value for name, value in terms.items() if name not in ("special", "size")}
    return plain | {"conditions": conditions}


def outputs(world: World, steps: list[Step]) -> Iterator[Output]:
    """Run the steps that admission lets in."""
    first_read: dict[tuple[int, str], OpenOrder] = {}
    for number, (kind, account, side, qty, price, pick, terms) in enumerate(steps):
        cl_ord_id = f"c{number}"
        for key in world.opens:
            first_read.setdefault(key, world.open_order(*key) or first_read[key])
        if kind == "new":
            # The id of an earlier step, now and then: a duplicate, unless that was refused.
            used = cl_ord_id if pick else f"c{number // 2}"
            yield from new_order(world, account, used, side, qty, price, terms)
            continue
        if kind in ("phase", "tick"):
            yield from_the_venue(world, kind, pick)
            continue
        # Mostly an open order of anybody; else one that is done or never was.
        names = [*world.opens, *world.opens, (account, f"c{pick}")]
        account, orig = names[pick % len(names)]
        if kind == "query":
            yield world.query(account, orig)
        elif kind == "cancel":
            yield world.cancel(account, cl_ord_id, orig)
        elif kind == "cancel all":
            yield world.cancel_all(account)
        elif kind == "mass cancel":
            yield world.mass_cancel(account, cl_ord_id, None if qty % 3 else side)
        else:
            # A stale replace is reserved for by what the gateway read when the order was new.
            known = first_read.get((account, orig)) if kind == "stale replace" else None
            command = replace_step(
                world, kind, (account, orig), cl_ord_id, (side, qty, price), known
            )
            if world.can_reserve(command):
                yield world.apply(command)


def from_the_venue(world: World, kind: str, pick: int) -> Output:
    """Send what no account does: a Tick, or a change of the trading phase."""
    if kind == "tick":
        return world.tick(world.ts_us + 1_000 * pick)
    return world.set_phase(PHASES[pick % len(PHASES)])


def new_order(
    world: World,
    account: int,
    cl_ord_id: str,
    side: Side,
    qty: int,
    price: int,
    terms: dict[str, object],
) -> Iterator[Output]:
    """Send a new order, if there is money for it."""
    if terms["special"] == "cash":
        side = Side.BUY
    full = order_terms(world, terms, price, qty)
    conditions = full["conditions"]
    assert isinstance(conditions, OrderConditions | None)
    hold = world.rules.hold_of(side, price, qty)
    if conditions is not None and conditions.cash:
        qty, hold = 0, conditions.cash
    if world.balance(account, world.rules.hold_asset(side))[0] >= hold:
        yield world.new(account, cl_ord_id, side, qty, price, **full)  # type: ignore[arg-type]


def replace_step(
    world: World,
    kind: str,
    key: tuple[int, str],
    cl_ord_id: str,
    wanted: tuple[Side, int, int],
    known: OpenOrder | None,
) -> ReplaceOrder:
    """Return a replace: to any price and quantity, or lower at the same price.

    An order that waits keeps waiting, mostly; others keep their conditions or lose them.
    """
    side, qty, price = wanted
    order = world.open_order(*key)
    ord_type, time_in_force, conditions = LIMIT, GTC, OrderConditions()
    if order is not None:
        side, qty = order.side, qty + order.cum_lots
        if kind == "lower":
            price, qty = order.price_ticks, order.cum_lots + max(1, order.leaves_lots // 2)
        if not order.working or qty % 3:
            ord_type, time_in_force = order.ord_type, order.time_in_force
            conditions = OrderConditions(
                stop_ticks=order.stop_ticks + (0 if kind == "lower" or order.working else qty % 3),
                max_floor_lots=min(order.max_floor_lots, qty),
                expire_us=order.expire_us + (1_000 if order.expire_us and qty % 2 else 0),
            )
    return world.replacing(
        key[0],
        cl_ord_id,
        key[1],
        side,
        qty,
        price,
        ord_type=ord_type,
        time_in_force=time_in_force,
        post_only=qty % 7 == 0,
        found=known,
        conditions=conditions if conditions != OrderConditions() else None,
    )


@settings(max_examples=120, deadline=None)
@given(RULES, st.lists(STEPS, min_size=20, max_size=50))
def test_every_command_keeps_money_and_books_right(
    symbol_rules: SymbolRules, steps: list[Step]
) -> None:
    world = World(symbol_rules)
    follower = Follower()
    for output in outputs(world, steps):
        follower.apply(output)
        check_follower(world, follower)
        assert [event.index for event in output.events] == list(range(len(output.events)))
        check_self_trades(output)
        check_reservations(output)
        check_cash(output)


@settings(max_examples=60, deadline=None)
@given(st.lists(STEPS, min_size=20, max_size=50))
def test_stops_that_wait_for_the_next_input_are_not_forgotten(steps: list[Step]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trading, "STOP_TRIGGERS_PER_INPUT_MAX", 1)
        world = World()
        follower = Follower(triggers_max=1)
        for output in outputs(world, steps):
            follower.apply(output)
            check_follower(world, follower)
        while world.shard.due_us(SYMBOL) == 1:
            follower.apply(world.tick())
            check_follower(world, follower)


def check_follower(world: World, follower: Follower) -> None:
    """Book and stop orders are those that the outputs tell of, and nothing is overdue."""
    matcher = world.shard.matcher(SYMBOL)
    assert matcher.book.content() == follower.book.content()
    assert matcher.last_ticks == follower.last_ticks
    assert {(order.order_id, order.leaves_qty_lots) for order in matcher.stops.orders.values()} == {
        (stop.order_seq, stop.leaves_lots) for stop in follower.stops
    }
    times = [o.conditions.expire_us for o in matcher.open_orders() if o.conditions is not None]
    due_us = min((time for time in times if time), default=0)
    left = follower.next_stop() is not None
    assert world.shard.due_us(SYMBOL) == (1 if left else due_us)
    assert not due_us or due_us > world.ts_us


def check_cash(output: Output) -> None:
    """An order for cash costs no more than that."""
    cash = {
        event.order_seq: event.conditions.cash
        for event in output.events
        if isinstance(event, OrderAccepted) and event.conditions is not None
    }
    for order_seq, most in cash.items():
        fills = [
            e for e in output.events if isinstance(e, OrderFilled) and e.order_seq == order_seq
        ]
        paid = sum(UNIT * fill.last_price_ticks * fill.last_qty_lots + fill.fee for fill in fills)
        assert not most or paid <= most


def check_reservations(output: Output) -> None:
    """What a gateway reserves for a replace is enough, whatever was filled since it read."""
    for event in output.events:
        assert not (isinstance(event, CancelRejected) and event.text.startswith("Reserved"))


def check_self_trades(output: Output) -> None:
    """No order trades with its own account, unless it came in with prevention off."""
    stp = {e.order_seq: e.stp for e in output.events if isinstance(e, OrderAccepted)}
    fills = [event for event in output.events if isinstance(event, OrderFilled)]
    for maker, taker in zip(fills[::2], fills[1::2], strict=True):
        assert (maker.liquidity, taker.liquidity) == (Liquidity.MAKER, Liquidity.TAKER)
        assert (maker.trade, maker.last_qty_lots) == (taker.trade, taker.last_qty_lots)
        if maker.account == taker.account and taker.order_seq in stp:
            assert stp[taker.order_seq] is SelfTradePrevention.NONE


@settings(max_examples=40, deadline=None)
@given(st.lists(STEPS, min_size=20, max_size=50))
def test_the_same_stream_gives_the_same_bytes(steps: list[Step]) -> None:
    world = World()
    for _ in outputs(world, steps):
        pass
    shard = Shard()
    for seq, (data, settlement) in enumerate(
        zip(world.commands, world.settlements, strict=True), start=1
    ):
        applied = shard.apply(SYMBOL, seq, world.stamps[seq - 1], decode_command(data))
        assert encode_settlement(applied) == settlement
    assert shard.state_hash(SYMBOL) == world.shard.state_hash(SYMBOL)


@settings(max_examples=40, deadline=None)
@given(st.lists(STEPS, min_size=10, max_size=30), st.integers(0, 1_000_000))
def test_refused_orders_leave_everything_as_it_was(steps: list[Step], short: int) -> None:
    world = World()
    for _ in outputs(world, steps):
        pass
    # Nothing is left then that ends by the clock.
    world.tick(world.ts_us + 1_000_000)
    balances = {key: list(value) for key, value in world.balances.items()}
    opens = dict(world.opens)
    hold = world.rules.hold_of(Side.BUY, 100, 5)
    if world.balance(1, "EUR")[0] >= hold:
        output = world.new(1, "short", Side.BUY, 5, 100, reserved=min(short, hold - 1))
        assert [type(event) for event in output.events] == [OrderRejected]
        assert {key: world.balances[key] for key in balances} == balances
        assert world.opens == opens


def test_symbols_do_not_depend_on_each_other() -> None:
    alone, mixed = World(), Shard()
    for number in range(40):
        side = Side.BUY if number % 3 else Side.SELL
        alone.new(1 + number % 3, f"c{number}", side, 1 + number % 5, 95 + number % 11)
    other = rules()
    for seq, data in enumerate(alone.commands, start=1):
        command = decode_command(data)
        mixed.apply(SYMBOL, seq, 1_000 * seq, command)
        if isinstance(command, DefineSymbol):
            command = DefineSymbol("x", msgspec.structs.replace(other, symbol="PIG-EUR"))
        elif isinstance(command, NewOrder) and seq % 2:
            continue
        mixed.apply("PIG-EUR", mixed.position("PIG-EUR") + 1, 1_000 * seq, command)
    assert mixed.state_hash(SYMBOL) == alone.shard.state_hash(SYMBOL)
