"""What an order would trade is what it trades, with icebergs and its own orders on the way."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import lookahead, trading
from engine.commands import NewOrder, OrderConditions, decode_command
from engine.enums import Liquidity, OrdType, SelfTradePrevention, Side, TimeInForce
from engine.events import OrderAccepted, OrderFilled, OrderRejected, Output
from engine.lookahead import can_trade, trades_ahead
from tests.matching_world import SYMBOL, UNIT, World

OFFERS = st.lists(
    st.tuples(st.integers(1, 3), st.integers(1, 12), st.integers(100, 104), st.integers(0, 4)),
    max_size=12,
)
STP = st.sampled_from(SelfTradePrevention)


def world_with(offers: list[tuple[int, int, int, int]]) -> World:
    """Return a world with offers: account, lots, price, and what they show (0: all)."""
    world = World()
    for number, (account, qty, price, show) in enumerate(offers):
        conditions = OrderConditions(max_floor_lots=min(show, qty)) if show else None
        world.new(account, f"o{number}", Side.SELL, qty, price, conditions=conditions)
    return world


def take_all(world: World, limit: int, stp: SelfTradePrevention) -> Output:
    """Send a buy of account 1 that takes whatever it can."""
    return world.new(
        1, "all", Side.BUY, 500, limit, time_in_force=TimeInForce.IOC, stp=stp, reserved=999_000
    )


def taken(output: Output) -> list[tuple[int, int]]:
    """Return price and lots of each trade."""
    return [
        (event.last_price_ticks, event.last_qty_lots)
        for event in output.events
        if isinstance(event, OrderFilled) and event.liquidity is Liquidity.TAKER
    ]


@settings(max_examples=150, deadline=None)
@given(OFFERS, st.integers(99, 104), STP, st.integers(1, 14))
def test_trades_ahead_are_the_trades_made(
    offers: list[tuple[int, int, int, int]], limit: int, stp: SelfTradePrevention, matches: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        for module in (lookahead, trading):
            patch.setattr(module, "MATCHES_PER_ORDER_MAX", matches)
        world = world_with(offers)
        matcher = world.shard.matcher(SYMBOL)
        before = matcher.content()
        output = take_all(world, limit, stp)
        command = decode_command(world.commands[-1])
        assert isinstance(command, NewOrder)
        book = world_with(offers).shard.matcher(SYMBOL)
        assert list(trades_ahead(book.book, command)) == taken(output)
        total = sum(lots for _, lots in taken(output))
        assert can_trade(book.book, command, total) == bool(total)
        assert not can_trade(book.book, command, total + 1)
        assert book.content() == before, "looking ahead changes nothing"


@settings(max_examples=150, deadline=None)
@given(OFFERS, st.integers(99, 104), STP, st.integers(1, 60_000))
def test_cash_buys_as_much_as_it_pays_for(
    offers: list[tuple[int, int, int, int]], limit: int, stp: SelfTradePrevention, cash: int
) -> None:
    whole = taken(take_all(world_with(offers), limit, stp))
    each = [price for price, lots in whole for _ in range(lots)]
    affordable = 0
    while affordable < len(each) and cost(each[: affordable + 1]) <= cash:
        affordable += 1
    output = world_with(offers).new(
        1,
        "cash",
        Side.BUY,
        0,
        limit,
        ord_type=OrdType.MARKET,
        time_in_force=TimeInForce.IOC,
        stp=stp,
        conditions=OrderConditions(cash=cash),
    )
    first = output.events[0]
    assert isinstance(first, OrderAccepted if affordable else OrderRejected)
    assert [price for price, lots in taken(output) for _ in range(lots)] == each[:affordable]


def cost(prices: list[int]) -> int:
    """Return what lots at these prices cost a taker at 2 %, one by one."""
    notional = UNIT * sum(prices)
    return notional + -(-notional * 2 // 100)
