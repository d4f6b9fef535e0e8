"""engine.fees: the hold of a buy always suffices."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from engine.fees import buy_hold
from engine.instrument import fee_ceil


def test_hold_of_an_untouched_order_is_notional_and_fee() -> None:
    assert buy_hold(open_notional=1_001, filled_notional=0, max_ppm=1_000, charged=0) == 1_003


def test_hold_counts_what_was_charged_already() -> None:
    assert buy_hold(open_notional=500, filled_notional=501, max_ppm=1_000, charged=1) == 501


@given(
    limit=st.integers(1, 10**9),
    lots=st.integers(2, 1_000),
    rates=st.tuples(st.integers(0, 10**6), st.integers(0, 10**6)),
    fills=st.lists(st.tuples(st.integers(1, 10**9), st.integers(1, 50), st.booleans())),
)
def test_each_fill_at_or_below_the_limit_frees_at_least_what_it_costs(
    limit: int, lots: int, rates: tuple[int, int], fills: list[tuple[int, int, bool]]
) -> None:
    notional = rated = charged = 0
    hold = buy_hold(open_notional=limit * lots, filled_notional=0, max_ppm=max(rates), charged=0)
    for price, fill_lots, as_maker in fills:
        fill_lots, price = min(fill_lots, lots - 1), min(price, limit)
        if not fill_lots:
            break
        lots -= fill_lots
        notional += price * fill_lots
        rated += price * fill_lots * rates[as_maker]
        fee = fee_ceil(rated) - charged
        charged += fee
        left = buy_hold(
            open_notional=limit * lots,
            filled_notional=notional,
            max_ppm=max(rates),
            charged=charged,
        )
        assert hold - left >= price * fill_lots + fee
        assert 0 <= fee <= price * fill_lots
        hold = left
