"""Stops, icebergs, expiry, least quantities, orders by cash, mass requests: over FIX."""

from __future__ import annotations

import time

from gateway.server import Gateway
from tests.venue import USD, Peer, Venue, limit_order, utc_timestamp


def order(cl_ord_id: str, side: int, qty: str, more: str) -> str:
    """Return a NewOrderSingle in BTC-USD, without type and price."""
    return f"35=D|11={cl_ord_id}|55=BTC-USD|54={side}|60=now|38={qty}|{more}"


async def offer(maker: Peer, *offers: tuple[str, str]) -> None:
    """Have quantities offered at prices."""
    for number, (qty, price) in enumerate(offers):
        maker.send(limit_order(f"s{number}", 2, qty, price))
        await maker.expect("8", t150="0")


async def settled(venue: Venue, peer: Peer) -> None:
    """Check that nothing is reserved or held for a client."""
    balances = await venue.balances(peer.account)
    assert {(one.pending, one.held) for one in balances.values()} == {(0, 0)}


async def test_stop_order_waits_and_buys_at_the_market_once_triggered(
    venue: Venue, gateway: Gateway
) -> None:
    maker = await venue.trader(gateway, "maker")
    waiter = await venue.trader(gateway, "waiter")
    taker = await venue.trader(gateway, "taker")
    await offer(maker, ("1", "100"), ("1", "105"), ("1", "106"))
    waiter.send(order("w1", 1, "1", "40=3|99=105"))
    new = await waiter.expect("8", t150="0", t39="0", t40="3", t99="105.00", t636="N", t151="1.00")
    assert "44" not in new
    held = (await venue.balances(waiter.account))["USD"].held
    assert held == 1_102_500 + 276, "105 × 1.05 and the fee on it"
    waiter.send("35=H|11=w1|55=BTC-USD|54=1")
    await waiter.expect("8", t150="I", t39="0", t99="105.00", t636="N", t37=new["37"])
    taker.send(limit_order("b1", 1, "2", "105"))
    triggered = await waiter.expect("8", t150="D", t39="0", t636="Y", t99="105.00", t37=new["37"])
    assert (triggered["40"], triggered["378"]) == ("3", "99")
    await waiter.expect("8", t150="F", t39="2", t31="106.00", t32="1.00", t851="2")
    await settled(venue, waiter)


async def test_stop_limit_order_is_replaced_canceled_and_rests_once_triggered(
    venue: Venue, gateway: Gateway
) -> None:
    maker = await venue.trader(gateway, "maker")
    peer = await venue.trader(gateway, "peer")
    peer.send(order("a1", 2, "1", "40=4|99=95|44=94.5|59=1"))
    new = await peer.expect("8", t150="0", t40="4", t44="94.50", t99="95.00", t636="N")
    replace = "35=G|11={}|41={}|55=BTC-USD|54=2|60=now|38=2|40=4|44=100|99=99|59=1|37={}"
    peer.send(replace.format("a2", "a1", new["37"]))
    await peer.expect("8", t150="5", t40="4", t44="100.00", t99="99.00", t38="2.00", t41="a1")
    maker.send(limit_order("m1", 1, "1", "98"))
    await maker.expect("8", t150="0")
    maker.send(limit_order("m2", 2, "1", "98", "|7928=0"))
    await maker.expect("8", t150="0")
    await peer.expect("8", t150="D", t39="0", t636="Y", t40="4")
    peer.send("35=AF|584=all|585=7")
    listed = await peer.expect("8", t150="I", t584="all", t911="1", t912="Y", t11="a2")
    assert (listed["40"], listed["99"], "636" in listed) == ("4", "99.00", False)
    peer.send("35=F|11=a3|41=a2|55=BTC-USD|54=2|60=now")
    await peer.expect("8", t150="4", t41="a2", t151="0.00")
    await settled(venue, peer)


async def test_iceberg_order_shows_one_part_after_the_other(venue: Venue, gateway: Gateway) -> None:
    maker = await venue.trader(gateway, "maker")
    taker = await venue.trader(gateway, "taker")
    maker.send(limit_order("s1", 2, "3", "100", "|111=1"))
    await maker.expect("8", t150="0", t38="3.00", t111="1.00", t151="3.00")
    taker.send(limit_order("b1", 1, "2.5", "100"))
    await taker.expect("8", t150="0")
    for left in ("1.50", "0.50", "0.00"):
        await taker.expect("8", t150="F", t31="100.00", t151=left)
    for left in ("2.00", "1.00", "0.50"):
        await maker.expect("8", t150="F", t31="100.00", t151=left)
    maker.send("35=H|11=s1|55=BTC-USD|54=2")
    await maker.expect("8", t150="I", t39="1", t111="1.00", t151="0.50")


async def test_order_good_till_a_time_expires_although_nobody_does_anything(
    venue: Venue, gateway: Gateway
) -> None:
    peer = await venue.trader(gateway, "peer")
    for seconds in (1.5, 30):
        soon = utc_timestamp(time.time_ns() + int(seconds * 10**9))
        peer.send(limit_order("a1", 1, "1", "100", f"|59=6|126={soon}"))
        new = await peer.expect("8", t11="a1")
        if new.get("103") != "4":
            break
        assert new["60"] >= soon, "it was too late, because this machine is slow"
    assert (new["150"], new["59"], new["126"]) == ("0", "6", soon)
    expired = await peer.expect("8", t150="C", t39="C", t11="a1", t151="0.00")
    assert expired["60"] >= soon
    await settled(venue, peer)
    past = utc_timestamp(time.time_ns() - 1_000_000)
    peer.send(limit_order("a2", 1, "1", "100", f"|59=6|126={past}"))
    await peer.expect("8", t150="8", t103="4", t11="a2")


