"""Limits of one account: counted over logons and gateways, changed while it is logged on."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.server import Gateway
from router.user_settings import UserSettings, change_settings, read_settings
from tests.venue import BTC, USD, Peer, Venue, limit_order


async def limit(
    venue: Venue,
    account: int,
    *,
    max_open_orders: int | None = None,
    max_order_value: Mapping[str, int] | None = None,
    orders_per_s: int | None = None,
) -> None:
    """Limit an account from its next logon on."""
    settings = UserSettings(max_open_orders, max_order_value or {}, orders_per_s)
    before = await read_settings(venue.link, account)
    await change_settings(venue.link, account=account, settings=settings, before=before)


async def account_of(venue: Venue, name: str) -> int:
    """Create a user who can trade."""
    return await venue.add_user(name, USD=10_000 * USD, BTC=10 * BTC)


async def is_full(peer: Peer, cl_ord_id: str) -> None:
    """Check that no further order is taken."""
    peer.send(limit_order(cl_ord_id, 1, "1", "1"))
    refused = await peer.expect("8", t150="8", t103="3", t11=cl_ord_id)
    assert refused["58"].startswith("Open orders: at most 2 ")


async def test_open_orders_count_until_they_end_at_every_gateway(venue: Venue) -> None:
    account = await account_of(venue, "peer")
    await limit(venue, account, max_open_orders=2)
    async with venue.gateway() as first, venue.gateway("gateway-2") as second:
        peer = await venue.log_on(first, account, "peer")
        peer.send_raw(
            b"".join(peer.render(limit_order(f"a{number}", 1, "1", "1")) for number in range(3))
        )
        answers = [await peer.expect("8") for _ in range(3)]
        by_id = {answer["11"]: answer["150"] for answer in answers}
        assert by_id == {"a0": "0", "a1": "0", "a2": "8"}, "those on their way count, too"
        peer.send("35=G|11=g1|41=a1|55=BTC-USD|54=1|60=now|38=2|40=2|44=1")
        await peer.expect("8", t150="5", t11="g1")
        peer.send("35=5")
        await peer.expect("5")
        await venue.released(account)
        peer = await venue.log_on(second, account, "peer", next_out=peer.next_out)
        await is_full(peer, "b1")
        peer.send("35=q|11=q1|530=1|55=BTC-USD|60=now")
        await peer.expect("r", t533="2")
        for _ in range(2):
            await peer.expect("8", t150="4")
        for number in range(2):
            peer.send(limit_order(f"c{number}", 1, "1", "1"))
            await peer.expect("8", t150="0", t11=f"c{number}")
        await is_full(peer, "b2")


async def test_fills_make_room(venue: Venue, gateway: Gateway) -> None:
    account = await account_of(venue, "peer")
    await limit(venue, account, max_open_orders=2)
    peer = await venue.log_on(gateway, account, "peer")
    taker = await venue.trader(gateway, "taker")
    for number in range(2):
        peer.send(limit_order(f"a{number}", 1, "1", "1"))
        await peer.expect("8", t150="0")
    await is_full(peer, "b1")
    taker.send(limit_order("t1", 2, "1", "1"))
    await peer.expect("8", t150="F", t39="2", t11="a0")
    peer.send(limit_order("a2", 1, "1", "1", "|59=3"))
    await peer.expect("8", t150="0", t11="a2")
    await peer.expect("8", t150="C", t11="a2")
    peer.send(limit_order("a3", 1, "1", "1"))
    await peer.expect("8", t150="0", t11="a3")
    await is_full(peer, "b2")


async def test_value_of_each_order(venue: Venue, gateway: Gateway) -> None:
    account = await account_of(venue, "peer")
    await limit(venue, account, max_order_value={"USD": 100 * USD})
    maker = await venue.trader(gateway, "maker")
    maker.send(limit_order("s1", 2, "5", "100"))
    await maker.expect("8", t150="0")
    peer = await venue.log_on(gateway, account, "peer")
    peer.send(limit_order("a1", 1, "2", "50"))
    await peer.expect("8", t150="0", t11="a1")
    peer.send(limit_order("a2", 1, "2", "50.05"))
    text = "Order value: at most 100.0000 USD of this account, received 100.1000"
    await peer.expect("8", t150="8", t103="3", t58=text)
    peer.send("35=G|11=g1|41=a1|55=BTC-USD|54=1|60=now|38=2.01|40=2|44=50")
    await peer.expect("9", t102="99", t434="2", t41="a1")
    peer.send("35=D|11=m1|55=BTC-USD|54=1|60=now|38=1|40=1")
    await peer.expect("8", t150="8", t103="3", t11="m1")
    peer.send("35=D|11=m2|55=BTC-USD|54=1|60=now|152=100.01|40=1")
    await peer.expect("8", t150="8", t103="3", t11="m2")
    peer.send("35=D|11=m3|55=BTC-USD|54=1|60=now|152=100|40=1")
    await peer.expect("8", t150="0", t11="m3")


async def test_rate_of_one_account(venue: Venue, gateway: Gateway) -> None:
    account = await account_of(venue, "peer")
    await limit(venue, account, orders_per_s=1)
    peer = await venue.log_on(gateway, account, "peer")
    peer.send_raw(
        b"".join(peer.render(limit_order(f"a{number}", 1, "1", "1")) for number in range(2))
        + peer.render("35=F|11=c1|41=a0|55=BTC-USD|54=1|60=now")
    )
    answers = [await peer.expect("8") for _ in range(3)]
    by_id = {answer["11"]: answer for answer in answers}
    assert (by_id["a0"]["150"], by_id["c1"]["150"]) == ("0", "4")
    assert by_id["a1"]["58"] == "Rate limit: at most 1 orders per second"
