"""engine.turn: the balance changes and open-order entries of one input."""

from __future__ import annotations

import pytest

from engine.events import BalanceChange
from engine.turn import AVAILABLE, BASE, HELD, PENDING, QUOTE, OpenUpdate, Turn
from tests.unit.test_engine_open_order import order


def test_changes_are_sorted_by_account_and_asset_without_empty_ones() -> None:
    turn = Turn(5)
    turn.moves(7)[QUOTE + AVAILABLE] += 3
    turn.moves(7)[BASE + HELD] -= 2
    turn.moves(2)[BASE + AVAILABLE] += 2
    turn.moves(2)[QUOTE + PENDING] -= 3
    turn.moves(4)[QUOTE + AVAILABLE] += 1
    turn.moves(4)[QUOTE + AVAILABLE] -= 1
    expected = [
        BalanceChange(2, "A", 2, 0, 0),
        BalanceChange(2, "B", 0, -3, 0),
        BalanceChange(7, "A", 0, 0, -2),
        BalanceChange(7, "B", 3, 0, 0),
    ]
    assert turn.changes("A", "B") == expected
    names = turn.changes("Z", "B")
    assert [(change.account, change.asset) for change in names] == [
        (2, "B"),
        (2, "Z"),
        (7, "B"),
        (7, "Z"),
    ]


@pytest.mark.parametrize("asset", [BASE, QUOTE])
def test_money_that_appears_is_a_bug(asset: int) -> None:
    turn = Turn(5)
    turn.moves(7)[asset + AVAILABLE] += 3
    with pytest.raises(AssertionError, match="only moves"):
        turn.changes("A", "B")


def test_opens_are_written_while_open_and_taken_away_when_done() -> None:
    turn = Turn(9)
    live, done, new = order(3, "live"), order(4, "done"), order(9, "new")
    done.leaves_qty_lots = new.leaves_qty_lots = 0
    for touched in (live, done, new):
        turn.touched[touched.order_id] = touched
    assert turn.opens() == [OpenUpdate(1, "live", live.text()), OpenUpdate(1, "done", None)]


def test_renamed_order_gives_up_its_entry_first() -> None:
    turn = Turn(9)
    renamed, ended = order(3, "old"), order(4, "gone")
    for touched, cl_ord_id in ((renamed, "new"), (ended, "never")):
        turn.rename(touched)
        touched.cl_ord_id = cl_ord_id
    ended.leaves_qty_lots = 0
    assert turn.opens() == [
        OpenUpdate(1, "old", None),
        OpenUpdate(1, "gone", None),
        OpenUpdate(1, "new", renamed.text()),
    ]
