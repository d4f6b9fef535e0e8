"""Whether what only few orders have agrees: stops, icebergs, expiry, minimum, cash. Pure.

Conditions of an order stand in its command's `OrderConditions`; most orders have none. Which go
together:

    condition            order types          times in force        besides
    StopPx (99)          STOP, STOP_LIMIT     Day, GTC, GTD         not post-only; always there
    MaxFloor (111)       LIMIT, STOP_LIMIT    Day, GTC, GTD, OPG    1 to OrderQty
    MinQty (110)         MARKET, LIMIT        any                   1 to OrderQty; not post-only
    ExpireTime (126)     LIMIT, STOP*         GTD                   after the order's own stamp
    CashOrderQty (152)   MARKET, buy          IOC                   without OrderQty and MinQty

An order is at the opening (OPG) only as a LIMIT one. Codes (103): 11 for what does not go together,
4 for an ExpireTime that has come, 13 for a MaxFloor or MinQty that OrderQty does not cover, 99 for
a stop price beyond the prices of the symbol.

A replace gives all terms anew, and what it leaves out the order has no more. MinQty is about an
order's entry only: a replace cannot name it. A stop order that waits stays a stop order with a stop
price. One that was triggered is a limit order: its replace says so (40=2), or STOP_LIMIT with the
stop price that it had or none.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from engine.commands import NewOrder, OrderConditions, ReplaceOrder
from engine.enums import OrdRejReason, OrdType, Side, TimeInForce
from engine.instrument import DecimalGrid, SymbolRules
from engine.open_order import OpenOrder

_MARKET: Final = OrdType.MARKET
_LIMIT: Final = OrdType.LIMIT
_STOP: Final = OrdType.STOP
_STOPS: Final = (OrdType.STOP, OrdType.STOP_LIMIT)
_GTD: Final = TimeInForce.GTD
_OPG: Final = TimeInForce.OPG
_IOC: Final = TimeInForce.IOC
_IMMEDIATE: Final = (TimeInForce.IOC, TimeInForce.FOK)
_NONE: Final = OrderConditions()


class Refusal(NamedTuple):
    """Why an order is refused: the code for machines, the text for people."""

    reason: OrdRejReason
    text: str


def check_new_conditions(rules: SymbolRules, order: NewOrder, now_us: int) -> Refusal | None:
    """Return what is wrong with type, time in force and conditions of a new order, or None.

    Args:
        rules: The rules in force.
        order: The command.
        now_us: Stamp of the input, µs since 1970 UTC.
    """
    given = order.conditions or _NONE
    is_stop = order.ord_type in _STOPS
    if is_stop and not given.stop_ticks:
        return unsupported("a stop order has a StopPx")
    if given.cash:
        return _check_cash(order, given)
    if given.min_qty_lots:
        if is_stop or order.post_only:
            return unsupported("a stop or post-only order has no MinQty")
        if not 1 <= given.min_qty_lots <= order.qty_lots:
            return _uncovered(rules, "MinQty", given.min_qty_lots, order.qty_lots)
    if given.stop_ticks and not is_stop:
        return unsupported("only a stop order has a StopPx")
    return _check_resting(rules, order, given, now_us)


def check_replaced_conditions(
    rules: SymbolRules, order: ReplaceOrder, found: OpenOrder, now_us: int
) -> Refusal | None:
    """Return what is wrong with type, time in force and conditions of a replace, or None.

    Args:
        rules: The rules in force.
        order: The command.
        found: The open order that it names.
        now_us: Stamp of the input, µs since 1970 UTC.
    """
    given = order.conditions or _NONE
    if found.waits:
        if order.ord_type not in _STOPS or not given.stop_ticks:
            return unsupported("a stop order that waits stays one, and has a StopPx")
    elif order.ord_type != _LIMIT:
        if order.ord_type != found.ord_type:
            return unsupported("an order in the book is a limit order")
    elif given.stop_ticks:
        return unsupported("only a stop order has a StopPx")
    if order.time_in_force in _IMMEDIATE:
        return unsupported("an order in the book is Day, GTC or GTD")
    if given.min_qty_lots or given.cash:
        return unsupported("a replace has no MinQty and no CashOrderQty")
    return _check_resting(rules, order, given, now_us)


def unsupported(rule: str) -> Refusal:
    """Return the refusal of an order of a kind that there is not."""
    return Refusal(OrdRejReason.UNSUPPORTED_CHARACTERISTIC, f"Not supported: {rule}")


def outside(step: str, received: int, least: int, most: int) -> str:
    """Return the text that says between which multiples of a step a value must be."""
    grid = DecimalGrid(step)
    bounds = f"expected {grid.format(least)} to {grid.format(most)}"
    return f"{bounds}, received {grid.format(received)}"


def _check_cash(order: NewOrder, given: OrderConditions) -> Refusal | None:
    is_market_buy = order.ord_type == _MARKET and order.side == Side.BUY
    if not is_market_buy or order.time_in_force != _IOC:
        return unsupported("only a market buy, IOC, has a CashOrderQty")
    if given != OrderConditions(cash=given.cash):
        return unsupported("an order with a CashOrderQty has no other condition")
    return None


def _check_resting(
    rules: SymbolRules, order: NewOrder | ReplaceOrder, given: OrderConditions, now_us: int
) -> Refusal | None:
    # What a new order and a replace have in common.
    if order.ord_type in _STOPS:
        refusal = _check_stop(rules, order, given)
        if refusal is not None:
            return refusal
    time_in_force = order.time_in_force
    if time_in_force == _OPG and order.ord_type != _LIMIT:
        return unsupported("an order at the opening is a limit order")
    if (time_in_force == _GTD) != bool(given.expire_us):
        return unsupported("an order that is good till a date, and no other, has an ExpireTime")
    if time_in_force == _GTD and given.expire_us <= now_us:
        text = "ExpireTime: expected one to come, received one that has passed"
        return Refusal(OrdRejReason.TOO_LATE_TO_ENTER, text)
    if given.max_floor_lots:
        if order.ord_type in (_MARKET, _STOP) or time_in_force in _IMMEDIATE:
            return unsupported("only a limit order that may rest has a MaxFloor")
        if not 1 <= given.max_floor_lots <= order.qty_lots:
            return _uncovered(rules, "MaxFloor", given.max_floor_lots, order.qty_lots)
    return None


def _check_stop(
    rules: SymbolRules, order: NewOrder | ReplaceOrder, given: OrderConditions
) -> Refusal | None:
    if order.time_in_force in _IMMEDIATE or order.post_only:
        return unsupported("a stop order is Day, GTC or GTD, and not post-only")
    stop_ticks, least, most = given.stop_ticks, rules.min_price_ticks, rules.max_price_ticks
    if stop_ticks and not least <= stop_ticks <= most:
        text = f"StopPx: {outside(rules.tick_size, stop_ticks, least, most)}"
        return Refusal(OrdRejReason.OTHER, text)
    return None


def _uncovered(rules: SymbolRules, name: str, received: int, qty_lots: int) -> Refusal:
    text = f"{name}: {outside(rules.lot_size, received, 1, qty_lots)}"
    return Refusal(OrdRejReason.INCORRECT_QUANTITY, text)
