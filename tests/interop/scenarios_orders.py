"""Orders as real clients send them: limit, market, amend, cancel, status, and what is refused."""

from __future__ import annotations

import asyncio

from tests.interop.clients import Fields
from tests.interop.stage import BUY, SELL, Stage


async def limit_order_rests_and_is_canceled(stage: Stage) -> None:
    """New, status, cancel; a second cancel is too late."""
    client = await stage.trader()
    order = await stage.rest(client, BUY, "5", "10.00")
    await client.send("H", [(11, order), (55, stage.symbol), (54, BUY)])
    await client.expect("8", {11: order, 150: "I", 39: "0", 151: "5", 38: "5", 44: "10.00"})
    await stage.cancel_resting(client, order, BUY)
    late = stage.cancel(order, BUY)
    await client.send("F", late)
    await client.expect("9", {11: late[0][1], 41: order, 434: "1", 39: "4", 102: "0"})


async def two_clients_trade(stage: Stage) -> None:
    """A resting order is hit twice; both sides are told prices, quantities, trade and fee."""
    maker, taker = await stage.traders()
    resting = await stage.rest(maker, SELL, "10", "10.00")
    cum = 0
    for qty, status in ((4, "1"), (6, "2")):
        order = stage.order(BUY, str(qty), "10.50")
        await taker.send("D", order)
        await taker.expect("8", {11: order[0][1], 150: "0", 39: "0"})
        fill = await taker.expect(
            "8", {150: "F", 39: "2", 31: "10.00", 32: str(qty), 14: str(qty), 151: "0", 851: "2"}
        )
        cum += qty
        told = await maker.expect(
            "8", {11: resting, 150: "F", 39: status, 31: "10.00", 32: str(qty), 14: str(cum)}
        )
        assert told[851] == "1" and told[151] == str(10 - cum), told
        assert told[527] == fill[527] != "", (told, fill)
        assert fill[136] == "1" and fill[138] == "USD", fill


async def market_and_immediate_orders(stage: Stage) -> None:
    """Market, IOC and FOK take what there is, and the rest of them expires."""
    maker, taker = await stage.traders()
    await stage.rest(maker, SELL, "10", "10.00")
    for qty, price, time_in_force, filled in (
        ("3", "", "", "3"),
        ("4", "10.00", "3", "4"),
        ("5", "10.00", "3", "3"),
    ):
        more = [(59, time_in_force)] if time_in_force else []
        await taker.send("D", stage.order(BUY, qty, price, more=more))
        await taker.expect("8", {150: "0"})
        await taker.expect("8", {150: "F", 32: filled, 14: filled})
        await maker.expect("8", {150: "F", 32: filled})
        if filled != qty:
            await taker.expect("8", {150: "C", 39: "C", 14: filled, 151: "0"})
    resting = await stage.rest(maker, SELL, "1", "10.00")
    await taker.send("D", stage.order(BUY, "2", "10.00", more=[(59, "4")]))
    await taker.expect("8", {150: "0"})
    await taker.expect("8", {150: "C", 39: "C", 14: "0", 151: "0"})
    await stage.cancel_resting(maker, resting, SELL)


async def amends_form_a_chain(stage: Stage) -> None:
    """Replaces name the latest ClOrdID; what is filled meanwhile counts in the new total."""
    maker, taker = await stage.traders()
    order = await stage.rest(maker, SELL, "10", "10.00")
    first = stage.replace(order, SELL, "8", "10.00")
    await maker.send("G", first)
    replaced = await maker.expect("8", {11: first[0][1], 41: order, 150: "5", 39: "0", 151: "8"})
    await taker.send("D", stage.order(BUY, "3", "10.00"))
    await taker.expect("8", {150: "0"})
    await taker.expect("8", {150: "F", 32: "3"})
    await maker.expect("8", {11: first[0][1], 150: "F", 39: "1", 14: "3", 151: "5"})
    second = stage.replace(first[0][1], SELL, "20", "11.00")
    await maker.send("G", second)
    told = await maker.expect(
        "8", {11: second[0][1], 41: first[0][1], 150: "5", 39: "1", 38: "20", 14: "3", 151: "17"}
    )
    assert told[37] == replaced[37], "the OrderID stays"
    stale = stage.replace(order, SELL, "5", "11.00")
    await maker.send("G", stale)
    await maker.expect("9", {11: stale[0][1], 41: order, 434: "2", 102: "1"})
    await stage.cancel_resting(maker, second[0][1], SELL)


