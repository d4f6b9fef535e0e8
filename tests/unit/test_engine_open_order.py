"""engine.open_order: what an order owes and holds, and which ClOrdIDs are used up."""

from __future__ import annotations

import msgspec
import pytest

from engine.enums import OrdStatus, Side
from engine.limits import RECENT_CL_ORD_IDS_MAX
from engine.open_order import AccountOrders, OpenOrder
from tests.matching_world import rules
from tests.unit.test_engine_checks import ORDER

RULES = rules()


def order(seq: int = 2, cl_ord_id: str = "c", side: Side = Side.BUY) -> OpenOrder:
    command = msgspec.structs.replace(ORDER, cl_ord_id=cl_ord_id, side=side)
    return OpenOrder(seq, command, RULES, RULES.hold_of(side, 100, 5))


def test_fees_are_rounded_up_once_over_all_fills() -> None:
    cheap = msgspec.structs.replace(ORDER, price_ticks=1, qty_lots=30)
    made = OpenOrder(2, cheap, RULES, RULES.hold_of(Side.BUY, 1, 30))
    fees = []
    for left in range(29, -1, -1):
        made.leaves_qty_lots = left
        fee, _ = made.fill(RULES, 1, 1, as_maker=True)
        fees.append(fee)
    assert sum(fees) == made.charged == 3
    assert fees[:11] == [1] + [0] * 9 + [1]
    assert made.hold == 0


def test_buy_frees_what_a_better_price_saves() -> None:
    made = order()
    made.leaves_qty_lots = 3
    fee, released = made.fill(RULES, 90, 2, as_maker=False)
    assert fee == 36
    assert made.hold == made.hold_for(RULES, 100, 3) == 3_000 + 96 - 36
    assert released == 5_100 - 3_060


def test_sell_holds_base_for_its_leaves() -> None:
    made = order(side=Side.SELL)
    made.leaves_qty_lots = 3
    assert made.fill(RULES, 110, 2, as_maker=True) == (22, 2)
    assert made.hold == 3


def test_status_and_text_tell_of_the_fills() -> None:
    made = order(seq=7)
    assert (made.status(), made.text()) == (OrdStatus.NEW, "7 1 100 5 0 5100 20000 2 1 0")
    made.leaves_qty_lots = 3
    made.fill(RULES, 100, 2, as_maker=True)
    assert (made.status(), made.text()) == (
        OrdStatus.PARTIALLY_FILLED,
        "7 1 100 3 2 3080 20000 2 1 200",
    )


def test_closed_order_is_remembered_without_its_links() -> None:
    orders = AccountOrders()
    made = orders.open["c"] = order()
    made.cum_lots = 5
    orders.close(made, OrdStatus.FILLED)
    assert orders.open == {}
    assert orders.has_used("c")
    done = orders.done["c"]
    assert done is not None
    assert (done.order_seq, done.status, done.cum_lots) == (2, OrdStatus.FILLED, 5)


def test_replaced_cl_ord_id_is_used_up_and_names_nothing() -> None:
    orders = AccountOrders()
    made = orders.open["c"] = order()
    orders.rename(made, "d")
    assert orders.open == {"d": made}
    assert made.cl_ord_id == "d"
    assert orders.has_used("c")
    assert orders.done["c"] == made.order_id


def test_cl_ord_id_of_a_cancel_is_used_up_unless_it_is_known() -> None:
    orders = AccountOrders()
    for cl_ord_id, request_id in (("c", "x"), ("d", "x"), ("e", "e")):
        made = orders.open[cl_ord_id] = order(7, cl_ord_id)
        orders.close(made, OrdStatus.CANCELED, request_id)
    assert list(orders.done) == ["x", "c", "d", "e"]
    assert orders.done["x"] == 7


@pytest.mark.parametrize("extra", [0, 1, 3])
def test_oldest_cl_ord_ids_are_forgotten(extra: int) -> None:
    orders = AccountOrders()
    for number in range(RECENT_CL_ORD_IDS_MAX + extra):
        cl_ord_id = f"c{number}"
        made = orders.open[cl_ord_id] = order(number, cl_ord_id)
        orders.close(made, OrdStatus.CANCELED)
    assert len(orders.done) == RECENT_CL_ORD_IDS_MAX
    assert [orders.has_used(f"c{number}") for number in range(4)] == [
        number >= extra for number in range(4)
    ]
