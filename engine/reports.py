"""Events about orders, made from the orders as they stand. Pure.

Each function appends one event to a turn; the event's index is its place in the output.
"""

from __future__ import annotations

from engine.commands import (
    CancelOrder,
    MassCancel,
    NewOrder,
    QueryOrder,
    ReplaceOrder,
    ResentRefusal,
)
from engine.enums import (
    CancelReason,
    CxlRejReason,
    CxlRejResponseTo,
    Liquidity,
    MassCancelRejectReason,
    MassCancelRequestType,
    OrdRejReason,
    OrdStatus,
    OrdType,
    TimeInForce,
)
from engine.events import (
    CancelRejected,
    MassCancelReported,
    OrderAccepted,
    OrderCanceled,
    OrderFilled,
    OrderRefilled,
    OrderRejected,
    OrderReplaced,
    OrderStatusReported,
    OrderTriggered,
)
from engine.open_order import DoneOrder, OpenOrder
from engine.turn import Turn


def accepted(turn: Turn, order: OpenOrder) -> None:
    """Report a new order."""
    turn.events.append(
        OrderAccepted(
            len(turn.events),
            order.owner,
            order.order_id,
            order.cl_ord_id,
            order.side,
            order.ord_type,
            order.time_in_force,
            order.price_ticks,
            order.qty_lots,
            order.leaves_qty_lots + order.hidden_lots,
            0,
            0,
            order.post_only,
            order.stp,
            order.conditions,
        )
    )


def rejected(turn: Turn, command: NewOrder, reason: OrdRejReason, text: str) -> None:
    """Report that a new order has no effect."""
    turn.events.append(
        OrderRejected(
            len(turn.events),
            command.account,
            turn.seq,
            command.cl_ord_id,
            command.side,
            command.ord_type,
            command.time_in_force,
            command.price_ticks,
            command.qty_lots,
            0,
            0,
            0,
            reason,
            text,
        )
    )


def filled(
    turn: Turn, order: OpenOrder, liquidity: Liquidity, price_ticks: int, qty_lots: int, fee: int
) -> None:
    """Report one side of the trade that `turn.trade_count` numbers."""
    turn.events.append(
        OrderFilled(
            len(turn.events),
            order.owner,
            order.order_id,
            order.cl_ord_id,
            order.side,
            order.ord_type,
            order.time_in_force,
            order.price_ticks,
            order.qty_lots,
            order.leaves_qty_lots + order.hidden_lots,
            order.cum_lots,
            order.cum_price_qty,
            turn.trade_count,
            liquidity,
            price_ticks,
            qty_lots,
            fee,
        )
    )


def canceled(
    turn: Turn, order: OpenOrder, reason: CancelReason, lots: int, request_id: str = ""
) -> None:
    """Report that an order is done with `lots` left.

    Args:
        turn: The input.
        order: The order, without leaves by now.
        reason: Why.
        lots: What went away with it.
        request_id: ClOrdID of the request; empty where nobody requested it.
    """
    turn.events.append(
        OrderCanceled(
            len(turn.events),
            order.owner,
            order.order_id,
            request_id or order.cl_ord_id,
            order.side,
            order.ord_type,
            order.time_in_force,
            order.price_ticks,
            order.qty_lots,
            0,
            order.cum_lots,
            order.cum_price_qty,
            reason,
            order.cl_ord_id if request_id else "",
            lots,
        )
    )


def replaced(
    turn: Turn,
    order: OpenOrder,
    *,
    orig_cl_ord_id: str,
    old_price_ticks: int,
    old_leaves_lots: int,
    kept_priority: bool,
) -> None:
    """Report that an order goes on under new terms."""
    turn.events.append(
        OrderReplaced(
            len(turn.events),
            order.owner,
            order.order_id,
            order.cl_ord_id,
            order.side,
            order.ord_type,
            order.time_in_force,
            order.price_ticks,
            order.qty_lots,
            order.leaves_qty_lots + order.hidden_lots,
            order.cum_lots,
            order.cum_price_qty,
            orig_cl_ord_id,
            old_price_ticks,
            old_leaves_lots,
            kept_priority,
            order.post_only,
            order.stp,
            order.conditions,
        )
    )


def triggered(turn: Turn, order: OpenOrder) -> None:
    """Report that a stop order goes to work."""
    assert order.conditions is not None, "Invariant: a stop order has a stop price"
    turn.events.append(
        OrderTriggered(
            len(turn.events),
            order.owner,
            order.order_id,
            order.cl_ord_id,
            order.side,
            order.ord_type,
            order.time_in_force,
            order.price_ticks,
            order.qty_lots,
            order.leaves_qty_lots,
            order.cum_lots,
            order.cum_price_qty,
            order.conditions,
        )
    )


