"""Prices, quantities and amounts of orders, as their symbol's rules allow them. Pure.

The session layer has checked each value's format before; a Problem says what was expected and what
was received.
"""

from __future__ import annotations

from collections.abc import Mapping

from engine.enums import BusinessRejectReason, OrdRejReason, Side
from engine.instrument import AMOUNT_MAX, PPM, SymbolRules
from gateway.fix_tags import (
    TAG_CASH_ORDER_QTY,
    TAG_CURRENCY,
    TAG_EXEC_INST,
    TAG_EXPIRE_DATE,
    TAG_EXPIRE_TIME,
    TAG_MASS_CANCEL_REQUEST_TYPE,
    TAG_MASS_STATUS_REQ_TYPE,
    TAG_MAX_FLOOR,
    TAG_MIN_QTY,
    TAG_ORD_TYPE,
    TAG_ORDER_QTY,
    TAG_ORIG_CL_ORD_ID,
    TAG_PRICE,
    TAG_SIDE,
    TAG_STOP_PX,
    TAG_SYMBOL,
    TAG_TIME_IN_FORCE,
)
from gateway.refusals import Problem, readable
from gateway.symbol_texts import GridTexts, SymbolTexts

Fields = Mapping[bytes, bytes]

_NAMES = {
    TAG_CASH_ORDER_QTY: "CashOrderQty (152)",
    TAG_CURRENCY: "Currency (15)",
    TAG_EXEC_INST: "ExecInst (18)",
    TAG_EXPIRE_DATE: "ExpireDate (432)",
    TAG_EXPIRE_TIME: "ExpireTime (126)",
    TAG_MASS_CANCEL_REQUEST_TYPE: "MassCancelRequestType (530)",
    TAG_MASS_STATUS_REQ_TYPE: "MassStatusReqType (585)",
    TAG_MAX_FLOOR: "MaxFloor (111)",
    TAG_MIN_QTY: "MinQty (110)",
    TAG_ORDER_QTY: "OrderQty (38)",
    TAG_ORD_TYPE: "OrdType (40)",
    TAG_PRICE: "Price (44)",
    TAG_SIDE: "Side (54)",
    TAG_STOP_PX: "StopPx (99)",
    TAG_SYMBOL: "Symbol (55)",
    TAG_TIME_IN_FORCE: "TimeInForce (59)",
    b"168": "EffectiveTime (168)",
    b"211": "PegOffsetValue (211)",
    b"388": "DiscretionInst (388)",
    b"423": "PriceType (423)",
    b"854": "QtyType (854)",
}


def problem_of_value(tag: bytes, expected: str, fields: Fields, reason: OrdRejReason) -> Problem:
    """Return the refusal of a value."""
    text = f"{_NAMES[tag]}: expected {expected}, received {readable(fields[tag])}"
    return Problem(reason, text)


def unsupported(tag: bytes, expected: str, fields: Fields) -> Problem:
    """Return the refusal of a value that FIX knows and this venue, or this order, does not take."""
    return problem_of_value(tag, expected, fields, OrdRejReason.UNSUPPORTED_CHARACTERISTIC)


def not_supported(tag: bytes) -> Problem:
    """Return the refusal of a field that would change what the order does if it were obeyed."""
    return Problem(OrdRejReason.UNSUPPORTED_CHARACTERISTIC, f"{_NAMES[tag]}: not supported")


def absent(tag: bytes, where: str) -> Problem:
    """Return the refusal of a message without a field that it needs."""
    text = f"{_NAMES[tag]}: required on {where}, received none"
    return Problem(BusinessRejectReason.CONDITIONALLY_REQUIRED_FIELD_MISSING, text)


def read_quantity(fields: Fields, texts: SymbolTexts) -> int | Problem:
    """Return OrderQty (38) in lots, within the symbol's limits."""
    text = fields.get(TAG_ORDER_QTY)
    if text is None:
        return absent(TAG_ORDER_QTY, "every order")
    rules: SymbolRules = texts.rules
    qty_lots = texts.quantities.steps(text)
    if qty_lots is not None and rules.min_qty_lots <= qty_lots <= rules.max_qty_lots:
        return qty_lots
    expected = _expected(texts.quantities, qty_lots, rules.min_qty_lots, rules.max_qty_lots)
    return problem_of_value(TAG_ORDER_QTY, expected, fields, OrdRejReason.INCORRECT_QUANTITY)


