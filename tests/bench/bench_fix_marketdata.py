"""What 100 subscribers of a busy symbol cost those who trade it, on the same gateway:
`python -m tests.bench.bench_fix_marketdata`.

One gateway runs in this process on uvloop; a private Redis (AOF always), the engines with market
data, the traders and the subscribers are processes of their own. Four sessions send limit orders in
one symbol, of which half cross; in turns nobody is subscribed, and 100 sessions to all levels and
trades, incrementally. The figure is the rate of orders with subscribers, of that without: medians
of the turns. The subscribers read everything and understand nothing; what they are told is tested
elsewhere. Their own CPU is on the same machine and counts.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from multiprocessing import get_context
from pathlib import Path
from typing import Any, cast

import uvloop

from gateway.fix_message import encode_fields, frame
from gateway.server import Gateway
from marketdata.service import MarketDataService
from ops.data_dir import DataDirectory
from ops.embedded_redis import EmbeddedRedis
from ops.engine_process import run_engine
from ops.settings import Settings, load_settings
from ops.wiring import shard_map
from tests.bench.bench_gateway import LoadClient, render_orders
from tests.helpers import eventually_async
from tests.venue import PASSWORD, Venue, running_venue, utc_timestamp

SUBSCRIBERS = 100
TRADERS = 4
ORDERS = 20_000
"""Of one turn."""
TURNS = 4
"""With subscribers, and as many without."""
RATIO_MIN = 0.90
_SYMBOL = "BTC-USD"
_AMPLE = 10**15
_WAIT_S = 60


class Subscriber(asyncio.Protocol):
    """Logs on, subscribes and unsubscribes when told, and counts bytes."""

    def __init__(self, account: int, username: str) -> None:
        self._account = account
        self._number = 0
        self._username = username
        self._request = 0
        self.bytes = 0
        self.logged_on: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        secrets = [(b"553", self._username.encode()), (b"554", PASSWORD)]
        self._send(b"A", [(b"98", b"0"), (b"108", b"60"), *secrets])

    def data_received(self, data: bytes) -> None:
        if not self.logged_on.done():
            assert b"\x0135=A\x01" in data, data
            self.logged_on.set_result(None)
        self.bytes += len(data)

    def subscribe(self, on: bool) -> None:
        """Ask for all levels and trades, or for no more of them."""
        self._request += on
        wanted = [(b"267", b"3"), (b"269", b"0"), (b"269", b"1"), (b"269", b"2")]
        head = [(b"262", b"r%d" % self._request), (b"263", b"1" if on else b"2")]
        levels = [(b"264", b"0"), (b"265", b"1")]
        self._send(b"V", [*head, *levels, *wanted, (b"146", b"1"), (b"55", _SYMBOL.encode())])

    def _send(self, msg_type: bytes, body: list[tuple[bytes, bytes]]) -> None:
        self._number += 1
        now = utc_timestamp(time.time_ns()).encode()
        header = [(b"35", msg_type), (b"49", b"%d" % self._account), (b"56", b"SHARDEX")]
        numbered = [*header, (b"34", b"%d" % self._number), (b"52", now)]
        self._transport.write(frame(encode_fields([*numbered, *body])))


async def _subscribers(port: int, users: list[tuple[int, str]], wishes: Any, told: Any) -> None:
    """Subscribe and unsubscribe as wished; after each wish tell what was received so far."""
    loop = asyncio.get_running_loop()
    clients = [Subscriber(*user) for user in users]
    for client in clients:
        await loop.create_connection(lambda client=client: client, "127.0.0.1", port)
        await client.logged_on
    told.put([])
    while (on := await asyncio.to_thread(wishes.get)) is not None:
        before = [client.bytes for client in clients]
        for client in clients:
            client.subscribe(on)
        if on:
            await eventually_async(
                lambda before=before: all(  # type: ignore[misc]
                    client.bytes > bytes_before
                    for client, bytes_before in zip(clients, before, strict=True)
                )
            )
        told.put([client.bytes for client in clients])


def _subscribers_process(port: int, users: Any, wishes: Any, told: Any) -> None:
    uvloop.run(_subscribers(port, users, wishes, told))


async def _traders(port: int, users: list[tuple[int, str]], orders: int) -> float:
    loop = asyncio.get_running_loop()
    clients = []
    for account, username in users:
        messages = render_orders(account, orders // len(users), [_SYMBOL])
        client = LoadClient(account, username, messages)
        await loop.create_connection(lambda client=client: client, "127.0.0.1", port)
        await client.logged_on
        clients.append(client)
    begun = time.monotonic()
    for client in clients:
        client.start()
    async with asyncio.timeout(_WAIT_S):
        await asyncio.gather(*(client.done for client in clients))
    return time.monotonic() - begun


def _traders_process(port: int, users: Any, orders: int, results: Any) -> None:
    results.put(uvloop.run(_traders(port, users, orders)))


def _venue_process(config: Path, redis_url: str) -> None:
    async def run(settings: Settings) -> None:
        market_data = MarketDataService(
            url=redis_url,
            shards=shard_map(settings, redis_url).shards,
            settings=settings.marketdata,
            timeout_ms=settings.redis.call_timeout_ms,
            now_us=lambda: time.time_ns() // 1_000,
        )
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(market_data.run())
            for shard in settings.shards:
                tasks.create_task(run_engine(settings, redis_url, shard.id))

    uvloop.run(run(load_settings(config, {})))


class Bench:
    """A venue, its gateway, and the processes around them."""

    def __init__(self, venue: Venue, gateway: Gateway, orders: int) -> None:
        self._venue = venue
        self._gateway = gateway
        self._orders = orders
        self._users = 0
        self.processes = get_context("spawn")

    async def users(self, count: int, amount: int) -> list[tuple[int, str]]:
        """Add users with so much of everything."""
        made = []
        for _ in range(count):
            self._users += 1
            name = f"user{self._users}"
            deposits = {"USD": amount, "BTC": amount} if amount else {}
            made.append((await self._venue.add_user(name, **deposits), name))
        return made

    async def turn(self) -> tuple[float, float]:
        """Trade once; return orders per second, and the gateway's CPU in µs per order."""
        results = self.processes.Queue()
        arguments = (
            *(self._gateway.bound_port, await self.users(TRADERS, _AMPLE), self._orders, results),
        )
        process = self.processes.Process(target=_traders_process, args=arguments, daemon=True)
        before = time.process_time()
        process.start()
        seconds = await asyncio.to_thread(results.get, True, 2 * _WAIT_S)
        cpu_us = (time.process_time() - before) / self._orders * 1e6
        await asyncio.to_thread(process.join)
        return self._orders / seconds, cpu_us


