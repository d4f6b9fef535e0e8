"""Limits of an account: nothing is limited that is not named, and the bound itself is allowed."""

from __future__ import annotations

import msgspec
import pytest

from engine.commands import NewOrder, OrderConditions
from engine.enums import OrdRejReason, Side
from gateway.account_limits import (
    NO_LIMITS,
    AccountLimits,
    problem_of_open_orders,
    problem_of_order_value,
    rate_of,
)
from gateway.symbol_texts import SymbolTexts
from tests.unit.test_gateway_orders_in import rules_of
from tests.unit.test_gateway_reservations import market

TEXTS = SymbolTexts(rules_of())
ORDER: NewOrder = msgspec.structs.replace(market(Side.BUY, 100), price_ticks=2_000)
"""Worth 100 USD."""


@pytest.mark.parametrize(
    ("most", "open_orders", "unanswered", "is_good"),
    [(None, 9, 9, True), (3, 2, 0, True), (3, 1, 2, False), (3, 3, 0, False), (0, 0, 0, False)],
)
def test_open_orders(most: int | None, open_orders: int, unanswered: int, *, is_good: bool) -> None:
    limits = AccountLimits(max_open_orders=most)
    problem = problem_of_open_orders(limits, open_orders=open_orders, unanswered=unanswered)
    assert (problem is None) is is_good
    assert problem is None or problem.reason is OrdRejReason.EXCEEDS_LIMIT


@pytest.mark.parametrize(
    ("values", "is_good"),
    [({}, True), ({"BTC": 1}, True), ({"USD": 1_000_000}, True), ({"USD": 999_999}, False)],
)
def test_value_of_an_order(values: dict[str, int], *, is_good: bool) -> None:
    problem = problem_of_order_value(AccountLimits(max_order_value=values), TEXTS, ORDER)
    assert (problem is None) is is_good


@pytest.mark.parametrize(("most", "is_good"), [(755_000, True), (754_999, False)])
def test_value_of_an_order_by_cash_is_its_cash(most: int, *, is_good: bool) -> None:
    conditions = OrderConditions(cash=755_000)
    by_cash = msgspec.structs.replace(ORDER, qty_lots=0, conditions=conditions)
    limits = AccountLimits(max_order_value={"USD": most})
    assert (problem_of_order_value(limits, TEXTS, by_cash) is None) is is_good


@pytest.mark.parametrize(("own", "rate"), [(None, 20), (5, 5), (50, 20)])
def test_rate(own: int | None, rate: int) -> None:
    assert rate_of(AccountLimits(orders_per_s=own), orders_per_s_max=20) == rate
    assert rate_of(NO_LIMITS, orders_per_s_max=20) == 20
