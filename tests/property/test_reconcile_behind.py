"""What outputs say about balances and open orders is what applying their inputs does."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from ops.reconcile import without_holds
from ops.reconcile_replay import Behind, Replay
from tests.matching_world import SYMBOL
from tests.property.test_shard_conservation import KINDS_OF_STEPS, Step, outputs, steps_of
from tests.property.test_shard_skips import SkippingWorld

STEPS = steps_of([*KINDS_OF_STEPS, *["phase"] * 3])


def by_account(opens: dict[int, dict[str, str]]) -> dict[int, dict[str, str]]:
    """Return open orders without accounts that have none."""
    return {account: of for account, of in opens.items() if of}


@settings(max_examples=80, deadline=None)
@given(
    st.lists(STEPS, min_size=10, max_size=40),
    st.sets(st.integers(2, 40), max_size=5),
    st.integers(0, 40),
)
def test_stored_and_what_is_published_behind_it_give_the_present(
    steps: list[Step], skips: set[int], cut: int
) -> None:
    world = SkippingWorld(skips)
    list(outputs(world, steps))
    replay, behind = Replay({SYMBOL: world.skips}), Behind()
    stored_opens: dict[int, dict[str, str]] = {}
    stored_balances: dict[tuple[int, str], tuple[Decimal, Decimal]] = {}
    for seq, data in enumerate(world.commands, start=1):
        applied = replay.apply_entry(SYMBOL, seq, world.stamps[seq - 1], data)
        if seq <= cut:
            stored_opens = without_holds(replay.opens)
            stored_balances = {
                owner: (Decimal(available), Decimal(held))
                for owner, (available, held) in replay.owned.items()
            }
        else:
            behind.add(applied.output)
    assert by_account(behind.opens(stored_opens)) == by_account(without_holds(replay.opens))
    transfers = {(9, "EUR"): 5}
    now = behind.balances(stored_balances, transfers)
    assert now.pop((9, "EUR")) == (Decimal(5), Decimal(0))
    expected = {
        owner: (Decimal(available), Decimal(held))
        for owner, (available, held) in replay.owned.items()
        if available or held
    }
    assert {owner: amounts for owner, amounts in now.items() if any(amounts)} == expected
