"""engine.reports: every field of every event comes from the right place."""

from __future__ import annotations

from typing import Any

import msgspec

from engine import reports
from engine.commands import CancelOrder, QueryOrder
from engine.enums import (
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
from engine.events import Event
from engine.open_order import DoneOrder, OpenOrder
from engine.turn import Turn
from tests.matching_world import rules
from tests.unit.test_engine_checks import ORDER, REPLACE

COMMAND = msgspec.structs.replace(
    ORDER,
    account=31,
    side=Side.SELL,
    ord_type=OrdType.MARKET,
    time_in_force=TimeInForce.IOC,
    post_only=True,
    stp=SelfTradePrevention.CANCEL_BOTH,
    price_ticks=32,
    qty_lots=33,
)


def made() -> tuple[Turn, OpenOrder]:
    """Return a turn with one event, and an order whose numbers all differ."""
    turn = Turn(40)
    reports.rejected(turn, COMMAND, OrdRejReason.OTHER, "first")
    order = OpenOrder(41, COMMAND, rules(), 1)
    order.leaves_qty_lots, order.cum_lots, order.cum_price_qty = 34, 35, 36
    turn.trade_count = 37
    return turn, order


def last(turn: Turn) -> dict[str, Any]:
    """Return the fields of the second event."""
    event: Event = turn.events[1]
    return msgspec.structs.asdict(event)


STATE = {
    "index": 1,
    "account": 31,
    "order_seq": 41,
    "cl_ord_id": "c",
    "side": Side.SELL,
    "ord_type": OrdType.MARKET,
    "time_in_force": TimeInForce.IOC,
    "price_ticks": 32,
    "qty_lots": 33,
    "leaves_lots": 34,
    "cum_lots": 35,
    "cum_price_qty": 36,
}


def test_accepted() -> None:
    turn, order = made()
    reports.accepted(turn, order)
    fresh = {"cum_lots": 0, "cum_price_qty": 0}
    stp = SelfTradePrevention.CANCEL_BOTH
    assert last(turn) == STATE | fresh | {
        "post_only": True,
        "stp": stp,
        "conditions": None,
    }


def test_rejected() -> None:
    turn, _ = made()
    reports.rejected(turn, COMMAND, OrdRejReason.STALE_ORDER, "why")
    nothing = {"order_seq": 40, "leaves_lots": 0, "cum_lots": 0, "cum_price_qty": 0}
    assert last(turn) == STATE | nothing | {"reason": OrdRejReason.STALE_ORDER, "text": "why"}


def test_filled() -> None:
    turn, order = made()
    reports.filled(turn, order, Liquidity.TAKER, 51, 52, 53)
    assert last(turn) == STATE | {
        "trade": 37,
        "liquidity": Liquidity.TAKER,
        "last_price_ticks": 51,
        "last_qty_lots": 52,
        "fee": 53,
    }


def test_canceled() -> None:
    turn, order = made()
    reports.canceled(turn, order, CancelReason.SELF_TRADE, 54)
    unasked = {"reason": CancelReason.SELF_TRADE, "orig_cl_ord_id": "", "canceled_lots": 54}
    assert last(turn) == STATE | {"leaves_lots": 0} | unasked
    turn, order = made()
    reports.canceled(turn, order, CancelReason.REQUESTED, 54, "x")
    asked = {"reason": CancelReason.REQUESTED, "orig_cl_ord_id": "c", "canceled_lots": 54}
    assert last(turn) == STATE | {"leaves_lots": 0, "cl_ord_id": "x"} | asked


def test_replaced() -> None:
    turn, order = made()
    terms = {"orig_cl_ord_id": "b", "old_price_ticks": 55, "old_leaves_lots": 56}
    reports.replaced(
        turn,
        order,
        orig_cl_ord_id="b",
        old_price_ticks=55,
        old_leaves_lots=56,
        kept_priority=True,
    )
    stp = SelfTradePrevention.CANCEL_BOTH
    instructions = {"post_only": True, "stp": stp, "conditions": None}
    assert last(turn) == STATE | terms | instructions | {"kept_priority": True}


def test_cancel_rejected_of_open_done_and_unknown_orders() -> None:
    cancel = CancelOrder(31, 31, 1, "x", "c", 0)
    done = DoneOrder(57, Side.BUY, OrdType.LIMIT, TimeInForce.DAY, 1, 2, 2, 2, OrdStatus.FILLED)
    for command, to in ((cancel, CxlRejResponseTo.CANCEL), (REPLACE, CxlRejResponseTo.REPLACE)):
        turn, order = made()
        for found, order_seq, status in (
            (order, 41, OrdStatus.PARTIALLY_FILLED),
            (done, 57, OrdStatus.FILLED),
            (None, 0, OrdStatus.REJECTED),
        ):
            del turn.events[1:]
            reports.cancel_rejected(turn, command, found, CxlRejReason.TOO_LATE, "why")
            assert last(turn) == {
                "index": 1,
                "account": command.account,
                "cl_ord_id": command.cl_ord_id,
                "orig_cl_ord_id": "c",
                "order_seq": order_seq,
                "ord_status": status,
                "response_to": to,
                "reason": CxlRejReason.TOO_LATE,
                "text": "why",
            }


def test_status_of_open_done_and_unknown_orders() -> None:
    query = QueryOrder(31, 31, 1, "c", 0, Side.SELL, "request")
    turn, order = made()
    reports.status_reported(turn, query, order)
    status = {
        "ord_status": OrdStatus.PARTIALLY_FILLED,
        "ord_status_req_id": "request",
        "conditions": None,
        "working": True,
        "post_only": True,
    }
    assert last(turn) == STATE | status
    turn, _ = made()
    done = DoneOrder(
        41, Side.SELL, OrdType.MARKET, TimeInForce.IOC, 32, 33, 35, 36, OrdStatus.CANCELED
    )
    reports.status_reported(turn, query, done)
    assert last(turn) == STATE | status | {
        "leaves_lots": 0,
        "ord_status": OrdStatus.CANCELED,
        "post_only": False,
    }
    turn, _ = made()
    reports.status_reported(turn, query, None)
    fields = last(turn)
    assert (fields["order_seq"], fields["ord_status"]) == (0, OrdStatus.REJECTED)
    assert (fields["side"], fields["ord_status_req_id"]) == (Side.SELL, "request")
