"""Messages sent again under another MsgSeqNum (PossResend=Y, 97), over FIX."""

from __future__ import annotations

from pathlib import Path

from gateway.server import Gateway
from tests.integration.test_gateway_pipelining import holds, replace
from tests.venue import BTC, Peer, Venue, limit_order, running_venue

AGAIN = "97=Y"


def cancel(cl_ord_id: str, orig: str) -> str:
    """Return an OrderCancelRequest in BTC-USD, without the session's fields."""
    return f"35=F|11={cl_ord_id}|41={orig}|55=BTC-USD|54=2|60=now"


def send_again(peer: Peer, *messages: str) -> None:
    """Send messages in one write, as they may have been sent before."""
    peer.send_raw(b"".join(peer.render(message, header=AGAIN) for message in messages))


async def test_what_is_known_is_answered_by_the_state_of_its_order(
    venue: Venue, gateway: Gateway
) -> None:
    peer = await venue.trader(gateway, "known")
    # 9 of 10 BTC: nothing of this could be reserved twice.
    new, change = limit_order("a", 2, "9", "100", "|59=1"), replace("b", "a", 2, "9", "101")
    peer.send(new)
    order_id = (await peer.expect("8", t11="a", t150="0"))["37"]
    send_again(peer, new)
    await peer.expect("8", t11="a", t150="I", t39="0", t37=order_id, t44="100.00")
    peer.send(change)
    await peer.expect("8", t11="b", t150="5")
    send_again(peer, new, change)
    for name in "ab":
        await peer.expect("8", t11=name, t150="I", t39="0", t37=order_id, t44="101.00")
    peer.send(cancel("c", "b"))
    await peer.expect("8", t11="c", t150="4")
    send_again(peer, new, change, cancel("c", "b"))
    for name in "abc":
        await peer.expect("8", t11=name, t150="I", t39="4", t37=order_id, t14="0.00")
    assert await holds(venue, peer) == {"BTC": (0, 0), "USD": (0, 0)}


async def test_what_is_filled_and_paid_for_is_not_refused_for_money(
    venue: Venue, gateway: Gateway
) -> None:
    maker = await venue.trader(gateway, "maker")
    peer = await venue.trader(gateway, "filled")
    maker.send(limit_order("m", 1, "10", "100", "|59=1"))
    await maker.expect("8", t150="0")
    sell = limit_order("a", 2, "10", "100", "|59=1")
    peer.send(sell)
    await peer.expect("8", t150="0")
    await peer.expect("8", t150="F", t39="2")
    send_again(peer, sell, limit_order("a", 2, "10", "100.001", "|59=1"))
    for _ in range(2):
        await peer.expect("8", t11="a", t150="I", t39="2", t14="10.00")


async def test_what_is_not_known_is_done_or_refused_as_new(venue: Venue, gateway: Gateway) -> None:
    peer = await venue.trader(gateway, "unknown")
    send_again(
        peer,
        limit_order("a", 2, "9", "100", "|59=1"),
        replace("b", "a", 2, "9", "101"),
        limit_order("c", 2, "2", "100"),
        limit_order("d", 2, "2", "100.001"),
        replace("e", "b", 2, "11", "101"),
        replace("f", "b", 1, "9", "101"),
        cancel("x", "b"),
    )
    told = [await peer.expect_any() for _ in range(7)]
    assert [(one["35"], one["11"], one["39"], one.get("103", one.get("102"))) for one in told] == [
        ("8", "a", "0", None),
        ("8", "b", "0", None),
        ("8", "c", "8", "3"),
        ("8", "d", "8", "99"),
        ("9", "e", "0", "99"),
        ("9", "f", "0", "99"),
        ("8", "x", "4", None),
    ]
    assert told[2]["58"] == "Insufficient funds: 2.00 BTC needed"
    assert await holds(venue, peer) == {"BTC": (0, 0), "USD": (0, 0)}


async def test_it_is_known_while_the_first_is_on_its_way_at_another_gateway(
    redis_url: str, tmp_path: Path
) -> None:
    async with running_venue(redis_url, tmp_path, engines=False) as venue:
        new = limit_order("a", 2, "9", "100", "|59=1")
        account = await venue.add_user("mover", BTC=10 * BTC)
        async with venue.gateway("gateway-1") as one:
            peer = await venue.log_on(one, account, "mover")
            peer.send(new)
            # The list is made behind it: it has been admitted.
            peer.send("35=AF|584=s|585=7")
            await peer.expect("8", t584="s")
            next_out = peer.next_out
        async with venue.gateway("gateway-2") as two:
            peer = await venue.log_on(two, account, "mover", next_out=next_out)
            send_again(peer, new, replace("b", "a", 2, "9", "101"))
            async with venue.engine(1):
                order_id = (await peer.expect("8", t11="a", t150="0"))["37"]
                await peer.expect("8", t11="a", t150="I", t39="0", t37=order_id)
                # Its order is on its way again here, so the replace needs nothing more.
                await peer.expect("8", t11="b", t150="5", t37=order_id)
        assert await holds(venue, peer) == {"BTC": (0, 9 * BTC)}
