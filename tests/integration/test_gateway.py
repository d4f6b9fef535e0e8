"""Orders through gateways on a real Redis with real engines: FIX in, FIX out, over sockets."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import msgspec

from engine.limits import RING_SLOTS
from gateway.server import Gateway
from ops.data_dir import DataDirectory
from ops.embedded import free_port
from ops.embedded_redis import EmbeddedRedis, RedisBinary
from ops.wiring import shard_map
from router.homes import define_symbols
from tests.exchange_process import FIRST_PORT
from tests.helpers import eventually_async
from tests.venue import BTC, PASSWORD, USD, Venue, limit_order, running_venue, utc_timestamp


async def test_two_clients_trade_and_every_balance_is_exact(venue: Venue, gateway: Gateway) -> None:
    maker = await venue.trader(gateway, "maker")
    taker = await venue.trader(gateway, "taker")
    maker.send(limit_order("s1", 2, "2", "100"))
    new = await maker.expect("8", t150="0", t39="0", t11="s1", t55="BTC-USD", t38="2.00")
    taker.send(limit_order("b1", 1, "1.5", "101"))
    await taker.expect("8", t150="0", t11="b1")
    fill = await taker.expect("8", t150="F", t39="2", t31="100.00", t32="1.50", t851="2")
    assert (fill["137"], fill["138"], fill["151"], fill["6"]) == ("0.0375", "USD", "0.00", "100.00")
    made = await maker.expect("8", t150="F", t39="1", t11="s1", t851="1", t37=new["37"])
    assert (made["527"], made["137"], made["14"]) == (fill["527"], "0.0150", "1.50")
    maker.send("35=F|11=s2|41=s1|55=BTC-USD|54=2|60=now")
    await maker.expect("8", t150="4", t39="4", t11="s2", t41="s1", t151="0.00")
    bought = await venue.balances(taker.account)
    assert bought["BTC"].available == 10 * BTC + 150_000_000
    assert bought["USD"].available == 10_000 * USD - 150 * USD - 375
    sold = await venue.balances(maker.account)
    assert sold["BTC"].available == 10 * BTC - 150_000_000
    assert sold["USD"].available == 10_000 * USD + 150 * USD - 150
    for balance in (*bought.values(), *sold.values()):
        assert (balance.pending, balance.held) == (0, 0)


async def test_bad_input_gets_its_answer_and_others_trade_on(
    venue: Venue, gateway: Gateway
) -> None:
    other = await venue.trader(gateway, "other")
    other.send(limit_order("o1", 1, "1", "50"))
    await other.expect("8", t150="0")
    poor = await venue.add_user("poor", USD=10 * USD)
    before = await venue.balances(poor)
    peer = await venue.log_on(gateway, poor, "poor")

    peer.send(limit_order("p1", 1, "1", "10"))
    text = "Insufficient funds: 10.0025 USD needed"
    refused = await peer.expect("8", t150="8", t39="8", t103="3", t11="p1", t37="NONE", t58=text)
    assert refused["17"] == f"{poor}-1-R0"
    peer.send("35=D|11=p2|55=XRP-USD|54=1|60=now|38=1|40=2|44=1")
    await peer.expect("8", t150="8", t103="1", t58="Symbol (55): unknown symbol XRP-USD")
    peer.send(limit_order("p3", 1, "1", "10.01"))
    await peer.expect("8", t150="8", t103="99")
    peer.send_raw(peer.render(limit_order("p4", 1, "1", "1")).replace(b"11=p4", b"11=p5"))
    peer.next_out -= 1
    peer.send(limit_order("p6", 1, "1", "1"))
    await peer.expect("8", t150="0", t11="p6")
    peer.send("35=F|11=p7|41=p6|55=BTC-USD|54=1|60=now")
    await peer.expect("8", t150="4")
    assert await venue.balances(poor) == before
    peer.send("35=K|66=p8|60=now")
    await peer.expect("j", t380="3", t372="K")
    peer.send(limit_order("p9" * 30, 1, "1", "1"))
    await peer.expect("3", t371="11", t373="5")
    peer.send(f"35=D|58={'x' * 9_000}")
    assert "too large" in (await peer.expect("5"))["58"]
    await peer.expect_closed()

    liar = await venue.connect(gateway)
    liar.logon(poor, "poor", b"wrong")
    await liar.expect("5", t58="Wrong Username (553), Password (554), or signature (96)")
    await liar.expect_closed()
    stranger = await venue.connect(gateway)
    stranger.logon(999, "nobody", PASSWORD)
    await stranger.expect_closed()

    other.send(limit_order("o2", 2, "1", "50", "|7928=0"))
    await other.expect("8", t150="0", t11="o2")
    await other.expect("8", t150="F", t11="o1")
    await other.expect("8", t150="F", t11="o2")


async def test_market_orders_take_a_protection_price(venue: Venue, gateway: Gateway) -> None:
    maker = await venue.trader(gateway, "maker")
    taker = await venue.trader(gateway, "taker")
    market = "35=D|11={}|55=BTC-USD|54=1|60=now|38=2|40=1"
    taker.send(market.format("m1"))
    await taker.expect("8", t150="8", t103="99", t58="Market order: there is no offer")
    for number, price in enumerate(("100", "104", "106")):
        maker.send(limit_order(f"s{number}", 2, "1", price))
        await maker.expect("8", t150="0")
    taker.send(market.format("m2").replace("|38=2", "|38=3"))
    new = await taker.expect("8", t150="0", t40="1", t59="3")
    assert "44" not in new
    await taker.expect("8", t150="F", t31="100.00")
    await taker.expect("8", t150="F", t31="104.00", t39="1")
    await taker.expect("8", t150="C", t39="C", t14="2.00", t6="102.00")
    assert (await venue.balances(taker.account))["USD"].pending == 0


async def test_replace_and_status(venue: Venue, gateway: Gateway) -> None:
    peer = await venue.trader(gateway, "peer")
    peer.send(limit_order("a1", 1, "10", "100"))
    new = await peer.expect("8", t150="0")
    replace = "35=G|11={}|41={}|55=BTC-USD|54={}|60=now|38={}|40=2|44={}"
    peer.send(replace.format("a2", "a1", 1, "20", "110"))
    await peer.expect("8", t150="5", t39="0", t11="a2", t41="a1", t37=new["37"], t44="110.00")
    assert (await venue.balances(peer.account))["USD"].held == 2_200 * USD + 5_500
    peer.send(replace.format("a3", "a2", 1, "200", "110"))
    refused = await peer.expect("9", t102="99", t434="2", t37=new["37"], t39="0", t41="a2")
    assert refused["58"].startswith("Insufficient funds")
    peer.send(replace.format("a4", "a2", 2, "20", "110"))
    await peer.expect("9", t37=new["37"], t39="0")
    peer.send(replace.format("a5", "zz", 1, "1", "110"))
    await peer.expect("9", t37="NONE", t39="8", t102="1")
    peer.send("35=H|11=a2|55=BTC-USD|54=1|790=q7")
    await peer.expect("8", t150="I", t39="0", t37=new["37"], t790="q7", t151="20.00")
    peer.send("35=H|11=zz|55=BTC-USD|54=1")
    await peer.expect("8", t150="I", t39="8", t37="NONE", t103="5")


async def test_rate_limit_refuses_orders_and_never_cancels(venue: Venue) -> None:
    limited = venue.settings.gateway.model_copy(update={"orders_per_s_max": 2})
    async with venue.gateway(settings=limited) as gateway:
        peer = await venue.trader(gateway, "peer")
        peer.send_raw(
            b"".join(peer.render(limit_order(f"a{number}", 1, "1", "1")) for number in range(3))
            + peer.render("35=G|11=g1|41=a1|55=BTC-USD|54=1|60=now|38=2|40=2|44=1")
            + peer.render("35=F|11=c1|41=a0|55=BTC-USD|54=1|60=now")
        )
        answers = [await peer.next_message() for _ in range(5)]
        by_id = {answer["11"]: answer for answer in answers if answer is not None}
        assert by_id["a0"]["150"] == by_id["a1"]["150"] == "0"
        assert (by_id["a2"]["103"], by_id["g1"]["102"]) == ("99", "99")
        assert by_id["a2"]["58"] == "Rate limit: at most 2 orders per second"
        assert by_id["c1"]["150"] == "4"


async def test_orders_in_flight_are_limited_until_they_are_answered(
    redis_url: str, tmp_path: Path
) -> None:
    async with running_venue(redis_url, tmp_path, engines=False) as venue:
        limited = venue.settings.gateway.model_copy(update={"orders_in_flight_max": 2})
        async with venue.gateway(settings=limited) as gateway:
            peer = await venue.trader(gateway, "peer")
            for number in range(3):
                peer.send(limit_order(f"a{number}", 1, "1", "1"))
            await peer.expect("8", t150="8", t103="3", t11="a2")
            async with venue.engine(1):
                await peer.expect("8", t150="0", t11="a0")
                await peer.expect("8", t150="0", t11="a1")
                peer.send(limit_order("a3", 1, "1", "1"))
                await peer.expect("8", t150="0", t11="a3")


async def test_burst_beyond_ring_and_number_lease_is_answered_in_limit_order(
    venue: Venue, gateway: Gateway
) -> None:
    peer = await venue.trader(gateway, "user")
    count = RING_SLOTS + 1_000
    orders = [peer.render(limit_order(f"a{number}", 1, "0.01", "100")) for number in range(count)]
    peer.send_raw(b"".join(orders))
    for number in range(count):
        await peer.expect("8", t150="0", t11=f"a{number}", t34=str(number + 2))
    assert (await venue.balances(peer.account))["USD"].pending == 0


async def test_changed_rules_hold_from_the_next_order_on(venue: Venue, gateway: Gateway) -> None:
    peer = await venue.trader(gateway, "user")
    peer.send(limit_order("a0", 1, "1", "1"))
    await peer.expect("8", t150="0")
    rules = {name: home.rules for name, home in venue.homes.items()}
    rules["BTC-USD"] = msgspec.structs.replace(
        rules["BTC-USD"], taker_fee_ppm=10_000, min_notional=5 * USD
    )
    shards = shard_map(venue.settings, venue.redis_url).shards
    await define_symbols(venue.link, shards, rules)
    peer.send(limit_order("a1", 1, "1", "100"))
    await peer.expect("8", t150="0", t11="a1")
    held = (await venue.balances(peer.account))["USD"].held
    assert held == (USD + 3) + (100 * USD + 1 * USD), "1 + 0.00025, rounded up, and 100 + 1 %"
    peer.send(limit_order("a2", 1, "1", "4"))
    await peer.expect("8", t150="8", t103="99", t11="a2")


async def test_stale_resend_is_refused_and_a_fresh_one_is_dealt_with(
    venue: Venue, gateway: Gateway
) -> None:
    peer = await venue.trader(gateway, "user")
    now = utc_timestamp(time.time_ns())
    old = utc_timestamp(time.time_ns() - 60 * 10**9)
    peer.send(limit_order("a0", 1, "1", "1"), header=f"43=Y|122={now}")
    await peer.expect("8", t150="0", t11="a0")
    peer.send(limit_order("a1", 1, "1", "1"), header=f"43=Y|122={old}")
    await peer.expect("8", t150="8", t103="8", t11="a1")
    peer.send("35=F|11=c0|41=a0|55=BTC-USD|54=1|60=now", header=f"43=Y|122={old}")
    await peer.expect("8", t150="4", t11="c0")


async def test_short_memory_refuses_orders_and_takes_cancels(venue: Venue) -> None:
    wary = venue.settings.gateway.model_copy(update={"memory_used_percent_max": 1})
    limit = (await venue.link.call("CONFIG", "GET", "maxmemory"))[1]
    async with venue.gateway(settings=wary) as gateway:
        peer = await venue.trader(gateway, "user")
        peer.send(limit_order("a0", 1, "1", "1"))
        await peer.expect("8", t150="0")
        info = await venue.link.call("INFO", "memory")
        used_bytes = int(info.split(b"used_memory:")[1].split(b"\r\n")[0])
        await venue.link.call("CONFIG", "SET", "maxmemory", used_bytes * 10)
        try:
            await eventually_async(lambda: gateway.stats()["memory_low"])
            peer.send(limit_order("a1", 1, "1", "1"))
            await peer.expect("j", t380="4", t379="a1", t372="D")
            peer.send("35=F|11=c0|41=a0|55=BTC-USD|54=1|60=now")
            await peer.expect("8", t150="4")
        finally:
            await venue.link.call("CONFIG", "SET", "maxmemory", limit)
        await eventually_async(lambda: not gateway.stats()["memory_low"])
        peer.send(limit_order("a2", 1, "1", "1"))
        await peer.expect("8", t150="0", t11="a2")


async def test_redis_away_is_said_and_nothing_is_lost(
    tmp_path: Path, redis_binary: RedisBinary
) -> None:
    with DataDirectory.open(tmp_path / "server") as data:
        server = EmbeddedRedis(data, binary=redis_binary, port=free_port(FIRST_PORT + 8))
        server.start()
        try:
            await _lose_redis(server, tmp_path)
        finally:
            server.stop()


async def _lose_redis(server: EmbeddedRedis, directory: Path) -> None:
    async with running_venue(server.url, directory) as venue, venue.gateway() as gateway:
        peer = await venue.trader(gateway, "user")
        peer.send(limit_order("a0", 1, "1", "1"))
        await peer.expect("8", t150="0")
        port = int(server.url.rpartition(":")[2])
        await asyncio.to_thread(server.stop)
        peer.send(limit_order("a1", 1, "1", "1"))
        await eventually_async(lambda: not gateway.stats()["redis_available"])
        peer.send(limit_order("a2", 1, "1", "1"))
        peer.send("35=F|11=c0|41=a0|55=BTC-USD|54=1|60=now")
        await peer.expect("j", t380="4", t379="a2")
        await peer.expect("j", t380="4", t379="c0")
        await asyncio.to_thread(server.start)
        assert int(server.url.rpartition(":")[2]) == port
        answers = [await peer.expect_any() for _ in range(3)]
        told = sorted((one["35"], one.get("379") or one["11"]) for one in answers)
        assert told == [("8", "a1"), ("j", "a2"), ("j", "c0")], "on record, and so said again"
        peer.send(limit_order("a3", 1, "1", "1"))
        await peer.expect("8", t150="0", t11="a3")
        await venue.close()
