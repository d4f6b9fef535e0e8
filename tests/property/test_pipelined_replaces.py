"""Chains of replaces sent ahead of every answer: what they reserve is enough, and not too much.

A gateway reserves for each as if those before it had been taken (`gateway/reservations.py`); others
trade with the order meanwhile, and some of the chain are refused. `World` counts the money and the
holds after every input.
"""

from __future__ import annotations

from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from engine.commands import NewOrder, ReplaceOrder, decode_command
from engine.enums import Side, TimeInForce
from engine.events import CancelRejected, OrderReplaced
from gateway.reservations import KnownOrder, expected_of, settled_as
from tests.matching_world import World, rules

OWNER, OTHER = 1, 2
RATES = [0, 333, 20_000, 1_000_000]


class Link(NamedTuple):
    """One replace: its terms, which ClOrdID of the chain it names, and what trades before it."""

    price_ticks: int
    qty_lots: int
    back: int
    traded_lots: int


LINKS = st.lists(
    st.builds(
        Link,
        st.integers(90, 110),
        st.integers(1, 60),
        st.sampled_from([1, 1, 1, 1, 2, 3]),
        st.sampled_from([0, 0, 0, 1, 7]),
    ),
    min_size=1,
    max_size=12,
)


def expected_after(world: World, replaced: KnownOrder | None) -> KnownOrder:
    """Return what a gateway expects of the command that the world got last."""
    command = decode_command(world.commands[-1])
    assert isinstance(command, NewOrder | ReplaceOrder)
    return expected_of(command, world.rules, replaced)


@given(
    side=st.sampled_from(Side),
    links=LINKS,
    ppm=st.sampled_from(RATES),
    later_ppm=st.sampled_from(RATES),
    is_read=st.booleans(),
)
def test_chain_on_its_way_reserves_enough_and_not_too_much(
    side: Side, links: list[Link], ppm: int, later_ppm: int, is_read: bool
) -> None:
    world = World(rules(maker_ppm=ppm // 2, taker_ppm=ppm))
    world.new(OWNER, "r0", side, 30, 100)
    chain = [expected_after(world, None)]
    # Open orders keep the rates that they were accepted under.
    world.change_rules(rules(maker_ppm=later_ppm // 2, taker_ppm=later_ppm, version=2))
    for number, link in enumerate(links, 1):
        if link.traded_lots:
            trade_against(world, f"t{number}", side, link.traded_lots)
        orig = max(0, number - link.back)
        # The first may have been answered: then it is read, and what is filled of it is known.
        found = world.open_order(OWNER, "r0") if is_read and not orig else None
        known = settled_as(found) if found is not None else chain[orig]
        names = (OWNER, f"r{number}", f"r{orig}")
        command = world.replacing(*names, side, link.qty_lots, link.price_ticks, expected=known)
        before = world.open_order(OWNER, f"r{orig}")
        (event, *_) = [e for e in world.apply(command).events if e.account == OWNER]
        chain.append(expected_after(world, known))
        if isinstance(event, CancelRejected):
            assert not event.text.startswith("Reserved"), "what was reserved is enough"
            continue
        assert isinstance(event, OrderReplaced) and before is not None
        if before.cum_lots == known.order.cum_lots:
            read = world.replacing(*names, side, link.qty_lots, link.price_ticks, found=before)
            assert command.reserved == read.reserved, "as if the order could have been read"
    assert all(state.order.leaves_lots >= 0 for state in chain)


def trade_against(world: World, cl_ord_id: str, side: Side, lots: int) -> None:
    """Have another account trade with the chain's order, wherever its price is by now."""
    opposite, at = (Side.SELL, 1) if side is Side.BUY else (Side.BUY, 200)
    world.new(OTHER, cl_ord_id, opposite, lots, at, time_in_force=TimeInForce.IOC)
