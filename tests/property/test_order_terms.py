"""What a gateway takes for an order, the engine takes too; whatever else is refused in its form."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from engine.checks import check_new_order
from engine.commands import NewOrder, ReplaceOrder
from engine.enums import (
    BusinessRejectReason,
    CxlRejReason,
    OrdRejReason,
    OrdType,
    SelfTradePrevention,
)
from engine.events import BusinessRejected, CancelRejected, OrderRejected
from gateway.orders_in import OrderReader
from gateway.reservations import price_market
from gateway.symbol_texts import SymbolTable
from router.open_orders import BestPrices
from tests.unit.test_gateway_orders_in import ORIGIN, TIME, fix, rules_of

RULES = rules_of()
TABLE = SymbolTable([RULES])
READER = OrderReader(TABLE, default_stp=SelfTradePrevention.NONE, protection_ppm=50_000)
BEST = BestPrices(1_990, 2_000, 7)
NOW_US = ORIGIN.received_ns // 1_000

PRICES = ["0", "0.05", "9.95", "50", "100.05", "100.01", "999.95", "1000", "1000.05"]
LOTS = ["0", "0.01", "0.02", "0.5", "1", "1.005", "2", "499.99", "500", "500.01"]
VALUES: dict[str, list[str | None]] = {
    "54": ["1", "2", "5"],
    "40": ["1", "2", "3", "4", "9"],
    "59": [None, *"01234567"],
    "18": [None, "6", "G"],
    "38": [None, *LOTS],
    "44": [None, *PRICES],
    "99": [None, *PRICES],
    "110": [None, *LOTS],
    "111": [None, *LOTS],
    "126": [None, "20260102-03:04:05", "20260102-03:04:06", "20260231-00:00:00"],
    "432": [None, "20260101", "20260102", "20260231", "99991231"],
    "152": [None, "0", "4.9999", "5", "75.5", "0.00001", "99999999999999999999"],
}
GOOD: list[dict[str, str | None]] = [
    {"54": side, **kind}
    for side in ("1", "2")
    for kind in (
        {"40": "2", "38": "1", "44": "100.05"},
        {"40": "2", "38": "500", "44": "1000", "59": "6", "126": "20260102-03:04:06"},
        {"40": "2", "38": "2", "44": "50", "111": "0.5", "18": "6"},
        {"40": "2", "38": "2", "44": "50", "110": "0.5", "59": "4"},
        {"40": "2", "38": "2", "44": "50", "59": "2"},
        {"40": "1", "38": "1", "110": "0.5"},
        {"40": "3", "38": "1", "99": "100.05"},
        {"40": "4", "38": "1", "99": "100.05", "44": "1000", "59": "6", "432": "20260102"},
    )
]
GOOD.append({"54": "1", "40": "1", "152": "75.5"})
MUTATIONS = st.one_of(
    [st.tuples(st.just(tag), st.sampled_from(values)) for tag, values in VALUES.items()]
)
MESSAGES = st.builds(
    lambda good, changes: good | dict(changes),
    st.sampled_from(GOOD),
    st.lists(MUTATIONS, max_size=2),
)
"""Good orders with at most two fields changed."""


def text_of(msg_type: str, fields: dict[str, str | None]) -> str:
    given_ones = "|".join(f"{tag}={value}" for tag, value in fields.items() if value is not None)
    chain = "|41=a0" if msg_type == "G" else ""
    return f"35={msg_type}|11=a1{chain}|55=BTC-USD|60={TIME.decode()}|{given_ones}"


def is_taken_by_engine(order: NewOrder) -> bool:
    """Price a market order as the gateway does, then ask the engine."""
    if order.ord_type is OrdType.MARKET:
        priced = price_market(order, TABLE.by_name["BTC-USD"], BEST, protection_ppm=50_000)
        if isinstance(priced, OrderRejected):
            return True
        order = priced
    conditions = order.conditions
    if conditions is not None and conditions.cash:
        # Its quantity is for the book to say.
        assert (order.qty_lots, order.reserved) == (0, conditions.cash)
        return True
    hold = RULES.hold_of(order.side, order.price_ticks, order.qty_lots)
    assert check_new_order(RULES, order, hold, NOW_US) is None, order
    return True


def test_good_orders_are_taken() -> None:
    for fields in GOOD:
        content = READER.read(fix(text_of("D", fields)), ORIGIN).content
        assert isinstance(content, NewOrder) and is_taken_by_engine(content)


@settings(max_examples=200, deadline=None)
@given(MESSAGES)
def test_the_engine_takes_every_order_that_the_gateway_takes(
    fields: dict[str, str | None],
) -> None:
    content = READER.read(fix(text_of("D", fields)), ORIGIN).content
    if isinstance(content, NewOrder):
        assert is_taken_by_engine(content)
        return
    assert isinstance(content, OrderRejected | BusinessRejected)
    kind = OrdRejReason if isinstance(content, OrderRejected) else BusinessRejectReason
    assert isinstance(content.reason, kind) and content.text


@settings(max_examples=100, deadline=None)
@given(MESSAGES)
def test_every_replace_is_a_command_or_refused_as_a_replace(fields: dict[str, str | None]) -> None:
    content = READER.read(fix(text_of("G", fields)), ORIGIN).content
    if isinstance(content, ReplaceOrder):
        conditions = content.conditions
        assert conditions is None or not (conditions.cash or conditions.min_qty_lots)
        assert content.ord_type is not OrdType.MARKET
    elif isinstance(content, CancelRejected):
        assert content.reason is CxlRejReason.OTHER and content.text
    else:
        assert isinstance(content, BusinessRejected)
