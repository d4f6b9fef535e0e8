"""What orders with conditions say about themselves in reports."""

from __future__ import annotations

import pytest

from engine.commands import OrderConditions
from engine.enums import OrdStatus, OrdType, SelfTradePrevention, TimeInForce
from engine.events import OrderAccepted, OrderReplaced, OrderStatusReported, OrderTriggered
from tests.unit.test_gateway_reports_out import NOT_FILLED, STATE, STATE_TAGS, TS_US, render

STOP_LIMIT = NOT_FILLED | {"ord_type": OrdType.STOP_LIMIT, "time_in_force": TimeInForce.GTD}
EXPIRE_US = TS_US + 60_000_000
CONDITIONS = OrderConditions(2_100, 50, 20, EXPIRE_US)
CONDITION_TAGS = {"99": "105.00", "111": "0.50", "110": "0.20", "126": "20260102-03:05:05.678"}


def test_accepted_stop_limit_order_shows_its_conditions() -> None:
    event = OrderAccepted(
        **STATE | STOP_LIMIT,
        post_only=False,
        stp=SelfTradePrevention.NONE,
        conditions=CONDITIONS,
    )
    tags = render(event)
    assert tags == {
        "35": "8",
        **STATE_TAGS,
        "150": "0",
        "39": "0",
        "151": "1.50",
        "14": "0.00",
        "6": "0",
        "40": "4",
        "59": "6",
        "636": "N",
        **CONDITION_TAGS,
    }


def test_accepted_iceberg_order_works() -> None:
    event = OrderAccepted(
        **STATE | NOT_FILLED,
        post_only=True,
        stp=SelfTradePrevention.NONE,
        conditions=OrderConditions(max_floor_lots=50),
    )
    tags = render(event)
    assert (tags["18"], tags["111"], "636" in tags, "99" in tags) == ("6", "0.50", False, False)


def test_order_by_cash_shows_its_cash_and_the_quantity_that_it_gets() -> None:
    event = OrderAccepted(
        **STATE | NOT_FILLED | {"ord_type": OrdType.MARKET, "time_in_force": TimeInForce.IOC},
        post_only=False,
        stp=SelfTradePrevention.NONE,
        conditions=OrderConditions(cash=755_000),
    )
    tags = render(event)
    assert (tags["152"], tags["38"], "44" in tags) == ("75.5000", "1.50", False)


def test_triggered_stop_order() -> None:
    changes = NOT_FILLED | {"ord_type": OrdType.STOP}
    event = OrderTriggered(**STATE | changes, conditions=OrderConditions(stop_ticks=2_100))
    tags = render(event)
    assert (tags["150"], tags["39"], tags["636"], tags["99"]) == ("D", "0", "Y", "105.00")
    assert (tags["378"], tags["40"], "44" in tags) == ("99", "3", False)


def test_replaced_stop_order_shows_its_conditions() -> None:
    event = OrderReplaced(
        **STATE | STOP_LIMIT,
        orig_cl_ord_id="a0",
        old_price_ticks=1999,
        old_leaves_lots=3,
        kept_priority=False,
        post_only=False,
        stp=SelfTradePrevention.NONE,
        conditions=CONDITIONS,
    )
    tags = render(event)
    assert {tag: tags[tag] for tag in CONDITION_TAGS} == CONDITION_TAGS
    assert (tags["40"], tags["44"], "636" in tags) == ("4", "100.05", False)


@pytest.mark.parametrize("working", [False, True])
def test_status_of_a_stop_order(*, working: bool) -> None:
    event = OrderStatusReported(
        **STATE | STOP_LIMIT,
        ord_status=OrdStatus.NEW,
        ord_status_req_id="",
        conditions=CONDITIONS,
        working=working,
    )
    tags = render(event)
    assert {tag: tags[tag] for tag in CONDITION_TAGS} == CONDITION_TAGS
    assert tags.get("636") == (None if working else "N")
