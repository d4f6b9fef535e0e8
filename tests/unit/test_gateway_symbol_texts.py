"""Prices and quantities as text: the same as the grids say, remembered within a limit."""

from __future__ import annotations

import pytest

from gateway.symbol_texts import TEXTS_MAX, SymbolTable, SymbolTexts
from tests.unit.test_gateway_orders_in import rules_of


@pytest.fixture
def texts() -> SymbolTexts:
    return SymbolTexts(rules_of())


def test_both_directions_agree(texts: SymbolTexts) -> None:
    for ticks in (0, 1, 19, 20, 2_001, -1):
        text = texts.prices.text(ticks)
        assert texts.prices.text(ticks) is text
        if ticks >= 0:
            assert texts.prices.steps(text) == ticks
    assert texts.limit_price(2_001) == b"2\x0144=100.05"
    assert texts.quantities.text(150) == b"1.50"
    assert texts.amounts.text(1) == b"0.0001"


@pytest.mark.parametrize("text", [b"100.01", b"", b".", b"1e3", b"-1", b"\xff", b"1 "])
def test_text_off_the_grid_is_none_every_time(texts: SymbolTexts, text: bytes) -> None:
    assert texts.prices.steps(text) is None
    assert texts.prices.steps(text) is None


def test_tables_start_over_when_they_are_full_and_stay_right(texts: SymbolTexts) -> None:
    for ticks in range(TEXTS_MAX + 10):
        assert texts.quantities.text(ticks) == b"%d.%02d" % divmod(ticks, 100)
        assert texts.quantities.steps(b"%d.%02d" % divmod(ticks, 100)) == ticks
    assert texts.quantities.text(0) == b"0.00"


@pytest.mark.parametrize(
    ("cum_price_qty", "cum_lots", "text"),
    [(2_001 * 150, 150, b"100.05"), (2_000 + 2_001, 2, b"100.025"), (1, 3, b"0.01666666")],
)
def test_average_price_has_some_more_places(
    texts: SymbolTexts, cum_price_qty: int, cum_lots: int, text: bytes
) -> None:
    assert texts.avg_px(cum_price_qty, cum_lots) == text


def test_retired_symbols_have_a_name_and_take_no_orders() -> None:
    table = SymbolTable([rules_of()], [rules_of("OLD-USD")])
    assert set(table.by_name) == {"BTC-USD", "OLD-USD"}
    assert set(table.by_tag) == {b"BTC-USD"}
    table.update([rules_of(version=4)])
    assert table.by_name["BTC-USD"].rules.version == 4
    assert table.by_tag[b"BTC-USD"] is table.by_name["BTC-USD"]
