"""What each phase takes: the table of engine.phases, cell by cell."""

from __future__ import annotations

import msgspec
import pytest

from engine.commands import NewOrder, OrderConditions
from engine.enums import (
    OrdRejReason,
    OrdType,
    SelfTradePrevention,
    Side,
    TimeInForce,
    TradingPhase,
)
from engine.phases import check_cancel, check_order

LIMIT = NewOrder(
    account=1,
    session=1,
    msg_seq_num=2,
    cl_ord_id="a",
    side=Side.BUY,
    ord_type=OrdType.LIMIT,
    time_in_force=TimeInForce.DAY,
    post_only=False,
    stp=SelfTradePrevention.NONE,
    price_ticks=100,
    qty_lots=1,
    rules_version=1,
    reserved=100,
)
OPG = msgspec.structs.replace(LIMIT, time_in_force=TimeInForce.OPG)


@pytest.mark.parametrize(
    ("phase", "words", "takes_orders", "takes_cancels"),
    [
        (TradingPhase.CONTINUOUS, "open", True, True),
        (TradingPhase.PRE_OPEN, "in pre-open", True, True),
        (TradingPhase.OPENING_AUCTION, "in its opening auction", False, True),
        (TradingPhase.HALTED, "halted", False, False),
        (TradingPhase.CANCEL_ONLY, "cancel-only", False, True),
        (TradingPhase.CLOSED, "closed", False, True),
    ],
)
def test_what_a_phase_takes(
    phase: TradingPhase, words: str, *, takes_orders: bool, takes_cancels: bool
) -> None:
    text = f"Trading phase: ALFA-USD is {words}"
    refusal = check_order("ALFA-USD", phase, LIMIT, is_behind=False)
    expected = None if takes_orders else (OrdRejReason.EXCHANGE_CLOSED, text)
    assert refusal == expected
    assert check_cancel("ALFA-USD", phase) == (None if takes_cancels else text)


@pytest.mark.parametrize(
    ("phase", "words"),
    [(TradingPhase.CONTINUOUS, "open"), (TradingPhase.PRE_OPEN, "in pre-open")],
)
def test_nothing_is_taken_while_orders_are_still_to_end(phase: TradingPhase, words: str) -> None:
    text = f"Trading phase: ALFA-USD is {words}, but orders whose time is over are still to end"
    refusal = check_order("ALFA-USD", phase, LIMIT, is_behind=True)
    assert refusal == (OrdRejReason.OTHER, text)


def test_a_phase_that_takes_nothing_says_so_while_orders_are_still_to_end() -> None:
    refusal = check_order("ALFA-USD", TradingPhase.HALTED, LIMIT, is_behind=True)
    text = "Trading phase: ALFA-USD is halted"
    assert refusal == (OrdRejReason.EXCHANGE_CLOSED, text)


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"ord_type": OrdType.MARKET, "time_in_force": TimeInForce.IOC}, "a market order"),
        ({"time_in_force": TimeInForce.IOC}, "an IOC or FOK order"),
        ({"time_in_force": TimeInForce.FOK}, "an IOC or FOK order"),
        ({"post_only": True}, "a post-only order"),
        ({"conditions": OrderConditions(min_qty_lots=1)}, "a minimum quantity"),
    ],
)
def test_pre_open_takes_only_what_can_rest(changes: dict[str, object], kind: str) -> None:
    order = msgspec.structs.replace(LIMIT, **changes)
    assert check_order("ALFA-USD", TradingPhase.CONTINUOUS, order, is_behind=False) is None
    refusal = check_order("ALFA-USD", TradingPhase.PRE_OPEN, order, is_behind=False)
    text = f"Trading phase: ALFA-USD is in pre-open, which does not take {kind}"
    assert refusal == (OrdRejReason.UNSUPPORTED_CHARACTERISTIC, text)


@pytest.mark.parametrize(
    "changes",
    [
        {"conditions": OrderConditions(max_floor_lots=1)},
        {"ord_type": OrdType.STOP, "conditions": OrderConditions(stop_ticks=101)},
        {"time_in_force": TimeInForce.GTD, "conditions": OrderConditions(expire_us=5)},
    ],
)
def test_pre_open_takes_icebergs_stops_and_timed_orders(changes: dict[str, object]) -> None:
    order = msgspec.structs.replace(LIMIT, **changes)
    assert check_order("ALFA-USD", TradingPhase.PRE_OPEN, order, is_behind=False) is None


def test_an_at_the_opening_order_comes_before_the_opening() -> None:
    assert check_order("ALFA-USD", TradingPhase.PRE_OPEN, OPG, is_behind=False) is None
    refusal = check_order("ALFA-USD", TradingPhase.CONTINUOUS, OPG, is_behind=False)
    text = "Trading phase: ALFA-USD is open: the opening is over"
    assert refusal == (OrdRejReason.TOO_LATE_TO_ENTER, text)
