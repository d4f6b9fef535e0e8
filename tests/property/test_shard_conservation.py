"""Random commands of several accounts: money, books and bytes stay right after every one.

`World` checks after each command that money is conserved per input, that no balance is negative,
that the engine's holds and settlement's agree, and the invariants of book and orders. Here are the
commands, the naive book as a second opinion, and replay as a third.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.book_naive import NaiveBook
from engine.commands import DefineSymbol, NewOrder, ReplaceOrder, decode_command
from engine.enums import (
    Liquidity,
    OrdType,
    SelfTradePrevention,
    Side,
    TimeInForce,
)
from engine.events import (
    CancelRejected,
    OrderAccepted,
    OrderCanceled,
    OrderFilled,
    OrderRejected,
    OrderReplaced,
    Output,
)
from engine.instrument import SymbolRules
from engine.settlement import encode_settlement
from engine.shard import Shard
from router.open_orders import OpenOrder
from tests.matching_world import SYMBOL, World, rules

ACCOUNTS = (1, 2, 3)
RARE = ["query", "cancel all"]
Step = tuple[str, int, Side, int, int, int, dict[str, object]]

LIMIT, MARKET = OrdType.LIMIT, OrdType.MARKET
KINDS = (
    *[(LIMIT, TimeInForce.GTC, False)] * 6,
    *[(LIMIT, time_in_force, False) for time_in_force in TimeInForce],
    (LIMIT, TimeInForce.GTC, True),
    (MARKET, TimeInForce.IOC, False),
    (MARKET, TimeInForce.FOK, False),
    (MARKET, TimeInForce.GTC, False),
    (LIMIT, TimeInForce.IOC, True),
)
TERMS = st.builds(
    lambda kind, stp: {
        "ord_type": kind[0],
        "time_in_force": kind[1],
        "post_only": kind[2],
        "stp": stp,
    },
    st.sampled_from(KINDS),
    st.sampled_from(SelfTradePrevention),
)
STEPS = st.tuples(
    st.sampled_from(["new"] * 8 + ["replace", "stale replace", "lower", "cancel"] * 2 + RARE),
    st.sampled_from(ACCOUNTS),
    st.sampled_from(Side),
    st.integers(1, 8) | st.integers(1, 900),
    st.integers(95, 105) | st.integers(1, 1000),
    st.integers(0, 30),
    TERMS,
)
RULES = st.builds(
    lambda maker, taker: rules(maker_ppm=maker, taker_ppm=taker),
    st.sampled_from([0, 1, 333, 10_000, 1_000_000]),
    st.sampled_from([0, 7, 20_000, 1_000_000]),
)


def outputs(world: World, steps: list[Step]) -> Iterator[Output]:
    """Run the steps that admission lets in."""
    first_read: dict[tuple[int, str], OpenOrder] = {}
    for number, (kind, account, side, qty, price, pick, terms) in enumerate(steps):
        cl_ord_id = f"c{number}"
        for key in world.opens:
            first_read.setdefault(key, world.open_order(*key) or first_read[key])
        if kind == "new":
            hold = world.rules.hold_of(side, price, qty)
            if world.balance(account, world.rules.hold_asset(side))[0] >= hold:
                # The id of an earlier step, now and then: a duplicate, unless that was refused.
                used = cl_ord_id if pick else f"c{number // 2}"
                yield world.new(account, used, side, qty, price, **terms)  # type: ignore[arg-type]
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
        else:
            # A stale replace is reserved for by what the gateway read when the order was new.
            known = first_read.get((account, orig)) if kind == "stale replace" else None
            command = replace_step(
                world, kind, (account, orig), cl_ord_id, (side, qty, price), known
            )
            if world.can_reserve(command):
                yield world.apply(command)


def replace_step(
    world: World,
    kind: str,
    key: tuple[int, str],
    cl_ord_id: str,
    wanted: tuple[Side, int, int],
    known: OpenOrder | None,
) -> ReplaceOrder:
    """Return a replace: to any price and quantity, or lower at the same price."""
    side, qty, price = wanted
    order = world.open_order(*key)
    if order is not None:
        side, qty = order.side, qty + order.cum_lots
        if kind == "lower":
            price, qty = order.price_ticks, order.cum_lots + max(1, order.leaves_lots // 2)
    post_only = qty % 7 == 0
    return world.replacing(
        key[0], cl_ord_id, key[1], side, qty, price, post_only=post_only, found=known
    )


def follow(book: NaiveBook, output: Output) -> None:
    """Do to the naive book what an output says, and check that its trades are the book's own."""
    incoming: OrderAccepted | OrderReplaced | None = None
    left = 0
    trades: list[tuple[int, int, int]] = []
    for event in output.events:
        if isinstance(event, OrderAccepted):
            incoming, left = event, event.leaves_lots
        elif isinstance(event, OrderReplaced):
            if event.kept_priority:
                book.reduce(event.order_seq, event.old_leaves_lots - event.leaves_lots)
            else:
                assert book.cancel(event.order_seq) is not None
                incoming, left = event, event.leaves_lots
        elif isinstance(event, OrderFilled):
            if event.liquidity is Liquidity.MAKER:
                assert incoming is not None
                trades = book.new_ioc(
                    incoming.order_seq, incoming.side, incoming.price_ticks, event.last_qty_lots
                )
                assert trades == [(event.order_seq, event.last_price_ticks, event.last_qty_lots)]
            left -= event.last_qty_lots if event.liquidity is Liquidity.TAKER else 0
        elif isinstance(event, OrderCanceled):
            if incoming is not None and event.order_seq == incoming.order_seq:
                assert event.canceled_lots == left
                left = 0
            else:
                order = book.cancel(event.order_seq)
                assert order is not None
                assert order.leaves_qty_lots == event.canceled_lots
    if left:
        assert incoming is not None
        assert (
            book.new_limit(incoming.order_seq, incoming.side, incoming.price_ticks, left) == []
        ), "what rests does not cross"


@settings(max_examples=120, deadline=None)
@given(RULES, st.lists(STEPS, min_size=20, max_size=50))
def test_every_command_keeps_money_and_books_right(
    symbol_rules: SymbolRules, steps: list[Step]
) -> None:
    world = World(symbol_rules)
    naive = NaiveBook()
    for output in outputs(world, steps):
        follow(naive, output)
        book = world.shard.matcher(SYMBOL).book
        assert book.content() == naive.content()
        assert [event.index for event in output.events] == list(range(len(output.events)))
        check_self_trades(output)
        check_reservations(output)


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
