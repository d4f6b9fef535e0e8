"""Reports of mass cancels, and copies for drop-copy sessions."""

from __future__ import annotations

import msgspec

from engine.enums import (
    BusinessRejectReason,
    CxlRejReason,
    CxlRejResponseTo,
    MassCancelRejectReason,
    MassCancelRequestType,
    OrdStatus,
    SelfTradePrevention,
    Side,
)
from engine.events import (
    BusinessRejected,
    CancelRejected,
    MassCancelReported,
    OrderAccepted,
    Output,
)
from gateway.reports_out import ReportWriter
from gateway.symbol_texts import SymbolTable
from tests.unit.test_gateway_orders_in import rules_of
from tests.unit.test_gateway_reports_out import STATE, TIME, TS_US, render

SECURITY, ALL = MassCancelRequestType.SECURITY, MassCancelRequestType.ALL
MASS_CANCELED = MassCancelReported(
    index=0,
    account=1001,
    cl_ord_id="q1",
    request_type=SECURITY,
    response=SECURITY,
    affected=3,
    reason=MassCancelRejectReason.OTHER,
    text="",
)


def test_mass_cancel_of_a_security() -> None:
    expected = {"35": "r", "37": "BTC-USD-77", "11": "q1", "530": "1", "531": "1", "533": "3"}
    assert render(MASS_CANCELED) == {**expected, "55": "BTC-USD", "60": TIME}
    one_side = msgspec.structs.replace(MASS_CANCELED, side=Side.SELL)
    assert render(one_side) == {**expected, "55": "BTC-USD", "54": "2", "60": TIME}


def test_mass_cancel_of_all_orders() -> None:
    event = msgspec.structs.replace(
        MASS_CANCELED, request_type=ALL, response=ALL, affected=None, text="XRP-USD is away"
    )
    assert render(event, seq=0, symbol="") == {
        "35": "r",
        "37": "1001-9-R0",
        "11": "q1",
        "530": "7",
        "531": "7",
        "60": TIME,
        "58": "XRP-USD is away",
    }


def test_refused_mass_cancel() -> None:
    event = msgspec.structs.replace(
        MASS_CANCELED,
        response=MassCancelRequestType.REJECTED,
        affected=None,
        reason=MassCancelRejectReason.UNKNOWN_SECURITY,
        text="no",
    )
    tags = render(event, seq=0, symbol="XRP-USD")
    assert (tags["530"], tags["531"], tags["532"], tags["58"]) == ("1", "0", "1", "no")
    assert (tags["37"], tags["55"], "533" in tags) == ("1001-9-R0", "XRP-USD", False)


def test_copy_names_the_account_and_is_the_original_otherwise() -> None:
    writer = ReportWriter(SymbolTable([rules_of()]))
    accepted = OrderAccepted(**STATE, post_only=False, stp=SelfTradePrevention.NONE)
    rejected = BusinessRejected(0, 1001, 12, "H", "a1", BusinessRejectReason.OTHER, "no")
    refused = CancelRejected(
        index=0,
        account=1001,
        cl_ord_id="c1",
        orig_cl_ord_id="a1",
        order_seq=0,
        ord_status=OrdStatus.REJECTED,
        response_to=CxlRejResponseTo.CANCEL,
        reason=CxlRejReason.UNKNOWN_ORDER,
        text="no",
    )
    output = Output("BTC-USD", 77, TS_US, [accepted, rejected, MASS_CANCELED, refused], [])
    first, _, _, last = writer.bodies(output, 9)
    copies = writer.bodies(output, 9, 1001)
    assert copies == [(kind, b"1=1001\x01" + body) for kind, body in (first, last)]
