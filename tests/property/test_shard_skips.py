"""Random commands, some of them skipped: money and books stay right, and a replay agrees.

`World` checks conservation, balances, holds and invariants after every input, skipped or not.
"""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from engine.commands import Command, decode_command, encode_command
from engine.events import CancelRejected, OrderRejected, Output, Skipped
from engine.settlement import encode_settlement
from engine.shard import Shard
from tests.matching_world import SYMBOL, World
from tests.property.test_shard_conservation import STEPS, Step, outputs

WHY = "trips an assertion"


class SkippingWorld(World):
    """A world in which the inputs of some numbers are skipped."""

    def __init__(self, wanted: set[int]) -> None:
        self.wanted = wanted
        super().__init__()

    def apply(self, command: Command) -> Output:
        """Apply a command, or skip it, with nothing but its reservation moved."""
        if len(self.commands) + 1 not in self.wanted:
            return super().apply(command)
        matcher = self.shard.matcher(SYMBOL)
        book, opens = matcher.content(), dict(self.opens)
        balances = {key: list(amounts) for key, amounts in self.balances.items()}
        output = self.skip(encode_command(command), WHY)
        assert (matcher.content(), self.opens) == (book, opens)
        assert {key: self.balances[key] for key in balances} == balances
        (event,) = output.events
        assert isinstance(event, Skipped)
        answers = event.answer is None or (event.answer.account, event.answer.index) == (
            event.account,
            event.index,
        )
        assert answers, "the answer goes to the sender, under the event's own number"
        if isinstance(event.answer, OrderRejected | CancelRejected):
            assert event.answer.cl_ord_id == event.cl_ord_id
        return output


@settings(max_examples=100, deadline=None)
@given(
    st.lists(STEPS, min_size=10, max_size=40),
    st.sets(st.integers(2, 40), max_size=12),
    st.binary(max_size=8),
)
def test_skips_move_nothing_but_reservations_and_the_shard_goes_on(
    steps: list[Step], wanted: set[int], garbage: bytes
) -> None:
    world = SkippingWorld(wanted)
    for number, _ in enumerate(outputs(world, steps)):
        if number == len(steps) // 2:
            world.skip(b"\xc1" + garbage, WHY)
    shard = Shard()
    for seq, (data, settlement) in enumerate(
        zip(world.commands, world.settlements, strict=True), start=1
    ):
        if seq in world.skips:
            applied = shard.skip(SYMBOL, seq, world.stamps[seq - 1], data, world.skips[seq])
        else:
            applied = shard.apply(SYMBOL, seq, world.stamps[seq - 1], decode_command(data))
        assert encode_settlement(applied) == settlement
    assert shard.state_hash(SYMBOL) == world.shard.state_hash(SYMBOL)
