"""Application messages to commands and refusals: every row of the table in orders_in.py."""

from __future__ import annotations

import pytest

from engine.commands import CancelOrder, NewOrder, OrderConditions, QueryOrder, ReplaceOrder
from engine.enums import (
    BusinessRejectReason,
    CxlRejReason,
    CxlRejResponseTo,
    OrdRejReason,
    OrdStatus,
    OrdType,
    SelfTradePrevention,
    Side,
    TimeInForce,
)
from engine.events import BusinessRejected, CancelRejected, OrderRejected
from engine.instrument import SymbolRules, define_rules
from gateway.fix_message import FixMessage, encode_fields, frame
from gateway.orders_in import OrderReader
from gateway.refusals import Origin, Request, not_available
from gateway.symbol_texts import SymbolTable
from gateway.validate import MessageReader

TIME = b"20260102-03:04:05.678"
RECEIVED_NS = 1_767_323_045 * 10**9
"""2026-01-02 03:04:05 UTC."""
ORIGIN = Origin(1001, session=7, msg_seq_num=42, stale=False, received_ns=RECEIVED_NS)


def rules_of(symbol: str = "BTC-USD", version: int = 3) -> SymbolRules:
    return define_rules(
        symbol=symbol,
        base="BTC",
        quote="USD",
        base_scale=8,
        quote_scale=4,
        tick_size="0.05",
        lot_size="0.01",
        min_qty="0.02",
        max_qty="500",
        max_price="1000",
        min_notional="5",
        maker_fee_ppm=100,
        taker_fee_ppm=250,
        version=version,
    )


def fix(text: str) -> FixMessage:
    """Return a message from `35=…|tag=value|…`; the header is filled in."""
    msg_type, *fields = (piece.partition("=") for piece in text.split("|"))
    header = [(b"35", msg_type[2]), (b"49", "1001"), (b"56", "SHARDEX"), (b"34", "42")]
    pairs = [(tag.encode(), value.encode()) for tag, _, value in fields]
    content = encode_fields(
        [(tag, v if isinstance(v, bytes) else v.encode()) for tag, v in header]
        + [(b"52", TIME)]
        + pairs
    )
    message = MessageReader().read(frame(content))
    assert message.fault is None, message.fault
    return message


ORDER: dict[str, str | None] = {
    "11": "a1",
    "55": "BTC-USD",
    "54": "1",
    "60": TIME.decode(),
    "40": "2",
    "38": "1.5",
}


def order(type_: str = "D", **changes: str | None) -> FixMessage:
    """Return a good limit order (D or G) with tags changed (t44="…") or left out (None)."""
    fields = ORDER | {"44": "100.05"}
    if type_ == "G":
        fields["41"] = "a0"
    fields |= {tag.removeprefix("t"): value for tag, value in changes.items()}
    return fix("|".join([f"35={type_}", *(f"{t}={v}" for t, v in fields.items() if v)]))


@pytest.fixture
def reader() -> OrderReader:
    symbols = SymbolTable([rules_of(), rules_of("ETH-USD")])
    return OrderReader(
        symbols, default_stp=SelfTradePrevention.CANCEL_NEWEST, protection_ppm=50_000
    )


def test_limit_order_becomes_a_command_with_its_reservation(reader: OrderReader) -> None:
    # 100.05 × 1.5 = 150.0750 USD, and 250 ppm of it = 0.03751875, up: 0.0376.
    assert reader.read(order(), ORIGIN) == Request(
        "BTC-USD",
        NewOrder(
            account=1001,
            session=7,
            msg_seq_num=42,
            cl_ord_id="a1",
            side=Side.BUY,
            ord_type=OrdType.LIMIT,
            time_in_force=TimeInForce.DAY,
            post_only=False,
            stp=SelfTradePrevention.CANCEL_NEWEST,
            price_ticks=2001,
            qty_lots=150,
            rules_version=3,
            reserved=1_500_750 + 376,
        ),
    )


def test_stop_order_has_a_worst_price_and_reserves_by_it(reader: OrderReader) -> None:
    command = reader.read(order(t40="3", t44=None, t99="100"), ORIGIN).content
    assert isinstance(command, NewOrder)
    assert (command.ord_type, command.price_ticks) == (OrdType.STOP, 2_100)
    assert command.conditions == OrderConditions(stop_ticks=2_000)
    assert command.reserved == rules_of().hold_of(Side.BUY, 2_100, 150)


