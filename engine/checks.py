"""Whether an order agrees with the rules of its symbol, as the engine sees it. Pure.

Gateways check the same before they reserve money, with the text of the FIX message at hand; the
engine checks again, because it answers for the book whatever a gateway does. The checks run in the
order of the table, and the first that fails answers. What only few orders have is judged by
`engine.conditions`, in the second line.

    what                                                    OrdRejReason (103)
    somebody quotes what a market order would take          99
    market orders are IOC or FOK; post-only orders rest     11
    type, time in force and conditions agree                11, 4, 13, 99
    the command was made under the rules in force           99
    quantity between min and max                            13
    price between min and max                               99
    notional of a limit order at least min                  99
    the reservation covers what the order must hold         3

The price of a market or stop order is only its protection: its notional was checked at the price
that its gateway saw. A market order without a price and a reservation is one for which its gateway
saw none; it comes here because the phase may be what is to be told. A market order for an amount of
cash spends no more than that, which is all that it must reserve. A replace that fails a check is
refused with CxlRejReason 99 (102) and the same text.
"""

from __future__ import annotations

from typing import Final

from engine.commands import NewOrder, ReplaceOrder
from engine.conditions import (
    Refusal as Refusal,
)
from engine.conditions import (
    check_new_conditions,
    check_replaced_conditions,
    outside,
    unsupported,
)
from engine.enums import OrdRejReason, OrdType, Side, TimeInForce
from engine.instrument import DecimalGrid, SymbolRules
from engine.open_order import OpenOrder

_MARKET: Final = OrdType.MARKET
_LIMIT: Final = OrdType.LIMIT
_PROTECTED: Final = (OrdType.MARKET, OrdType.STOP)
_IMMEDIATE: Final = (TimeInForce.IOC, TimeInForce.FOK)
_GTC: Final = TimeInForce.GTC


def check_new_order(rules: SymbolRules, order: NewOrder, hold: int, now_us: int) -> Refusal | None:
    """Return what is wrong with a new order, or None.

    Args:
        rules: The rules in force.
        order: The command, with what was reserved for it. One for an amount of cash has the
            quantity that the book sells for it (`engine.lookahead`).
        hold: What it must hold.
        now_us: Stamp of the input, µs since 1970 UTC.
    """
    if (
        order.time_in_force is not _GTC
        or order.ord_type is not _LIMIT
        or order.conditions is not None
    ):
        refusal = _check_kind(rules, order, now_us)
        if refusal is not None:
            return refusal
    refusal = _check_terms(rules, order)
    if refusal is None and order.reserved < hold:
        cash = order.conditions.cash if order.conditions is not None else 0
        return None if cash and order.reserved >= cash else _short(order.reserved, cash or hold)
    return refusal


def check_replace(
    rules: SymbolRules, order: ReplaceOrder, found: OpenOrder, now_us: int
) -> Refusal | None:
    """Return what is wrong with the new terms of an open order, or None.

    What the replace reserved is checked by `check_added_hold`, when the order's hold is known.

    Args:
        rules: The rules in force.
        order: The command.
        found: The order that it names.
        now_us: Stamp of the input, µs since 1970 UTC.
    """
    refusal = check_replaced_conditions(rules, order, found, now_us)
    return refusal if refusal is not None else _check_terms(rules, order)


def check_added_hold(order: ReplaceOrder, added: int) -> Refusal | None:
    """Return the refusal of a replace that reserved less than its order must add, or None."""
    return None if order.reserved >= added else _short(order.reserved, added)


def _check_kind(rules: SymbolRules, order: NewOrder, now_us: int) -> Refusal | None:
    if order.ord_type == _MARKET and not order.price_ticks:
        quote = "offer" if order.side == Side.BUY else "bid"
        return Refusal(OrdRejReason.OTHER, f"Market order: there is no {quote}")
    immediate = order.time_in_force in _IMMEDIATE
    if order.ord_type == _MARKET and not immediate:
        return unsupported("a market order is IOC or FOK")
    if order.post_only and immediate:
        return unsupported("a post-only order cannot be IOC or FOK")
    return check_new_conditions(rules, order, now_us)


def _check_terms(rules: SymbolRules, order: NewOrder | ReplaceOrder) -> Refusal | None:
    if order.rules_version != rules.version:
        text = f"Rules: expected version {rules.version}, received {order.rules_version}"
        return Refusal(OrdRejReason.OTHER, text)
    qty_lots, price_ticks = order.qty_lots, order.price_ticks
    if not rules.min_qty_lots <= qty_lots <= rules.max_qty_lots:
        text = outside(rules.lot_size, qty_lots, rules.min_qty_lots, rules.max_qty_lots)
        if order.conditions is not None and order.conditions.cash:
            return Refusal(OrdRejReason.OTHER, f"CashOrderQty: what the book sells for it: {text}")
        return Refusal(OrdRejReason.INCORRECT_QUANTITY, f"OrderQty: {text}")
    if not rules.min_price_ticks <= price_ticks <= rules.max_price_ticks:
        text = outside(rules.tick_size, price_ticks, rules.min_price_ticks, rules.max_price_ticks)
        return Refusal(OrdRejReason.OTHER, f"Price: {text}")
    notional = rules.notional(price_ticks, qty_lots)
    if notional < rules.min_notional and order.ord_type not in _PROTECTED:
        grid = DecimalGrid.of_scale(rules.quote_scale)
        least, received = grid.format(rules.min_notional), grid.format(notional)
        text = f"Notional: expected at least {least} {rules.quote}, received {received}"
        return Refusal(OrdRejReason.OTHER, text)
    return None


def _short(reserved: int, needed: int) -> Refusal:
    text = f"Reserved: expected at least {needed} units, received {reserved}"
    return Refusal(OrdRejReason.EXCEEDS_LIMIT, text)
