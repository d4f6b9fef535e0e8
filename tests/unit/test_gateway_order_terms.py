"""Business checks: what an order may say about itself, and the words of each problem."""

from __future__ import annotations

import pytest

from engine.commands import OrderConditions
from engine.enums import BusinessRejectReason, OrdRejReason, OrdType, Side, TimeInForce
from gateway.order_kinds import Kind
from gateway.order_terms import Terms, TermsReader, problem_of_account, read_order_seq
from gateway.refusals import Origin, Problem
from gateway.symbol_texts import SymbolTexts
from tests.unit.test_gateway_orders_in import RECEIVED_NS, rules_of

TEXTS = SymbolTexts(rules_of())
ORDER = {b"54": b"1", b"40": b"2", b"38": b"1", b"44": b"10", b"55": b"BTC-USD"}


def terms(**changes: str | None) -> Terms | Problem:
    fields = dict(ORDER)
    for tag, value in changes.items():
        key = tag.removeprefix("t").encode()
        if value is None:
            del fields[key]
        else:
            fields[key] = value.encode()
    return TermsReader(protection_ppm=50_000).read(fields, TEXTS, RECEIVED_NS)


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({}, Kind(Side.BUY, OrdType.LIMIT, TimeInForce.DAY, False)),
        ({"t54": "2", "t59": "1"}, Kind(Side.SELL, OrdType.LIMIT, TimeInForce.GTC, False)),
        ({"t59": "4"}, Kind(Side.BUY, OrdType.LIMIT, TimeInForce.FOK, False)),
        ({"t18": "6"}, Kind(Side.BUY, OrdType.LIMIT, TimeInForce.DAY, True)),
        ({"t15": "USD"}, Kind(Side.BUY, OrdType.LIMIT, TimeInForce.DAY, False)),
    ],
)
def test_limit_orders_in_ticks_and_lots(changes: dict[str, str], kind: Kind) -> None:
    assert terms(**changes) == Terms(kind, 200, 100)


@pytest.mark.parametrize(("time", "kept"), [(None, 3), ("0", 3), ("1", 3), ("3", 3), ("4", 4)])
def test_market_orders_never_rest(time: str | None, kept: int) -> None:
    changes = {"t40": "1", "t44": None} | ({"t59": time} if time else {})
    kind = Kind(Side.BUY, OrdType.MARKET, TimeInForce(kept), False)
    assert terms(**changes) == Terms(kind, 0, 100)


@pytest.mark.parametrize(
    ("changes", "reason", "words"),
    [
        ({"t54": "5"}, 11, "Side (54): expected 1 (buy) or 2 (sell), received 5"),
        ({"t40": "P"}, 11, "OrdType (40): expected 1 (market), 2 (limit), 3 (stop) or 4"),
        ({"t59": "5"}, 11, "TimeInForce (59): expected 0 (day), 1 (GTC), 2 (at the opening)"),
        ({"t40": "1", "t44": None, "t59": "6"}, 11, "3 (IOC) or 4 (FOK) on a market order"),
        ({"t40": "3", "t44": None, "t59": "3"}, 11, "1 (GTC) or 6 (GTD) on a stop order, received"),
        ({"t18": "6", "t59": "2"}, 11, "none on an order for the opening"),
        ({"t18": "6", "t40": "4"}, 11, "ExecInst (18): expected none on a stop-limit order"),
        ({"t18": "G"}, 11, "ExecInst (18): expected 6 (post-only), received G"),
        ({"t18": "6", "t59": "3"}, 11, "none on an IOC or FOK order"),
        ({"t18": "6", "t40": "1", "t44": None}, 11, "none on a market order"),
        ({"t40": "1"}, 11, "Price (44): expected none on a market order"),
        ({"t40": "3", "t99": "10"}, 11, "Price (44): expected none on a stop order"),
        ({"t211": "5", "t99": "1"}, 11, "PegOffsetValue (211): not supported"),
        ({"t15": "BTC"}, 11, "Currency (15): expected USD, received BTC"),
        ({"t15": "EUR", "t40": "P"}, 11, "Currency (15): expected USD, received EUR"),
        ({"t38": "0.005"}, 13, "OrderQty (38): expected a multiple of 0.01, received 0.005"),
        ({"t38": "0.01"}, 13, "expected 0.02 to 500.00, received 0.01"),
        ({"t38": "500.01"}, 13, "expected 0.02 to 500.00, received 500.01"),
        ({"t44": "10.01"}, 99, "Price (44): expected a multiple of 0.05, received 10.01"),
        ({"t44": "0"}, 99, "expected 0.05 to 1000.00, received 0"),
        ({"t44": "1000.05"}, 99, "received 1000.05"),
        ({"t44": "4.95"}, 99, "Notional: expected at least 5.0000 USD, received 4.9500"),
    ],
)
def test_what_an_order_may_not_say(changes: dict[str, str | None], reason: int, words: str) -> None:
    problem = terms(**changes)
    assert isinstance(problem, Problem)
    assert problem.reason == OrdRejReason(reason)
    assert words in problem.text