def test_order_for_an_amount_reserves_it_and_has_no_quantity(reader: OrderReader) -> None:
    command = reader.read(order(t40="1", t44=None, t38=None, t152="75.5"), ORIGIN).content
    assert isinstance(command, NewOrder)
    assert (command.qty_lots, command.price_ticks, command.reserved) == (0, 0, 755_000)
    assert command.conditions == OrderConditions(cash=755_000)


def test_sell_reserves_base(reader: OrderReader) -> None:
    command = reader.read(order(t54="2"), ORIGIN).content
    assert isinstance(command, NewOrder) and command.reserved == 150_000_000


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"t59": "1"}, {"time_in_force": TimeInForce.GTC}),
        ({"t59": "3"}, {"time_in_force": TimeInForce.IOC}),
        ({"t59": "4"}, {"time_in_force": TimeInForce.FOK}),
        ({"t18": "6"}, {"post_only": True}),
        ({"t7928": "0"}, {"stp": SelfTradePrevention.NONE}),
        ({"t7928": "3"}, {"stp": SelfTradePrevention.CANCEL_BOTH}),
        ({"t1": "1001", "t21": "1"}, {"post_only": False}),
        ({"t40": "1", "t44": None}, {"time_in_force": TimeInForce.IOC, "price_ticks": 0}),
        ({"t40": "1", "t44": None, "t59": "1"}, {"time_in_force": TimeInForce.IOC}),
        ({"t40": "1", "t44": None, "t59": "4"}, {"time_in_force": TimeInForce.FOK}),
    ],
)
def test_terms_of_an_order_are_read(
    reader: OrderReader, changes: dict[str, str | None], expected: dict[str, object]
) -> None:
    command = reader.read(order("D", **changes), ORIGIN).content
    assert isinstance(command, NewOrder)
    assert {name: getattr(command, name) for name in expected} == expected


REFUSED_ORDERS = [
    ({"t55": "XRP-USD"}, OrdRejReason.UNKNOWN_SYMBOL, "Symbol (55): unknown symbol XRP-USD"),
    ({"t1": "7"}, OrdRejReason.UNKNOWN_ACCOUNT, "Account (1): expected 1001, received 7"),
    ({"t40": "9"}, OrdRejReason.UNSUPPORTED_CHARACTERISTIC, "OrdType (40): expected"),
    ({"t59": "7"}, OrdRejReason.UNSUPPORTED_CHARACTERISTIC, "TimeInForce (59): expected"),
    ({"t59": "6", "t126": "20260102-03:04:05"}, OrdRejReason.TOO_LATE_TO_ENTER, "has not passed"),
    ({"t18": "G"}, OrdRejReason.UNSUPPORTED_CHARACTERISTIC, "ExecInst (18): expected 6"),
    ({"t18": "6 G"}, OrdRejReason.UNSUPPORTED_CHARACTERISTIC, "ExecInst (18): expected 6"),
    ({"t18": "6", "t59": "3"}, OrdRejReason.UNSUPPORTED_CHARACTERISTIC, "IOC or FOK"),
    (
        {"t18": "6", "t40": "1", "t44": None},
        OrdRejReason.UNSUPPORTED_CHARACTERISTIC,
        "ExecInst (18): expected none on a market order",
    ),
    (
        {"t40": "1"},
        OrdRejReason.UNSUPPORTED_CHARACTERISTIC,
        "Price (44): expected none on a market order, received 100.05",
    ),
    ({"t99": "1"}, OrdRejReason.UNSUPPORTED_CHARACTERISTIC, "StopPx (99): expected none"),
    ({"t40": "4", "t99": "100.01"}, OrdRejReason.OTHER, "StopPx (99): expected a multiple"),
    ({"t111": "1.51"}, OrdRejReason.INCORRECT_QUANTITY, "MaxFloor (111): expected 0.01 to 1.50"),
    (
        {"t44": "100.01"},
        OrdRejReason.OTHER,
        "Price (44): expected a multiple of 0.05, received 100.01",
    ),
    ({"t44": "-1"}, OrdRejReason.OTHER, "Price (44): expected a multiple of 0.05, received -1"),
    ({"t44": "0"}, OrdRejReason.OTHER, "Price (44): expected 0.05 to 1000.00, received 0"),
    ({"t44": "1000.05"}, OrdRejReason.OTHER, "expected 0.05 to 1000.00, received 1000.05"),
    (
        {"t38": "0.02"},
        OrdRejReason.OTHER,
        "Notional: expected at least 5.0000 USD, received 2.0010",
    ),
    (
        {"t38": "1.505"},
        OrdRejReason.INCORRECT_QUANTITY,
        "OrderQty (38): expected a multiple of 0.01, received 1.505",
    ),
    (
        {"t38": "0.01"},
        OrdRejReason.INCORRECT_QUANTITY,
        "OrderQty (38): expected 0.02 to 500.00, received 0.01",
    ),
    ({"t38": "500.01"}, OrdRejReason.INCORRECT_QUANTITY, "received 500.01"),
]


