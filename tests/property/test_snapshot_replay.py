"""A snapshot anywhere in a random history: what follows gives the same bytes as without it."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from engine.commands import decode_command
from engine.instrument import SymbolRules
from engine.settlement import encode_settlement
from engine.shard import Shard
from engine.snapshot import decode_snapshot, encode_snapshot
from tests.matching_world import SYMBOL, World
from tests.property.test_shard_conservation import RULES, STEPS, Step, outputs


@settings(max_examples=100, deadline=None)
@given(
    RULES,
    st.lists(STEPS, min_size=10, max_size=50),
    st.sets(st.integers(1, 50), min_size=1, max_size=4),
)
def test_snapshot_and_the_rest_is_the_whole(
    symbol_rules: SymbolRules, steps: list[Step], cuts: set[int]
) -> None:
    world = World(symbol_rules)
    for _ in outputs(world, steps):
        pass
    shard = Shard()
    for seq, (data, settlement) in enumerate(
        zip(world.commands, world.settlements, strict=True), start=1
    ):
        applied = shard.apply(SYMBOL, seq, world.stamps[seq - 1], decode_command(data))
        assert encode_settlement(applied) == settlement
        if seq in cuts:
            snapshot = encode_snapshot(SYMBOL, shard.state(SYMBOL))
            symbol, state = decode_snapshot(snapshot, name="test")
            shard = Shard()
            shard.restore_symbol(symbol, state)
            shard.check_invariants()
    assert shard.state_hash(SYMBOL) == world.shard.state_hash(SYMBOL)