@pytest.mark.parametrize(
    ("changes", "price_ticks", "conditions"),
    [
        ({"t40": "3", "t44": None, "t99": "10"}, 210, OrderConditions(stop_ticks=200)),
        ({"t40": "3", "t44": None, "t99": "10", "t54": "2"}, 190, OrderConditions(stop_ticks=200)),
        ({"t40": "4", "t99": "9"}, 200, OrderConditions(stop_ticks=180)),
        ({"t111": "0.1"}, 200, OrderConditions(max_floor_lots=10)),
        ({"t110": "1", "t59": "3"}, 200, OrderConditions(min_qty_lots=100)),
    ],
)
def test_conditions_and_the_worst_price(
    changes: dict[str, str | None], price_ticks: int, conditions: OrderConditions
) -> None:
    read = terms(**changes)
    assert isinstance(read, Terms)
    assert (read.price_ticks, read.qty_lots, read.conditions) == (price_ticks, 100, conditions)


def test_an_order_by_cash_has_neither_price_nor_quantity() -> None:
    changes = {"t40": "1", "t44": None, "t38": None, "t152": "7.5"}
    kind = Kind(Side.BUY, OrdType.MARKET, TimeInForce.IOC, False)
    assert terms(**changes) == Terms(kind, 0, 0, OrderConditions(cash=75_000))


def test_a_triggered_stop_limit_order_is_replaced_without_a_stop_price() -> None:
    read = terms(t40="4", t41="a0")
    assert isinstance(read, Terms) and read.conditions is None


@pytest.mark.parametrize("tag", ["t38", "t44"])
def test_price_or_quantity_left_out_is_a_business_reject(tag: str) -> None:
    problem = terms(**{tag: None})
    assert isinstance(problem, Problem)
    assert problem.reason is BusinessRejectReason.CONDITIONALLY_REQUIRED_FIELD_MISSING


@pytest.mark.parametrize(
    ("order_id", "seq"),
    [(None, 0), (b"BTC-USD-7", 7), (b"BTC-USD-9223372036854775807", 2**63 - 1)],
)
def test_order_id_names_an_input_of_the_symbol(order_id: bytes | None, seq: int) -> None:
    fields = {b"55": b"BTC-USD"} | ({b"37": order_id} if order_id else {})
    assert read_order_seq(fields) == seq


@pytest.mark.parametrize(
    "order_id",
    [b"7", b"ETH-USD-7", b"BTC-USD-", b"BTC-USD-0", b"BTC-USD--7", b"BTC-USD-9223372036854775808"],
)
def test_any_other_order_id_is_an_unknown_order(order_id: bytes) -> None:
    problem = read_order_seq({b"55": b"BTC-USD", b"37": order_id})
    assert isinstance(problem, Problem) and problem.reason is OrdRejReason.UNKNOWN_ORDER


def test_account_is_the_sender_or_absent() -> None:
    origin = Origin(7, 1, 1, False)
    assert problem_of_account({}, origin) is None
    assert problem_of_account({b"1": b"7"}, origin) is None
    for other in (b"8", b"07"):
        problem = problem_of_account({b"1": other}, origin)
        assert problem is not None and problem.reason is OrdRejReason.UNKNOWN_ACCOUNT