@pytest.mark.parametrize(("changes", "reason", "text"), REFUSED_ORDERS)
def test_bad_order_is_refused_with_reason_and_text(
    reader: OrderReader, changes: dict[str, str | None], reason: OrdRejReason, text: str
) -> None:
    request = reader.read(order("D", **changes), ORIGIN)
    event = request.content
    assert isinstance(event, OrderRejected)
    assert (event.account, event.cl_ord_id, event.side) == (1001, "a1", Side.BUY)
    assert event.reason is reason
    assert text in event.text
    assert request.symbol == changes.get("t55", "BTC-USD")


@pytest.mark.parametrize(("changes", "reason", "text"), REFUSED_ORDERS)
def test_bad_replace_is_refused_as_a_replace(
    reader: OrderReader, changes: dict[str, str | None], reason: OrdRejReason, text: str
) -> None:
    event = reader.read(order("G", **changes), ORIGIN).content
    assert isinstance(event, CancelRejected)
    assert (event.cl_ord_id, event.orig_cl_ord_id) == ("a1", "a0")
    assert event.response_to is CxlRejResponseTo.REPLACE
    assert (event.order_seq, event.ord_status) == (0, OrdStatus.REJECTED)
    unknown = reason is OrdRejReason.UNKNOWN_SYMBOL
    assert event.reason is (CxlRejReason.UNKNOWN_ORDER if unknown else CxlRejReason.OTHER)
    assert text in event.text


@pytest.mark.parametrize("msg_type", ["D", "G"])
@pytest.mark.parametrize("tag", ["44", "38"])
def test_conditionally_required_field_is_named(
    reader: OrderReader, msg_type: str, tag: str
) -> None:
    changes: dict[str, str | None] = {f"t{tag}": None}
    event = reader.read(order(msg_type, **changes), ORIGIN).content
    assert isinstance(event, BusinessRejected)
    assert event.reason is BusinessRejectReason.CONDITIONALLY_REQUIRED_FIELD_MISSING
    assert (event.ref_seq_num, event.ref_msg_type, event.ref_id) == (42, msg_type, "a1")
    assert f"({tag})" in event.text


def test_short_sale_has_no_report_and_gets_a_business_reject(reader: OrderReader) -> None:
    event = reader.read(order(t54="5"), ORIGIN).content
    assert isinstance(event, BusinessRejected)
    assert event.reason is BusinessRejectReason.OTHER
    assert event.text == "Side (54): expected 1 (buy) or 2 (sell), received 5"


def test_stale_resend_refuses_orders_and_replaces_but_never_cancels(reader: OrderReader) -> None:
    stale = ORIGIN._replace(stale=True)
    refused = reader.read(order(), stale).content
    assert isinstance(refused, OrderRejected) and refused.reason is OrdRejReason.STALE_ORDER
    refused = reader.read(order("G"), stale).content
    assert isinstance(refused, CancelRejected) and refused.reason is CxlRejReason.OTHER
    assert isinstance(reader.read(cancel(), stale).content, CancelOrder)


def cancel(symbol: str = "BTC-USD", extra: str = "") -> FixMessage:
    return fix(f"35=F|41=a0|11=a1|55={symbol}|54=1|60={TIME.decode()}{extra}")


