"""Protection prices of market orders and reservations of replaces."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.commands import NewOrder, ReplaceOrder
from engine.enums import (
    CxlRejReason,
    OrdRejReason,
    OrdStatus,
    OrdType,
    SelfTradePrevention,
    Side,
    TimeInForce,
)
from engine.events import CancelRejected, OrderRejected
from engine.instrument import fee_ceil
from gateway.reservations import (
    KnownOrder,
    expected_of,
    price_market,
    refused_for_funds,
    reserve_replace,
    settled_as,
    with_order,
)
from gateway.symbol_texts import SymbolTexts
from router.open_orders import BestPrices, OpenOrder, parse_open_order
from tests.unit.test_gateway_orders_in import rules_of

TEXTS = SymbolTexts(rules_of())
RULES = TEXTS.rules
OLD_PPM = 900
"""The dearer fee rate of an order that was accepted under other rules."""


def market(side: Side, qty_lots: int = 150) -> NewOrder:
    return NewOrder(
        account=1001,
        session=7,
        msg_seq_num=42,
        cl_ord_id="m1",
        side=side,
        ord_type=OrdType.MARKET,
        time_in_force=TimeInForce.IOC,
        post_only=False,
        stp=SelfTradePrevention.NONE,
        price_ticks=0,
        qty_lots=qty_lots,
        rules_version=3,
        reserved=0,
    )


def replace(side: Side, price_ticks: int, qty_lots: int) -> ReplaceOrder:
    return ReplaceOrder(
        account=1001,
        session=7,
        msg_seq_num=42,
        cl_ord_id="a1",
        orig_cl_ord_id="a0",
        order_seq=0,
        side=side,
        ord_type=OrdType.LIMIT,
        time_in_force=TimeInForce.GTC,
        post_only=False,
        price_ticks=price_ticks,
        qty_lots=qty_lots,
        rules_version=3,
        reserved=0,
    )


@pytest.mark.parametrize(
    ("side", "best", "price_ticks"),
    [
        (Side.BUY, BestPrices(1990, 2001, 77), 2101),  # 2001 × 1.05 = 2101.05, down
        (Side.SELL, BestPrices(1990, 2001, 77), 1891),  # 1990 × 0.95 = 1890.5, up
        (Side.BUY, BestPrices(0, 19_999, 5), 20_000),  # never beyond the symbol's highest price
        (Side.SELL, BestPrices(1000, 0, 5), 950),
    ],
)
def test_market_order_gets_a_protection_price_and_its_hold(
    side: Side, best: BestPrices, price_ticks: int
) -> None:
    priced = price_market(market(side), TEXTS, best, protection_ppm=50_000)
    assert isinstance(priced, NewOrder)
    assert priced.price_ticks == price_ticks
    assert priced.reserved == RULES.hold_of(side, price_ticks, 150)
    assert (priced.ord_type, priced.time_in_force) == (OrdType.MARKET, TimeInForce.IOC)


@pytest.mark.parametrize(
    ("side", "best"),
    [
        (Side.BUY, BestPrices(1990, 0, 7)),
        (Side.SELL, BestPrices(0, 2001, 7)),
        (Side.BUY, BestPrices(0, 0, 0)),
    ],
)
def test_market_order_goes_without_a_price_when_nobody_quotes(side: Side, best: BestPrices) -> None:
    order = msgspec.structs.replace(market(side), reserved=7)
    priced = price_market(order, TEXTS, best, protection_ppm=50_000)
    assert isinstance(priced, NewOrder)
    assert (priced.price_ticks, priced.reserved) == (0, 0), "for its engine to refuse"


def test_market_order_below_the_least_notional_is_refused() -> None:
    refused = price_market(
        market(Side.SELL, 2), TEXTS, BestPrices(1000, 0, 7), protection_ppm=50_000
    )
    assert isinstance(refused, OrderRejected)
    assert refused.text == "Notional: expected at least 5.0000 USD, received 1.0000"


def test_replace_of_an_order_that_nobody_knows_reserves_the_whole() -> None:
    reserved = reserve_replace(replace(Side.BUY, 2000, 100), RULES, None)
    assert isinstance(reserved, ReplaceOrder)
    assert reserved.reserved == RULES.hold_of(Side.BUY, 2000, 100)


@pytest.mark.parametrize(
    ("side", "price_ticks", "qty_lots", "reserved"),
    [
        (Side.SELL, 2000, 150, 0),
        (Side.SELL, 1, 160, 10 * RULES.base_units_per_lot),
        (Side.BUY, 2000, 150, 0),
        (Side.BUY, 1999, 150, 0),
        (Side.BUY, 2001, 150, RULES.hold_of(Side.BUY, 1, 150)),
    ],
)
def test_replace_of_an_order_on_its_way_reserves_what_it_adds(
    side: Side, price_ticks: int, qty_lots: int, reserved: int
) -> None:
    new = msgspec.structs.replace(market(side), ord_type=OrdType.LIMIT, price_ticks=2000)
    first = reserve_replace(replace(side, 2000, 150), RULES, expected_of(new, RULES, None))
    assert isinstance(first, ReplaceOrder)
    assert (first.reserved, first.orig_status) == (0, OrdStatus.PENDING_NEW)
    second = reserve_replace(
        replace(side, price_ticks, qty_lots),
        RULES,
        expected_of(first, RULES, expected_of(new, RULES, None)),
    )
    assert isinstance(second, ReplaceOrder)
    assert (second.reserved, second.orig_status) == (reserved, OrdStatus.PENDING_REPLACE)
    refused = refused_for_funds(second, TEXTS)
    assert isinstance(refused, CancelRejected)
    assert (refused.order_seq, refused.ord_status) == (0, OrdStatus.PENDING_REPLACE)


def test_replace_on_its_way_goes_on_from_what_is_filled() -> None:
    found = settled_as(OpenOrder(5, Side.SELL, 100, 60, 40, 0, 9))
    assert expected_of(replace(Side.SELL, 90, 150), RULES, found) == KnownOrder(
        OpenOrder(5, Side.SELL, 90, 110, 40, 0, 9), OrdStatus.PENDING_REPLACE
    )
    assert expected_of(replace(Side.SELL, 90, 30), RULES, found).order.leaves_lots == 0


def test_replace_with_another_side_is_refused_and_names_the_order() -> None:
    found = parse_open_order(b"55 2 2000 80 20 80000000 250 2 1 40000")
    refused = reserve_replace(replace(Side.BUY, 2000, 100), RULES, settled_as(found))
    assert isinstance(refused, CancelRejected)
    assert (refused.order_seq, refused.ord_status) == (55, OrdStatus.PARTIALLY_FILLED)
    assert refused.reason is CxlRejReason.OTHER


def hold(price_ticks: int, leaves_lots: int, filled_notional: int, charged: int) -> int:
    """What a buy must hold: the formula of the design, section 2."""
    notional = RULES.notional(price_ticks, leaves_lots)
    return notional + fee_ceil(OLD_PPM * (filled_notional + notional)) - charged


@given(
    price=st.integers(1, 20_000),
    leaves=st.integers(1, 50_000),
    cum=st.integers(0, 1_000),
    new_price=st.integers(1, 20_000),
    new_leaves=st.integers(1, 50_000),
    data=st.data(),
)
def test_buy_replace_suffices_whatever_fills_in_between(
    price: int, leaves: int, cum: int, new_price: int, new_leaves: int, data: st.DataObject
) -> None:
    """Fill k more lots at prices up to the order's, then compare what is held with what is due."""
    found = OpenOrder(5, Side.BUY, price, leaves, cum, 0, OLD_PPM)
    command = reserve_replace(
        replace(Side.BUY, new_price, new_leaves + cum), RULES, settled_as(found)
    )
    assert isinstance(command, ReplaceOrder)
    more = data.draw(st.integers(0, min(leaves, new_leaves) - 1))
    at = data.draw(st.integers(1, price))
    filled = RULES.notional(data.draw(st.integers(1, price)), cum) + RULES.notional(at, more)
    charged = fee_ceil(filled * data.draw(st.sampled_from([100, 250])))
    held = hold(price, leaves - more, filled, charged)
    assert held + command.reserved >= hold(new_price, new_leaves - more, filled, charged)


