"""The generator: repeatable, well-formed, within its limits, and shaped as it says."""

from __future__ import annotations

import random
from collections import Counter
from itertools import pairwise

import pytest

from engine.book import OrderBook
from engine.enums import Side
from ops.flow import NEW, FlowRow, apply_row
from ops.flow_generator import FlowGenerator, FlowShape

SHAPE = FlowShape(
    low_ticks=1_000, high_ticks=11_000, start_ticks=5_000, qty_lots_max=500, resting=200
)


def rows(count: int, seed: int, shape: FlowShape = SHAPE) -> list[FlowRow]:
    return list(FlowGenerator(shape, random.Random(seed).random).rows(count))


def test_the_same_seed_gives_the_same_flow() -> None:
    assert rows(500, 7) == rows(500, 7)
    assert rows(500, 7) != rows(500, 8)


def test_rows_count_from_one_and_time_rises() -> None:
    flow = rows(1_000, 1)
    assert [row.seq for row in flow] == list(range(1, 1_001))
    assert all(a.ts_ns < b.ts_ns for a, b in pairwise(flow))


@pytest.mark.parametrize("seed", range(4))
def test_new_orders_do_not_cross_and_stay_in_range(seed: int) -> None:
    book = OrderBook()
    for row in rows(3_000, seed):
        filled = apply_row(book, row)
        assert not (row.action == NEW and filled), row
        assert SHAPE.low_ticks <= row.price_ticks <= SHAPE.high_ticks
        assert 1 <= row.qty_lots <= SHAPE.qty_lots_max


def test_a_market_at_the_edge_of_its_range_goes_on() -> None:
    narrow = FlowShape(low_ticks=10, high_ticks=14, start_ticks=12, qty_lots_max=5, resting=20)
    flow = rows(5_000, 3, narrow)
    assert {row.price_ticks for row in flow} == {10, 11, 12, 13, 14}


def test_the_mix_is_like_recorded_flow_and_the_book_keeps_its_size() -> None:
    generator = FlowGenerator(SHAPE, random.Random(1).random)
    flow = list(generator.rows(20_000))
    counts = Counter(row.action for row in flow)
    assert 0.45 < counts["N"] / len(flow) < 0.65
    assert 0.25 < counts["X"] / len(flow) < 0.50
    assert 0.02 < counts["U"] / len(flow) < 0.06
    assert 0.03 < (counts["I"] + counts["A"]) / len(flow) < 0.08
    assert counts["R"]
    assert SHAPE.resting / 2 < len(generator.book.orders) < SHAPE.resting * 3 / 2


def test_arrivals_are_clustered() -> None:
    flow = rows(5_000, 1)
    gaps = sorted(b.ts_ns - a.ts_ns for a, b in pairwise(flow))
    mean = sum(gaps) / len(gaps)
    # Of exponential gaps at one rate, the median is 0.69 of the mean.
    assert gaps[len(gaps) // 2] < 0.3 * mean


def test_it_leans_on_a_book_that_is_there() -> None:
    generator = FlowGenerator(SHAPE, random.Random(1).random)
    generator.book.new_limit(900_001, Side.BUY, 8_000, 10)
    generator.book.new_limit(900_002, Side.SELL, 8_004, 10)
    generator.lean_on_book()
    new = [row.price_ticks for row in generator.rows(200) if row.action == NEW]
    assert 7_900 < sorted(new)[len(new) // 2] < 8_100
