"""Events to report bodies: the table at the head of reports_out.py, and FIX 4.4's required tags."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from engine.enums import (
    BusinessRejectReason,
    CancelReason,
    CxlRejReason,
    CxlRejResponseTo,
    Liquidity,
    OrdRejReason,
    OrdStatus,
    OrdType,
    SelfTradePrevention,
    Side,
    TimeInForce,
)
from engine.events import (
    BusinessRejected,
    CancelRejected,
    Event,
    OrderAccepted,
    OrderCanceled,
    OrderFilled,
    OrderRefilled,
    OrderRejected,
    OrderReplaced,
    OrderStatusReported,
    Output,
    Skipped,
)
from gateway.reports_out import ReportWriter
from gateway.symbol_texts import SymbolTable, SymbolTexts
from tests.unit.test_gateway_orders_in import rules_of

TS_US = 1_767_323_045_678_901  # 2026-01-02 03:04:05.678901
TIME = "20260102-03:04:05.678"
REQUIRED = {
    b"8": {"37", "17", "150", "39", "54", "151", "14", "6", "11", "55", "60"},
    b"9": {"37", "11", "41", "39", "434"},
    b"j": {"372", "380"},
    b"r": {"37", "530", "531", "11", "60"},
}
STATE: dict[str, Any] = {
    "index": 2,
    "account": 1001,
    "order_seq": 55,
    "cl_ord_id": "a1",
    "side": Side.BUY,
    "ord_type": OrdType.LIMIT,
    "time_in_force": TimeInForce.GTC,
    "price_ticks": 2001,
    "qty_lots": 150,
    "leaves_lots": 100,
    "cum_lots": 50,
    "cum_price_qty": 100_025,
}
STATE_TAGS = {
    "37": "BTC-USD-55",
    "11": "a1",
    "17": "BTC-USD-77-2",
    "55": "BTC-USD",
    "54": "1",
    "38": "1.50",
    "40": "2",
    "44": "100.05",
    "59": "1",
    "151": "1.00",
    "14": "0.50",
    "6": "100.025",
    "60": TIME,
}


def render(event: Event, *, seq: int = 77, symbol: str = "BTC-USD") -> dict[str, str]:
    """Return the tags of an event's report, after checking that the dictionary's are there."""
    writer = ReportWriter(SymbolTable([rules_of()]))
    ((msg_type, body),) = writer.bodies(Output(symbol, seq, TS_US, [event], []), 9)
    assert body.endswith(b"\x01")
    pairs = [piece.split("=", 1) for piece in body.decode("ascii")[:-1].split("\x01")]
    tags = dict(pairs)
    assert len(tags) == len(pairs), "no tag stands twice"
    assert tags.keys() >= REQUIRED[msg_type]
    return {"35": msg_type.decode(), **tags}


def test_accepted_order() -> None:
    event = OrderAccepted(**STATE | NOT_FILLED, post_only=True, stp=SelfTradePrevention.NONE)
    assert render(event) == {
        "35": "8",
        **STATE_TAGS,
        "150": "0",
        "39": "0",
        "151": "1.50",
        "14": "0.00",
        "6": "0",
        "18": "6",
    }


NOT_FILLED = {"leaves_lots": 150, "cum_lots": 0, "cum_price_qty": 0}


def test_market_order_shows_no_price() -> None:
    event = OrderAccepted(
        **STATE | NOT_FILLED | {"ord_type": OrdType.MARKET, "time_in_force": TimeInForce.IOC},
        post_only=False,
        stp=SelfTradePrevention.NONE,
    )
    tags = render(event)
    assert (tags["40"], tags["59"], "44" in tags, "18" in tags) == ("1", "3", False, False)


@pytest.mark.parametrize(("leaves_lots", "status"), [(100, "1"), (0, "2")])
def test_fill(leaves_lots: int, status: str) -> None:
    event = OrderFilled(
        **STATE | {"leaves_lots": leaves_lots},
        trade=4,
        liquidity=Liquidity.TAKER,
        last_price_ticks=2000,
        last_qty_lots=25,
        fee=63,
    )
    assert render(event) == {
        "35": "8",
        **STATE_TAGS,
        "150": "F",
        "39": status,
        "151": "1.00" if leaves_lots else "0.00",
        "31": "100.00",
        "32": "0.25",
        "851": "2",
        "527": "BTC-USD-77-4",
        "136": "1",
        "137": "0.0063",
        "138": "USD",
        "139": "4",
    }


def test_fill_in_an_auction_has_no_taker() -> None:
    event = OrderFilled(
        **STATE,
        trade=4,
        liquidity=Liquidity.AUCTION,
        last_price_ticks=2000,
        last_qty_lots=25,
        fee=63,
    )
    tags = render(event)
    assert "851" not in tags and (tags["31"], tags["32"]) == ("100.00", "0.25")


def test_refilled_iceberg_order_is_no_news_to_its_owner() -> None:
    writer = ReportWriter(SymbolTable([rules_of()]))
    filled = OrderFilled(
        **STATE,
        trade=4,
        liquidity=Liquidity.MAKER,
        last_price_ticks=2001,
        last_qty_lots=50,
        fee=63,
    )
    refilled = OrderRefilled(**STATE, displayed_lots=50)
    bodies = writer.bodies(Output("BTC-USD", 77, TS_US, [filled, refilled], []), 9)
    assert [kind for kind, _ in bodies] == [b"8"]


DONE = STATE | {"leaves_lots": 0}


@pytest.mark.parametrize(
    ("reason", "orig", "expected"),
    [
        (CancelReason.REQUESTED, "a0", {"150": "4", "39": "4", "41": "a0"}),
        (
            CancelReason.SELF_TRADE,
            "",
            {"150": "4", "39": "4", "378": "99", "58": "Canceled by self-trade prevention"},
        ),
        (
            CancelReason.USER_DISABLED,
            "",
            {"150": "4", "39": "4", "378": "99", "58": "Canceled because the user was disabled"},
        ),
        (CancelReason.MASS_CANCEL, "a0", {"150": "4", "39": "4", "41": "a0"}),
        (
            CancelReason.DISCONNECTED,
            "",
            {
                "150": "4",
                "39": "4",
                "378": "99",
                "58": "Canceled because the session was disconnected",
            },
        ),
        (
            CancelReason.PRICE_BAND,
            "",
            {
                "150": "4",
                "39": "4",
                "378": "8",
                "58": "Canceled because its price is outside the band",
            },
        ),
    ],
)
def test_canceled_order(reason: CancelReason, orig: str, expected: dict[str, str]) -> None:
    event = OrderCanceled(**DONE, reason=reason, orig_cl_ord_id=orig, canceled_lots=100)
    assert render(event) == {"35": "8", **STATE_TAGS, "151": "0.00", **expected}


ENDINGS = """
1 LIMIT IOC 5 IOC: no more could trade at once
1 MARKET IOC 0 IOC: nothing, or less than MinQty, could trade at once
1 LIMIT FOK 0 FOK: not all of it could trade at once
1 STOP GTC 5 Stop: no more could trade once it was triggered
1 LIMIT GTC 0 MinQty: not so much could trade at once
1 LIMIT GTC 5 More orders to trade with than one order may meet at once
6 LIMIT DAY 0 Day order: the symbol was closed
6 LIMIT OPG 0 Order for the opening: the opening is over
6 LIMIT GTD 5 ExpireTime has come
"""  # CancelReason, type, time in force, what was filled, and what is said


@pytest.mark.parametrize("line", ENDINGS.strip().splitlines())
def test_expired_order_says_why(line: str) -> None:
    reason, ord_type, time, cum_lots, text = line.split(maxsplit=4)
    kind = {"ord_type": OrdType[ord_type], "time_in_force": TimeInForce[time]}
    terms = DONE | kind | {"cum_lots": int(cum_lots), "reason": CancelReason(int(reason))}
    event = OrderCanceled(**terms, orig_cl_ord_id="", canceled_lots=9)
    told = render(event)
    assert (told["150"], told["39"], told["58"]) == ("C", "C", text)
    assert "378" not in told


@pytest.mark.parametrize(("cum_lots", "status"), [(0, "0"), (50, "1")])
def test_replaced_order(cum_lots: int, status: str) -> None:
    event = OrderReplaced(
        **STATE | {"cum_lots": cum_lots},
        orig_cl_ord_id="a0",
        old_price_ticks=1999,
        old_leaves_lots=3,
        kept_priority=False,
        post_only=False,
        stp=SelfTradePrevention.NONE,
    )
    tags = render(event)
    assert (tags["150"], tags["39"], tags["11"], tags["41"]) == ("5", status, "a1", "a0")
    assert "18" not in tags
    assert render(msgspec.structs.replace(event, post_only=True))["18"] == "6"


def test_order_that_the_engine_refused() -> None:
    event = OrderRejected(
        **DONE | {"order_seq": 77}, reason=OrdRejReason.DUPLICATE_ORDER, text="ClOrdID ü\n× again"
    )
    assert render(event) == {
        "35": "8",
        "37": "BTC-USD-77",
        "11": "a1",
        "17": "BTC-USD-77-2",
        "150": "8",
        "39": "8",
        "55": "BTC-USD",
        "54": "1",
        "38": "1.50",
        "151": "0",
        "14": "0",
        "6": "0",
        "60": TIME,
        "103": "6",
        "58": "ClOrdID ? ? again",
    }


def test_order_that_the_gateway_refused_names_no_order_and_has_an_id_of_its_own() -> None:
    event = OrderRejected(
        **DONE | {"index": 0, "order_seq": 0, "qty_lots": 0},
        reason=OrdRejReason.UNKNOWN_SYMBOL,
        text="no",
    )
    tags = render(event, seq=0, symbol="XRP-USD")
    assert (tags["37"], tags["17"], tags["55"]) == ("NONE", "1001-9-R0", "XRP-USD")
    assert "38" not in tags


@pytest.mark.parametrize(
    ("order_seq", "status", "expected"),
    [
        (55, OrdStatus.PARTIALLY_FILLED, ("BTC-USD-55", "1")),
        (0, OrdStatus.REJECTED, ("NONE", "8")),
        (55, OrdStatus.EXPIRED, ("BTC-USD-55", "C")),
    ],
)
def test_refused_cancel(order_seq: int, status: OrdStatus, expected: tuple[str, str]) -> None:
    event = CancelRejected(
        index=0,
        account=1001,
        cl_ord_id="c1",
        orig_cl_ord_id="a1",
        order_seq=order_seq,
        ord_status=status,
        response_to=CxlRejResponseTo.REPLACE,
        reason=CxlRejReason.TOO_LATE,
        text="filled",
    )
    assert render(event) == {
        "35": "9",
        "37": expected[0],
        "11": "c1",
        "41": "a1",
        "39": expected[1],
        "434": "2",
        "102": "0",
        "60": TIME,
        "58": "filled",
    }


def test_status_of_an_order() -> None:
    event = OrderStatusReported(
        **STATE, ord_status=OrdStatus.PARTIALLY_FILLED, ord_status_req_id="s9"
    )
    assert render(event) == {"35": "8", **STATE_TAGS, "150": "I", "39": "1", "790": "s9"}


def test_status_of_an_unknown_order() -> None:
    event = OrderStatusReported(
        **STATE | {"order_seq": 0}, ord_status=OrdStatus.REJECTED, ord_status_req_id=""
    )
    tags = render(event)
    assert (tags["37"], tags["150"], tags["39"], tags["103"]) == ("NONE", "I", "8", "5")
    assert (tags["151"], tags["14"], tags["6"], "790" in tags) == ("0", "0", "0", False)


def test_business_reject() -> None:
    event = BusinessRejected(
        index=0,
        account=1001,
        ref_seq_num=42,
        ref_msg_type="q",
        ref_id="c1",
        reason=BusinessRejectReason.UNSUPPORTED_MESSAGE_TYPE,
        text="no",
    )
    expected = {"35": "j", "45": "42", "372": "q", "379": "c1", "380": "3", "58": "no"}
    assert render(event, seq=0, symbol="") == expected


REFUSED = {"order_seq": 77, "index": 0}


@pytest.mark.parametrize(
    "answer",
    [
        OrderRejected(**DONE | REFUSED, reason=OrdRejReason.OTHER, text="Skipped"),
        CancelRejected(
            index=0,
            account=1001,
            cl_ord_id="x1",
            orig_cl_ord_id="a1",
            order_seq=55,
            ord_status=OrdStatus.NEW,
            response_to=CxlRejResponseTo.REPLACE,
            reason=CxlRejReason.OTHER,
            text="Skipped",
        ),
        BusinessRejected(0, 1001, 12, "H", "a1", BusinessRejectReason.OTHER, "Skipped"),
    ],
    ids=lambda answer: type(answer).__name__,
)
def test_a_skipped_input_is_answered_like_a_refused_one(
    answer: OrderRejected | CancelRejected | BusinessRejected,
) -> None:
    tags = render(Skipped(0, 1001, "a1", "why", answer))
    assert tags == render(answer)
    assert tags["58"] == "Skipped"


def test_avg_px_is_cut_after_six_places_more() -> None:
    texts = SymbolTexts(rules_of())
    assert texts.avg_px(4000, 2) == b"100.00"
    assert texts.avg_px(4001, 3) == b"66.68333333"


def test_same_entry_gives_the_same_bytes() -> None:
    writer = ReportWriter(SymbolTable([rules_of()]))
    event = OrderAccepted(**STATE, post_only=False, stp=SelfTradePrevention.NONE)
    output = Output("BTC-USD", 77, TS_US, [event], [])
    assert writer.bodies(output, 9) == writer.bodies(output, 9)
