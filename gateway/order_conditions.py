"""Conditions of orders: stop price, displayed and least quantity, expiry, cash amount. Pure.

    field                on which orders                                   else    bad value
    StopPx (99)          40=3 and 4, required, but not on a G with 40=4    103=11  103=99
    MaxFloor (111)       40=2 and 4, unless IOC or FOK                     103=11  103=13
    MinQty (110)         40=1 and 2, unless post-only or for the opening;
                         not on a replace                                  103=11  103=13
    ExpireTime (126) or  59=6, one of them required                        103=11  103=99
    ExpireDate (432)                                                       past:   103=4
    CashOrderQty (152)   40=1 to buy, unless FOK or with 110, in place
                         of OrderQty (38)                                  103=11  103=13
    Price (44)           40=2 and 4, required                              103=11  103=99

ExpireDate means the end of that day, UTC: the order expires at 00:00:00 of the next.
"""

from __future__ import annotations

from collections.abc import Callable

from engine.commands import OrderConditions
from engine.enums import OrdRejReason, OrdType, Side, TimeInForce
from gateway.fix_tags import (
    TAG_CASH_ORDER_QTY,
    TAG_EXPIRE_DATE,
    TAG_EXPIRE_TIME,
    TAG_MAX_FLOOR,
    TAG_MIN_QTY,
    TAG_ORDER_QTY,
    TAG_ORIG_CL_ORD_ID,
    TAG_PRICE,
    TAG_STOP_PX,
)
from gateway.fix_time import NS_PER_SECOND, UtcTimestampReader
from gateway.order_kinds import IMMEDIATE, STOPS, Kind, noun_of
from gateway.order_values import (
    Fields,
    absent,
    not_supported,
    problem_of_value,
    read_part,
    unsupported,
)
from gateway.refusals import Problem
from gateway.symbol_texts import SymbolTexts

UNSUPPORTED_TAGS = (b"168", b"211", b"388")
"""Instructions that would change what the order does if they were obeyed: refused, not ignored."""

ONLY_VALUES = {
    b"423": (b"2", "2 (per unit)"),
    b"854": (b"0", "0 (units)"),
}
"""Tag → the one value that our prices and quantities have, and how it is named: an order in percent
or in contracts would be another order."""

_NS_PER_DAY = 86_400 * NS_PER_SECOND
_NS_PER_US = 1_000
_EXPIRE_NS_MAX = 253_402_214_400 * NS_PER_SECOND
"""9999-12-31 00:00:00 UTC: FIX, like Python, has no year 10,000."""


def _is_for_stops(kind: Kind) -> bool:
    return kind.ord_type in STOPS


def _can_hide(kind: Kind) -> bool:
    has_limit = kind.ord_type in (OrdType.LIMIT, OrdType.STOP_LIMIT)
    return has_limit and kind.time_in_force not in IMMEDIATE


def _trades_at_once(kind: Kind) -> bool:
    if kind.ord_type in STOPS or kind.post_only:
        return False
    return kind.time_in_force is not TimeInForce.OPG


def _is_good_till_date(kind: Kind) -> bool:
    return kind.time_in_force is TimeInForce.GTD


def _can_spend(kind: Kind) -> bool:
    buys_at_market = kind.ord_type is OrdType.MARKET and kind.side is Side.BUY
    return buys_at_market and kind.time_in_force is TimeInForce.IOC


def _has_limit(kind: Kind) -> bool:
    return kind.ord_type in (OrdType.LIMIT, OrdType.STOP_LIMIT)


_ALLOWED: dict[bytes, tuple[Callable[[Kind], bool], str]] = {
    TAG_PRICE: (_has_limit, "none on {}"),
    TAG_STOP_PX: (_is_for_stops, "none on {}"),
    TAG_MAX_FLOOR: (_can_hide, "none but on a limit or stop-limit order that can rest"),
    TAG_MIN_QTY: (_trades_at_once, "none but on a limit or market order that may trade at once"),
    TAG_EXPIRE_TIME: (_is_good_till_date, "none without TimeInForce (59) 6"),
    TAG_EXPIRE_DATE: (_is_good_till_date, "none without TimeInForce (59) 6"),
    TAG_CASH_ORDER_QTY: (_can_spend, "none but on a market order that buys, and is not FOK"),
}
"""Tag → the orders that may have it, and what is expected of the others."""

