"""The demo's market follows what its participants are told, whatever they are told."""

from __future__ import annotations

import random

from engine.enums import Side
from gateway.fix_message import FixMessage
from ops.demo_market import DemoMarket, Request
from ops.fix_orders import OrderBodies
from ops.flow_generator import FlowShape

SHAPE = FlowShape(low_ticks=1_000, high_ticks=11_000, start_ticks=5_000, qty_lots_max=50, resting=8)
TIME = b"20260102-03:04:05.678"


def market(seed: int = 1) -> DemoMarket:
    bodies = OrderBodies("AAA-USD", tick_size="0.01", lot_size="1", stp=None)
    return DemoMarket(SHAPE, bodies, random.Random(seed).random, participants=3, run=b"r-0")


def report(**fields: str) -> FixMessage:
    pairs = {tag.removeprefix("t").encode(): value.encode() for tag, value in fields.items()}
    return FixMessage(b"", b"8", pairs)


def fields_of(request: Request) -> dict[bytes, bytes]:
    return dict(piece.split(b"=", 1) for piece in request.message[1].split(b"\x01")[:-1])


def next_of(one: DemoMarket, msg_type: bytes) -> Request:
    for _ in range(1_000):
        request, _ = one.next_request(time=TIME)
        if request is not None and request.message[0] == msg_type:
            return request
    raise AssertionError(f"no {msg_type!r} in 1,000 rows")


def rest(one: DemoMarket, count: int) -> list[Request]:
    """Have new orders acknowledged until so many rest."""
    requests = []
    while one.resting < count:
        request = next_of(one, b"D")
        if fields_of(request)[b"59"] == b"1":
            qty = fields_of(request)[b"38"].decode()
            cl_ord_id = request.cl_ord_id.decode()
            one.receive(report(t11=cl_ord_id, t150="0", t39="0", t38=qty, t151=qty))
            requests.append(request)
    return requests


def test_an_order_rests_when_it_is_reported_and_not_before() -> None:
    one = market()
    request = next_of(one, b"D")
    assert one.resting == 0
    assert 0 <= request.owner < 3
    rest(one, 1)
    assert one.resting == 1


def test_a_filled_order_leaves_and_a_repeated_report_changes_nothing() -> None:
    one = market()
    [request] = rest(one, 1)
    cl_ord_id, qty = request.cl_ord_id.decode(), fields_of(request)[b"38"].decode()
    filled = report(t11=cl_ord_id, t150="F", t39="2", t38=qty, t151="0")
    one.receive(filled)
    one.receive(filled)
    assert one.resting == 0


def test_cancels_and_replaces_are_their_owners() -> None:
    one = market()
    requests = {request.cl_ord_id: request for request in rest(one, 6)}
    for msg_type in (b"F", b"G"):
        change = next_of(one, msg_type)
        original = requests[fields_of(change)[b"41"]]
        assert change.owner == original.owner
        assert fields_of(change)[b"54"] == fields_of(original)[b"54"]


def test_a_cancelled_order_leaves() -> None:
    one = market()
    rest(one, 6)
    cancel = next_of(one, b"F")
    orig = fields_of(cancel)[b"41"].decode()
    one.receive(report(t11=cancel.cl_ord_id.decode(), t41=orig, t150="4", t39="4", t151="0"))
    assert one.resting == 5


def test_a_replaced_order_goes_on_under_its_new_name() -> None:
    one = market()
    rest(one, 6)
    replace = next_of(one, b"G")
    orig, name = fields_of(replace)[b"41"].decode(), replace.cl_ord_id.decode()
    total = fields_of(replace)[b"38"].decode()
    one.receive(report(t11=name, t41=orig, t150="5", t39="0", t38=total, t151=total))
    assert one.resting == 6
    one.receive(report(t11=orig, t150="F", t39="2", t151="0"))
    assert one.resting == 6
    one.receive(report(t11=name, t150="F", t39="2", t151="0"))
    assert one.resting == 5


def test_an_order_that_the_venue_does_not_know_leaves() -> None:
    one = market()
    rest(one, 6)
    cancel = next_of(one, b"F")
    orig = fields_of(cancel)[b"41"]
    for status, resting in ((b"0", 6), (b"8", 5)):
        pairs = {b"11": cancel.cl_ord_id, b"41": orig, b"39": status}
        one.receive(FixMessage(b"", b"9", pairs))
        assert one.resting == resting


def test_orders_of_an_earlier_run_are_taken_over() -> None:
    one = market()
    one.adopt(2, b"old-1", Side.BUY, price_ticks=7_000, leaves_lots=5, cum_lots=1)
    one.adopt(1, b"old-2", Side.SELL, price_ticks=7_010, leaves_lots=9, cum_lots=0)
    assert one.resting == 2
    one.receive(report(t11="old-1", t150="F", t39="1", t38="6", t151="2"))
    one.receive(report(t11="old-2", t150="F", t39="2", t38="9", t151="0"))
    assert one.resting == 1


def test_reports_of_others_are_ignored() -> None:
    one = market()
    one.receive(report(t11="visitor", t150="0", t39="0", t38="5", t151="5"))
    one.receive(FixMessage(b"", b"3", {b"58": b"what"}))
    assert one.resting == 0
