"""Market data over FIX: a real gateway, real engines and market data, clients on sockets."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from engine.enums import TradingPhase
from engine.events import SymbolDefined
from gateway.market_book import TRADES_KEPT_MAX
from gateway.server import Gateway
from marketdata.service import MarketDataService
from marketdata.settings import MarketDataSettings
from ops.wiring import shard_map
from router import keys
from router.market_state import OrdersSnapshot, encode_orders_snapshot
from router.phases import PhaseRequest, request_phase
from tests.fix_market import FixMarket
from tests.helpers import DEADLINE_MS, eventually_async
from tests.venue import PASSWORD, Peer, Venue, limit_order

TRADES = TRADES_KEPT_MAX + 700

FAST = MarketDataSettings(snapshot_interval_ms=20, heartbeat_interval_ms=50)
REQUEST = "35=V|262={}|263={}|264={}|265=1|266={}|267=3|269=0|269=1|269=2|146=1|55=BTC-USD"


@asynccontextmanager
async def running_market_data(venue: Venue) -> AsyncIterator[None]:
    service = MarketDataService(
        url=venue.redis_url,
        shards=shard_map(venue.settings, venue.redis_url).shards,
        settings=FAST,
        timeout_ms=DEADLINE_MS,
        now_us=lambda: time.time_ns() // 1_000,
    )
    task = asyncio.create_task(service.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
async def market_data(venue: Venue) -> AsyncIterator[None]:
    """Market data of that venue."""
    async with running_market_data(venue):
        yield


class Reader:
    """Takes what a peer receives into a market, by MDReqID."""

    def __init__(self, peer: Peer, *req_ids: str) -> None:
        self.peer = peer
        self.markets = {req_id: FixMarket() for req_id in req_ids}
        self.phases: list[str] = []

    async def until(self, req_id: str, condition) -> FixMarket:
        """Read messages until a market fulfils a condition."""
        market = self.markets[req_id]
        while not condition(market):
            message = await self.peer.expect_any()
            if message["35"] == "f":
                self.phases.append(message["625"])
            if message["35"] in "WX":
                whole = self.peer.received[-1]
                self.markets[message["262"]].apply(message["35"].encode(), whole.pairs)
        return market


async def test_subscriber_sees_book_and_trades_by_level_and_by_order(
    venue: Venue, gateway: Gateway, market_data: None
) -> None:
    maker = await venue.trader(gateway, "maker")
    taker = await venue.trader(gateway, "taker")
    watcher = await venue.trader(gateway, "watcher")
    maker.send(limit_order("s1", 2, "2", "100"))
    await maker.expect("8", t150="0")
    maker.send(limit_order("s2", 2, "3", "100"))
    second = await maker.expect("8", t150="0")
    watcher.send(REQUEST.format("levels", 1, 0, "Y"))
    watcher.send(REQUEST.format("orders", 1, 0, "N"))
    reader = Reader(watcher, "levels", "orders")
    await reader.until("levels", lambda market: market.levels("1") == [("100.00", "5.00", 2)])
    first = await reader.until("orders", lambda market: len(market.orders("1")) == 2)
    assert first.orders("1")[1] == (second["37"], "100.00", "3.00")
    taker.send(limit_order("b1", 1, "2.5", "100"))
    await taker.expect("8", t150="0")
    fill = await taker.expect("8", t150="F")
    levels = await reader.until("levels", lambda market: len(market.trades) == 2)
    assert levels.levels("1") == [("100.00", "2.50", 1)]
    assert levels.trades == [("100.00", "2.00"), ("100.00", "0.50")]
    assert levels.trade_ids[0] == fill["527"]
    orders = await reader.until("orders", lambda market: len(market.trades) == 2)
    assert orders.orders("1") == [(second["37"], "100.00", "2.50")]
    assert (levels.snapshots, orders.snapshots) == (1, 1)


async def test_snapshot_is_given_once_and_unsubscribing_ends_updates(
    venue: Venue, gateway: Gateway, market_data: None
) -> None:
    maker = await venue.trader(gateway, "maker")
    watcher = await venue.trader(gateway, "watcher")
    maker.send(limit_order("b1", 1, "2", "99"))
    await maker.expect("8", t150="0")
    watcher.send("35=V|262=once|263=0|264=1|267=1|269=0|146=2|55=BTC-USD|55=ETH-USD")
    told = [await watcher.expect("W", t262="once") for _ in range(2)]
    assert {message["55"]: message["268"] for message in told} == {"BTC-USD": "1", "ETH-USD": "0"}
    watcher.send(REQUEST.format("live", 1, 1, "Y"))
    await watcher.expect("W", t262="live")
    watcher.send(REQUEST.format("live", 2, 1, "Y"))
    watcher.send(REQUEST.format("live", 2, 1, "Y"))
    await watcher.expect("Y", t262="live", t58="MDReqID (262): there is no such subscription")
    maker.send(limit_order("b2", 1, "2", "100"))
    await maker.expect("8", t150="0")
    await until_followed(gateway, 3)
    watcher.send(REQUEST.format("again", 0, 1, "Y"))
    assert (await watcher.expect("W", t262="again"))["270"] == "100.00"


async def until_followed(gateway: Gateway, seq: int) -> None:
    """Wait until a gateway's book has an input; members may have been told of it before."""
    await eventually_async(lambda: gateway._desk.books["BTC-USD"].seq >= seq)


