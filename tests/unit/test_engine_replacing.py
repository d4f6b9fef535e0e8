"""engine.replacing: which refusal answers first, and what a plan comes to."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from engine.book import LimitBook
from engine.commands import OrderConditions
from engine.enums import CxlRejReason, OrdStatus, OrdType, Side
from engine.open_order import AccountOrders, OpenOrder
from engine.replacing import Replacement, ReplaceRefusal, conditions_after, plan_replace
from tests.matching_world import rules
from tests.unit.test_engine_checks import REPLACE
from tests.unit.test_engine_open_order import order

RULES = rules()


def resting() -> tuple[LimitBook[OpenOrder], OpenOrder]:
    """Return a book with a buy of 5 at 100, 2 of it filled, and an offer at 110."""
    book: LimitBook[OpenOrder] = LimitBook()
    found = order(2)
    found.leaves_qty_lots = 3
    found.fill(RULES, 100, 2, as_maker=True)
    book.rest(book.bids, 100, found)
    book.rest(book.asks, 110, order(3, "offer", Side.SELL))
    return book, found


def plan(*, id_used: bool = False, **changes: Any) -> Replacement | ReplaceRefusal:
    book, found = resting()
    before = book.state_hash(), found.content()
    command = msgspec.structs.replace(REPLACE, **{"reserved": 10_000} | changes)
    made = plan_replace(RULES, book, command, found, 1_000, id_used=id_used)
    assert (book.state_hash(), found.content()) == before, "planning changes nothing"
    return made


# Each is refused for its own reason and would be refused for all the later ones as well.
FAULTS: list[tuple[dict[str, Any], CxlRejReason, str]] = [
    ({"side": Side.SELL}, CxlRejReason.OTHER, "Side"),
    ({"rules_version": 9}, CxlRejReason.OTHER, "Rules"),
    ({"id_used": True}, CxlRejReason.DUPLICATE_CL_ORD_ID, "ClOrdID"),
    ({"qty_lots": 2}, CxlRejReason.TOO_LATE, "Too late"),
    ({"post_only": True, "price_ticks": 110}, CxlRejReason.OTHER, "Post-only"),
    ({"reserved": 0, "price_ticks": 110}, CxlRejReason.OTHER, "Reserved"),
]


@pytest.mark.parametrize("first", range(len(FAULTS)))
def test_refusals_have_an_order(first: int) -> None:
    changes: dict[str, Any] = {}
    for fault, _, _ in FAULTS[first:]:
        changes |= fault
    refusal = plan(**changes)
    assert isinstance(refusal, ReplaceRefusal)
    assert refusal.reason is FAULTS[first][1]
    assert refusal.text.startswith(FAULTS[first][2])


def test_unknown_and_done_orders_are_refused_before_all_else() -> None:
    book, found = resting()
    command = msgspec.structs.replace(REPLACE, side=Side.SELL, rules_version=9)
    unknown = plan_replace(RULES, book, command, None, 1_000, id_used=True)
    assert isinstance(unknown, ReplaceRefusal)
    assert unknown.reason is CxlRejReason.UNKNOWN_ORDER
    orders = AccountOrders()
    orders.open["c"] = found
    orders.close(found, OrdStatus.CANCELED)
    late = plan_replace(RULES, book, command, orders.done["c"], 1_000, id_used=True)
    assert isinstance(late, ReplaceRefusal)
    assert late.reason is CxlRejReason.TOO_LATE


@pytest.mark.parametrize(
    ("changes", "leaves_lots", "keeps"),
    [
        ({"qty_lots": 4}, 2, True),
        ({"qty_lots": 5}, 3, False),
        ({"qty_lots": 6}, 4, False),
        ({"qty_lots": 4, "price_ticks": 99}, 2, False),
        ({"qty_lots": 4, "post_only": True}, 2, True),
    ],
)
def test_only_less_at_the_same_price_keeps_the_place(
    changes: dict[str, Any], leaves_lots: int, keeps: bool
) -> None:
    made = plan(**changes)
    assert isinstance(made, Replacement)
    assert (made.leaves_lots, made.keeps_priority) == (leaves_lots, keeps)
    _, found = resting()
    assert made.hold == found.hold_for(RULES, changes.get("price_ticks", 100), leaves_lots)


@pytest.mark.parametrize(
    ("given", "expected"),
    [(None, 105), (OrderConditions(max_floor_lots=1), 105), (OrderConditions(stop_ticks=104), 104)],
)
def test_stop_limit_has_the_stop_price_of_its_replace_or_keeps_its_own(
    given: OrderConditions | None, expected: int
) -> None:
    found = order(2)
    found.ord_type, found.conditions = OrdType.STOP_LIMIT, OrderConditions(stop_ticks=105)
    command = msgspec.structs.replace(REPLACE, ord_type=OrdType.STOP_LIMIT, conditions=given)
    after = conditions_after(command, found)
    assert after is not None and after.stop_ticks == expected


def test_replace_that_takes_conditions_away_says_so() -> None:
    found = order(2)
    assert conditions_after(REPLACE, found) is None
    found.conditions = OrderConditions(max_floor_lots=1)
    assert conditions_after(REPLACE, found) == OrderConditions()
    found.ord_type, found.conditions = OrdType.STOP_LIMIT, OrderConditions(stop_ticks=105)
    assert conditions_after(REPLACE, found) == OrderConditions(), "it is a limit order now"
