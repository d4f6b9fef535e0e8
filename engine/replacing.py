"""What a replace asks of an open order, decided before anything is changed. Pure.

OrderQty is the total, so the new leaves are OrderQty less what was filled meanwhile (in-flight
mitigation); a total that is filled already comes too late. Lowering the quantity at the same price
keeps the order's place in its queue; everything else, a new Day for GTC alone too, puts it at the
end of the queue of its price, after matching what crosses.

Refusals in order of precedence (CxlRejReason 102):

    unknown order, or OrderID (37) of another one           1
    the order is done                                       0
    side differs                                            99
    the new terms break a rule (`engine.checks`)            99
    the ClOrdID was used before                             6
    OrderQty is not above what is filled                    0
    post-only at a price that would trade                   99
    the reservation does not cover the larger hold          99
"""

from __future__ import annotations

from typing import NamedTuple

from engine.book import LimitBook
from engine.checks import check_added_hold, check_replace
from engine.commands import ReplaceOrder
from engine.enums import CxlRejReason
from engine.instrument import SymbolRules
from engine.open_order import DoneOrder, OpenOrder


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
    *,
    id_used: bool,
) -> Replacement | ReplaceRefusal:
    """Return what a replace comes to. Changes nothing.

    Args:
        rules: In force.
        book: Of the symbol.
        command: The replace, with what was reserved for it.
        found: The order that it names, None where there is none.
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
    refusal = check_replace(rules, command)
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
    same_price = command.price_ticks == found.price_ticks
    keeps_priority = same_price and leaves_lots < found.leaves_qty_lots
    return Replacement(found, leaves_lots, hold, keeps_priority)
