"""engine.checks: each rule, and which answers first."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from engine.checks import check_added_hold, check_new_order, check_replace
from engine.commands import NewOrder, ReplaceOrder
from engine.enums import OrdRejReason, OrdType, SelfTradePrevention, Side, TimeInForce
from engine.open_order import OpenOrder
from tests.matching_world import rules

RULES = rules(min_notional="50")
ORDER = NewOrder(
    account=1,
    session=1,
    msg_seq_num=1,
    cl_ord_id="c",
    side=Side.BUY,
    ord_type=OrdType.LIMIT,
    time_in_force=TimeInForce.GTC,
    post_only=False,
    stp=SelfTradePrevention.NONE,
    price_ticks=100,
    qty_lots=5,
    rules_version=1,
    reserved=5_100,
)
REPLACE = ReplaceOrder(
    account=1,
    session=1,
    msg_seq_num=1,
    cl_ord_id="d",
    orig_cl_ord_id="c",
    order_seq=0,
    side=Side.BUY,
    ord_type=OrdType.LIMIT,
    time_in_force=TimeInForce.DAY,
    post_only=False,
    price_ticks=100,
    qty_lots=5,
    rules_version=1,
    reserved=0,
)
FOUND = OpenOrder(2, ORDER, RULES, 5_100)
NOW_US = 1_000

BAD_TERMS = [
    ({"rules_version": 2}, OrdRejReason.OTHER, "Rules"),
    ({"qty_lots": 0}, OrdRejReason.INCORRECT_QUANTITY, "OrderQty"),
    ({"qty_lots": 50_001}, OrdRejReason.INCORRECT_QUANTITY, "OrderQty"),
    ({"qty_lots": -5}, OrdRejReason.INCORRECT_QUANTITY, "OrderQty"),
    ({"price_ticks": 0}, OrdRejReason.OTHER, "Price"),
    ({"price_ticks": 1_001}, OrdRejReason.OTHER, "Price"),
    ({"price_ticks": 9}, OrdRejReason.OTHER, "Notional"),
    ({"rules_version": 2, "qty_lots": 0, "price_ticks": 0}, OrdRejReason.OTHER, "Rules"),
    ({"qty_lots": 0, "price_ticks": 0}, OrdRejReason.INCORRECT_QUANTITY, "OrderQty"),
]


def test_good_orders_pass() -> None:
    assert check_new_order(RULES, ORDER, 5_100, NOW_US) is None
    assert check_replace(RULES, REPLACE, FOUND, NOW_US) is None


@pytest.mark.parametrize(
    "changes", [{"qty_lots": 50_000, "price_ticks": 1_000}, {"price_ticks": 10}]
)
def test_bounds_are_inclusive(changes: dict[str, Any]) -> None:
    assert check_new_order(RULES, msgspec.structs.replace(ORDER, **changes), 0, NOW_US) is None


@pytest.mark.parametrize(("changes", "reason", "start"), BAD_TERMS)
def test_terms_outside_the_rules_are_refused(
    changes: dict[str, Any], reason: OrdRejReason, start: str
) -> None:
    for refusal in (
        check_new_order(RULES, msgspec.structs.replace(ORDER, **changes), 0, NOW_US),
        check_replace(RULES, msgspec.structs.replace(REPLACE, **changes), FOUND, NOW_US),
    ):
        assert refusal is not None
        assert refusal.reason is reason
        assert refusal.text.startswith(start)


def test_market_order_needs_no_notional_but_a_price_in_range() -> None:
    market = {"ord_type": OrdType.MARKET, "time_in_force": TimeInForce.IOC}
    cheap = msgspec.structs.replace(ORDER, **market, price_ticks=1)
    assert check_new_order(RULES, cheap, 0, NOW_US) is None
    unpriced = msgspec.structs.replace(ORDER, **market, price_ticks=0)
    assert check_new_order(RULES, unpriced, 0, NOW_US) is not None


@pytest.mark.parametrize(
    "changes",
    [
        {"ord_type": OrdType.MARKET},
        {"post_only": True, "time_in_force": TimeInForce.IOC},
        {"post_only": True, "time_in_force": TimeInForce.FOK},
    ],
)
def test_combinations_that_contradict_themselves_are_refused(changes: dict[str, Any]) -> None:
    refusal = check_new_order(RULES, msgspec.structs.replace(ORDER, **changes), 0, NOW_US)
    assert refusal is not None
    assert refusal.reason is OrdRejReason.UNSUPPORTED_CHARACTERISTIC


def test_reservation_must_cover_the_hold() -> None:
    assert check_added_hold(REPLACE, 0) is None
    assert check_added_hold(REPLACE, -7) is None
    for refusal in (check_new_order(RULES, ORDER, 5_101, NOW_US), check_added_hold(REPLACE, 1)):
        assert refusal is not None
        assert refusal.reason is OrdRejReason.EXCEEDS_LIMIT
