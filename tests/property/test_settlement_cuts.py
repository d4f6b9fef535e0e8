"""Whatever a shard did, committing it in any cuts, with repetitions, has one outcome in Redis."""

from __future__ import annotations

import asyncio

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.commands import CancelOrder, Command, DefineSymbol, NewOrder, ReplaceOrder
from engine.enums import OrdType, SelfTradePrevention, Side, TimeInForce
from engine.settlement import Settlement, encode_settlement
from engine.shard import Shard
from router import keys
from router.commit import Committer
from router.lease import Lease
from tests.router_helpers import BTC, SmallVenue, make_link, make_rules, small_venue

ACCOUNTS = (1, 2, 3)
RULES = make_rules(maker_fee_ppm=1_000, taker_fee_ppm=3_000)
MONEY = 10**12

new_orders = st.builds(
    lambda account, side, tif, price, lots: ("new", account, side, tif, price, lots),
    st.sampled_from(ACCOUNTS),
    st.sampled_from(Side),
    st.sampled_from((TimeInForce.GTC, TimeInForce.IOC, TimeInForce.FOK)),
    st.integers(95, 105),
    st.integers(1, 9),
)
requests = st.builds(
    lambda kind, account, target, price, lots: (kind, account, target, price, lots),
    st.sampled_from(("cancel", "replace")),
    st.sampled_from(ACCOUNTS),
    st.integers(1, 30),
    st.integers(95, 105),
    st.integers(1, 9),
)


def to_command(number: int, drawn: tuple[object, ...]) -> Command:
    """Return the command; what it asks for may make no sense, which the shard must answer."""
    kind, account, *rest = drawn
    assert isinstance(account, int)
    name = f"C{number}"
    if kind == "new":
        side, tif, price, lots = rest
        assert isinstance(side, Side) and isinstance(tif, TimeInForce)
        assert isinstance(price, int) and isinstance(lots, int)
        held = RULES.hold_of(side, price, lots)
        limit, stp = OrdType.LIMIT, SelfTradePrevention.CANCEL_OLDEST
        return NewOrder(
            account, 1, number, name, side, limit, tif, False, stp, price, lots, 1, held
        )
    target, price, lots = rest
    assert isinstance(price, int) and isinstance(lots, int)
    if kind == "cancel":
        return CancelOrder(account, 1, number, name, f"C{target}", 0)
    side = Side.BUY
    held = RULES.hold_of(side, price, lots)
    return ReplaceOrder(
        account,
        1,
        number,
        name,
        f"C{target}",
        0,
        side,
        OrdType.LIMIT,
        TimeInForce.GTC,
        False,
        price,
        lots,
        1,
        held,
    )


async def begin(venue: SmallVenue, commands: list[Command]) -> tuple[Committer, list[Settlement]]:
    """Reserve as admission does, apply everything, and return what is to be committed."""
    lease = Lease(venue.new_link(1), owner="engine-1", ttl_ms=60_000)
    assert await lease.try_acquire() is None
    for account in ACCOUNTS:
        for asset in (RULES.base, RULES.quote):
            await venue.give(account, asset, MONEY)
    shard = Shard()
    applied = [shard.apply(BTC, 1, 1, DefineSymbol("x", RULES))]
    for seq, command in enumerate(commands, 2):
        if isinstance(command, NewOrder | ReplaceOrder):
            asset, key = RULES.hold_asset(command.side), keys.balances(command.account)
            amount = command.reserved
            await venue.link.pipeline(
                [
                    ("HINCRBY", key, keys.available(asset), -amount),
                    ("HINCRBY", key, keys.pending(asset), amount),
                ]
            )
        applied.append(shard.apply(BTC, seq, seq, command))
    return Committer(venue.link, lease, venue.shard_homes(1)), [
        encode_settlement(one) for one in applied
    ]


async def outcome(venue: SmallVenue) -> object:
    link = venue.link
    return (
        [sorted(await link.call("HGETALL", keys.balances(a))) for a in (0, *ACCOUNTS)],
        [sorted(await link.call("HGETALL", keys.open_orders(a))) for a in ACCOUNTS],
        [await venue.stream(keys.outbox(a)) for a in ACCOUNTS],
        await venue.stream(keys.events(BTC), db=1),
        await link.call("HGETALL", keys.SETTLED),
        await link.call("HGETALL", keys.BBO),
    )


async def compare(url: str, commands: list[Command], cuts: list[tuple[int, int]]) -> None:
    outcomes = []
    for one_by_one in (True, False):
        async with make_link(url) as link:
            await link.call("FLUSHALL")
        async with small_venue(url, {BTC: RULES}) as venue:
            committer, entries = await begin(venue, commands)
            if one_by_one:
                for entry in entries:
                    await committer.commit([entry])
            done = 0
            # Each cut begins somewhere in what is done and ends somewhere behind it.
            for back, forth in cuts:
                first, end = max(0, done - back), min(len(entries), done + forth)
                await committer.commit(entries[first:end] or entries[:1])
                done = max(done, end)
            await committer.commit(entries)
            outcomes.append(await outcome(venue))
            for asset in (RULES.base, RULES.quote):
                parts = [await venue.balance(account, asset) for account in (0, *ACCOUNTS)]
                assert sum(map(sum, parts)) == MONEY * len(ACCOUNTS)
                assert all(pending == 0 for _, pending, _ in parts)
    assert outcomes[0] == outcomes[1]


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    drawn=st.lists(st.one_of(new_orders, new_orders, requests), min_size=1, max_size=30),
    cuts=st.lists(st.tuples(st.integers(0, 8), st.integers(1, 8)), max_size=8),
)
def test_any_cuts_have_the_outcome_of_one_by_one(
    redis_url: str, drawn: list[tuple[object, ...]], cuts: list[tuple[int, int]]
) -> None:
    commands = [to_command(number, one) for number, one in enumerate(drawn, 1)]
    asyncio.run(compare(redis_url, commands, cuts))
