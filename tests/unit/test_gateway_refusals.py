"""Refusals take the form that the refused message's type asks for."""

from __future__ import annotations

import pytest

from engine.enums import (
    BusinessRejectReason,
    CxlRejReason,
    CxlRejResponseTo,
    OrdRejReason,
    Side,
)
from engine.events import BusinessRejected, CancelRejected, OrderRejected
from gateway.fix_message import FixMessage
from gateway.refusals import Problem, readable, refuse
from tests.unit.test_gateway_orders_in import ORIGIN, TIME, fix, order

UNKNOWN = Problem(OrdRejReason.UNKNOWN_SYMBOL, "no such symbol")
STALE = Problem(OrdRejReason.STALE_ORDER, "too late")
MISSING = Problem(BusinessRejectReason.CONDITIONALLY_REQUIRED_FIELD_MISSING, "no price")
CANCEL = f"35=F|41=a0|11=c1|55=BTC-USD|54=1|60={TIME.decode()}"
QUERY = "35=H|11=a1|55=BTC-USD|54=1"


def test_order_gets_an_execution_report() -> None:
    request = refuse(order(t54="2"), ORIGIN, STALE)
    assert request.symbol == "BTC-USD"
    event = request.content
    assert isinstance(event, OrderRejected)
    assert (event.account, event.cl_ord_id, event.side) == (1001, "a1", Side.SELL)
    assert (event.reason, event.text) == (OrdRejReason.STALE_ORDER, "too late")


def test_order_of_a_side_that_no_report_can_name_gets_a_business_reject() -> None:
    event = refuse(order(t54="5"), ORIGIN, STALE).content
    assert isinstance(event, BusinessRejected)
    assert (event.reason, event.ref_id) == (BusinessRejectReason.OTHER, "a1")


@pytest.mark.parametrize(
    ("message", "response_to"),
    [(fix(CANCEL), CxlRejResponseTo.CANCEL), (order("G"), CxlRejResponseTo.REPLACE)],
)
@pytest.mark.parametrize(
    ("problem", "reason"), [(UNKNOWN, CxlRejReason.UNKNOWN_ORDER), (STALE, CxlRejReason.OTHER)]
)
def test_cancel_and_replace_get_a_cancel_reject(
    message: FixMessage, response_to: CxlRejResponseTo, problem: Problem, reason: CxlRejReason
) -> None:
    event = refuse(message, ORIGIN, problem).content
    assert isinstance(event, CancelRejected)
    assert (event.response_to, event.reason) == (response_to, reason)
    assert (event.orig_cl_ord_id, event.text) == ("a0", problem.text)


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        (OrdRejReason.UNKNOWN_SYMBOL, BusinessRejectReason.UNKNOWN_SECURITY),
        (OrdRejReason.UNKNOWN_ORDER, BusinessRejectReason.UNKNOWN_ID),
        (OrdRejReason.UNKNOWN_ACCOUNT, BusinessRejectReason.NOT_AUTHORIZED),
        (OrdRejReason.OTHER, BusinessRejectReason.OTHER),
    ],
)
def test_status_request_gets_a_business_reject(
    reason: OrdRejReason, expected: BusinessRejectReason
) -> None:
    event = refuse(fix(QUERY), ORIGIN, Problem(reason, "x")).content
    assert isinstance(event, BusinessRejected)
    assert (event.reason, event.ref_seq_num, event.ref_msg_type) == (expected, 42, "H")


@pytest.mark.parametrize("message", [order(), order("G"), fix(CANCEL), fix(QUERY)])
def test_business_reasons_are_business_rejects_whatever_the_message(message: FixMessage) -> None:
    event = refuse(message, ORIGIN, MISSING).content
    assert isinstance(event, BusinessRejected)
    assert event.reason is BusinessRejectReason.CONDITIONALLY_REQUIRED_FIELD_MISSING


def test_any_bytes_are_readable() -> None:
    assert readable(b"a\xff|") == "a\\xff|"
