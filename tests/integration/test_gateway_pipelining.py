"""Orders and replaces sent ahead of every answer, over FIX."""

from __future__ import annotations

from pathlib import Path

from gateway.server import Gateway
from tests.venue import BTC, Peer, Venue, limit_order, running_venue

CHAIN = 10


def replace(cl_ord_id: str, orig: str, side: int, qty: str, price: str, more: str = "") -> str:
    """Return an OrderCancelReplaceRequest in BTC-USD, without the session's fields."""
    terms = f"54={side}|60=now|38={qty}|40=2|44={price}|59=1"
    return f"35=G|11={cl_ord_id}|41={orig}|55=BTC-USD|{terms}{more}"


def send_at_once(peer: Peer, *messages: str) -> None:
    """Send messages in one write."""
    peer.send_raw(b"".join(peer.render(message) for message in messages))


async def holds(venue: Venue, peer: Peer) -> dict[str, tuple[int, int]]:
    """Return what is pending and held of a client, by asset."""
    balances = await venue.balances(peer.account)
    return {asset: (one.pending, one.held) for asset, one in balances.items()}


async def test_chain_of_replaces_reserves_once(venue: Venue, gateway: Gateway) -> None:
    peer = await venue.trader(gateway, "chain")
    # 9 of 10 BTC, first in one write with their order, then behind it.
    send_at_once(
        peer,
        limit_order("r0", 2, "9", "100", "|59=1"),
        *(replace(f"r{n}", f"r{n - 1}", 2, "9", f"{100 + n}") for n in range(1, CHAIN + 1)),
    )
    new = await peer.expect("8", t11="r0", t150="0")
    for n in range(1, CHAIN + 1):
        await peer.expect("8", t11=f"r{n}", t41=f"r{n - 1}", t150="5", t37=new["37"])
    assert await holds(venue, peer) == {"BTC": (0, 9 * BTC), "USD": (0, 0)}
    send_at_once(
        peer,
        *(
            replace(f"r{n}", f"r{n - 1}", 2, f"{n - 2 if n < 12 else 10}", "100")
            for n in range(CHAIN + 1, 2 * CHAIN + 1)
        ),
    )
    for n in range(CHAIN + 1, 2 * CHAIN + 1):
        await peer.expect("8", t11=f"r{n}", t150="5", t37=new["37"])
    assert await holds(venue, peer) == {"BTC": (0, 10 * BTC), "USD": (0, 0)}


async def test_chain_whose_order_is_refused_leaves_nothing_behind(
    venue: Venue, gateway: Gateway
) -> None:
    peer = await venue.trader(gateway, "refused")
    send_at_once(
        peer,
        limit_order("d0", 2, "11", "100", "|59=1"),
        *(replace(f"d{n}", f"d{n - 1}", 2, "11", "101") for n in range(1, 4)),
    )
    await peer.expect("8", t11="d0", t150="8", t103="3")
    for n in range(1, 4):
        await peer.expect("9", t11=f"d{n}", t37="NONE", t39="8", t102="1")
    assert await holds(venue, peer) == {"BTC": (0, 0), "USD": (0, 0)}


async def test_refusal_ahead_of_the_answer_to_its_order_says_that_it_is_pending(
    redis_url: str, tmp_path: Path
) -> None:
    async with running_venue(redis_url, tmp_path, engines=False) as venue, venue.gateway() as one:
        peer = await venue.trader(one, "ahead")
        send_at_once(
            peer,
            limit_order("d1", 1, "1", "99", "|59=1"),
            replace("d2", "d1", 1, "1", "98.001"),
            replace("d3", "d1", 1, "1", "98"),
            replace("d4", "d3", 1, "1", "98.001"),
            replace("d5", "d3", 1, "400", "100"),
        )
        await peer.expect("9", t11="d2", t41="d1", t37="NONE", t39="A", t102="99")
        await peer.expect("9", t11="d4", t41="d3", t37="NONE", t39="E", t102="99")
        text = "Insufficient funds: 39911.9755 USD needed"
        await peer.expect("9", t11="d5", t41="d3", t37="NONE", t39="E", t102="99", t58=text)
        async with venue.engine(1):
            await peer.expect("8", t11="d1", t150="0")
            await peer.expect("8", t11="d3", t150="5", t44="98.00")
