"""The business checks of orders and replaces against the rules of their symbol. Pure.

The session layer has checked each value's format before; a Problem says what was expected and what
was received.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from engine.enums import BusinessRejectReason, OrdRejReason, OrdType, Side, TimeInForce
from engine.instrument import SymbolRules
from gateway.fix_tags import (
    TAG_ACCOUNT,
    TAG_EXEC_INST,
    TAG_ORD_TYPE,
    TAG_ORDER_ID,
    TAG_ORDER_QTY,
    TAG_PRICE,
    TAG_SIDE,
    TAG_SYMBOL,
    TAG_TIME_IN_FORCE,
)
from gateway.refusals import SIDES, Origin, Problem, readable
from gateway.symbol_texts import SymbolTexts

Fields = Mapping[bytes, bytes]

_IMMEDIATE = (TimeInForce.IOC, TimeInForce.FOK)
_TIMES_IN_FORCE = {b"%d" % time: time for time in (TimeInForce.DAY, TimeInForce.GTC, *_IMMEDIATE)}
_POST_ONLY = b"6"
_NAMES = {
    TAG_EXEC_INST: "ExecInst (18)",
    TAG_ORD_TYPE: "OrdType (40)",
    TAG_PRICE: "Price (44)",
    TAG_SIDE: "Side (54)",
    TAG_TIME_IN_FORCE: "TimeInForce (59)",
}
_UNSUPPORTED_NAMES = {
    b"99": "StopPx",
    b"110": "MinQty",
    b"111": "MaxFloor",
    b"126": "ExpireTime",
    b"152": "CashOrderQty",
    b"168": "EffectiveTime",
    b"211": "PegOffsetValue",
    b"388": "DiscretionInst",
    b"432": "ExpireDate",
}
"""Instructions that would change what the order does if they were obeyed: refused, not ignored."""
_UNSUPPORTED_TAGS = frozenset(_UNSUPPORTED_NAMES)


class Kind(NamedTuple):
    """What an order is, apart from how much at which price."""

    side: Side
    ord_type: OrdType
    time_in_force: TimeInForce
    post_only: bool


class Terms(NamedTuple):
    """What an order and a replace have in common."""

    kind: Kind
    price_ticks: int
    qty_lots: int


def _good_kinds() -> dict[tuple[bytes | None, ...], Kind]:
    """Return every combination of 54, 40, 59 and 18 that is possible.

    A market order gets TimeInForce IOC unless it asks for FOK.
    """
    kinds: dict[tuple[bytes | None, ...], Kind] = {}
    for side_text, side in SIDES.items():
        for time_text, time in [(None, TimeInForce.DAY), *_TIMES_IN_FORCE.items()]:
            market_time = TimeInForce.FOK if time is TimeInForce.FOK else TimeInForce.IOC
            market = Kind(side, OrdType.MARKET, market_time, False)
            kinds[side_text, b"1", time_text, None] = market
            kinds[side_text, b"2", time_text, None] = Kind(side, OrdType.LIMIT, time, False)
            if time not in _IMMEDIATE:
                post_only = Kind(side, OrdType.LIMIT, time, True)
                kinds[side_text, b"2", time_text, _POST_ONLY] = post_only
    return kinds


_KINDS = _good_kinds()
_MARKET = OrdType.MARKET


def read_terms(fields: Fields, texts: SymbolTexts) -> Terms | Problem:
    """Return the terms of an order, or the first thing that is wrong with them.

    A market order has no price yet (0).
    """
    get = fields.get
    kind = _KINDS.get(
        (get(TAG_SIDE), get(TAG_ORD_TYPE), get(TAG_TIME_IN_FORCE), get(TAG_EXEC_INST))
    )
    if kind is None:
        return _problem_of_kind(fields)
    if not _UNSUPPORTED_TAGS.isdisjoint(fields):
        return _problem_of_tags(fields)
    qty_lots = _read_quantity(fields, texts)
    if isinstance(qty_lots, Problem):
        return qty_lots
    if kind.ord_type is _MARKET:
        if TAG_PRICE in fields:
            return unsupported(TAG_PRICE, "none on a market order", fields)
        return Terms(kind, 0, qty_lots)
    price_ticks = _read_price(fields, texts)
    if isinstance(price_ticks, Problem):
        return price_ticks
    problem = problem_of_notional(texts, price_ticks, qty_lots)
    return problem or Terms(kind, price_ticks, qty_lots)


def read_order_seq(fields: Fields) -> int | Problem:
    """Return the number in OrderID (37), ``{symbol}-{number}``; 0 when the field is absent."""
    order_id = fields.get(TAG_ORDER_ID)
    if order_id is None:
        return 0
    symbol, _, number = order_id.rpartition(b"-")
    if symbol != fields[TAG_SYMBOL] or not number.isdigit() or not 0 < int(number[:20]) < 2**63:
        text = f"OrderID (37): no order {readable(order_id)} in {_given(fields, TAG_SYMBOL)}"
        return Problem(OrdRejReason.UNKNOWN_ORDER, text)
    return int(number[:20])


def unknown_symbol(fields: Fields) -> Problem:
    """Return the refusal of a symbol that the venue does not have."""
    text = f"Symbol (55): unknown symbol {_given(fields, TAG_SYMBOL)}"
    return Problem(OrdRejReason.UNKNOWN_SYMBOL, text)


def unsupported(tag: bytes, expected: str, fields: Fields) -> Problem:
    """Return the refusal of a value that FIX knows and this venue, or this order, does not take."""
    text = f"{_NAMES[tag]}: expected {expected}, received {_given(fields, tag)}"
    return Problem(OrdRejReason.UNSUPPORTED_CHARACTERISTIC, text)


def problem_of_account(fields: Fields, origin: Origin) -> Problem | None:
    """Check that Account (1), where given, is the account of the session."""
    account = fields.get(TAG_ACCOUNT)
    if account is None or account == b"%d" % origin.account:
        return None
    text = f"Account (1): expected {origin.account}, received {readable(account)}"
    return Problem(OrdRejReason.UNKNOWN_ACCOUNT, text)


def problem_of_notional(texts: SymbolTexts, price_ticks: int, qty_lots: int) -> Problem | None:
    """Check price × quantity against the symbol's smallest notional."""
    rules = texts.rules
    notional = rules.notional(price_ticks, qty_lots)
    if notional >= rules.min_notional:
        return None
    least, received = (
        texts.amounts.text(amount).decode() for amount in (rules.min_notional, notional)
    )
    text = f"Notional: expected at least {least} {rules.quote}, received {received}"
    return Problem(OrdRejReason.OTHER, text)