CONDITION_TAGS = (frozenset(_ALLOWED) - {TAG_PRICE}) | {*UNSUPPORTED_TAGS, *ONLY_VALUES}
"""A message without any of these, of a kind that needs none, has no conditions."""


def problem_of_combination(fields: Fields, kind: Kind) -> Problem | None:
    """Return the first field that does not go with the venue, the kind of order, or another one."""
    return (
        _problem_of_instruction(fields)
        or _problem_of_kind(fields, kind)
        or _problem_of_pair(fields)
    )


def _problem_of_instruction(fields: Fields) -> Problem | None:
    for tag in UNSUPPORTED_TAGS:
        if tag in fields:
            return not_supported(tag)
    for tag, (value, expected) in ONLY_VALUES.items():
        if fields.get(tag, value) != value:
            return unsupported(tag, expected, fields)
    return None


def _problem_of_kind(fields: Fields, kind: Kind) -> Problem | None:
    for tag, (is_allowed, expected) in _ALLOWED.items():
        if tag in fields and not is_allowed(kind):
            return unsupported(tag, expected.format(noun_of(kind)), fields)
    if TAG_MIN_QTY in fields and TAG_ORIG_CL_ORD_ID in fields:
        return unsupported(TAG_MIN_QTY, "none on a replace", fields)
    return None


def _problem_of_pair(fields: Fields) -> Problem | None:
    if TAG_CASH_ORDER_QTY in fields:
        for tag in (TAG_ORDER_QTY, TAG_MIN_QTY):
            if tag in fields:
                return unsupported(tag, "none beside CashOrderQty (152)", fields)
    if TAG_EXPIRE_TIME in fields and TAG_EXPIRE_DATE in fields:
        return unsupported(TAG_EXPIRE_DATE, "none beside ExpireTime (126)", fields)
    return None


class ConditionReader:
    """Read the conditions of orders whose kind allows them."""

    def __init__(self) -> None:
        self._timestamps = UtcTimestampReader()

    def read(
        self,
        fields: Fields,
        texts: SymbolTexts,
        kind: Kind,
        *,
        stop_ticks: int,
        qty_lots: int,
        cash: int,
        received_ns: int,
    ) -> OrderConditions | Problem:
        """Return an order's conditions, or the first thing that is wrong with them.

        Args:
            fields: of the message; ``problem_of_combination`` found nothing.
            texts: the symbol's rules and texts.
            kind: what the order is.
            stop_ticks, qty_lots, cash: what was read before; 0 = not given.
            received_ns: when the message came: nothing may expire before.
        """
        floor_lots = read_part(fields, texts, TAG_MAX_FLOOR, qty_lots)
        if isinstance(floor_lots, Problem):
            return floor_lots
        min_lots = read_part(fields, texts, TAG_MIN_QTY, qty_lots)
        if isinstance(min_lots, Problem):
            return min_lots
        expire_us = 0
        if kind.time_in_force is TimeInForce.GTD:
            expiry = self._read_expiry(fields, received_ns)
            if isinstance(expiry, Problem):
                return expiry
            expire_us = expiry
        return OrderConditions(stop_ticks, floor_lots, min_lots, expire_us, cash)

    def _read_expiry(self, fields: Fields, received_ns: int) -> int | Problem:
        tag = TAG_EXPIRE_DATE if TAG_EXPIRE_DATE in fields else TAG_EXPIRE_TIME
        text = fields.get(tag)
        if text is None:
            return absent(tag, "an order with TimeInForce (59) 6")
        try:
            if tag == TAG_EXPIRE_DATE:
                expire_ns = self._timestamps.read_ns(text + b"-00:00:00") + _NS_PER_DAY
            else:
                expire_ns = self._timestamps.read_ns(text)
        except ValueError:
            expire_ns = _EXPIRE_NS_MAX + 1
        if expire_ns > _EXPIRE_NS_MAX:
            expected = "a day of the calendar before 9999-12-31"
            return problem_of_value(tag, expected, fields, OrdRejReason.OTHER)
        if expire_ns <= received_ns:
            reason = OrdRejReason.TOO_LATE_TO_ENTER
            return problem_of_value(tag, "a time that has not passed", fields, reason)
        return expire_ns // _NS_PER_US
