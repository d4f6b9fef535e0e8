"""engine.shard: sequence, definition, and a state that a digest tells apart."""

from __future__ import annotations

import msgspec
import pytest

from engine.commands import CancelAll, DefineSymbol
from engine.enums import Side
from engine.errors import SequenceGap
from engine.events import SymbolDefined
from engine.shard import Shard
from tests.matching_world import SYMBOL, World, rules

DEFINE = DefineSymbol("0123456789abcdef", rules())


def test_first_input_defines_the_symbol() -> None:
    shard = Shard()
    assert shard.position(SYMBOL) == 0
    applied = shard.apply(SYMBOL, 1, 50, DEFINE)
    assert applied.output.events == [SymbolDefined(0, "0123456789abcdef", rules())]
    assert (applied.output.symbol, applied.output.seq, applied.output.ts_us) == (SYMBOL, 1, 50)
    assert (applied.output.changes, applied.opens) == ([], [])
    assert (applied.best_bid_ticks, applied.best_ask_ticks) == (0, 0)
    assert (shard.symbols(), shard.position(SYMBOL)) == ([SYMBOL], 1)


@pytest.mark.parametrize("seq", [0, 1, 3])
def test_input_out_of_sequence_changes_nothing(seq: int) -> None:
    shard = Shard()
    shard.apply(SYMBOL, 1, 50, DEFINE)
    before = shard.state_hash(SYMBOL)
    with pytest.raises(SequenceGap, match="expected seq 2") as caught:
        shard.apply(SYMBOL, seq, 60, CancelAll(1))
    assert (caught.value.expected_seq, caught.value.received_seq) == (2, seq)
    assert shard.state_hash(SYMBOL) == before


def test_what_must_not_stand_in_a_stream_stops_the_shard() -> None:
    shard = Shard()
    with pytest.raises(AssertionError, match="defines it"):
        shard.apply(SYMBOL, 1, 50, CancelAll(1))
    with pytest.raises(AssertionError, match="not defined as"):
        shard.apply("PIG-EUR", 1, 50, DEFINE)
    with pytest.raises(AssertionError, match="version 1"):
        shard.apply(SYMBOL, 1, 50, DefineSymbol("x", rules(version=2)))
    shard.apply(SYMBOL, 1, 50, DEFINE)
    with pytest.raises(AssertionError, match="one home"):
        shard.apply(SYMBOL, 2, 50, DefineSymbol("other", rules(version=2)))
    shard = Shard()
    shard.apply(SYMBOL, 1, 50, DEFINE)
    with pytest.raises(AssertionError, match="stamps never fall"):
        shard.apply(SYMBOL, 2, 49, CancelAll(1))


def test_rules_change_in_the_stream() -> None:
    world = World()
    changed = rules(version=2, maker_ppm=0)
    assert world.change_rules(changed).events == [SymbolDefined(0, "0123456789abcdef", changed)]
    assert world.shard.matcher(SYMBOL).rules == changed


def test_best_prices_are_those_after_the_input() -> None:
    world = World()
    world.new(1, "a1", Side.BUY, 5, 100)
    world.new(2, "b1", Side.SELL, 5, 110)
    assert world.best == (100, 110)
    world.new(2, "b2", Side.SELL, 5, 100)
    assert world.best == (0, 110)


def test_state_hash_tells_states_apart() -> None:
    def hash_after(*steps: str) -> str:
        world = World()
        for step in steps:
            if step == "cancel":
                world.cancel(1, "x", "a")
            else:
                world.new(1, step, Side.BUY, 5, 100)
        return world.shard.state_hash(SYMBOL)

    hashes = [hash_after(*steps) for steps in ((), ("a",), ("b",), ("a", "cancel"), ("a", "b"))]
    assert len(dict.fromkeys(hashes)) == len(hashes)
    assert hash_after("a", "b") == hashes[-1]


def test_broken_hold_is_found() -> None:
    world = World()
    world.new(1, "a1", Side.BUY, 5, 100)
    world.shard.matcher(SYMBOL).accounts[1].open["a1"].hold += 1
    with pytest.raises(AssertionError, match="holds"):
        world.shard.check_invariants()


def test_symbols_have_states_of_their_own() -> None:
    world = World()
    world.new(1, "a1", Side.BUY, 5, 100)
    before = world.shard.state_hash(SYMBOL)
    other = msgspec.structs.replace(rules(), symbol="PIG-EUR")
    world.shard.apply("PIG-EUR", 1, 1, DefineSymbol("x", other))
    assert world.shard.state_hash(SYMBOL) == before
    assert world.shard.symbols() == [SYMBOL, "PIG-EUR"]