@pytest.mark.parametrize(
    ("request_text", "reason"),
    [
        ("35=V|262=a|263=1|264=0|267=1|269=0|146=1|55=XRP-USD", "0"),
        ("35=V|262=used|263=1|264=0|267=1|269=0|146=1|55=BTC-USD", "1"),
        ("35=V|262=a|263=1|264=2000|267=1|269=0|146=1|55=BTC-USD", "5"),
        ("35=V|262=a|263=1|264=0|265=0|266=N|267=1|269=0|146=1|55=BTC-USD", "6"),
        ("35=V|262=a|263=1|264=0|267=1|269=4|146=1|55=BTC-USD", "8"),
        ("35=V|262=a|263=1|264=0|267=1|269=0|146=2|55=BTC-USD|55=ETH-USD", "2"),
    ],
)
async def test_request_that_cannot_be_served_is_refused(
    venue: Venue, market_data: None, request_text: str, reason: str
) -> None:
    limited = venue.settings.gateway.model_copy(update={"market_data_subscriptions_max": 2})
    async with venue.gateway(settings=limited) as gateway:
        watcher = await venue.trader(gateway, "watcher")
        watcher.send("35=V|262=used|263=1|264=0|267=1|269=0|146=1|55=ETH-USD")
        watcher.send(request_text)
        message = await watcher.expect_any()
        while message["35"] == "W":
            message = await watcher.expect_any()
        assert (message["35"], message["281"]) == ("Y", reason)


async def test_resend_of_market_data_is_a_gap_fill(
    venue: Venue, gateway: Gateway, market_data: None
) -> None:
    watcher = await venue.trader(gateway, "watcher")
    watcher.send(limit_order("b1", 1, "1", "50"))
    report = await watcher.expect("8", t150="0")
    watcher.send(REQUEST.format("live", 0, 0, "Y"))
    whole = await watcher.expect("W")
    watcher.send(f"35=2|7={report['34']}|16=0")
    await watcher.expect("8", t43="Y", t34=report["34"])
    fill = await watcher.expect("4", t123="Y", t34=str(int(report["34"]) + 1))
    assert int(fill["36"]) == int(whole["34"]) + 1


