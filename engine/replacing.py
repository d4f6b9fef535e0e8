"""What a replace asks of an open order, decided before anything is changed. Pure.

OrderQty is the total, so the new leaves are OrderQty less what was filled meanwhile (in-flight
mitigation); a total that is filled already comes too late. Lowering the quantity at the same price,
MaxFloor and stop price keeps the order's place in its queue; everything else, a new Day for GTC
alone too, puts it at the end of the queue of its price, after matching what crosses. A stop order
that waits goes on waiting, under the same rule for the queue of its stop price.

Refusals in order of precedence (CxlRejReason 102):

    unknown order, or OrderID (37) of another one           1
    the order is done                                       0
    side differs                                            99
    the stop order was triggered meanwhile                  0
    the new terms break a rule (`engine.checks`)            99
    the ClOrdID was used before                             6
    OrderQty is not above what is filled                    0
    post-only at a price that would trade                   99
    the reservation does not cover the larger hold          99
"""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec

from engine.book import LimitBook
from engine.checks import check_added_hold, check_replace
from engine.commands import OrderConditions, ReplaceOrder
from engine.enums import CxlRejReason, OrdType
from engine.instrument import SymbolRules
from engine.open_order import DoneOrder, OpenOrder

_STOP_LIMIT: Final = OrdType.STOP_LIMIT


class Replacement(NamedTuple):
    """A replace that will be done.

    Attributes:
        order: The open order.
        leaves_lots: Its new leaves.
        hold: What it must hold from now on.
        keeps_priority: Whether it keeps its place in the queue.
    """

    order: OpenOrder
    leaves_lots: int
    hold: int
    keeps_priority: bool


class ReplaceRefusal(NamedTuple):
    """Why a replace is refused: the code for machines, the text for people."""

    reason: CxlRejReason
    text: str


def plan_replace(
    rules: SymbolRules,
    book: LimitBook[OpenOrder],
    command: ReplaceOrder,
    found: OpenOrder | DoneOrder | None,
    now_us: int,
    *,
    id_used: bool,
) -> Replacement | ReplaceRefusal:
    """Return what a replace comes to. Changes nothing.

    Args:
        rules: In force.
        book: Of the symbol.
        command: The replace, with what was reserved for it.
        found: The order that it names, None where there is none.
        now_us: Stamp of the input, µs since 1970 UTC.
        id_used: Whether the account has used the replace's ClOrdID before.
    """
    if found is None:
        text = f"Unknown order {command.orig_cl_ord_id}"
        return ReplaceRefusal(CxlRejReason.UNKNOWN_ORDER, text)
    if not isinstance(found, OpenOrder):
        text = f"Too late: {command.orig_cl_ord_id} is done"
        return ReplaceRefusal(CxlRejReason.TOO_LATE, text)
    if found.side != command.side:
        text = f"Side: expected {found.side:d}, the side of the order, received {command.side:d}"
        return ReplaceRefusal(CxlRejReason.OTHER, text)
    if _is_triggered(command, found):
        return ReplaceRefusal(CxlRejReason.TOO_LATE, "Too late: the stop order was triggered")
    refusal = check_replace(rules, command, found, now_us)
    if refusal is not None:
        return ReplaceRefusal(CxlRejReason.OTHER, refusal.text)
    if id_used:
        text = f"ClOrdID {command.cl_ord_id} was used before"
        return ReplaceRefusal(CxlRejReason.DUPLICATE_CL_ORD_ID, text)
    leaves_lots = command.qty_lots - found.cum_lots
    if leaves_lots <= 0:
        text = "Too late: the order is filled up to the new OrderQty"
        return ReplaceRefusal(CxlRejReason.TOO_LATE, text)
    if command.post_only and book.crosses(command.side, command.price_ticks):
        return ReplaceRefusal(CxlRejReason.OTHER, "Post-only: it would trade")
    hold = found.hold_for(rules, command.price_ticks, leaves_lots)
    refusal = check_added_hold(command, hold - found.hold)
    if refusal is not None:
        return ReplaceRefusal(CxlRejReason.OTHER, refusal.text)
    keeps_priority = (
        command.price_ticks == found.price_ticks
        and leaves_lots < found.leaves_qty_lots + found.hidden_lots
        and _queue_terms(found, command.conditions) == _queue_terms(found, found.conditions)
    )
    return Replacement(found, leaves_lots, hold, keeps_priority)


def give_terms(order: OpenOrder, command: ReplaceOrder) -> None:
    """Give an open order the terms of its replace, but for its ClOrdID, hold and place."""
    order.price_ticks = command.price_ticks
    order.qty_lots = command.qty_lots
    order.conditions = conditions_after(command, order)
    order.ord_type = command.ord_type
    order.time_in_force = command.time_in_force
    order.post_only = command.post_only
    if command.stp is not None:
        order.stp = command.stp


def conditions_after(command: ReplaceOrder, order: OpenOrder) -> OrderConditions | None:
    """Return the conditions that an open order has from its replace on.

    They are the replace's own, but a stop order that was triggered keeps its stop price as long as
    it is called one. One that waits always gets a stop price from its replace. An order that loses
    all that it had has conditions that say nothing, rather than none: so its report tells.
    """
    was = order.conditions
    if was is None:
        return command.conditions
    given = command.conditions or OrderConditions()
    if given.stop_ticks or command.ord_type != _STOP_LIMIT:
        return given
    return msgspec.structs.replace(given, stop_ticks=was.stop_ticks)


def _is_triggered(command: ReplaceOrder, found: OpenOrder) -> bool:
    # Whether the replace is about the stop price of an order that has none to wait for any more.
    given, was = command.conditions, found.conditions
    if found.waits or found.ord_type != _STOP_LIMIT or given is None or was is None:
        return False
    return given.stop_ticks not in (0, was.stop_ticks)


def _queue_terms(order: OpenOrder, conditions: OrderConditions | None) -> tuple[int, int]:
    # What moves an order in its queue when it changes, besides price and quantity.
    if conditions is None:
        return 0, 0
    return conditions.stop_ticks if order.waits else 0, conditions.max_floor_lots
