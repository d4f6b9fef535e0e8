"""Edges of the bands, exact to the tick, and which side each of them is for."""

from __future__ import annotations

import msgspec
import pytest

from engine.bands import check_band, clamp, edge_ticks
from engine.enums import OrdRejReason, Side
from engine.instrument import SymbolRules
from tests.matching_world import rules as make_rules

PLAIN = msgspec.structs.replace(make_rules(), min_price_ticks=50, max_price_ticks=1_000)
BANDED = msgspec.structs.replace(PLAIN, band_ppm=100_000)


@pytest.mark.parametrize(
    ("rules", "last_ticks", "side", "expected"),
    [
        (PLAIN, 500, Side.BUY, 1_000),
        (PLAIN, 500, Side.SELL, 50),
        (BANDED, 0, Side.BUY, 1_000),
        (BANDED, 0, Side.SELL, 50),
        (BANDED, 500, Side.BUY, 550),
        (BANDED, 500, Side.SELL, 450),
        # 505 × 1.1 = 555.5 and 505 × 0.9 = 454.5: rounded towards the last trade.
        (BANDED, 505, Side.BUY, 555),
        (BANDED, 505, Side.SELL, 455),
        (BANDED, 950, Side.BUY, 1_000),
        (BANDED, 52, Side.SELL, 50),
    ],
)
def test_edge(rules: SymbolRules, last_ticks: int, side: Side, expected: int) -> None:
    assert edge_ticks(rules, last_ticks, side) == expected


@pytest.mark.parametrize(
    ("side", "inside", "beyond"), [(Side.BUY, 555, 556), (Side.SELL, 455, 454)]
)
def test_an_order_is_refused_from_the_first_tick_beyond(
    side: Side, inside: int, beyond: int
) -> None:
    assert check_band(BANDED, 505, side, inside) is None
    refusal = check_band(BANDED, 505, side, beyond)
    assert refusal is not None
    assert refusal.reason is OrdRejReason.OTHER
    bound = "at most 555" if side == Side.BUY else "at least 455"
    assert refusal.text.startswith(f"Price band: expected {bound} (last trade 505), received")


def test_an_order_priced_away_from_the_market_only_rests() -> None:
    assert check_band(BANDED, 505, Side.BUY, 50) is None
    assert check_band(BANDED, 505, Side.SELL, 1_000) is None


def test_a_protection_price_is_moved_to_the_edge_and_otherwise_kept() -> None:
    assert clamp(BANDED, 505, Side.BUY, 700) == 555
    assert clamp(BANDED, 505, Side.BUY, 510) == 510
    assert clamp(BANDED, 505, Side.SELL, 300) == 455
    assert clamp(PLAIN, 505, Side.SELL, 1) == 50
