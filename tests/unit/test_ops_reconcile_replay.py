"""ops.reconcile_replay: a replay says what inputs brought, and so do their outputs."""

from __future__ import annotations

import pytest

from engine.commands import CancelOrder, encode_command
from engine.enums import Side
from engine.errors import DecodeError, SequenceGap
from engine.shard import Shard
from ops import reconcile
from ops.reconcile_replay import Replay
from tests.matching_world import SYMBOL
from tests.unit.test_engine_shard import DEFINE
from tests.unit.test_ops_reconcile import RULES, new_order


def test_a_replay_says_what_accounts_own_and_have_open() -> None:
    replay, buy = Replay(), new_order(Side.BUY)
    replay.apply(SYMBOL, 1, 50, DEFINE)
    applied = replay.apply(SYMBOL, 2, 60, buy)
    owner, name = (7, RULES.quote), f"{SYMBOL}|a"
    assert replay.owned == {owner: [-buy.reserved, buy.reserved]}
    assert replay.opens == {7: {name: applied.opens[0].value}}
    assert replay.best_prices(SYMBOL) == "100 0 2"
    expected = reconcile.expected_balances(replay.owned, {owner: 10**9, (8, "X"): 4})
    assert expected == {owner: (10**9 - buy.reserved, buy.reserved), (8, "X"): (4, 0)}
    with pytest.raises(SequenceGap):
        replay.apply(SYMBOL, 4, 70, buy)
    replay.apply(SYMBOL, 3, 70, CancelOrder(7, 1, 3, "c", "a", 0))
    assert (replay.owned, replay.opens) == ({owner: [0, 0]}, {7: {}})


def test_a_replay_passes_over_what_is_skipped() -> None:
    replay, buy = Replay({SYMBOL: {3: "why"}}), new_order(Side.BUY)
    replay.apply_entry(SYMBOL, 1, 50, encode_command(DEFINE))
    replay.apply_entry(SYMBOL, 2, 60, encode_command(buy))
    before = {owner: list(amounts) for owner, amounts in replay.owned.items()}
    replay.apply_entry(SYMBOL, 3, 60, encode_command(new_order(Side.SELL, account=8)))
    assert replay.owned == {**before, (8, RULES.base): [0, 0]}
    with pytest.raises(DecodeError):
        replay.apply_entry(SYMBOL, 4, 60, b"garbage")


def test_a_replay_goes_on_from_a_state() -> None:
    whole, half = Replay(), Replay()
    for replay in (whole, half):
        replay.apply(SYMBOL, 1, 50, DEFINE)
        replay.apply(SYMBOL, 2, 60, new_order(Side.BUY))
    restored = Replay()
    restored.restore(SYMBOL, half.shard.state(SYMBOL))
    assert (restored.opens, restored.owned) == (whole.opens, {})
    for replay in (whole, restored):
        replay.apply(SYMBOL, 3, 70, new_order(Side.SELL, qty=2, account=8))
    assert restored.opens == whole.opens
    assert restored.best_prices(SYMBOL) == whole.best_prices(SYMBOL)


def test_a_state_that_contradicts_itself_is_refused() -> None:
    shard = Shard()
    shard.apply(SYMBOL, 1, 50, DEFINE)
    shard.apply(SYMBOL, 2, 60, new_order(Side.BUY))
    state = shard.state(SYMBOL)
    (order,) = state.matcher.book.orders.values()
    order.hold += 1
    with pytest.raises(AssertionError, match="holds"):
        Replay().restore(SYMBOL, state)
