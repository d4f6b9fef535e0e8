"""Mass status, mass cancel, cancel on disconnect and drop copy at real clients."""

from __future__ import annotations

from tests.interop.clients import Client
from tests.interop.stage import BUY, SELL, Stage, now


async def list_of_open_orders(stage: Stage) -> None:
    """A mass status request lists the open orders, the last marked; with none it says so."""
    client = await stage.trader()
    await client.send("AF", [(584, "list-1"), (585, "7")])
    await client.expect("8", {37: "NONE", 150: "I", 39: "8", 584: "list-1", 911: "0", 912: "Y"})
    orders = [await _rest_both(stage, client) for _ in range(2)]
    ids = [one for pair in orders for one in pair]
    for request, scope, expected in (
        ("list-2", [(585, "7")], 4),
        ("list-3", [(585, "1"), (55, stage.symbol)], 4),
        ("list-4", [(585, "1"), (55, stage.symbol), (54, BUY)], 2),
    ):
        await client.send("AF", [(584, request), *scope])
        told = [
            await client.expect("8", {150: "I", 39: "0", 584: request, 911: str(expected)})
            for _ in range(expected)
        ]
        assert [one[912] for one in told] == ["N"] * (expected - 1) + ["Y"], told
        assert {one[11] for one in told} <= set(ids), told
    await _cancel_all(stage, client, 4)


async def mass_cancel_of_a_security_and_of_all(stage: Stage) -> None:
    """35=r says how many, then each order is reported as canceled; other sides stay."""
    client = await stage.trader()
    buy, sell = await _rest_both(stage, client)
    request = stage.new_id()
    await client.send("q", [(11, request), (530, "1"), (55, stage.symbol), (54, BUY), (60, now())])
    report = await client.expect("r", {11: request, 530: "1", 531: "1", 533: "1"})
    assert report[37], report
    await client.expect("8", {150: "4", 39: "4", 37: (await _order_id(client, buy))})
    await client.send("H", [(11, sell), (55, stage.symbol), (54, SELL)])
    await client.expect("8", {11: sell, 150: "I", 39: "0"})
    await _cancel_all(stage, client, 1)
    refused = stage.new_id()
    await client.send("q", [(11, refused), (530, "1"), (55, "NO-SUCH"), (60, now())])
    await client.expect("r", {11: refused, 530: "1", 531: "0", 532: "1"})


async def orders_are_canceled_on_disconnect(stage: Stage) -> None:
    """With cancel on disconnect set for the user, a cut connection costs its orders."""
    client = await stage.client()
    await stage.shardex("user", "set", client.account, "--cancel-on-disconnect", "0")
    await client.connect()
    buy, sell = await _rest_both(stage, client)
    await client.kill()
    await stage.until_book_is_empty()
    await client.start()
    await client.connect()
    canceled: list[str] = []
    while len(canceled) < 2:
        message = await client.next()
        if message[150] == "4":
            canceled.append(message[11])
    assert set(canceled) == {buy, sell}, canceled


async def copies_of_reports_arrive(stage: Stage) -> None:
    """A drop-copy session gets the reports of another account, with Account (1), and resends."""
    copier, trader = await stage.client("drop-copy"), await stage.client()
    await stage.shardex("user", "drop-copy", copier.account, "--of", trader.account)
    await copier.connect()
    await trader.connect()
    order = await stage.rest(trader, BUY, "5", "10.00")
    await copier.expect("8", {1: trader.account, 11: order, 150: "0", 39: "0"})
    await copier.log_out()
    await stage.cancel_resting(trader, order, BUY)
    await copier.connect()
    await copier.expect("8", {1: trader.account, 41: order, 150: "4", 39: "4"})
    await copier.send("D", stage.order(BUY, "1", "10.00"))
    await copier.expect("j", {372: "D", 380: "6"})


async def _rest_both(stage: Stage, client: Client) -> tuple[str, str]:
    buy = await stage.rest(client, BUY, "5", "10.00")
    return buy, await stage.rest(client, SELL, "5", "20.00")


async def _order_id(client: Client, cl_ord_id: str) -> str:
    return next(one[37] for one in client.received if one[11] == cl_ord_id)


async def _cancel_all(stage: Stage, client: Client, count: int) -> None:
    request = stage.new_id()
    await client.send("q", [(11, request), (530, "7"), (60, now())])
    await client.expect("r", {11: request, 530: "7", 531: "7"})
    for _ in range(count):
        await client.expect("8", {150: "4", 39: "4", 151: "0"})


SCENARIOS = [
    list_of_open_orders,
    mass_cancel_of_a_security_and_of_all,
    orders_are_canceled_on_disconnect,
    copies_of_reports_arrive,
]
