"""Gateways on a real Redis with real engines: FIX in, FIX out, over sockets."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from engine.limits import RING_SLOTS
from gateway.fixlog import FixLogFilter, read_fixlog
from gateway.server import Gateway
from ops.data_dir import DataDirectory
from ops.embedded import free_port
from ops.embedded_redis import EmbeddedRedis, RedisBinary
from ops.wiring import shard_map
from router.homes import define_symbols
from router.users import disable_user
from tests.helpers import eventually_async
from tests.venue import PASSWORD, Peer, Venue, running_venue, utc_timestamp

USD = 10_000
BTC = 100_000_000


@pytest.fixture
async def venue(redis_url: str, tmp_path: Path) -> AsyncIterator[Venue]:
    async with running_venue(redis_url, tmp_path) as running:
        yield running


@pytest.fixture
async def gateway(venue: Venue) -> AsyncIterator[Gateway]:
    async with venue.gateway() as running:
        yield running


def order(cl_ord_id: str, side: int, qty: str, price: str, more: str = "") -> str:
    return f"35=D|11={cl_ord_id}|55=BTC-USD|54={side}|60=now|38={qty}|40=2|44={price}{more}"


async def trader(venue: Venue, gateway: Gateway, name: str) -> Peer:
    """Create a user with ample balances and log on."""
    account = await venue.add_user(name, USD=10_000 * USD, BTC=10 * BTC)
    return await venue.log_on(gateway, account, name)


async def test_two_clients_trade_and_every_balance_is_exact(venue: Venue, gateway: Gateway) -> None:
    maker = await trader(venue, gateway, "maker")
    taker = await trader(venue, gateway, "taker")
    maker.send(order("s1", 2, "2", "100"))
    new = await maker.expect("8", t150="0", t39="0", t11="s1", t55="BTC-USD", t38="2.00")
    taker.send(order("b1", 1, "1.5", "101"))
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
    other = await trader(venue, gateway, "other")
    other.send(order("o1", 1, "1", "50"))
    await other.expect("8", t150="0")
    poor = await venue.add_user("poor", USD=10 * USD)
    before = await venue.balances(poor)
    peer = await venue.log_on(gateway, poor, "poor")

    peer.send(order("p1", 1, "1", "10"))
    text = "Insufficient funds: 10.0025 USD needed"
    refused = await peer.expect("8", t150="8", t39="8", t103="3", t11="p1", t37="NONE", t58=text)
    assert refused["17"] == f"{poor}-1-R0"
    peer.send("35=D|11=p2|55=XRP-USD|54=1|60=now|38=1|40=2|44=1")
    await peer.expect("8", t150="8", t103="1", t58="Symbol (55): unknown symbol XRP-USD")
    peer.send(order("p3", 1, "1", "10.01"))
    await peer.expect("8", t150="8", t103="99")
    peer.send_raw(peer.render(order("p4", 1, "1", "1")).replace(b"11=p4", b"11=p5"))
    peer.next_out -= 1
    peer.send(order("p6", 1, "1", "1"))
    await peer.expect("8", t150="0", t11="p6")
    peer.send("35=F|11=p7|41=p6|55=BTC-USD|54=1|60=now")
    await peer.expect("8", t150="4")
    assert await venue.balances(poor) == before
    peer.send("35=q|11=p8|530=7|60=now")
    await peer.expect("j", t380="3", t372="q")
    peer.send(order("p9" * 30, 1, "1", "1"))
    await peer.expect("3", t371="11", t373="5")
    peer.send(f"35=D|58={'x' * 9_000}")
    assert "too large" in (await peer.expect("5"))["58"]
    await peer.expect_closed()

    liar = await venue.connect(gateway)
    liar.logon(poor, "poor", b"wrong")
    await liar.expect("5", t58="Wrong Username (553) or Password (554)")
    await liar.expect_closed()
    stranger = await venue.connect(gateway)
    stranger.logon(999, "nobody", PASSWORD)
    await stranger.expect_closed()

    other.send(order("o2", 2, "1", "50", "|7928=0"))
    await other.expect("8", t150="0", t11="o2")
    await other.expect("8", t150="F", t11="o1")
    await other.expect("8", t150="F", t11="o2")


async def test_market_orders_take_a_protection_price(venue: Venue, gateway: Gateway) -> None:
    maker = await trader(venue, gateway, "maker")
    taker = await trader(venue, gateway, "taker")
    market = "35=D|11={}|55=BTC-USD|54=1|60=now|38=2|40=1"
    taker.send(market.format("m1"))
    await taker.expect("8", t150="8", t103="99", t58="Market order: there is no offer")
    for number, price in enumerate(("100", "104", "106")):
        maker.send(order(f"s{number}", 2, "1", price))
        await maker.expect("8", t150="0")
    taker.send(market.format("m2").replace("|38=2", "|38=3"))
    new = await taker.expect("8", t150="0", t40="1", t59="3")
    assert "44" not in new
    await taker.expect("8", t150="F", t31="100.00")
    await taker.expect("8", t150="F", t31="104.00", t39="1")
    await taker.expect("8", t150="C", t39="C", t14="2.00", t6="102.00")
    assert (await venue.balances(taker.account))["USD"].pending == 0


async def test_replace_and_status(venue: Venue, gateway: Gateway) -> None:
    peer = await trader(venue, gateway, "peer")
    peer.send(order("a1", 1, "10", "100"))
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
        peer = await trader(venue, gateway, "peer")
        peer.send_raw(
            b"".join(peer.render(order(f"a{number}", 1, "1", "1")) for number in range(3))
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
            peer = await trader(venue, gateway, "peer")
            for number in range(3):
                peer.send(order(f"a{number}", 1, "1", "1"))
            await peer.expect("8", t150="8", t103="3", t11="a2")
            async with venue.engine(1):
                await peer.expect("8", t150="0", t11="a0")
                await peer.expect("8", t150="0", t11="a1")
                peer.send(order("a3", 1, "1", "1"))
                await peer.expect("8", t150="0", t11="a3")


async def test_burst_beyond_ring_and_number_lease_is_answered_in_order(
    venue: Venue, gateway: Gateway
) -> None:
    peer = await trader(venue, gateway, "user")
    count = RING_SLOTS + 1_000
    orders = [peer.render(order(f"a{number}", 1, "0.01", "100")) for number in range(count)]
    peer.send_raw(b"".join(orders))
    for number in range(count):
        await peer.expect("8", t150="0", t11=f"a{number}", t34=str(number + 2))
    assert (await venue.balances(peer.account))["USD"].pending == 0


async def test_changed_rules_hold_from_the_next_order_on(venue: Venue, gateway: Gateway) -> None:
    peer = await trader(venue, gateway, "user")
    peer.send(order("a0", 1, "1", "1"))
    await peer.expect("8", t150="0")
    rules = {name: home.rules for name, home in venue.homes.items()}
    rules["BTC-USD"] = msgspec.structs.replace(
        rules["BTC-USD"], taker_fee_ppm=10_000, min_notional=5 * USD
    )
    shards = shard_map(venue.settings, venue.redis_url).shards
    await define_symbols(venue.link, shards, rules)
    peer.send(order("a1", 1, "1", "100"))
    await peer.expect("8", t150="0", t11="a1")
    held = (await venue.balances(peer.account))["USD"].held
    assert held == (USD + 3) + (100 * USD + 1 * USD), "1 + 0.00025, rounded up, and 100 + 1 %"
    peer.send(order("a2", 1, "1", "4"))
    await peer.expect("8", t150="8", t103="99", t11="a2")


async def test_full_gateway_says_so(venue: Venue) -> None:
    small = venue.settings.gateway.model_copy(update={"max_sessions": 1})
    async with venue.gateway(settings=small) as gateway:
        first = await trader(venue, gateway, "first")
        second = await venue.add_user("second")
        peer = await venue.connect(gateway)
        peer.logon(second, "second", PASSWORD)
        await peer.expect("5", t58="Gateway full: 1 sessions are logged on")
        await peer.expect_closed()
        first.send("35=5")
        await first.expect("5")
        await eventually_async(lambda: not gateway.stats()["sessions"])
        await venue.log_on(gateway, second, "second")


async def test_failed_logons_are_limited(venue: Venue) -> None:
    strict = venue.settings.gateway.model_copy(update={"logon_attempts_per_minute_max": 1})
    async with venue.gateway(settings=strict) as gateway:
        account = await venue.add_user("user")
        for number in (1, 2):
            await (await venue.log_on(gateway, account, "user", next_out=number)).close()
            await eventually_async(lambda: not gateway.stats()["connections"])
        texts = []
        for _ in range(2):
            peer = await venue.connect(gateway)
            peer.logon(account, "user", b"wrong")
            texts.append((await peer.expect("5"))["58"])
        assert texts[0].startswith("Wrong") and texts[1].startswith("Too many failed logons")


async def test_quiet_session_gets_heartbeats_and_a_test_request(
    venue: Venue, gateway: Gateway
) -> None:
    account = await venue.add_user("user")
    peer = await venue.connect(gateway)
    peer.logon(account, "user", PASSWORD, heart_bt_int_s=1)
    await peer.expect("A", t108="1")
    types = [(await peer.expect_any())["35"] for _ in range(2)]
    assert sorted(types) == ["0", "1"]
    await eventually_async(lambda: not gateway.stats()["connections"])


async def test_second_connection_of_a_user_is_dropped(venue: Venue, gateway: Gateway) -> None:
    first = await trader(venue, gateway, "user")
    async with venue.gateway("gateway-2") as other:
        for one in (gateway, other):
            second = await venue.connect(one)
            second.logon(first.account, "user", PASSWORD)
            await second.expect_closed()
        first.send("35=1|112=alive")
        await first.expect("0", t112="alive")


async def test_disabled_user_is_logged_out_and_stays_out(venue: Venue, gateway: Gateway) -> None:
    peer = await trader(venue, gateway, "user")
    peer.send(order("a1", 1, "1", "1"))
    await peer.expect("8", t150="0")
    await disable_user(venue.link, account=peer.account, homes=venue.homes)
    await peer.expect("5", t58="User disabled")
    again = await venue.connect(gateway)
    again.logon(peer.account, "user", PASSWORD)
    await again.expect("5", t58="User disabled")


async def test_session_goes_on_at_another_gateway_with_what_was_missed(venue: Venue) -> None:
    async with venue.gateway("gateway-1") as first, venue.gateway("gateway-2") as second:
        maker = await trader(venue, first, "maker")
        taker = await trader(venue, second, "taker")
        maker.send(order("s1", 2, "1", "100"))
        last = await maker.expect("8", t150="0")
        await maker.close()
        await eventually_async(lambda: not first.stats()["sessions"])
        taker.send(order("b1", 1, "1", "100"))
        await taker.expect("8", t150="0")
        await taker.expect("8", t150="F")
        back = await venue.log_on(second, maker.account, "maker", next_out=maker.next_out)
        missed = await back.expect("8", t150="F", t11="s1", t851="1")
        assert int(missed["34"]) == int(last["34"]) + 2, "the Logon took one number"
        assert "43" not in missed


async def test_resend_gives_stored_reports_and_fills_the_gaps(
    venue: Venue, gateway: Gateway
) -> None:
    peer = await trader(venue, gateway, "user")
    for number in range(3):
        peer.send(order(f"a{number}", 1, "1", "1"))
        await peer.expect("8", t150="0")
    peer.send("35=1|112=t")
    await peer.expect("0", t34="5")
    peer.send("35=2|7=1|16=0")
    await peer.expect("4", t34="1", t36="2", t123="Y", t43="Y")
    for number in range(3):
        again = await peer.expect("8", t34=str(number + 2), t43="Y", t11=f"a{number}")
        assert "122" in again
    await peer.expect("4", t34="5", t36="6")


async def test_reset_in_and_outside_a_session_starts_at_one(venue: Venue, gateway: Gateway) -> None:
    peer = await trader(venue, gateway, "user")
    peer.send(order("a0", 1, "1", "1"))
    await peer.expect("8", t150="0", t34="2")
    peer.next_out = 1
    peer.send("35=A|98=0|108=30|141=Y")
    await peer.expect("A", t34="1", t141="Y")
    peer.send(order("a1", 1, "1", "1"))
    await peer.expect("8", t150="0", t34="2", t11="a1")
    peer.send("35=5")
    await peer.expect("5", t34="3")
    await eventually_async(lambda: not gateway.stats()["sessions"])
    back = await venue.log_on(gateway, peer.account, "user", reset="Y")
    assert back.received[0].get(34) == b"1"


async def test_stale_resend_is_refused_and_a_fresh_one_is_dealt_with(
    venue: Venue, gateway: Gateway
) -> None:
    peer = await trader(venue, gateway, "user")
    now = utc_timestamp(time.time_ns())
    old = utc_timestamp(time.time_ns() - 60 * 10**9)
    peer.send(order("a0", 1, "1", "1"), header=f"43=Y|122={now}")
    await peer.expect("8", t150="0", t11="a0")
    peer.send(order("a1", 1, "1", "1"), header=f"43=Y|122={old}")
    await peer.expect("8", t150="8", t103="8", t11="a1")
    peer.send("35=F|11=c0|41=a0|55=BTC-USD|54=1|60=now", header=f"43=Y|122={old}")
    await peer.expect("8", t150="4", t11="c0")


async def test_short_memory_refuses_orders_and_takes_cancels(venue: Venue) -> None:
    wary = venue.settings.gateway.model_copy(update={"memory_used_percent_max": 1})
    limit = (await venue.link.call("CONFIG", "GET", "maxmemory"))[1]
    async with venue.gateway(settings=wary) as gateway:
        peer = await trader(venue, gateway, "user")
        peer.send(order("a0", 1, "1", "1"))
        await peer.expect("8", t150="0")
        info = await venue.link.call("INFO", "memory")
        used_bytes = int(info.split(b"used_memory:")[1].split(b"\r\n")[0])
        await venue.link.call("CONFIG", "SET", "maxmemory", used_bytes * 10)
        try:
            await eventually_async(lambda: gateway.stats()["memory_low"])
            peer.send(order("a1", 1, "1", "1"))
            await peer.expect("j", t380="4", t379="a1", t372="D")
            peer.send("35=F|11=c0|41=a0|55=BTC-USD|54=1|60=now")
            await peer.expect("8", t150="4")
        finally:
            await venue.link.call("CONFIG", "SET", "maxmemory", limit)
        await eventually_async(lambda: not gateway.stats()["memory_low"])
        peer.send(order("a2", 1, "1", "1"))
        await peer.expect("8", t150="0", t11="a2")


async def test_clean_stop_logs_out_and_the_journal_reads_back(venue: Venue) -> None:
    async with venue.gateway() as gateway:
        peer = await trader(venue, gateway, "user")
        peer.send(order("a0", 1, "1", "1"))
        await peer.expect("8", t150="0")
        gateway.stop()
        await peer.expect("5", t58="The gateway is stopping; log on again")
        peer.send("35=5")
        await peer.expect_closed()
    directory = venue.settings.var_dir / "journals" / "gateway-1"
    lines = list(read_fixlog(directory, FixLogFilter(session=peer.account)))
    shown = [(line.direction, line.name) for line in lines]
    assert shown[:4] == [
        ("<", "Logon"),
        (">", "Logon"),
        ("<", "NewOrderSingle"),
        (">", "ExecutionReport"),
    ]
    assert [name for _, name in shown[4:]].count("Logout") == 2
    assert "|554=***|" in lines[0].text and "secret" not in lines[0].text
    assert "|11=a0|" in lines[2].text
    only = FixLogFilter(msg_types=frozenset("D"), from_ns=lines[2].ts_ns)
    assert [line.msg_type for line in read_fixlog(directory, only)] == ["D"]
    async with venue.gateway() as gateway:
        back = await venue.log_on(gateway, peer.account, "user", next_out=peer.next_out)
        assert back.received[0].get(34) == b"4"


async def test_redis_away_is_said_and_nothing_is_lost(
    tmp_path: Path, redis_binary: RedisBinary
) -> None:
    with DataDirectory.open(tmp_path / "server") as data:
        server = EmbeddedRedis(data, binary=redis_binary, port=free_port(6500))
        server.start()
        try:
            await _lose_redis(server, tmp_path)
        finally:
            server.stop()


async def _lose_redis(server: EmbeddedRedis, directory: Path) -> None:
    async with running_venue(server.url, directory) as venue, venue.gateway() as gateway:
        peer = await trader(venue, gateway, "user")
        peer.send(order("a0", 1, "1", "1"))
        await peer.expect("8", t150="0")
        port = int(server.url.rpartition(":")[2])
        await asyncio.to_thread(server.stop)
        peer.send(order("a1", 1, "1", "1"))
        await eventually_async(lambda: not gateway.stats()["redis_available"])
        peer.send(order("a2", 1, "1", "1"))
        peer.send("35=F|11=c0|41=a0|55=BTC-USD|54=1|60=now")
        await peer.expect("j", t380="4", t379="a2")
        await peer.expect("j", t380="4", t379="c0")
        await asyncio.to_thread(server.start)
        assert int(server.url.rpartition(":")[2]) == port
        await peer.expect("8", t150="0", t11="a1")
        peer.send(order("a3", 1, "1", "1"))
        await peer.expect("8", t150="0", t11="a3")
        await venue.close()
