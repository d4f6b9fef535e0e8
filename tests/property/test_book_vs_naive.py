"""After any sequence of messages the fast book and the naive book are the same book."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from engine.book import OrderBook
from engine.book_naive import NaiveBook
from engine.enums import Side

Step = tuple[str, Side, int, int, int]

SIDES = st.sampled_from([Side.BUY, Side.SELL])
PRICES = st.integers(1, 12)
QTYS = st.integers(1, 20)
OLD_IDS = st.integers(0, 40)

STEPS = st.one_of(
    st.tuples(st.just("limit"), SIDES, PRICES, QTYS, OLD_IDS),
    st.tuples(st.just("ioc"), SIDES, PRICES, QTYS, OLD_IDS),
    st.tuples(st.just("cancel"), SIDES, PRICES, QTYS, OLD_IDS),
    st.tuples(st.just("replace"), SIDES, PRICES, QTYS, OLD_IDS),
)


def apply(
    book: OrderBook | NaiveBook, new_id: int, step: tuple[str, Side, int, int, int]
) -> object:
    """Apply one step and return what it answered, in a form that both books share."""
    kind, side, price, qty, old_id = step
    if kind == "cancel":
        order = book.cancel(old_id)
        return None if order is None else order.leaves_qty_lots
    if kind == "replace":
        fills = book.replace(old_id, new_id, price, qty)
    elif kind == "ioc":
        fills = book.new_ioc(new_id, side, price, qty)
    else:
        fills = book.new_limit(new_id, side, price, qty)
    if fills is None:
        return None
    return [
        (fill[0].order_id, fill[0].level.price_ticks, fill[1]) if len(fill) == 2 else fill
        for fill in fills
    ]


@settings(max_examples=150, deadline=None)
@given(st.lists(STEPS, max_size=60))
def test_fast_book_equals_naive_book(steps: list[Step]) -> None:
    fast, naive = OrderBook(), NaiveBook()
    for new_id, step in enumerate(steps, start=1):
        assert apply(fast, new_id, step) == apply(naive, new_id, step)
        fast.check_invariants()
        naive.check_invariants()
        assert fast.content() == naive.content()
        assert fast.state_hash() == naive.state_hash()
        assert (fast.best_bid(), fast.best_ask()) == (naive.best_bid(), naive.best_ask())
        for side in (Side.BUY, Side.SELL):
            assert fast.levels(side, 3) == naive.levels(side, 3)
            assert fast.depth_at(side, 6) == naive.depth_at(side, 6)