def read_part(fields: Fields, texts: SymbolTexts, tag: bytes, qty_lots: int) -> int | Problem:
    """Return a part of the order's quantity (MinQty, MaxFloor) in lots; 0 where it is absent."""
    text = fields.get(tag)
    if text is None:
        return 0
    lots = texts.quantities.steps(text)
    if lots is not None and 1 <= lots <= qty_lots:
        return lots
    expected = _expected(texts.quantities, lots, 1, qty_lots)
    return problem_of_value(tag, expected, fields, OrdRejReason.INCORRECT_QUANTITY)


def read_price(fields: Fields, texts: SymbolTexts) -> int | Problem:
    """Return Price (44) in ticks, within the symbol's limits."""
    text = fields.get(TAG_PRICE)
    if text is None:
        return absent(TAG_PRICE, "a limit order")
    rules = texts.rules
    price_ticks = texts.prices.steps(text)
    if price_ticks is not None and rules.min_price_ticks <= price_ticks <= rules.max_price_ticks:
        return price_ticks
    return _problem_of_price(fields, texts, TAG_PRICE, price_ticks)


def read_stop(fields: Fields, texts: SymbolTexts) -> int | Problem:
    """Return StopPx (99) in ticks, within the symbol's limits.

    A replace of a stop-limit order may leave it out (0): what was triggered needs none any more.
    """
    text = fields.get(TAG_STOP_PX)
    if text is None:
        if fields[TAG_ORD_TYPE] == b"4" and TAG_ORIG_CL_ORD_ID in fields:
            return 0
        return absent(TAG_STOP_PX, "a stop order")
    rules = texts.rules
    stop_ticks = texts.prices.steps(text)
    if stop_ticks is not None and rules.min_price_ticks <= stop_ticks <= rules.max_price_ticks:
        return stop_ticks
    return _problem_of_price(fields, texts, TAG_STOP_PX, stop_ticks)


def read_cash(fields: Fields, texts: SymbolTexts) -> int | Problem:
    """Return CashOrderQty (152) in the quote asset's smallest unit."""
    cash = texts.amounts.steps(fields[TAG_CASH_ORDER_QTY])
    if cash is not None and 1 <= cash <= AMOUNT_MAX:
        return _problem_of_amount(texts, cash) or cash
    expected = _expected(texts.amounts, cash, 1, AMOUNT_MAX)
    return problem_of_value(TAG_CASH_ORDER_QTY, expected, fields, OrdRejReason.INCORRECT_QUANTITY)


def problem_of_notional(texts: SymbolTexts, price_ticks: int, qty_lots: int) -> Problem | None:
    """Check price × quantity against the symbol's smallest notional."""
    return _problem_of_amount(texts, texts.rules.notional(price_ticks, qty_lots))


def protected_price(rules: SymbolRules, side: Side, from_ticks: int, *, protection_ppm: int) -> int:
    """Return the worst price at which an order without a limit may trade.

    Args:
        rules: of the symbol; the price keeps within its limits.
        side: of the order.
        from_ticks: the best opposite price, or the stop price.
        protection_ppm: how far from there it may trade.
    """
    if side is Side.BUY:
        return min(from_ticks * (PPM + protection_ppm) // PPM, rules.max_price_ticks)
    return max(rules.min_price_ticks, -(-from_ticks * (PPM - protection_ppm) // PPM))


def _problem_of_amount(texts: SymbolTexts, amount: int) -> Problem | None:
    rules = texts.rules
    if amount >= rules.min_notional:
        return None
    least, received = (texts.amounts.text(one).decode() for one in (rules.min_notional, amount))
    text = f"Notional: expected at least {least} {rules.quote}, received {received}"
    return Problem(OrdRejReason.OTHER, text)


def _problem_of_price(
    fields: Fields, texts: SymbolTexts, tag: bytes, price_ticks: int | None
) -> Problem:
    rules = texts.rules
    expected = _expected(texts.prices, price_ticks, rules.min_price_ticks, rules.max_price_ticks)
    return problem_of_value(tag, expected, fields, OrdRejReason.OTHER)


def _expected(grid: GridTexts, steps: int | None, least: int, most: int) -> str:
    """Say what a value that lies off its grid (steps None), or outside its limits, should be."""
    if steps is None:
        return f"a multiple of {grid.grid.step}"
    return f"{grid.text(least).decode()} to {grid.text(most).decode()}"
