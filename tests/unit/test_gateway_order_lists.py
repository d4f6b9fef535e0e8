"""Answers to mass status requests: one report per open order, the last one says so."""

from __future__ import annotations

import pytest

from engine.enums import Side
from gateway.mass_requests import encode_query
from gateway.order_lists import ListWriter
from gateway.refusals import MassStatusQuery
from gateway.symbol_texts import SymbolTable
from router.open_orders import parse_open_order
from router.outbox import ListedOrder, OrderList
from tests.unit.test_gateway_orders_in import rules_of

TS_US = 1_767_323_045_678_901
ORDERS = [
    ListedOrder(
        "BTC-USD", "a1", parse_open_order(b"55 1 2001 100 50 1501126 250 2 1 100025 0 0 0 0 1 1")
    ),
    ListedOrder(
        "ETH-USD", "a2", parse_open_order(b"56 2 1900 70 0 9 250 4 6 0 1950 30 0 %d 0 0" % TS_US)
    ),
]


def listed(
    orders: list[ListedOrder], *, first: int, total: int, query: MassStatusQuery
) -> list[dict[str, str]]:
    writer = ListWriter(SymbolTable([rules_of(), rules_of("ETH-USD")]))
    entry = OrderList(
        number=9,
        request=encode_query(query),
        first=first,
        total=total,
        orders=orders,
        ts_us=TS_US,
    )
    reports = []
    for body in writer.bodies(entry, 1001):
        assert body.endswith(b"\x01")
        pairs = [piece.split("=", 1) for piece in body.decode("ascii")[:-1].split("\x01")]
        reports.append(dict(pairs))
        assert len(reports[-1]) == len(pairs), "no tag stands twice"
    return reports


def test_each_open_order_is_reported_as_it_stands() -> None:
    first, last = listed(ORDERS, first=0, total=2, query=MassStatusQuery("s1", "", None))
    assert first == {
        "37": "BTC-USD-55",
        "11": "a1",
        "17": "m1001-9-0",
        "150": "I",
        "39": "1",
        "55": "BTC-USD",
        "54": "1",
        "38": "1.50",
        "40": "2",
        "44": "100.05",
        "59": "1",
        "151": "1.00",
        "14": "0.50",
        "6": "100.025",
        "18": "6",
        "60": "20260102-03:04:05.678",
        "584": "s1",
        "911": "2",
        "912": "N",
    }
    assert (last["37"], last["17"], last["39"], last["912"]) == (
        "ETH-USD-56",
        "m1001-9-1",
        "0",
        "Y",
    )
    assert (last["40"], last["44"], last["99"], last["636"]) == ("4", "95.00", "97.50", "N")
    assert "18" not in last
    assert (last["59"], last["111"], last["126"]) == ("6", "0.30", "20260102-03:04:05.678")


@pytest.mark.parametrize(("first", "is_last"), [(0, "N"), (1, "Y")])
def test_only_the_last_part_of_an_answer_ends_it(first: int, is_last: str) -> None:
    query = MassStatusQuery("s1", "BTC-USD", Side.BUY)
    (report,) = listed(ORDERS[:1], first=first, total=2, query=query)
    assert (report["911"], report["912"]) == ("2", is_last)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (MassStatusQuery("s1", "", None), {"54": "7", "55": "[N/A]"}),
        (MassStatusQuery("s1", "BTC-USD", Side.SELL), {"54": "2", "55": "BTC-USD"}),
    ],
)
def test_no_open_orders_are_one_report(query: MassStatusQuery, expected: dict[str, str]) -> None:
    assert listed([], first=0, total=0, query=query) == [
        {
            "37": "NONE",
            "17": "m1001-9-0",
            "150": "I",
            "39": "8",
            **expected,
            "151": "0",
            "14": "0",
            "6": "0",
            "60": "20260102-03:04:05.678",
            "58": "No open orders",
            "584": "s1",
            "911": "0",
            "912": "Y",
        }
    ]
