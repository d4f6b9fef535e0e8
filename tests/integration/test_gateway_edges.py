"""Gateways at their limits: slow readers, lost sessions, no memory, full rings, old symbols."""

from __future__ import annotations

import itertools
import time
from functools import partial

from engine.enums import BusinessRejectReason
from engine.events import BusinessRejected, Output, encode_output
from engine.limits import RING_SLOTS
from gateway.server import Gateway
from router import keys
from tests.helpers import DEADLINE_MS, eventually_async
from tests.router_helpers import LossyProxy, no_memory
from tests.venue import BTC, PASSWORD, Peer, Venue, limit_order, utc_timestamp


async def test_slow_reader_is_cut_and_gets_its_reports_at_the_next_logon(venue: Venue) -> None:
    # Time enough for its Logout, however slowly this machine reads.
    limits = {"write_buffer_bytes_max": 65_536, "logout_timeout_s": 60}
    narrow = venue.settings.gateway.model_copy(update=limits)
    async with venue.gateway(settings=narrow) as gateway:
        other = await venue.trader(gateway, "other")
        account = await venue.add_user("slow", BTC=10 * BTC)
        slow = await venue.connect(gateway, receive_bytes=4_096)
        slow.logon(account, "slow", PASSWORD)
        await slow.expect("A")
        slow.send(limit_order("s1", 2, "1", "100"))
        await slow.expect("8", t150="0")
        await _ask_until_cut_off(gateway, slow)

        other.send(limit_order("b1", 1, "1", "100"))
        await other.expect("8", t150="0")
        await other.expect("8", t150="F")

        slow.send("35=5")
        messages = []
        while (message := await slow.next_message()) is not None:
            messages.append(message)
        assert messages[-1]["35"] == "5" and messages[-1]["58"].startswith("Slow reader: ")
        await eventually_async(lambda: gateway.stats()["sessions"] == 1)
        back = await venue.log_on(gateway, account, "slow", next_out=slow.next_out)
        await back.expect("8", t150="F", t11="s1")


async def _ask_until_cut_off(gateway: Gateway, peer: Peer) -> None:
    """Send TestRequests until the gateway says more than it was asked: its Logout."""
    expected = gateway.stats()["messages_out"]
    for _ in range(5_000):
        peer.send(f"35=1|112={'x' * 8_000}")
        expected += 1
        await eventually_async(partial(_has_said, gateway, expected))
        if gateway.stats()["messages_out"] > expected:
            return
    raise AssertionError("the gateway buffers without end")


def _has_said(gateway: Gateway, count: int) -> bool:
    return gateway.stats()["messages_out"] >= count


async def test_a_gateway_that_was_cut_off_admits_nothing_after_another_took_the_session(
    venue: Venue, redis_url: str
) -> None:
    async with LossyProxy(redis_url) as proxy:
        venue.redis_url = proxy.url
        async with venue.gateway("gateway-1") as stuck:
            venue.redis_url = redis_url
            async with venue.gateway("gateway-2") as healthy:
                old = await venue.trader(stuck, "user")
                old.send(limit_order("a0", 1, "1", "1"))
                await old.expect("8", t150="0")
                before = await venue.balances(old.account)
                proxy.cut()
                old.send(limit_order("a1", 1, "1", "1"))
                await eventually_async(lambda: not stuck.stats()["redis_available"])
                new = await _log_on_when_free(venue, healthy, old)

                proxy.refused = False
                await old.expect_closed()

                # The order that reached nobody is asked for.
                await new.expect("2", t7="3")
                fill = f"35=4|123=Y|36={new.next_out}"
                header = f"43=Y|122={utc_timestamp(time.time_ns())}"
                new.send(fill, number=3, header=header)
                new.send(limit_order("a2", 1, "1", "1"))
                await new.expect("8", t150="0", t11="a2")
                new.send("35=F|11=c2|41=a2|55=BTC-USD|54=1|60=now")
                await new.expect("8", t150="4", t11="c2")
                assert await venue.balances(old.account) == before
                assert stuck.stats()["sessions"] == 0


async def _log_on_when_free(venue: Venue, gateway: Gateway, old: Peer) -> Peer:
    """Log on again and again until the session's lease has run out."""

    async def try_once() -> Peer | None:
        peer = await venue.connect(gateway)
        peer.next_out = old.next_out
        peer.logon(old.account, "user", PASSWORD)
        answer = await peer.next_message()
        return peer if answer is not None and answer["35"] == "A" else None

    peer = await eventually_async(try_once)
    assert peer is not None
    return peer


