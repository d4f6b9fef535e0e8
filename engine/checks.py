"""Whether an order agrees with the rules of its symbol, as the engine sees it. Pure.

Gateways check the same before they reserve money, with the text of the FIX message at hand; the
engine checks again, because it answers for the book whatever a gateway does. The checks run in the
order of the table, and the first that fails answers.

    what                                                    OrdRejReason (103)
    the command was made under the rules in force           99
    market orders are IOC or FOK; post-only orders rest     11
    quantity between min and max                            13
    price between one tick and max                          99
    notional of a limit order at least min                  99
    the reservation covers what the order must hold         3

A market order's price is only its protection: its notional was checked at the price that its
gateway saw. A replace that fails a check is refused with CxlRejReason 99 (102) and the same text.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from engine.commands import NewOrder, ReplaceOrder
from engine.enums import OrdRejReason, OrdType, TimeInForce
from engine.instrument import DecimalGrid, SymbolRules

_MARKET: Final = OrdType.MARKET
_IMMEDIATE: Final = (TimeInForce.IOC, TimeInForce.FOK)


class Refusal(NamedTuple):
    """Why an order is refused: the code for machines, the text for people."""

    reason: OrdRejReason
    text: str


def check_new_order(rules: SymbolRules, order: NewOrder, hold: int) -> Refusal | None:
    """Return what is wrong with a new order, or None.

    Args:
        rules: The rules in force.
        order: The command, with what was reserved for it.
        hold: What it must hold.
    """
    immediate = order.time_in_force in _IMMEDIATE
    if order.ord_type == _MARKET and not immediate:
        return _unsupported("a market order is IOC or FOK")
    if order.post_only and immediate:
        return _unsupported("a post-only order cannot be IOC or FOK")
    refusal = _check_terms(rules, order)
    if refusal is None and order.reserved < hold:
        return _short(order.reserved, hold)
    return refusal


def check_replace(rules: SymbolRules, order: ReplaceOrder) -> Refusal | None:
    """Return what is wrong with the new terms of an open order, or None.

    What the replace reserved is checked by `check_added_hold`, when the order's hold is known.
    """
    if order.ord_type == _MARKET:
        return _unsupported("an order in the book is a limit order")
    if order.time_in_force in _IMMEDIATE:
        return _unsupported("an order in the book is Day or GTC")
    return _check_terms(rules, order)


def check_added_hold(order: ReplaceOrder, added: int) -> Refusal | None:
    """Return the refusal of a replace that reserved less than its order must add, or None."""
    return None if order.reserved >= added else _short(order.reserved, added)


def _check_terms(rules: SymbolRules, order: NewOrder | ReplaceOrder) -> Refusal | None:
    if order.rules_version != rules.version:
        text = f"Rules: expected version {rules.version}, received {order.rules_version}"
        return Refusal(OrdRejReason.OTHER, text)
    qty_lots, price_ticks = order.qty_lots, order.price_ticks
    if not rules.min_qty_lots <= qty_lots <= rules.max_qty_lots:
        text = _outside(rules.lot_size, qty_lots, rules.min_qty_lots, rules.max_qty_lots)
        return Refusal(OrdRejReason.INCORRECT_QUANTITY, f"OrderQty: {text}")
    if not 1 <= price_ticks <= rules.max_price_ticks:
        text = _outside(rules.tick_size, price_ticks, 1, rules.max_price_ticks)
        return Refusal(OrdRejReason.OTHER, f"Price: {text}")
    notional = rules.notional(price_ticks, qty_lots)
    if notional < rules.min_notional and order.ord_type != _MARKET:
        grid = DecimalGrid.of_scale(rules.quote_scale)
        least, received = grid.format(rules.min_notional), grid.format(notional)
        text = f"Notional: expected at least {least} {rules.quote}, received {received}"
        return Refusal(OrdRejReason.OTHER, text)
    return None


def _short(reserved: int, needed: int) -> Refusal:
    text = f"Reserved: expected at least {needed} units, received {reserved}"
    return Refusal(OrdRejReason.EXCEEDS_LIMIT, text)


def _unsupported(rule: str) -> Refusal:
    return Refusal(OrdRejReason.UNSUPPORTED_CHARACTERISTIC, f"Not supported: {rule}")


def _outside(step: str, received: int, least: int, most: int) -> str:
    grid = DecimalGrid(step)
    bounds = f"expected {grid.format(least)} to {grid.format(most)}"
    return f"{bounds}, received {grid.format(received)}"