def test_cancel_becomes_a_command(reader: OrderReader) -> None:
    assert reader.read(cancel(), ORIGIN) == Request(
        "BTC-USD", CancelOrder(1001, 7, 42, "a1", "a0", 0)
    )
    with_id = reader.read(cancel(extra="|37=BTC-USD-55"), ORIGIN).content
    assert isinstance(with_id, CancelOrder) and with_id.order_seq == 55


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (cancel("XRP-USD"), CxlRejReason.UNKNOWN_ORDER),
        (cancel(extra="|37=ETH-USD-55"), CxlRejReason.UNKNOWN_ORDER),
        (cancel(extra="|37=BTC-USD-"), CxlRejReason.UNKNOWN_ORDER),
        (cancel(extra="|37=BTC-USD-99999999999999999999999"), CxlRejReason.UNKNOWN_ORDER),
        (cancel(extra="|37=NONE"), CxlRejReason.UNKNOWN_ORDER),
        (cancel(extra="|1=5"), CxlRejReason.OTHER),
    ],
)
def test_bad_cancel_is_refused(
    reader: OrderReader, message: FixMessage, reason: CxlRejReason
) -> None:
    event = reader.read(message, ORIGIN).content
    assert isinstance(event, CancelRejected)
    assert (event.response_to, event.reason) == (CxlRejResponseTo.CANCEL, reason)


def test_replace_becomes_a_command_without_its_reservation(reader: OrderReader) -> None:
    command = reader.read(order("G", t37="BTC-USD-9"), ORIGIN).content
    assert isinstance(command, ReplaceOrder)
    assert (command.cl_ord_id, command.orig_cl_ord_id, command.order_seq) == ("a1", "a0", 9)
    assert (command.price_ticks, command.qty_lots) == (2001, 150)
    assert (command.rules_version, command.reserved, command.stp) == (3, 0, None)


def test_replace_names_the_conditions_that_the_order_has_from_then_on(reader: OrderReader) -> None:
    message = order("G", t40="4", t99="90", t111="0.5", t59="6", t432="20260102")
    command = reader.read(message, ORIGIN).content
    assert isinstance(command, ReplaceOrder)
    midnight_us = 1_767_398_400 * 10**6
    assert command.conditions == OrderConditions(1_800, 50, 0, midnight_us)


def test_replace_may_change_self_trade_prevention(reader: OrderReader) -> None:
    command = reader.read(order("G", t7928="2"), ORIGIN).content
    assert isinstance(command, ReplaceOrder) and command.stp is SelfTradePrevention.CANCEL_OLDEST


def test_replace_cannot_make_a_market_order(reader: OrderReader) -> None:
    event = reader.read(order("G", t40="1", t44=None), ORIGIN).content
    assert isinstance(event, CancelRejected) and event.reason is CxlRejReason.OTHER


def query(extra: str = "", symbol: str = "BTC-USD", side: str = "2") -> FixMessage:
    return fix(f"35=H|11=a1|55={symbol}|54={side}{extra}")


def test_status_request_becomes_a_command(reader: OrderReader) -> None:
    assert reader.read(query("|37=BTC-USD-5|790=s9"), ORIGIN) == Request(
        "BTC-USD", QueryOrder(1001, 7, 42, "a1", 5, Side.SELL, "s9")
    )


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (query(symbol="XRP-USD"), BusinessRejectReason.UNKNOWN_SECURITY),
        (query("|1=5"), BusinessRejectReason.NOT_AUTHORIZED),
        (query("|37=x"), BusinessRejectReason.UNKNOWN_ID),
        (query(side="5"), BusinessRejectReason.OTHER),
    ],
)
def test_what_has_no_answer_of_its_own_gets_a_business_reject(
    reader: OrderReader, message: FixMessage, reason: BusinessRejectReason
) -> None:
    event = reader.read(message, ORIGIN).content
    assert isinstance(event, BusinessRejected)
    assert event.reason == reason
    assert event.ref_msg_type == message.msg_type.decode()


def test_message_that_is_not_about_orders_is_unsupported(reader: OrderReader) -> None:
    message = fix("35=V|262=m1|263=0|264=0|267=1|269=0|146=1|55=BTC-USD")
    event = reader.read(message, ORIGIN).content
    assert isinstance(event, BusinessRejected)
    assert event.reason is BusinessRejectReason.UNSUPPORTED_MESSAGE_TYPE


def test_bytes_that_are_no_text_do_no_harm(reader: OrderReader) -> None:
    message = order(t55="BTC")
    message.fields[b"1"] = b"\xff\xfe"
    message.fields[b"55"] = b"\xe9"
    request = reader.read(message, ORIGIN)
    assert request.symbol == "\\xe9"


def test_not_available_names_the_message() -> None:
    event = not_available(order(), ORIGIN, "no")
    assert event.reason is BusinessRejectReason.APPLICATION_NOT_AVAILABLE
    assert (event.ref_seq_num, event.ref_msg_type, event.ref_id) == (42, "D", "a1")