async def refusals_are_valid_messages(stage: Stage) -> None:
    """What is refused is refused in messages that the engine takes for valid."""
    client = await stage.trader()
    for fields, reason in (
        (_with(stage.order(BUY, "1", "10.00"), 55, "NO-SUCH"), "1"),
        (stage.order(BUY, "1", "10.001"), "99"),
        (stage.order(BUY, "0.5", "10.00"), "13"),
        (stage.order(BUY, "1", "10.00", more=[(1, "999999")]), "15"),
        (stage.order(BUY, "1"), "99"),
    ):
        await client.send("D", fields)
        told = await client.expect("8", {11: fields[0][1], 150: "8", 39: "8", 103: reason})
        assert told[58], told
    order = await stage.rest(client, BUY, "1", "10.00")
    duplicate = _with(stage.order(BUY, "1", "10.00"), 11, order)
    await client.send("D", duplicate)
    await client.expect("8", {11: order, 150: "8", 103: "6"})
    unknown = stage.cancel("no-such-id", BUY)
    await client.send("F", unknown)
    await client.expect("9", {11: unknown[0][1], 37: "NONE", 39: "8", 434: "1", 102: "1"})
    missing = [pair for pair in stage.order(BUY, "1", "10.00") if pair[0] != 44]
    await client.send("D", missing)
    await client.expect("j", {372: "D", 380: "5"})
    await client.send("H", [(11, "no-such-id"), (55, stage.symbol), (54, BUY)])
    await client.expect("8", {150: "I", 39: "8", 103: "5", 37: "NONE"})
    await stage.cancel_resting(client, order, BUY)


async def a_client_trades_fast(stage: Stage) -> None:
    """Some hundred orders without waiting, each answered, in order."""
    client = await stage.trader()
    orders = [stage.order(BUY, "1", f"{10 + index / 100:.2f}") for index in range(150)]
    for fields in orders:
        await client.send("D", fields)
    for fields in orders:
        await client.expect("8", {11: fields[0][1], 150: "0"})
    cancels = [stage.cancel(fields[0][1], BUY) for fields in orders]
    await asyncio.gather(*(client.send("F", fields) for fields in cancels))
    canceled = {(await client.expect("8", {150: "4"}))[41] for _ in cancels}
    assert canceled == {fields[0][1] for fields in orders}, canceled


async def post_only_and_self_trade_prevention(stage: Stage) -> None:
    """An ExecInst 6 that would trade is refused; an account does not trade with itself."""
    client = await stage.trader()
    order = await stage.rest(client, SELL, "5", "10.00")
    other = await stage.trader()
    await other.send("D", stage.order(BUY, "1", "10.00", more=[(18, "6")]))
    await other.expect("8", {150: "8", 103: "11"})
    await client.send("D", stage.order(BUY, "1", "10.00"))
    await client.expect("8", {150: "0"})
    await client.expect("8", {150: "4", 378: "99"})
    await stage.cancel_resting(client, order, SELL)


def _with(fields: Fields, tag: int, value: str) -> Fields:
    return [(one, value if one == tag else old) for one, old in fields]


SCENARIOS = [
    limit_order_rests_and_is_canceled,
    two_clients_trade,
    market_and_immediate_orders,
    amends_form_a_chain,
    refusals_are_valid_messages,
    post_only_and_self_trade_prevention,
    a_client_trades_fast,
]
