"""Messages with PossResend=Y that came before: whatever they are, and whenever they come again,
they leave what a Tick would leave in their place, and tell how their order stands.
"""

from __future__ import annotations

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.commands import (
    CancelOrder,
    NewOrder,
    QueryOrder,
    ReplaceOrder,
    ResentRefusal,
    Tick,
    decode_command,
)
from engine.enums import OrdRejReason, Side
from engine.events import Event, OrderStatusReported
from tests.matching_world import SYMBOL, World
from tests.property.test_shard_conservation import KINDS_OF_STEPS, Step, outputs, steps_of

Resent = NewOrder | CancelOrder | ReplaceOrder

STEPS = st.lists(steps_of([*KINDS_OF_STEPS, "phase"]), min_size=10, max_size=40)
PICKS = st.lists(st.none() | st.integers(1, 60), min_size=1, max_size=40)


def come_again(world: World, place: int) -> Resent | QueryOrder | None:
    """Return an earlier command as it would come again; None where nothing is known of it."""
    command = decode_command(world.commands[place])
    if not isinstance(command, Resent):
        return None
    orders = world.shard.matcher(SYMBOL).accounts.get(command.account)
    if orders is None or not orders.has_used(command.cl_ord_id):
        return None
    again = msgspec.structs.replace(command, poss_resend=True)
    if world.can_reserve(again):
        return again
    # What admission publishes in its stead.
    refusal = ResentRefusal(OrdRejReason.EXCEEDS_LIMIT, "no money")
    return QueryOrder(command.account, 0, 0, command.cl_ord_id, 0, Side.BUY, "", refusal)


def without_places(events: list[Event]) -> list[Event]:
    """Return events as if each stood first in its output."""
    return [msgspec.structs.replace(event, index=0) for event in events]


@settings(max_examples=60, deadline=None)
@given(STEPS, PICKS)
def test_what_came_before_does_nothing_when_it_comes_again(
    steps: list[Step], picks: list[int | None]
) -> None:
    world = World()
    resent: dict[int, list[Event]] = {}
    for number, _ in enumerate(outputs(world, steps)):
        pick = picks[number % len(picks)]
        again = None if pick is None else come_again(world, pick % len(world.commands))
        if again is not None:
            events = world.apply(again).events
            answers = [event for event in events if isinstance(event, OrderStatusReported)]
            assert [(one.cl_ord_id, bool(one.order_seq)) for one in answers] == [
                (again.cl_ord_id, True)
            ]
            resent[len(world.commands)] = [one for one in events if one not in answers]
    other = World()
    for seq, (data, ts_us) in enumerate(zip(world.commands, world.stamps, strict=True), 1):
        if seq == 1:
            continue
        other.ts_us = ts_us - 1_000
        output = other.apply(Tick() if seq in resent else decode_command(data))
        if seq in resent:
            assert without_places(output.events) == without_places(resent[seq])
    assert all(other.balance(*key) == found for key, found in world.balances.items())
    assert (other.opens, other.best) == (world.opens, world.best)
    assert other.shard.state_hash(SYMBOL) == world.shard.state_hash(SYMBOL)
