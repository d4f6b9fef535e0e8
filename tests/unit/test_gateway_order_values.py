"""Prices within the limits of their symbol, which need not begin at one tick."""

from __future__ import annotations

import msgspec
import pytest

from engine.enums import Side
from gateway.order_values import protected_price, read_price, read_stop
from gateway.refusals import Problem
from gateway.symbol_texts import SymbolTexts
from tests.unit.test_gateway_orders_in import rules_of

RULES = msgspec.structs.replace(rules_of(), min_price_ticks=1_000)


@pytest.mark.parametrize("tag", ["44", "99"])
def test_no_price_is_below_the_least(tag: str) -> None:
    texts = SymbolTexts(RULES)
    read = {"44": read_price, "99": read_stop}[tag]
    assert read({tag.encode(): b"50"}, texts) == 1_000
    problem = read({tag.encode(): b"49.95"}, texts)
    assert isinstance(problem, Problem)
    assert "expected 50.00 to 1000.00, received 49.95" in problem.text


@pytest.mark.parametrize(
    ("side", "from_ticks", "price_ticks"),
    [
        (Side.BUY, 2_001, 2_101),
        (Side.SELL, 2_001, 1_901),
        (Side.BUY, 19_999, 20_000),
        (Side.SELL, 1_010, 1_000),
    ],
)
def test_protection_keeps_within_the_limits(side: Side, from_ticks: int, price_ticks: int) -> None:
    assert protected_price(RULES, side, from_ticks, protection_ppm=50_000) == price_ticks
