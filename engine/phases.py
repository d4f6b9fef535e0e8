"""What each trading phase takes, and how what it does not take is refused. Pure.

    phase            new orders      replaces   cancels   matching
    CONTINUOUS       all but OPG     yes        yes       as orders come
    PRE_OPEN         what can rest   yes        yes       none: the book may be crossed
    OPENING_AUCTION  no              no         yes       the auction's, at one price
    HALTED           no              no         no        none
    CANCEL_ONLY      no              no         yes       none
    CLOSED           no              no         yes       none

Status requests, an operator's CancelAll, expiry and SetPhase work in every phase. A change to
CONTINUOUS or to OPENING_AUCTION from any other phase is an opening: what is crossed in the book is
matched by an auction (`engine.auction`), and CONTINUOUS follows by itself. In PRE_OPEN an order
must be able to rest: no market, IOC, FOK, minimum quantity or post-only order, of which nobody can
say yet whether they would trade. Stop orders wait there as they do anywhere.

While more orders are to end than one input takes out (`engine.expiry`), nothing matches and no
order gets other terms, in any phase: new orders and replaces are refused, triggered stops wait, and
an opening stays in OPENING_AUCTION, without a price yet. So what the close, the end of the opening
or its own date has ended never trades, however many end at once.

Codes: 103=2 (exchange closed) for new orders and 102=2 (broker option) for replaces and cancels;
103=11 for a kind of order that PRE_OPEN does not take, and 102=99 for a replace by one; 103=4 (too
late to enter) for an at-the-opening order after the opening; 103=99 and 102=99 while orders end.
"""

from __future__ import annotations

from typing import Final

from engine.commands import NewOrder, ReplaceOrder
from engine.conditions import Refusal
from engine.enums import OrdRejReason, OrdType, TimeInForce, TradingPhase

_MARKET: Final = OrdType.MARKET
_IMMEDIATE: Final = (TimeInForce.IOC, TimeInForce.FOK)
_OPG: Final = TimeInForce.OPG

TAKES_ORDERS: Final = (TradingPhase.CONTINUOUS, TradingPhase.PRE_OPEN)
"""Phases that take new orders and replaces."""

IS_OPENING: Final = (TradingPhase.CONTINUOUS, TradingPhase.OPENING_AUCTION)
"""Phases that begin with an auction where the book is crossed."""

_WORDS: Final = {
    TradingPhase.CONTINUOUS: "open",
    TradingPhase.PRE_OPEN: "in pre-open",
    TradingPhase.OPENING_AUCTION: "in its opening auction",
    TradingPhase.HALTED: "halted",
    TradingPhase.CANCEL_ONLY: "cancel-only",
    TradingPhase.CLOSED: "closed",
}


def describe(symbol: str, phase: TradingPhase) -> str:
    """Return the text that says which phase a symbol is in."""
    return f"Trading phase: {symbol} is {_WORDS[phase]}"


def check_order(
    symbol: str, phase: TradingPhase, order: NewOrder | ReplaceOrder, *, is_behind: bool
) -> Refusal | None:
    """Return why a phase does not take a new order, or new terms of an open one; or None.

    A phase that takes no orders at all says so whatever else is wrong with the order.

    Args:
        is_behind: Whether orders are still to end that must not trade any more.
    """
    if phase not in TAKES_ORDERS:
        return Refusal(OrdRejReason.EXCHANGE_CLOSED, describe(symbol, phase))
    if is_behind:
        text = f"{describe(symbol, phase)}, but orders whose time is over are still to end"
        return Refusal(OrdRejReason.OTHER, text)
    if phase is TradingPhase.PRE_OPEN:
        return _check_rests(symbol, order)
    if order.time_in_force == _OPG:
        text = f"{describe(symbol, phase)}: the opening is over"
        return Refusal(OrdRejReason.TOO_LATE_TO_ENTER, text)
    return None


def check_cancel(symbol: str, phase: TradingPhase) -> str | None:
    """Return why a phase does not take a cancel of the order's owner, or None."""
    return describe(symbol, phase) if phase is TradingPhase.HALTED else None


def _check_rests(symbol: str, order: NewOrder | ReplaceOrder) -> Refusal | None:
    # Conditions are looked at last: most orders have none.
    if order.ord_type == _MARKET:
        kind = "a market order"
    elif order.time_in_force in _IMMEDIATE:
        kind = "an IOC or FOK order"
    elif order.post_only:
        kind = "a post-only order"
    elif order.conditions is not None and order.conditions.min_qty_lots:
        kind = "a minimum quantity"
    else:
        return None
    text = f"{describe(symbol, TradingPhase.PRE_OPEN)}, which does not take {kind}"
    return Refusal(OrdRejReason.UNSUPPORTED_CHARACTERISTIC, text)
