"""What market orders and replaces need from Redis before they can be admitted.

A market order takes its protection price from the best opposite price, as settlement last left it
in ``bbo``. A replace reserves what its order does not hold already: as ``open:{account}`` has it,
or as the session's messages before it will leave it, where those are not answered yet. Both reads
may be older than the admission call: the price is a limit, not a promise, and the reservation is
enough whatever is filled in between. Nothing is read here: what was read comes as arguments.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from engine.commands import NewOrder, ReplaceOrder
from engine.enums import CxlRejReason, CxlRejResponseTo, OrdRejReason, OrdStatus, Side
from engine.events import CancelRejected, OrderRejected
from engine.instrument import SymbolRules, fee_ceil
from gateway.order_values import problem_of_notional, protected_price
from gateway.refusals import cancel_rejected, order_rejected
from gateway.symbol_texts import SymbolTexts
from router.open_orders import BestPrices, OpenOrder

BACKLOG = "Too many orders of this symbol wait for its engine; try again"


def price_market(
    order: NewOrder, texts: SymbolTexts, best: BestPrices, *, protection_ppm: int
) -> NewOrder | OrderRejected:
    """Return a market order with its protection price, or its refusal.

    One by CashOrderQty (152) reserves its cash, whatever the price. One with which nobody would
    trade has neither price nor reservation: its engine refuses it, for the phase if need be.

    Args:
        order: as ``OrderReader.read`` returned it, without a price.
        texts: the symbol's rules and texts.
        best: the symbol's best prices.
        protection_ppm: how far from the best opposite price it may trade.
    """
    buys = order.side is Side.BUY
    best_ticks = best.ask_ticks if buys else best.bid_ticks
    if not best_ticks:
        return msgspec.structs.replace(order, price_ticks=0, reserved=0)
    rules = texts.rules
    price_ticks = protected_price(rules, order.side, best_ticks, protection_ppm=protection_ppm)
    if order.conditions is not None and order.conditions.cash:
        return msgspec.structs.replace(order, price_ticks=price_ticks)
    problem = problem_of_notional(texts, best_ticks, order.qty_lots)
    if problem is not None:
        return order_rejected(order, problem.text)
    reserved = rules.hold_of(order.side, price_ticks, order.qty_lots)
    return msgspec.structs.replace(order, price_ticks=price_ticks, reserved=reserved)


class KnownOrder(NamedTuple):
    """The order that a ClOrdID names, as far as a gateway knows.

    Attributes:
        order: as settlement left it, or, of one that is on its way, as its engine will take it
            where it takes it.
        status: its OrdStatus; PENDING_NEW or PENDING_REPLACE where it is on its way.
    """

    order: OpenOrder
    status: OrdStatus

    @property
    def is_pending(self) -> bool:
        """Whether the message that gives the order this ClOrdID has not been answered yet."""
        return self.status in (OrdStatus.PENDING_NEW, OrdStatus.PENDING_REPLACE)


def settled_as(found: OpenOrder) -> KnownOrder:
    """Return what is known of an order that stands in ``open:{account}``."""
    return KnownOrder(found, OrdStatus.PARTIALLY_FILLED if found.cum_lots else OrdStatus.NEW)


def expected_of(
    command: NewOrder | ReplaceOrder, rules: SymbolRules, replaced: KnownOrder | None
) -> KnownOrder:
    """Return the order that is open under a command's ClOrdID once an engine has taken it.

    Args:
        command: of the gateway, on its way.
        rules: those that it was made under; a new order keeps their fee rates.
        replaced: the order that it replaces, where something is known of it. What is filled of it
            by the time can only be more, which ``reserve_replace`` allows for.
    """
    order_seq, cum_lots, max_fee_ppm = 0, 0, rules.max_fee_ppm
    if replaced is not None:
        was = replaced.order
        order_seq, cum_lots, max_fee_ppm = was.order_seq, was.cum_lots, was.max_fee_ppm
    order = OpenOrder(
        order_seq,
        command.side,
        command.price_ticks,
        max(0, command.qty_lots - cum_lots),
        cum_lots,
        0,
        max_fee_ppm,
        command.ord_type,
        command.time_in_force,
    )
    is_new = isinstance(command, NewOrder)
    return KnownOrder(order, OrdStatus.PENDING_NEW if is_new else OrdStatus.PENDING_REPLACE)


def reserve_replace(
    order: ReplaceOrder, rules: SymbolRules, known: KnownOrder | None
) -> ReplaceOrder | CancelRejected:
    """Return the replace with what it must reserve on top of what its order holds.

    With k lots filled before the engine meets the replace, the new hold less the old one is
    new_leaves × new_price − leaves × price − k × (new_price − price): largest at k = 0 or at
    k = leaves, whichever way the price moves. The larger of the two is enough, with the fee on it
    at the order's own rate, which may not be today's.

    It is so as well where the order is on its way: should its engine not take it, as it is expected
    here, the replace names an order that there is not, and is refused. An order that is not known
    at all reserves the whole: it came from elsewhere a moment ago, or there is none.

    Source: design, section 3 (replace).
    """
    if known is None:
        reserved = rules.hold_of(order.side, order.price_ticks, order.qty_lots)
        return msgspec.structs.replace(order, reserved=reserved)
    found = known.order
    if found.side is not order.side:
        text = f"Side (54): expected {found.side:d}, the side of the order, received {order.side:d}"
        return with_order(_replace_rejected(order, text), known)
    new_leaves_lots = order.qty_lots - found.cum_lots
    added_lots = new_leaves_lots - found.leaves_lots
    if order.side is Side.SELL:
        reserved = max(0, added_lots) * rules.base_units_per_lot
    else:
        held = rules.notional(found.price_ticks, found.leaves_lots)
        wanted = rules.notional(order.price_ticks, new_leaves_lots)
        added = max(0, wanted - held, rules.notional(order.price_ticks, added_lots))
        reserved = added + fee_ceil(added * found.max_fee_ppm)
    orig_status = known.status if known.is_pending else OrdStatus.REJECTED
    return msgspec.structs.replace(order, reserved=reserved, orig_status=orig_status)


def with_order(refusal: CancelRejected, known: KnownOrder | None) -> CancelRejected:
    """Return the refusal of a cancel or replace with OrderID and OrdStatus of its order."""
    if known is None:
        return refusal
    order_seq, status = known.order.order_seq, known.status
    return msgspec.structs.replace(refusal, order_seq=order_seq, ord_status=status)


def refused_for_funds(
    command: NewOrder | ReplaceOrder, texts: SymbolTexts
) -> OrderRejected | CancelRejected:
    """Return the refusal of a command that admission could not reserve for."""
    rules = texts.rules
    if command.side is Side.BUY:
        amount, asset = texts.amounts.text(command.reserved), rules.quote
    else:
        lots = command.reserved // rules.base_units_per_lot
        amount, asset = texts.quantities.text(lots), rules.base
    text = f"Insufficient funds: {amount.decode()} {asset} needed"
    return _rejected(command, text, OrdRejReason.EXCEEDS_LIMIT)


def refused_for_backlog(command: NewOrder | ReplaceOrder) -> OrderRejected | CancelRejected:
    """Return the refusal of a command that would have had to wait behind too many others."""
    return _rejected(command, BACKLOG, OrdRejReason.OTHER)


def _rejected(
    command: NewOrder | ReplaceOrder, text: str, reason: OrdRejReason
) -> OrderRejected | CancelRejected:
    if isinstance(command, ReplaceOrder):
        return _replace_rejected(command, text)
    return order_rejected(command, text, reason)


def _replace_rejected(order: ReplaceOrder, text: str) -> CancelRejected:
    refusal = cancel_rejected(
        account=order.account,
        cl_ord_id=order.cl_ord_id,
        orig_cl_ord_id=order.orig_cl_ord_id,
        response_to=CxlRejResponseTo.REPLACE,
        reason=CxlRejReason.OTHER,
        text=text,
    )
    return msgspec.structs.replace(refusal, ord_status=order.orig_status)
