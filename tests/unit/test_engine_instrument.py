"""Decimal grids and symbol rules: exact both ways, and refused by key when they cannot be."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.enums import Side
from engine.errors import InstrumentError
from engine.instrument import AMOUNT_MAX, DecimalGrid, SymbolRules, define_rules, fee_ceil

STEPS = st.sampled_from(["1", "10", "2.5", "0.5", "0.05", "0.01", "0.00000001", "25", "0.250"])


def rules(**changes: object) -> SymbolRules:
    values: dict[str, object] = {
        "symbol": "ALFA-USD",
        "base": "ALFA",
        "quote": "USD",
        "base_scale": 0,
        "quote_scale": 2,
        "tick_size": "0.01",
        "lot_size": "1",
        "min_qty": "1",
        "max_qty": "500",
        "max_price": None,
        "min_notional": "1",
        "maker_fee_ppm": 100,
        "taker_fee_ppm": 200,
        "version": 1,
    }
    return define_rules(**(values | changes))  # type: ignore[arg-type]


@given(step=STEPS, steps=st.integers(0, 10**15))
def test_formatted_steps_parse_back_and_mean_the_product(step: str, steps: int) -> None:
    grid = DecimalGrid(step)
    text = grid.format(steps)
    assert Decimal(text) == Decimal(step) * steps
    assert grid.parse(text) == steps
    assert grid.parse(text + (".0" if "." not in text else "0")) == steps


@given(step=STEPS, text=st.text(alphabet="0123456789.-+e ", max_size=12))
def test_any_text_is_exactly_on_the_grid_or_refused(step: str, text: str) -> None:
    steps = DecimalGrid(step).parse(text)
    if steps is not None:
        assert Decimal(text) == Decimal(step) * steps


@pytest.mark.parametrize(
    "text", ["", ".", "-1", "+1", "1e2", " 1", "1 ", "1.2.3", "\u0661", "0.001"]
)
def test_text_off_the_grid_is_refused(text: str) -> None:
    assert DecimalGrid("0.01").parse(text) is None


def test_negative_amounts_are_formatted_with_their_sign() -> None:
    assert DecimalGrid.of_scale(2).format(-5) == "-0.05"
    assert DecimalGrid.of_scale(0).format(-5) == "-5"


@given(steps=st.integers(1, 10**12), parts=st.integers(1, 10**6))
def test_a_ratio_is_cut_never_rounded_up(steps: int, parts: int) -> None:
    text = Decimal(DecimalGrid("0.05").format_ratio(steps, parts, extra_places=4))
    exact = Decimal(steps) * Decimal("0.05") / parts
    assert 0 <= exact - text < Decimal("0.000001")


@pytest.mark.parametrize("step", ["0", "-1", "1e-2", "", "abc", "."])
def test_a_step_that_is_no_positive_decimal_is_refused(step: str) -> None:
    with pytest.raises(InstrumentError):
        DecimalGrid(step)


def test_a_buy_reserves_notional_and_the_larger_fee_a_sell_the_base() -> None:
    symbol = rules()
    assert symbol.hold_of(Side.BUY, 1_001, 10) == 10_010 + 3  # 200 ppm of 10,010 is 2.002: ceil
    assert symbol.hold_of(Side.SELL, 1_001, 10) == 10
    assert (symbol.hold_asset(Side.BUY), symbol.hold_asset(Side.SELL)) == ("USD", "ALFA")


def test_the_largest_order_with_its_fee_fits_in_2_to_the_62() -> None:
    symbol = rules()
    largest = symbol.hold_of(Side.BUY, symbol.max_price_ticks, symbol.max_qty_lots)
    assert AMOUNT_MAX - largest < 4 * symbol.max_qty_lots and largest <= AMOUNT_MAX


@pytest.mark.parametrize(
    ("key", "changes"),
    [
        ("tick_size", {"tick_size": "0.001"}),
        ("tick_size", {"tick_size": "0"}),
        ("lot_size", {"lot_size": "1e2"}),
        ("lot_size", {"lot_size": "0.5", "tick_size": "0.02"}),
        ("min_qty", {"min_qty": "0"}),
        ("min_qty", {"min_qty": "501"}),
        ("max_qty", {"max_qty": "1.5"}),
        ("max_price", {"max_price": "1" + "0" * 18}),
        ("max_qty", {"max_qty": "1" + "0" * 19}),
        ("max_price", {"max_price": "0.001"}),
        ("min_price", {"min_price": "0.001"}),
        ("min_price", {"min_price": "0.00"}),
        ("min_price", {"min_price": "10.01", "max_price": "10"}),
        ("price_band_ppm", {"price_band_ppm": 1_000_001}),
        ("price_band_action", {"price_band_halts": True}),
        ("min_notional", {"min_notional": "0.001"}),
        ("maker_fee_ppm", {"maker_fee_ppm": -1}),
        ("taker_fee_ppm", {"taker_fee_ppm": 1_000_001}),
    ],
)
def test_rules_that_contradict_themselves_are_refused_by_key(
    key: str, changes: dict[str, object]
) -> None:
    with pytest.raises(InstrumentError, match=f"^{key}: "):
        rules(**changes)


def test_fees_round_up_once_over_the_sum() -> None:
    assert [fee_ceil(ppm) for ppm in (0, 1, 1_000_000, 1_000_001)] == [0, 1, 1, 2]


def test_price_bands_are_one_tick_and_nothing_unless_they_are_given() -> None:
    plain, banded = rules(), rules(min_price="0.05", price_band_ppm=50_000, price_band_halts=True)
    assert (plain.min_price_ticks, plain.band_ppm, plain.band_halts) == (1, 0, False)
    assert (banded.min_price_ticks, banded.band_ppm, banded.band_halts) == (5, 50_000, True)
