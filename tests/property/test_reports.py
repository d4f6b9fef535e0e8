"""Whatever the engine says about an order, its report is valid by our own dictionary."""

from __future__ import annotations

from typing import Any

import simplefix
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.commands import OrderConditions
from engine.enums import (
    BusinessRejectReason,
    CancelReason,
    CxlRejReason,
    CxlRejResponseTo,
    Liquidity,
    MassCancelRejectReason,
    MassCancelRequestType,
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
    MassCancelReported,
    OrderAccepted,
    OrderCanceled,
    OrderFilled,
    OrderRejected,
    OrderReplaced,
    OrderState,
    OrderStatusReported,
    OrderTriggered,
    Output,
    Skipped,
)
from gateway.fix_dictionary import rule_of
from gateway.fix_message import encode_fields, frame
from gateway.fix_messages import MESSAGES
from gateway.mass_requests import encode_query
from gateway.order_lists import ListWriter
from gateway.refusals import MassStatusQuery
from gateway.reports_out import Body, ReportWriter
from gateway.symbol_texts import SymbolTable
from gateway.validate import fault_of
from router.open_orders import OpenOrder
from router.outbox import ListedOrder, OrderList
from tests.unit.test_gateway_orders_in import TIME, rules_of

RULES = {kind: rule_of(MESSAGES[kind]) for kind in (b"8", b"9", b"j", b"r")}
HEADER = [(b"49", b"SHARDEX"), (b"56", b"1001"), (b"34", b"7"), (b"52", TIME)]
TABLE = SymbolTable([rules_of(), rules_of("ETH-USD")])

AMOUNTS = st.integers(1, 2**40)
LOTS = st.integers(0, 2**30)
IDS = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=36)
TEXTS = st.text(min_size=1, max_size=40)
TIMES_US = st.integers(0, 253_402_214_400 * 10**6)

CONDITIONS = st.builds(
    OrderConditions,
    stop_ticks=LOTS,
    max_floor_lots=LOTS,
    min_qty_lots=LOTS,
    expire_us=st.one_of(st.just(0), TIMES_US),
    cash=st.integers(0, 2**62),
)
STATE: dict[str, st.SearchStrategy[Any]] = {
    "index": st.integers(0, 20_000),
    "account": st.just(1001),
    "order_seq": AMOUNTS,
    "cl_ord_id": IDS,
    "side": st.sampled_from(Side),
    "ord_type": st.sampled_from(OrdType),
    "time_in_force": st.sampled_from(TimeInForce),
    "price_ticks": AMOUNTS,
    "qty_lots": AMOUNTS,
    "leaves_lots": LOTS,
    "cum_lots": LOTS,
    "cum_price_qty": LOTS,
}
ENDED_BY_TIME = (TimeInForce.DAY, TimeInForce.OPG, TimeInForce.GTD)
ENTERED = {
    "post_only": st.booleans(),
    "stp": st.sampled_from(SelfTradePrevention),
    "conditions": st.one_of(st.none(), CONDITIONS),
}


def about(event: type[OrderState], **more: st.SearchStrategy[Any]) -> st.SearchStrategy[Event]:
    """Return events about an order."""
    return st.builds(event, **{**STATE, **more})


