"""Which combinations of side, type, time and ExecInst there are."""

from __future__ import annotations

from engine.enums import OrdType, TimeInForce
from gateway.order_kinds import KINDS, PLAIN_KINDS, key_of

TIMES = {
    OrdType.MARKET: "34",
    OrdType.LIMIT: "012346",
    OrdType.STOP: "016",
    OrdType.STOP_LIMIT: "016",
}


def test_every_type_has_its_times_in_force() -> None:
    for ord_type, times in TIMES.items():
        kept = {kind.time_in_force for kind in KINDS.values() if kind.ord_type is ord_type}
        assert kept == {TimeInForce(int(time)) for time in times}


def test_only_limit_orders_that_rest_are_post_only() -> None:
    kinds = {(kind.ord_type, kind.time_in_force) for kind in KINDS.values() if kind.post_only}
    assert kinds == {(OrdType.LIMIT, TimeInForce(time)) for time in (0, 1, 6)}


def test_what_needs_a_condition_is_not_plain() -> None:
    others = {(kind.ord_type, kind.time_in_force) for kind in PLAIN_KINDS.values()}
    assert others.isdisjoint({(ord_type, 6) for ord_type in OrdType})
    assert {ord_type for ord_type, _ in others} == {OrdType.MARKET, OrdType.LIMIT}


def test_fields_name_their_kind() -> None:
    kind = KINDS[key_of({b"54": b"2", b"40": b"4", b"59": b"1", b"55": b"BTC-USD"})]
    assert kind == (2, OrdType.STOP_LIMIT, TimeInForce.GTC, False)
