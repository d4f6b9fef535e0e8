"""Messages that arrive while Redis is away: each is answered once, however the session goes on."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.server import Gateway
from router import keys
from tests.helpers import eventually_async
from tests.router_helpers import LossyProxy
from tests.venue import Peer, Venue, limit_order, running_venue, utc_timestamp


class Outage:
    """A gateway whose way to Redis can be cut, and a client who has an order under way then."""

    def __init__(self, venue: Venue, gateway: Gateway, proxy: LossyProxy, peer: Peer) -> None:
        self.venue = venue
        self.gateway = gateway
        self.peer = peer
        self._proxy = proxy

    async def begin(self) -> None:
        """Cut it while an order is being admitted: it is, but nobody hears of it."""
        self._proxy.refused, self._proxy.replies_to_lose = True, 1_000
        number = self.peer.next_out
        self.peer.send(limit_order("a1", 1, "1", "1"))
        await eventually_async(lambda: not self.gateway.stats()["redis_available"])
        assert await self.dealt() == number

    async def end(self) -> None:
        """Mend it; what was under way is reported."""
        self._proxy.refused, self._proxy.replies_to_lose = False, 0
        await eventually_async(lambda: self.gateway.stats()["redis_available"])

    async def dealt(self) -> int:
        """Return the last MsgSeqNum that the exchange has dealt with."""
        return int(await self.venue.link.call("HGET", keys.session(self.peer.account), "dealt"))


@pytest.fixture
async def outage(redis_url: str, tmp_path: Path) -> AsyncIterator[Outage]:
    async with LossyProxy(redis_url) as proxy, running_venue(redis_url, tmp_path) as venue:
        venue.redis_url = proxy.url
        async with venue.gateway() as gateway:
            peer = await venue.trader(gateway, "user")
            # From now on the gateway has the connection that orders are admitted over.
            peer.send(limit_order("a0", 1, "1", "1"))
            await peer.expect("8", t11="a0", t150="0")
            yield Outage(venue, gateway, proxy, peer)
            await venue.close()


async def test_a_refused_order_is_marked_although_nothing_follows(outage: Outage) -> None:
    peer = outage.peer
    await outage.begin()
    peer.send(limit_order("a2", 1, "1", "1"))
    await peer.expect("j", t380="4", t379="a2")

    await outage.end()

    # The engine's report, and the refusal again, now on record: one does not wait for the other.
    answers = [await peer.expect_any() for _ in range(2)]
    assert sorted((one["35"], one.get("379") or one["11"]) for one in answers) == [
        ("8", "a1"),
        ("j", "a2"),
    ]
    await eventually_async(lambda: _is(outage, peer.next_out - 1))


async def _is(outage: Outage, number: int) -> bool:
    return await outage.dealt() == number


async def test_an_order_that_could_not_be_answered_is_asked_for_again(outage: Outage) -> None:
    peer = outage.peer
    await outage.begin()
    lost = peer.next_out
    peer.send_raw(peer.render(limit_order("a2", 1, "1", "1")) + peer.render("35=5"))
    await peer.expect("5")
    await peer.expect_closed()

    await outage.end()

    await outage.venue.released(peer.account)
    assert await outage.dealt() == lost - 1
    again = await outage.venue.log_on(outage.gateway, peer.account, "user", next_out=peer.next_out)
    answers = {}
    while "a2" not in answers:
        message = await again.next_message()
        assert message is not None
        if message["35"] == "2":
            assert message["7"] == str(lost)
            now = utc_timestamp(time.time_ns())
            order = limit_order("a2", 1, "1", "1")
            again.send(order, number=lost, header=f"43=Y|122={now}")
            fill = f"35=4|123=Y|36={again.next_out}"
            again.send(fill, number=lost + 1, header=f"43=Y|122={now}")
        elif message["35"] == "8":
            answers[message["11"]] = message["150"]
    assert answers == {"a1": "0", "a2": "0"}