REJECTED = about(OrderRejected, reason=st.sampled_from(OrdRejReason), text=TEXTS)
CANCEL_REJECTED = st.builds(
    CancelRejected,
    index=STATE["index"],
    account=STATE["account"],
    cl_ord_id=IDS,
    orig_cl_ord_id=IDS,
    order_seq=LOTS,
    ord_status=st.sampled_from(OrdStatus),
    response_to=st.sampled_from(CxlRejResponseTo),
    reason=st.sampled_from(CxlRejReason),
    text=TEXTS,
)
BUSINESS_REJECTED = st.builds(
    BusinessRejected,
    index=STATE["index"],
    account=STATE["account"],
    ref_seq_num=st.integers(1, 999_999_999),
    ref_msg_type=st.sampled_from(["D", "F", "G", "H", "q", "AF"]),
    ref_id=st.one_of(st.just(""), IDS),
    reason=st.sampled_from(BusinessRejectReason),
    text=TEXTS,
)
REQUESTS = [one for one in MassCancelRequestType if one]
RESPONSES = [
    MassCancelRequestType.REJECTED,
    MassCancelRequestType.SECURITY,
    MassCancelRequestType.ALL,
]
EVENTS: st.SearchStrategy[Event] = st.one_of(
    about(OrderAccepted, **ENTERED),
    REJECTED,
    about(OrderTriggered, conditions=CONDITIONS),
    about(
        OrderFilled,
        trade=LOTS,
        liquidity=st.sampled_from(Liquidity),
        last_price_ticks=AMOUNTS,
        last_qty_lots=AMOUNTS,
        fee=LOTS,
    ),
    about(
        OrderCanceled,
        reason=st.sampled_from([one for one in CancelReason if one != CancelReason.TIME_EXPIRED]),
        orig_cl_ord_id=IDS,
        canceled_lots=LOTS,
    ),
    about(
        OrderCanceled,
        time_in_force=st.sampled_from(ENDED_BY_TIME),
        reason=st.just(CancelReason.TIME_EXPIRED),
        orig_cl_ord_id=st.just(""),
        canceled_lots=LOTS,
    ),
    about(
        OrderReplaced,
        orig_cl_ord_id=IDS,
        old_price_ticks=AMOUNTS,
        old_leaves_lots=LOTS,
        kept_priority=st.booleans(),
        **ENTERED,
    ),
    about(
        OrderStatusReported,
        ord_status=st.sampled_from(OrdStatus),
        ord_status_req_id=st.one_of(st.just(""), IDS),
        conditions=ENTERED["conditions"],
        working=st.booleans(),
        post_only=st.booleans(),
    ),
    CANCEL_REJECTED,
    BUSINESS_REJECTED,
    st.builds(
        MassCancelReported,
        index=STATE["index"],
        account=STATE["account"],
        cl_ord_id=IDS,
        request_type=st.sampled_from(REQUESTS),
        response=st.sampled_from(RESPONSES),
        affected=st.one_of(st.none(), st.integers(0, 20_000)),
        reason=st.sampled_from(MassCancelRejectReason),
        text=st.one_of(st.just(""), TEXTS),
        side=st.one_of(st.none(), st.sampled_from(Side)),
    ),
    st.builds(
        Skipped,
        index=STATE["index"],
        account=STATE["account"],
        cl_ord_id=IDS,
        reason=TEXTS,
        answer=st.one_of(REJECTED, CANCEL_REJECTED, BUSINESS_REJECTED),
    ),
)


def check(body: Body) -> dict[bytes, bytes]:
    """Check a body by the dictionary and by simplefix; return its fields."""
    kind, content = body
    raw = frame(encode_fields([(b"35", kind), *HEADER]) + content)
    assert fault_of(raw, RULES[kind]) is None, raw
    parser = simplefix.FixParser()
    parser.append_buffer(raw)
    parsed = parser.get_message()
    assert parsed is not None and parsed.encode(raw=True) == raw
    return dict(parsed.pairs)


@settings(max_examples=200, deadline=None)
@given(EVENTS, st.integers(1, 2**40), TIMES_US, st.booleans())
def test_every_event_is_a_valid_report(event: Event, seq: int, ts_us: int, copied: bool) -> None:
    bodies = ReportWriter(TABLE).bodies(
        Output("BTC-USD", seq, ts_us, [event], []), 9, 1001 if copied else 0
    )
    assert copied or len(bodies) == 1
    for body in bodies:
        fields = check(body)
        assert fields.get(b"1") == (b"1001" if copied else None)


ORDERS = st.builds(
    OpenOrder,
    order_seq=AMOUNTS,
    side=STATE["side"],
    price_ticks=AMOUNTS,
    leaves_lots=AMOUNTS,
    cum_lots=LOTS,
    hold=LOTS,
    ord_type=st.sampled_from(OrdType),
    time_in_force=st.sampled_from(TimeInForce),
    cum_price_qty=LOTS,
    stop_ticks=LOTS,
    max_floor_lots=LOTS,
    min_qty_lots=LOTS,
    expire_us=st.one_of(st.just(0), TIMES_US),
    working=st.booleans(),
    post_only=st.booleans(),
)
LISTED = st.builds(ListedOrder, st.sampled_from(["BTC-USD", "ETH-USD"]), IDS, ORDERS)


@settings(max_examples=100, deadline=None)
@given(st.lists(LISTED, max_size=5), st.sampled_from([None, *Side]), TIMES_US)
def test_every_list_of_open_orders_is_valid_reports(
    orders: list[ListedOrder], side: Side | None, ts_us: int
) -> None:
    request = encode_query(MassStatusQuery("s1", "", side))
    total = len(orders)
    entry = OrderList(number=9, request=request, first=0, total=total, orders=orders, ts_us=ts_us)
    bodies = ListWriter(TABLE).bodies(entry, 1001)
    reports = [check((b"8", body)) for body in bodies]
    assert [report[b"912"] for report in reports] == [b"N"] * (total - 1) + [b"Y"]
    assert {report[b"911"] for report in reports} == {b"%d" % total}
    assert len({report[b"17"] for report in reports}) == max(1, total)
