"""What an order is, apart from how much at which price: its side, type, time and post-only. Pure.

A message that names a combination of 54, 40, 59 and 18 finds it in a table; whatever is not in a
table is refused with what is wrong.
"""

from __future__ import annotations

from itertools import product
from typing import NamedTuple

from engine.enums import OrdType, Side, TimeInForce
from gateway.fix_tags import TAG_EXEC_INST, TAG_ORD_TYPE, TAG_SIDE, TAG_TIME_IN_FORCE
from gateway.order_values import Fields, unsupported
from gateway.refusals import SIDES, Problem

IMMEDIATE = (TimeInForce.IOC, TimeInForce.FOK)
STOPS = (OrdType.STOP, OrdType.STOP_LIMIT)

_ORD_TYPES = {b"%d" % ord_type: ord_type for ord_type in OrdType}
_TIMES_IN_FORCE = {b"%d" % time: time for time in TimeInForce}
_POST_ONLY = b"6"
_NOUNS = {
    OrdType.MARKET: "a market order",
    OrdType.LIMIT: "a limit order",
    OrdType.STOP: "a stop order",
    OrdType.STOP_LIMIT: "a stop-limit order",
}


class Kind(NamedTuple):
    """What an order is, apart from how much at which price."""

    side: Side
    ord_type: OrdType
    time_in_force: TimeInForce
    post_only: bool


_Key = tuple[bytes | None, ...]


def key_of(fields: Fields) -> _Key:
    """Return the values of 54, 40, 59 and 18, by which ``KINDS`` is asked."""
    get = fields.get
    return get(TAG_SIDE), get(TAG_ORD_TYPE), get(TAG_TIME_IN_FORCE), get(TAG_EXEC_INST)


def _problem_of(kind: Kind) -> tuple[bytes, str] | None:
    """Return the tag that makes a combination impossible, and what is expected of it."""
    ord_type, time = kind.ord_type, kind.time_in_force
    noun = _NOUNS[ord_type]
    if ord_type is OrdType.MARKET and time in (TimeInForce.OPG, TimeInForce.GTD):
        return TAG_TIME_IN_FORCE, f"3 (IOC) or 4 (FOK) on {noun}"
    if ord_type in STOPS and (time in IMMEDIATE or time is TimeInForce.OPG):
        return TAG_TIME_IN_FORCE, f"0 (day), 1 (GTC) or 6 (GTD) on {noun}"
    if not kind.post_only:
        return None
    if ord_type is not OrdType.LIMIT:
        return TAG_EXEC_INST, f"none on {noun}"
    if time in IMMEDIATE:
        return TAG_EXEC_INST, "none on an IOC or FOK order"
    if time is TimeInForce.OPG:
        return TAG_EXEC_INST, "none on an order for the opening"
    return None


def _good_kinds() -> dict[_Key, Kind]:
    """Return every combination of 54, 40, 59 and 18 that is possible.

    A market order gets TimeInForce IOC unless it asks for FOK.
    """
    kinds: dict[_Key, Kind] = {}
    times = [(None, TimeInForce.DAY), *_TIMES_IN_FORCE.items()]
    combinations = product(SIDES.items(), _ORD_TYPES.items(), times, (None, _POST_ONLY))
    for (side_text, side), (type_text, ord_type), (time_text, time), inst in combinations:
        kind = Kind(side, ord_type, time, inst is not None)
        if _problem_of(kind) is not None:
            continue
        if ord_type is OrdType.MARKET and time is not TimeInForce.FOK:
            kind = kind._replace(time_in_force=TimeInForce.IOC)
        kinds[side_text, type_text, time_text, inst] = kind
    return kinds


KINDS = _good_kinds()
"""Every order that is possible, by ``key_of`` its message."""

PLAIN_KINDS = {
    key: kind
    for key, kind in KINDS.items()
    if kind.ord_type not in STOPS and kind.time_in_force is not TimeInForce.GTD
}
"""Those that need no condition, such as a stop price."""


def problem_of_kind(fields: Fields) -> Problem:
    """Return the first thing that keeps 54, 40, 59 and 18 from being one of ``KINDS``."""
    if fields[TAG_SIDE] not in SIDES:
        return unsupported(TAG_SIDE, "1 (buy) or 2 (sell)", fields)
    ord_type = _ORD_TYPES.get(fields[TAG_ORD_TYPE])
    if ord_type is None:
        expected = "1 (market), 2 (limit), 3 (stop) or 4 (stop-limit)"
        return unsupported(TAG_ORD_TYPE, expected, fields)
    time = _TIMES_IN_FORCE.get(fields.get(TAG_TIME_IN_FORCE, b"0"))
    if time is None:
        expected = "0 (day), 1 (GTC), 2 (at the opening), 3 (IOC), 4 (FOK) or 6 (GTD)"
        return unsupported(TAG_TIME_IN_FORCE, expected, fields)
    inst = fields.get(TAG_EXEC_INST)
    if inst not in (None, _POST_ONLY):
        return unsupported(TAG_EXEC_INST, "6 (post-only)", fields)
    problem = _problem_of(Kind(Side.BUY, ord_type, time, inst is not None))
    assert problem is not None, "Invariant: what is not in the table is impossible"
    tag, expected = problem
    return unsupported(tag, expected, fields)


def noun_of(kind: Kind) -> str:
    """Return what a kind of order is called in a refusal."""
    return _NOUNS[kind.ord_type]