async def test_list_and_phases_of_symbols(
    venue: Venue, gateway: Gateway, market_data: None
) -> None:
    watcher = await venue.trader(gateway, "watcher")
    await eventually_async(lambda: venue.link.call("EXISTS", keys.md_phase("ETH-USD")))
    await eventually_async(lambda: gateway.stats()["phases_known"] == 2)
    watcher.send("35=x|320=l1|559=4")
    listed = await watcher.expect("y", t320="l1", t560="0", t393="2", t893="Y", t146="2")
    assert (listed["15"], listed["561"], listed["562"]) == ("USD", "0.01", "0.01")
    attributes = [value for tag, value in watcher.received[-1].pairs if tag == b"872"]
    assert b"TickSize=0.05" in attributes
    assert b"MaxQty=500.00" in attributes
    watcher.send("35=x|320=l2|559=0|55=ETH-USD")
    await watcher.expect("y", t55="ETH-USD", t393="1", t336="ETH-USD", t625="CONTINUOUS")
    watcher.send("35=x|320=l3|559=0|55=XRP-USD")
    await watcher.expect("y", t560="2")
    watcher.send("35=x|320=l4|559=2")
    await watcher.expect("y", t560="1")
    watcher.send("35=e|324=s1|263=1|55=BTC-USD")
    await watcher.expect("f", t324="s1", t326="17", t325="N", t336="BTC-USD")
    watcher.send("35=e|324=s2|263=0|55=XRP-USD")
    await watcher.expect("f", t326="20")
    watcher.send("35=g|335=g1|263=1")
    told = [await watcher.expect("h", t335="g1", t340="2") for _ in range(2)]
    assert {message["336"] for message in told} == {"BTC-USD", "ETH-USD"}
    watcher.send("35=g|335=g2|263=0|336=XRP-USD")
    await watcher.expect("h", t340="6", t567="1")
    await change_phase(venue, TradingPhase.HALTED)
    told = [await watcher.expect_any() for _ in range(2)]
    assert {message["35"]: message["325"] for message in told} == {"f": "Y", "h": "Y"}
    assert {message.get("326", message.get("340")) for message in told} == {"2", "1"}
    watcher.send("35=g|335=g1|263=2")
    watcher.send("35=g|335=g1|263=2")
    await watcher.expect("j", t380="1", t379="g1")


async def change_phase(venue: Venue, phase: TradingPhase) -> None:
    request = PhaseRequest(venue.homes["BTC-USD"], phase, f"test {phase.name}")
    await request_phase(venue.link, request)


async def test_opening_auction_is_told_with_its_phases_its_book_and_its_trade(
    venue: Venue, gateway: Gateway, market_data: None
) -> None:
    maker = await venue.trader(gateway, "maker")
    watcher = await venue.trader(gateway, "watcher")
    await eventually_async(lambda: gateway.stats()["phases_known"] == 2)
    watcher.send("35=e|324=s1|263=1|55=BTC-USD")
    await watcher.expect("f", t326="17")
    await change_phase(venue, TradingPhase.PRE_OPEN)
    await watcher.expect("f", t326="21", t325="Y", t625="PRE_OPEN", t58="pre open: operator")
    watcher.send(REQUEST.format("live", 1, 0, "N"))
    maker.send(limit_order("b1", 1, "2", "101", "|111=0.5"))
    bid = await maker.expect("8", t150="0")
    maker.send(limit_order("s1", 2, "1.5", "99"))
    await maker.expect("8", t150="0")
    reader = Reader(watcher, "live")
    market = await reader.until("live", lambda market: bool(market.orders("1")))
    assert market.orders("0") == [(bid["37"], "101.00", "0.50")]
    assert market.levels_are_crossed()
    await change_phase(venue, TradingPhase.CONTINUOUS)
    market = await reader.until(
        "live", lambda market: not market.orders("1") and "CONTINUOUS" in reader.phases
    )
    assert market.orders("0") == [(bid["37"], "101.00", "0.50")]
    assert sum(float(quantity) for _, quantity in market.trades) == 1.5


async def test_subscriptions_end_with_the_session(
    venue: Venue, gateway: Gateway, market_data: None
) -> None:
    watcher = await venue.trader(gateway, "watcher")
    watcher.send(REQUEST.format("live", 1, 0, "Y"))
    await watcher.expect("W")
    assert gateway.stats()["market_subscriptions"] == 1
    watcher.send("35=A|98=0|108=30|141=Y|553=watcher|554=secret", number=1)
    watcher.next_out = 2
    await watcher.expect("A", t34="1")
    await eventually_async(lambda: gateway.stats()["market_subscriptions"] == 0)
    watcher.send(REQUEST.format("live", 1, 0, "Y"))
    await watcher.expect("W", t34="2")
    await watcher.close()
    await eventually_async(lambda: gateway.stats()["market_subscriptions"] == 0)


