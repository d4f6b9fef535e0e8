"""engine.conditions: the cases that the text tables do not show."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from engine.commands import OrderConditions
from engine.conditions import check_new_conditions, check_replaced_conditions
from engine.enums import OrdRejReason, OrdType, Side, TimeInForce
from engine.open_order import OpenOrder
from tests.unit.test_engine_checks import NOW_US, ORDER, REPLACE, RULES

LIMIT, MARKET, STOP, STOP_LIMIT = OrdType.LIMIT, OrdType.MARKET, OrdType.STOP, OrdType.STOP_LIMIT
DAY, GTC, GTD, IOC, OPG = (
    *(TimeInForce.DAY, TimeInForce.GTC, TimeInForce.GTD, TimeInForce.IOC, TimeInForce.OPG),
)
STOP_AT = OrderConditions(stop_ticks=101)
TILL = OrderConditions(expire_us=NOW_US + 1)


@pytest.mark.parametrize(
    "terms",
    [
        *[(STOP, tif, STOP_AT) for tif in (DAY, GTC)],
        (STOP, GTD, OrderConditions(stop_ticks=101, expire_us=NOW_US + 1)),
        (STOP_LIMIT, DAY, OrderConditions(stop_ticks=1_000, max_floor_lots=5)),
        *[(LIMIT, tif, OrderConditions(max_floor_lots=1)) for tif in (DAY, GTC, OPG)],
        *[(LIMIT, tif, OrderConditions(min_qty_lots=5)) for tif in (DAY, GTC, IOC)],
        (LIMIT, GTD, TILL),
        (LIMIT, OPG, None),
        (MARKET, IOC, OrderConditions(min_qty_lots=5)),
        (MARKET, IOC, OrderConditions(cash=1)),
    ],
)
def test_what_goes_together_passes(
    terms: tuple[OrdType, TimeInForce, OrderConditions | None],
) -> None:
    ord_type, time_in_force, conditions = terms
    order = msgspec.structs.replace(
        ORDER, ord_type=ord_type, time_in_force=time_in_force, conditions=conditions
    )
    assert check_new_conditions(RULES, order, NOW_US) is None


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"ord_type": STOP, "time_in_force": GTC}, OrdRejReason.UNSUPPORTED_CHARACTERISTIC),
        ({"time_in_force": OPG, "ord_type": STOP_LIMIT, "conditions": STOP_AT}, 11),
        ({"conditions": STOP_AT}, 11),
        ({"time_in_force": GTD}, 11),
        ({"conditions": TILL}, 11),
        ({"time_in_force": GTD, "conditions": OrderConditions(expire_us=NOW_US)}, 4),
        ({"time_in_force": GTD, "conditions": OrderConditions(expire_us=-5)}, 4),
        ({"conditions": OrderConditions(max_floor_lots=6)}, 13),
        ({"conditions": OrderConditions(min_qty_lots=6)}, 13),
        ({"conditions": OrderConditions(cash=9), "side": Side.SELL}, 11),
        ({"ord_type": STOP, "conditions": OrderConditions(stop_ticks=1_001)}, 99),
        ({"ord_type": STOP, "conditions": STOP_AT, "post_only": True}, 11),
        ({"ord_type": STOP_LIMIT, "conditions": STOP_AT, "post_only": True}, 11),
    ],
)
def test_what_does_not_is_refused(changes: dict[str, Any], reason: int) -> None:
    refusal = check_new_conditions(RULES, msgspec.structs.replace(ORDER, **changes), NOW_US)
    assert refusal is not None
    assert refusal.reason == reason


def open_order(ord_type: OrdType, *, waits: bool) -> OpenOrder:
    """Return an open order of a type."""
    conditions = None if ord_type is LIMIT else STOP_AT
    made = OpenOrder(
        2, msgspec.structs.replace(ORDER, ord_type=ord_type, conditions=conditions), RULES, 5_100
    )
    made.waits = waits
    return made


@pytest.mark.parametrize(
    ("ord_type", "waits", "to", "conditions", "passes"),
    [
        (LIMIT, False, LIMIT, None, True),
        (LIMIT, False, STOP_LIMIT, STOP_AT, False),
        (LIMIT, False, MARKET, None, False),
        (STOP, True, STOP, OrderConditions(stop_ticks=99), True),
        (STOP, True, STOP_LIMIT, OrderConditions(stop_ticks=99, max_floor_lots=2), True),
        (STOP, True, STOP, None, False),
        (STOP, True, LIMIT, STOP_AT, False),
        (STOP_LIMIT, False, STOP_LIMIT, None, True),
        (STOP_LIMIT, False, STOP_LIMIT, STOP_AT, True),
        (STOP_LIMIT, False, LIMIT, None, True),
        (STOP_LIMIT, False, LIMIT, STOP_AT, False),
        (LIMIT, False, LIMIT, OrderConditions(min_qty_lots=1), False),
        (LIMIT, False, LIMIT, OrderConditions(cash=1), False),
        (LIMIT, False, LIMIT, OrderConditions(max_floor_lots=5), True),
        (LIMIT, False, LIMIT, TILL, False),
    ],
)
def test_replace_fits_what_the_order_is(
    ord_type: OrdType, waits: bool, to: OrdType, conditions: OrderConditions | None, passes: bool
) -> None:
    command = msgspec.structs.replace(REPLACE, ord_type=to, conditions=conditions)
    found = open_order(ord_type, waits=waits)
    assert (check_replaced_conditions(RULES, command, found, NOW_US) is None) == passes