def _given(fields: Fields, tag: bytes) -> str:
    return readable(fields[tag])


def _problem_of_kind(fields: Fields) -> Problem:
    """Return the first thing that keeps 54, 40, 59 and 18 from being one of ``_KINDS``."""
    if fields[TAG_SIDE] not in SIDES:
        return unsupported(TAG_SIDE, "1 (buy) or 2 (sell)", fields)
    if fields[TAG_ORD_TYPE] not in (b"1", b"2"):
        return unsupported(TAG_ORD_TYPE, "1 (market) or 2 (limit)", fields)
    if fields.get(TAG_TIME_IN_FORCE, b"0") not in _TIMES_IN_FORCE:
        return unsupported(TAG_TIME_IN_FORCE, "0 (day), 1 (GTC), 3 (IOC) or 4 (FOK)", fields)
    if fields[TAG_EXEC_INST] != _POST_ONLY:
        return unsupported(TAG_EXEC_INST, "6 (post-only)", fields)
    if fields[TAG_ORD_TYPE] == b"1":
        return unsupported(TAG_EXEC_INST, "none on a market order", fields)
    return unsupported(TAG_EXEC_INST, "none on an IOC or FOK order", fields)


def _problem_of_tags(fields: Fields) -> Problem:
    tag = min(_UNSUPPORTED_TAGS & fields.keys())
    text = f"{_UNSUPPORTED_NAMES[tag]} ({readable(tag)}): not supported"
    return Problem(OrdRejReason.UNSUPPORTED_CHARACTERISTIC, text)


def _read_quantity(fields: Fields, texts: SymbolTexts) -> int | Problem:
    text = fields.get(TAG_ORDER_QTY)
    if text is None:
        return _absent("OrderQty (38)", "every order")
    rules: SymbolRules = texts.rules
    qty_lots = texts.quantities.steps(text)
    if qty_lots is not None and rules.min_qty_lots <= qty_lots <= rules.max_qty_lots:
        return qty_lots
    if qty_lots is None:
        expected = f"a multiple of {rules.lot_size}"
    else:
        least, most = (
            texts.quantities.text(lots).decode()
            for lots in (rules.min_qty_lots, rules.max_qty_lots)
        )
        expected = f"{least} to {most}"
    problem = f"OrderQty (38): expected {expected}, received {readable(text)}"
    return Problem(OrdRejReason.INCORRECT_QUANTITY, problem)


def _read_price(fields: Fields, texts: SymbolTexts) -> int | Problem:
    text = fields.get(TAG_PRICE)
    if text is None:
        return _absent("Price (44)", "a limit order")
    rules = texts.rules
    price_ticks = texts.prices.steps(text)
    if price_ticks is not None and 0 < price_ticks <= rules.max_price_ticks:
        return price_ticks
    if price_ticks is None:
        expected = f"a multiple of {rules.tick_size}"
    else:
        least, most = (texts.prices.text(ticks).decode() for ticks in (1, rules.max_price_ticks))
        expected = f"{least} to {most}"
    problem = f"Price (44): expected {expected}, received {readable(text)}"
    return Problem(OrdRejReason.OTHER, problem)


def _absent(name: str, where: str) -> Problem:
    text = f"{name}: required on {where}, received none"
    return Problem(BusinessRejectReason.CONDITIONALLY_REQUIRED_FIELD_MISSING, text)