async def test_redis_out_of_memory_is_said_and_no_hold_is_lost(
    venue: Venue, gateway: Gateway
) -> None:
    peer = await venue.trader(gateway, "user")
    peer.send(limit_order("a0", 1, "1", "1"))
    await peer.expect("8", t150="0")
    before = await venue.balances(peer.account)
    async with no_memory(venue.link):
        peer.send(limit_order("a1", 1, "1", "1"))
        await peer.expect("j", t380="4", t379="a1")
        peer.send("35=F|11=c1|41=a0|55=BTC-USD|54=1|60=now")
        await peer.expect("j", t380="4", t379="c1", t372="F")
        assert await venue.balances(peer.account) == before
        peer.send("35=1|112=alive")
        await peer.expect("0", t112="alive")
    peer.send("35=F|11=c2|41=a0|55=BTC-USD|54=1|60=now")
    await peer.expect("8", t150="4", t11="c2")
    peer.send(limit_order("a2", 1, "1", "1"))
    await peer.expect("8", t150="0", t11="a2")
    after = (await venue.balances(peer.account))["USD"]
    assert (after.available, after.pending, after.held) == (
        before["USD"].available,
        0,
        before["USD"].held,
    )


async def test_reports_that_could_not_be_stored_in_time_follow_as_poss_dup(venue: Venue) -> None:
    quiet = venue.settings.gateway.model_copy(update={"sweep_interval_ms": 60_000})
    async with venue.gateway(settings=quiet) as gateway:
        peer = await venue.trader(gateway, "user")
        peer.send("35=1|112=ready")
        await peer.expect("0", t112="ready", t34="2")
        event = BusinessRejected(0, peer.account, 9, "D", "a1", BusinessRejectReason.OTHER, "late")
        entry = encode_output(Output("BTC-USD", 0, 1, [event], []))
        async with no_memory(venue.link):
            # In one write: nobody reads it and has the memory to store it, woken up or not.
            await venue.link.pipeline(
                [
                    ("CONFIG", "SET", "maxmemory", 0),
                    ("XADD", keys.outbox(peer.account), "1-0", "e", entry),
                    ("CONFIG", "SET", "maxmemory", 1),
                    ("PUBLISH", keys.WAKE_CHANNEL, peer.account),
                ]
            )
            # Its number is taken, and what is said meanwhile goes out behind it.
            number = await _heartbeats_to_gap(peer, 3)
        late = await peer.expect("j", t34=number, t43="Y", t379="a1", t58="late")
        assert late["122"] <= late["52"]
        peer.send(f"35=2|7={number}|16={number}")
        await peer.expect("j", t34=number, t43="Y", t379="a1")


async def _heartbeats_to_gap(peer: Peer, number: int) -> str:
    """Ask for heartbeats, from ``number`` on, until one leaves out a number; return that number."""
    numbers = itertools.count(number)

    async def passes_over() -> str:
        peer.send("35=1|112=x")
        answer = await peer.expect("0", t112="x")
        expected = str(next(numbers))
        return expected if answer["34"] != expected else ""

    return await eventually_async(passes_over)


async def test_full_ring_stops_reading_and_drops_nothing(venue: Venue, gateway: Gateway) -> None:
    peer = await venue.trader(gateway, "user")
    before = gateway.stats()["messages_in"]
    count = 3 * RING_SLOTS
    await venue.link.call("CLIENT", "PAUSE", 10 * DEADLINE_MS, "WRITE")
    try:
        peer.send(limit_order("a0", 1, "1", "1"))
        peer.send_raw(b"".join(peer.render("35=0") for _ in range(count)))
        await eventually_async(lambda: gateway.stats()["ring_used"] == RING_SLOTS)
        taken = gateway.stats()["messages_in"] - before
        assert RING_SLOTS <= taken < count
    finally:
        await venue.link.call("CLIENT", "UNPAUSE")
    await peer.expect("8", t150="0", t11="a0")
    peer.send("35=1|112=last")
    await peer.expect("0", t112="last")
    assert gateway.stats()["messages_in"] - before == count + 2


async def test_unread_reports_of_a_symbol_that_is_not_traded_any_more_come(venue: Venue) -> None:
    async with venue.gateway("gateway-1") as gateway:
        maker = await venue.trader(gateway, "maker")
        taker = await venue.trader(gateway, "taker")
        maker.send(limit_order("b1", 1, "1", "100").replace("BTC-USD", "ETH-USD"))
        await maker.expect("8", t150="0")
        maker.send("35=5")
        await maker.expect("5")
        await eventually_async(lambda: gateway.stats()["sessions"] == 1)
        await venue.deposit(taker.account, "ETH", BTC)
        taker.send(limit_order("s1", 2, "1", "100").replace("BTC-USD", "ETH-USD"))
        await taker.expect("8", t150="0")
        await taker.expect("8", t150="F")
    del venue.homes["ETH-USD"]
    async with venue.gateway("gateway-2") as gateway:
        back = await venue.log_on(gateway, maker.account, "maker", next_out=maker.next_out)
        await back.expect("8", t150="F", t55="ETH-USD", t31="100.00", t32="1.00", t11="b1")
        back.send(limit_order("b2", 1, "1", "100").replace("BTC-USD", "ETH-USD"))
        await back.expect("8", t150="8", t103="1")