async def measure(redis_url: str, directory: Path, orders: int, turns: int) -> dict[str, float]:
    """Trade in turns with and without subscribers; return what it came to."""
    async with AsyncExitStack() as stack:
        venue: Venue = await stack.enter_async_context(
            running_venue(redis_url, directory, engines=False)
        )
        processes = get_context("spawn")
        arguments = (directory / "exchange.toml", redis_url)
        others = processes.Process(target=_venue_process, args=arguments, daemon=True)
        others.start()
        stack.callback(others.kill)
        gateway = await stack.enter_async_context(venue.gateway())
        bench = Bench(venue, gateway, orders)
        wishes, told = processes.Queue(), processes.Queue()
        readers = (gateway.bound_port, await bench.users(SUBSCRIBERS, 0), wishes, told)
        process = processes.Process(target=_subscribers_process, args=readers, daemon=True)
        process.start()
        stack.callback(process.kill)
        await asyncio.to_thread(told.get, True, _WAIT_S)

        await bench.turn()
        rates: dict[bool, list[float]] = {False: [], True: []}
        costs: dict[bool, list[float]] = {False: [], True: []}
        received = 0
        for turn in range(2 * turns):
            on = bool(turn % 2)
            if on:
                wishes.put(True)
                first = await asyncio.to_thread(told.get, True, _WAIT_S)
            rate, cpu_us = await bench.turn()
            rates[on].append(rate)
            costs[on].append(cpu_us)
            if on:
                wishes.put(False)
                last = await asyncio.to_thread(told.get, True, _WAIT_S)
                assert all(b > a for a, b in zip(first, last, strict=True)), "all were told"
                received += sum(last) - sum(first)
                await eventually_async(lambda: gateway.stats()["market_subscriptions"] == 0)
        wishes.put(None)
        without, with_them = (statistics.median(rates[on]) for on in (False, True))
        return {
            "orders_per_s_without": round(without),
            "orders_per_s_with": round(with_them),
            "ratio": round(with_them / without, 3),
            "gateway_cpu_us_without": round(statistics.median(costs[False]), 1),
            "gateway_cpu_us_with": round(statistics.median(costs[True]), 1),
            "bytes_per_order_and_subscriber": round(received / turns / orders / SUBSCRIBERS, 1),
        }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--orders", type=int, default=ORDERS)
    parser.add_argument("--turns", type=int, default=TURNS)
    parser.add_argument("--quick", action="store_true", help="see that it works; prove nothing")
    args = parser.parse_args()
    orders, turns = (4_000, 1) if args.quick else (args.orders, args.turns)
    with (
        tempfile.TemporaryDirectory() as name,
        DataDirectory.open(Path(name)) as data,
        EmbeddedRedis(data, port=0) as server,
    ):
        result = uvloop.run(measure(server.url, Path(name), orders, turns))
    print(json.dumps(result))
    if not args.quick and result["ratio"] < RATIO_MIN:
        sys.exit(f"expected a ratio of {RATIO_MIN}, received {result['ratio']}")


if __name__ == "__main__":
    main()