async def test_order_by_cash_buys_what_it_pays_for(venue: Venue, gateway: Gateway) -> None:
    maker = await venue.trader(gateway, "maker")
    taker = await venue.trader(gateway, "taker")
    await offer(maker, ("1", "100"), ("1", "101"))
    taker.send("35=D|11=c1|55=BTC-USD|54=1|60=now|40=1|152=150")
    await taker.expect("8", t150="0", t152="150.0000", t38="1.49", t59="3")
    await taker.expect("8", t150="F", t31="100.00", t32="1.00", t39="1")
    await taker.expect("8", t150="F", t31="101.00", t32="0.49", t39="2")
    spent = 10_000 * USD - (await venue.balances(taker.account))["USD"].available
    assert 149 * USD < spent <= 150 * USD
    await settled(venue, taker)


async def test_least_quantity_is_filled_or_nothing(venue: Venue, gateway: Gateway) -> None:
    maker = await venue.trader(gateway, "maker")
    taker = await venue.trader(gateway, "taker")
    await offer(maker, ("1", "100"))
    taker.send(limit_order("b1", 1, "2", "100", "|110=1.5"))
    await taker.expect("8", t150="0", t110="1.50")
    await taker.expect("8", t150="C", t39="C", t14="0.00")
    taker.send(limit_order("b2", 1, "2", "100", "|110=1"))
    await taker.expect("8", t150="0", t110="1.00")
    await taker.expect("8", t150="F", t32="1.00", t151="1.00")


async def test_order_for_the_opening_comes_too_late_while_trading(
    venue: Venue, gateway: Gateway
) -> None:
    peer = await venue.trader(gateway, "peer")
    peer.send(limit_order("a1", 1, "1", "100", "|59=2"))
    await peer.expect("8", t150="8", t103="4", t11="a1")


async def test_mass_cancel_of_a_side_of_a_security_then_of_all(
    venue: Venue, gateway: Gateway
) -> None:
    peer = await venue.trader(gateway, "peer")
    sent = (
        limit_order("a1", 1, "1", "100"),
        limit_order("a2", 2, "1", "200"),
        order("a3", 1, "1", "40=4|99=150|44=151"),
        limit_order("a4", 1, "1", "100").replace("BTC-USD", "ETH-USD"),
    )
    for text in sent:
        peer.send(text)
        await peer.expect("8", t150="0")
    peer.send("35=q|11=q1|530=1|55=BTC-USD|54=2|60=now")
    await peer.expect("r", t11="q1", t530="1", t531="1", t533="1", t55="BTC-USD", t54="2")
    await peer.expect("8", t150="4", t39="4", t11="q1", t41="a2")
    peer.send("35=q|11=q2|530=7|60=now")
    report = await peer.expect("r", t11="q2", t530="7", t531="7")
    assert "533" not in report and "55" not in report
    canceled = [await peer.expect("8", t150="4", t39="4", t11="q2") for _ in range(3)]
    assert {one["41"] for one in canceled} == {"a1", "a3", "a4"}
    await settled(venue, peer)
    peer.send("35=q|11=q3|530=6|60=now")
    await peer.expect("r", t11="q3", t530="6", t531="0", t532="0")
    peer.send("35=q|11=q4|530=1|55=XRP-USD|60=now")
    await peer.expect("r", t11="q4", t531="0", t532="1", t55="XRP-USD")


async def test_mass_status_lists_open_orders(venue: Venue, gateway: Gateway) -> None:
    peer = await venue.trader(gateway, "peer")
    peer.send("35=AF|584=m0|585=7")
    await peer.expect("8", t150="I", t39="8", t37="NONE", t584="m0", t911="0", t912="Y")
    sent = (
        limit_order("a1", 1, "1", "100"),
        order("a2", 1, "1", "40=3|99=150"),
        limit_order("a3", 2, "1", "100").replace("BTC-USD", "ETH-USD"),
    )
    await venue.deposit(peer.account, "ETH", 10**9)
    ids = {}
    for text in sent:
        peer.send(text)
        new = await peer.expect("8", t150="0")
        ids[new["11"]] = new["37"]
    peer.send("35=AF|584=m1|585=7")
    listed = [await peer.expect("8", t150="I", t39="0", t584="m1", t911="3") for _ in range(3)]
    assert {one["11"]: one["37"] for one in listed} == ids
    assert [one["912"] for one in listed] == ["N", "N", "Y"]
    assert len({one["17"] for one in listed}) == 3
    assert {one["11"]: one.get("636") for one in listed} == {"a1": None, "a2": "N", "a3": None}
    peer.send("35=AF|584=m2|585=1|55=ETH-USD|54=2")
    await peer.expect("8", t150="I", t11="a3", t584="m2", t911="1", t912="Y")
    peer.send("35=AF|584=m3|585=1|55=ETH-USD|54=1")
    await peer.expect("8", t150="I", t39="8", t55="ETH-USD", t54="1", t584="m3", t912="Y")
    peer.send("35=AF|584=m4|585=8")
    await peer.expect("j", t372="AF", t379="m4", t380="0")