async def test_restart_of_market_data_and_lost_connections_are_not_noticed(
    venue: Venue, gateway: Gateway
) -> None:
    maker = await venue.trader(gateway, "maker")
    watcher = await venue.trader(gateway, "watcher")
    watcher.send(REQUEST.format("live", 1, 0, "Y"))
    maker.send(limit_order("b1", 1, "1", "50"))
    await maker.expect("8", t150="0")
    reader = Reader(watcher, "live")
    async with running_market_data(venue):
        await reader.until("live", lambda market: market.levels("0") == [("50.00", "1.00", 1)])
    await venue.link.call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    maker.send(limit_order("b2", 1, "1", "51"))
    await reader.until("live", lambda market: len(market.levels("0")) == 2)
    assert reader.markets["live"].snapshots == 1


async def test_book_that_events_do_not_continue_is_made_anew(
    venue: Venue, gateway: Gateway, market_data: None
) -> None:
    maker = await venue.trader(gateway, "maker")
    maker.send(limit_order("s1", 2, "2", "100"))
    await maker.expect("8", t150="0")
    defined = SymbolDefined(0, venue.homes["BTC-USD"].incarnation, venue.homes["BTC-USD"].rules)
    wrong = OrdersSnapshot("BTC-USD", 2, venue.link.run_id, defined, [], None)
    await venue.link.call("SET", keys.md_orders("BTC-USD"), encode_orders_snapshot(wrong))
    watcher = await venue.trader(gateway, "watcher")
    watcher.send(REQUEST.format("live", 1, 0, "N"))
    reader = Reader(watcher, "live")
    market = await reader.until("live", lambda market: market.snapshots)
    assert market.orders("1") == []
    await venue.link.call("DEL", keys.md_orders("BTC-USD"))
    maker.send(limit_order("b1", 1, "1", "100", "|7928=0"))
    await maker.expect("8", t150="0")
    market = await reader.until("live", lambda market: market.snapshots == 2)
    assert [order[1:] for order in market.orders("1")] == [("100.00", "1.00")]
    assert market.notes == ["trades may have been omitted"]


async def test_slow_reader_is_conflated_and_told_what_it_missed(
    venue: Venue, gateway: Gateway, market_data: None
) -> None:
    slow = await venue.connect(gateway, receive_bytes=4_096)
    slow.logon(await venue.add_user("slow"), "slow", PASSWORD)
    await slow.expect("A")
    [connection] = gateway._pipeline.connections
    assert connection._transport is not None
    raw = connection._transport.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_096)
    req_ids = [f"live{number}" for number in range(20)]
    reader = Reader(slow, *req_ids)
    for req_id in req_ids:
        slow.send(REQUEST.format(req_id, 1, 0, "Y"))
    await reader.until(req_ids[-1], lambda market: market.snapshots)

    maker = await venue.trader(gateway, "maker")
    orders = [
        maker.render(limit_order(f"{name}{number}", side, "0.01", "100", "|7928=0"))
        for number in range(TRADES)
        for name, side in (("s", 2), ("b", 1))
    ]
    for start in range(0, len(orders), 200):
        maker.send_raw(b"".join(orders[start : start + 200]))
        done = start + len(orders[start : start + 200])

        async def is_settled(done: int = done) -> bool:
            return int(await venue.link.call("HGET", keys.SETTLED, "BTC-USD")) > done

        await eventually_async(is_settled)
    # Else there might be more to omit while it reads.
    await until_followed(gateway, 1 + len(orders))
    maker.send(limit_order("last", 1, "1", "99"))
    market = await reader.until(
        req_ids[-1], lambda market: market.levels("0") == [("99.00", "1.00", 1)]
    )
    [note] = market.notes
    omitted = int(note.removesuffix(" trades omitted"))
    assert len(market.trades) + 1 + omitted == TRADES
    assert market.snapshots == 2