@given(leaves=st.integers(1, 100), cum=st.integers(0, 100), new_qty=st.integers(1, 300))
def test_sell_replace_reserves_the_lots_that_were_added(
    leaves: int, cum: int, new_qty: int
) -> None:
    found = OpenOrder(5, Side.SELL, 100, leaves, cum, 0, OLD_PPM)
    command = reserve_replace(replace(Side.SELL, 90, new_qty), RULES, settled_as(found))
    assert isinstance(command, ReplaceOrder)
    assert command.reserved == max(0, new_qty - leaves - cum) * RULES.base_units_per_lot


def test_refusal_for_funds_says_what_was_needed() -> None:
    order = msgspec.structs.replace(market(Side.BUY), price_ticks=2000, reserved=1_500_376)
    refused = refused_for_funds(order, TEXTS)
    assert isinstance(refused, OrderRejected)
    assert refused.reason is OrdRejReason.EXCEEDS_LIMIT
    assert refused.text == "Insufficient funds: 150.0376 USD needed"
    assert refused.qty_lots == 150
    sell = msgspec.structs.replace(replace(Side.SELL, 2000, 100), reserved=25_000_000)
    refused_replace = refused_for_funds(sell, TEXTS)
    assert isinstance(refused_replace, CancelRejected)
    assert refused_replace.text == "Insufficient funds: 0.25 BTC needed"


def test_refused_cancel_names_the_order_if_it_is_open() -> None:
    refusal = reserve_replace(
        replace(Side.SELL, 1, 1), RULES, settled_as(OpenOrder(9, Side.BUY, 100, 10, 0, 0, 0))
    )
    assert isinstance(refusal, CancelRejected)
    assert (refusal.order_seq, refusal.ord_status) == (9, OrdStatus.NEW)
    assert with_order(refusal, None) is refusal