def refilled(turn: Turn, order: OpenOrder) -> None:
    """Report that an iceberg order shows its next part."""
    turn.events.append(
        OrderRefilled(
            len(turn.events),
            order.owner,
            order.order_id,
            order.cl_ord_id,
            order.side,
            order.ord_type,
            order.time_in_force,
            order.price_ticks,
            order.qty_lots,
            order.leaves_qty_lots + order.hidden_lots,
            order.cum_lots,
            order.cum_price_qty,
            order.leaves_qty_lots,
        )
    )


def mass_canceled(turn: Turn, command: MassCancel, affected: int) -> None:
    """Report that a mass cancel is done; the cancels follow."""
    turn.events.append(
        MassCancelReported(
            len(turn.events),
            command.account,
            command.cl_ord_id,
            command.request_type,
            command.request_type,
            affected,
            MassCancelRejectReason.OTHER,
            "",
            command.side,
        )
    )


def mass_cancel_rejected(turn: Turn, command: MassCancel, text: str) -> None:
    """Report that a mass cancel does nothing in this symbol."""
    turn.events.append(
        MassCancelReported(
            len(turn.events),
            command.account,
            command.cl_ord_id,
            command.request_type,
            MassCancelRequestType.REJECTED,
            0,
            MassCancelRejectReason.OTHER,
            text,
            command.side,
        )
    )


def cancel_rejected(
    turn: Turn,
    command: CancelOrder | ReplaceOrder,
    found: OpenOrder | DoneOrder | None,
    reason: CxlRejReason,
    text: str,
) -> None:
    """Report that a cancel or replace has no effect.

    Args:
        turn: The input.
        command: The request.
        found: The order that it names, None where there is none.
        reason: Why, for machines.
        text: Why, for people.
    """
    replace = isinstance(command, ReplaceOrder)
    turn.events.append(
        CancelRejected(
            len(turn.events),
            command.account,
            command.cl_ord_id,
            command.orig_cl_ord_id,
            *_identity(found),
            CxlRejResponseTo.REPLACE if replace else CxlRejResponseTo.CANCEL,
            reason,
            text,
        )
    )


def status_reported(turn: Turn, query: QueryOrder, found: OpenOrder | DoneOrder | None) -> None:
    """Answer a status request; `order_seq` 0 where there is no such order."""
    if isinstance(found, OpenOrder):
        order_seq, status = found.order_id, found.status()
        leaves_lots = found.leaves_qty_lots + found.hidden_lots
    elif found is not None:
        order_seq, leaves_lots, status = found.order_seq, 0, found.status
    else:
        order_seq, leaves_lots, status = 0, 0, OrdStatus.REJECTED
    turn.events.append(
        OrderStatusReported(
            len(turn.events),
            query.account,
            order_seq,
            query.cl_ord_id,
            found.side if found else query.side,
            found.ord_type if found else OrdType.LIMIT,
            found.time_in_force if found else TimeInForce.DAY,
            found.price_ticks if found else 0,
            found.qty_lots if found else 0,
            leaves_lots,
            found.cum_lots if found else 0,
            found.cum_price_qty if found else 0,
            status,
            query.ord_status_req_id,
            found.conditions if found else None,
            not (isinstance(found, OpenOrder) and found.waits),
            found.post_only if found else False,
        )
    )


def resend_refused(
    turn: Turn, query: QueryOrder, refusal: ResentRefusal, orig: OpenOrder | DoneOrder | None
) -> None:
    """Report that a message that may have come before did not, and has no effect now either.

    Args:
        turn: The input.
        query: What was sent in place of the message.
        refusal: Why it has none.
        orig: The order that a cancel or replace names, None where there is none.
    """
    index, account, cl_ord_id = len(turn.events), query.account, query.cl_ord_id
    if refusal.response_to is None:
        nothing = (OrdType.LIMIT, TimeInForce.DAY, 0, refusal.qty_lots, 0, 0, 0)
        reason = OrdRejReason(refusal.reason)
        turn.events.append(
            OrderRejected(
                index, account, turn.seq, cl_ord_id, query.side, *nothing, reason, refusal.text
            )
        )
        return
    turn.events.append(
        CancelRejected(
            index,
            account,
            cl_ord_id,
            refusal.orig_cl_ord_id,
            *_identity(orig),
            refusal.response_to,
            CxlRejReason(refusal.reason),
            refusal.text,
        )
    )


def _identity(found: OpenOrder | DoneOrder | None) -> tuple[int, OrdStatus]:
    # The seq and status that a refused cancel or replace gives of the order that it names.
    if isinstance(found, OpenOrder):
        return found.order_id, found.status()
    return (0, OrdStatus.REJECTED) if found is None else (found.order_seq, found.status)
