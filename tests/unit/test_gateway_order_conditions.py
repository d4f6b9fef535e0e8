"""Conditions of orders: each line of the table at the head of order_conditions.py."""

from __future__ import annotations

import pytest

from engine.enums import BusinessRejectReason, OrdRejReason
from gateway.order_terms import Terms
from gateway.refusals import Problem
from tests.unit.test_gateway_order_terms import terms

STOP = {"t40": "3", "t44": None, "t99": "10"}
STOP_LIMIT = {"t40": "4", "t99": "10"}
MARKET = {"t40": "1", "t44": None}
CASH = MARKET | {"t38": None, "t152": "7.5"}
GTD = {"t59": "6"}


@pytest.mark.parametrize(
    ("changes", "reason", "words"),
    [
        ({"t99": "10"}, 11, "StopPx (99): expected none on a limit order, received 10"),
        (MARKET | {"t99": "10"}, 11, "StopPx (99): expected none on a market order"),
        (STOP | {"t99": "10.01"}, 99, "StopPx (99): expected a multiple of 0.05, received 10.01"),
        (STOP | {"t99": "1000.05"}, 99, "StopPx (99): expected 0.05 to 1000.00"),
        (STOP | {"t99": "4.95"}, 99, "Notional: expected at least 5.0000 USD, received 4.9500"),
        (STOP_LIMIT | {"t44": "0"}, 99, "Price (44): expected 0.05 to 1000.00, received 0"),
        (STOP | {"t111": "0.5"}, 11, "MaxFloor (111): expected none but on a limit or stop-limit"),
        ({"t111": "0.5", "t59": "3"}, 11, "MaxFloor (111): expected none but"),
        ({"t111": "1.01"}, 13, "MaxFloor (111): expected 0.01 to 1.00, received 1.01"),
        ({"t111": "0"}, 13, "MaxFloor (111): expected 0.01 to 1.00, received 0"),
        ({"t111": "0.001"}, 13, "MaxFloor (111): expected a multiple of 0.01"),
        (STOP | {"t110": "1"}, 11, "MinQty (110): expected none but on a limit or market order"),
        ({"t110": "1", "t18": "6"}, 11, "MinQty (110): expected none but"),
        ({"t110": "1", "t59": "2"}, 11, "MinQty (110): expected none but"),
        ({"t110": "1", "t41": "a0"}, 11, "MinQty (110): expected none on a replace"),
        ({"t110": "2"}, 13, "MinQty (110): expected 0.01 to 1.00, received 2"),
        ({"t126": "20260103-00:00:00"}, 11, "ExpireTime (126): expected none without TimeInForce"),
        ({"t432": "20260103"}, 11, "ExpireDate (432): expected none without TimeInForce (59) 6"),
        (GTD | {"t126": "20260102-03:04:05"}, 4, "expected a time that has not passed"),
        (GTD | {"t432": "20260101"}, 4, "ExpireDate (432): expected a time that has not passed"),
        (GTD | {"t432": "20260231"}, 99, "expected a day of the calendar before 9999-12-31"),
        (GTD | {"t432": "99991231"}, 99, "expected a day of the calendar before 9999-12-31"),
        (GTD | {"t126": "99991231-23:59:60"}, 99, "expected a day of the calendar"),
        (GTD | {"t126": "20260103-00:00:00", "t432": "20260103"}, 11, "none beside ExpireTime"),
        (CASH | {"t38": "1"}, 11, "OrderQty (38): expected none beside CashOrderQty (152)"),
        (CASH | {"t110": "1"}, 11, "MinQty (110): expected none beside CashOrderQty (152)"),
        (CASH | {"t54": "2"}, 11, "CashOrderQty (152): expected none but on a market order"),
        (CASH | {"t59": "4"}, 11, "CashOrderQty (152): expected none but on a market order"),
        ({"t152": "7.5"}, 11, "CashOrderQty (152): expected none but"),
        (CASH | {"t152": "0.00001"}, 13, "CashOrderQty (152): expected a multiple of 0.0001"),
        (CASH | {"t152": "0"}, 13, "CashOrderQty (152): expected 0.0001 to 461168601842738.7904"),
        (CASH | {"t152": "461168601842738.7905"}, 13, "expected 0.0001 to 461168601842738.7904"),
        (CASH | {"t152": "4.99"}, 99, "Notional: expected at least 5.0000 USD, received 4.9900"),
        ({"t168": "20260103-00:00:00"}, 11, "EffectiveTime (168): not supported"),
        ({"t388": "0"}, 11, "DiscretionInst (388): not supported"),
        ({"t423": "1"}, 11, "PriceType (423): expected 2 (per unit), received 1"),
        ({"t854": "1"}, 11, "QtyType (854): expected 0 (units), received 1"),
    ],
)
def test_what_conditions_may_not_say(
    changes: dict[str, str | None], reason: int, words: str
) -> None:
    problem = terms(**changes)
    assert isinstance(problem, Problem), problem
    assert problem.reason == OrdRejReason(reason)
    assert words in problem.text


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"t40": "3", "t44": None}, "StopPx (99): required on a stop order"),
        ({"t40": "4"}, "StopPx (99): required on a stop order"),
        (STOP | {"t41": "a0", "t99": None}, "StopPx (99): required on a stop order"),
        (STOP_LIMIT | {"t44": None}, "Price (44): required on a limit order"),
        (GTD, "ExpireTime (126): required on an order with TimeInForce (59) 6"),
        (STOP | {"t38": None}, "OrderQty (38): required on every order"),
    ],
)
def test_what_an_order_lacks_is_a_business_reject(
    changes: dict[str, str | None], words: str
) -> None:
    problem = terms(**{tag: value for tag, value in changes.items() if value or tag != "t99"})
    assert isinstance(problem, Problem)
    assert problem.reason is BusinessRejectReason.CONDITIONALLY_REQUIRED_FIELD_MISSING
    assert words in problem.text


@pytest.mark.parametrize(
    ("changes", "expire_us"),
    [
        ({"t126": "20260102-03:04:05.001"}, 1_767_323_045_001_000),
        ({"t126": "20260102-03:04:05.000000001"}, 1_767_323_045_000_000),
        ({"t126": "99991230-23:59:59"}, 253_402_214_399_000_000),
        ({"t432": "20260102"}, 1_767_398_400_000_000),
    ],
)
@pytest.mark.parametrize("kind", [{}, {"t18": "6"}, STOP, STOP_LIMIT, {"t111": "0.5"}])
def test_a_time_to_expire_in_microseconds(
    kind: dict[str, str | None], changes: dict[str, str], expire_us: int
) -> None:
    read = terms(**GTD, **kind, **changes)
    assert isinstance(read, Terms) and read.conditions is not None
    assert read.conditions.expire_us == expire_us
