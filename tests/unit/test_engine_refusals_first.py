"""What a request is refused for first, and what a mass cancel of all symbols says of a halt."""

from __future__ import annotations

import pytest

from engine.commands import OrderConditions
from engine.enums import (
    MassCancelRejectReason,
    MassCancelRequestType,
    OrdRejReason,
    OrdType,
    Side,
    TimeInForce,
    TradingPhase,
)
from engine.events import MassCancelReported, OrderRejected
from tests.matching_world import World

ME, OTHER = 1, 2
ALL = MassCancelRequestType.ALL


@pytest.mark.parametrize(
    ("phase", "reason", "text"),
    [
        (TradingPhase.CONTINUOUS, OrdRejReason.OTHER, "Market order: there is no {}"),
        (TradingPhase.PRE_OPEN, OrdRejReason.UNSUPPORTED_CHARACTERISTIC, "Trading phase: "),
        (TradingPhase.HALTED, OrdRejReason.EXCHANGE_CLOSED, "Trading phase: COW-EUR is halted"),
    ],
)
@pytest.mark.parametrize("side", Side)
@pytest.mark.parametrize("cash", [0, 5_000])
def test_market_order_that_nobody_would_trade_with(
    phase: TradingPhase, reason: OrdRejReason, text: str, side: Side, cash: int
) -> None:
    world = World()
    if phase is not TradingPhase.CONTINUOUS:
        world.set_phase(phase)
    before = world.balance(ME, "EUR")[:], world.balance(ME, "COW")[:]
    (event,) = world.new(
        ME,
        "m",
        side,
        0 if cash else 5,
        0,
        ord_type=OrdType.MARKET,
        time_in_force=TimeInForce.IOC,
        reserved=0,
        conditions=OrderConditions(cash=cash) if cash else None,
    ).events
    assert isinstance(event, OrderRejected) and event.reason is reason
    assert event.text.startswith(text.format("offer" if side is Side.BUY else "bid"))
    assert (world.balance(ME, "EUR"), world.balance(ME, "COW")) == before


def test_halted_symbol_says_that_it_keeps_orders() -> None:
    world = World()
    world.new(ME, "a", Side.BUY, 1, 100)
    world.set_phase(TradingPhase.HALTED)
    (event,) = world.mass_cancel(ME, "q", request_type=ALL).events
    assert isinstance(event, MassCancelReported)
    assert (event.request_type, event.response, event.affected) == (ALL, 0, 0)
    assert event.reason is MassCancelRejectReason.OTHER
    assert event.text == "Trading phase: COW-EUR is halted"
    assert (ME, "a") in world.opens


@pytest.mark.parametrize(("account", "side"), [(ME, Side.SELL), (OTHER, None)])
def test_halted_symbol_without_such_orders_says_nothing(account: int, side: Side | None) -> None:
    world = World()
    world.new(ME, "a", Side.BUY, 1, 100)
    world.set_phase(TradingPhase.HALTED)
    assert not world.mass_cancel(account, "q", side, ALL).events
