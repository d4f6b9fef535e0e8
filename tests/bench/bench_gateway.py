"""What a gateway costs per order: `python -m tests.bench.bench_gateway`.

One gateway runs in this process on uvloop; a private Redis (AOF always), the engines, and the
clients are processes of their own. Four sessions send limit orders of which half cross, so that an
order gets 2 reports; every report is counted. The figure is the gateway's own CPU time per order,
its journal thread included. Left out: market data, the writer, cancels. `--profile` prints where
the time goes.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import json
import pstats
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from multiprocessing import get_context
from pathlib import Path
from typing import Any, cast

import uvloop

from gateway.fix_message import encode_fields, frame
from ops.data_dir import DataDirectory
from ops.embedded_redis import EmbeddedRedis
from ops.engine_process import run_engine
from ops.settings import Settings, load_settings
from tests.helpers import eventually_async
from tests.venue import PASSWORD, Venue, running_venue, utc_timestamp

SESSIONS = 4
ORDERS = 20_000
WINDOW = 200
"""Orders of a session that may be unanswered: what forms the batches."""
_SYMBOLS = ("BTC-USD", "ETH-USD")
_REPORT = b"\x0135=8\x01"
_NEW = b"\x01150=0\x01"
_AMPLE = 10**15


def render_orders(account: int, count: int, symbols: Sequence[str] = _SYMBOLS) -> list[bytes]:
    """Return orders that rest and cross in turns, MsgSeqNum from 2."""
    now = utc_timestamp(time.time_ns()).encode()
    messages = []
    for index in range(count):
        header = [(b"35", b"D"), (b"49", b"%d" % account), (b"56", b"SHARDEX")]
        numbered = [*header, (b"34", b"%d" % (index + 2)), (b"52", now)]
        body = [
            (b"11", b"%d-%08d" % (account, index)),
            (b"55", symbols[index // 2 % len(symbols)].encode()),
            (b"54", b"2" if index % 2 else b"1"),
            (b"60", now),
            (b"38", b"1"),
            (b"40", b"2"),
            (b"44", b"100.05"),
            (b"59", b"1"),
            (b"7928", b"0"),
        ]
        messages.append(frame(encode_fields([*numbered, *body])))
    return messages


class LoadClient(asyncio.Protocol):
    """Log on, then keep ``WINDOW`` orders unanswered until all are sent and reported."""

    def __init__(self, account: int, username: str, messages: list[bytes]) -> None:
        self._account = account
        self._username = username
        self._messages = messages
        self._sent = self._acked = 0
        self.reports = 0
        self._rest = b""
        self.logged_on: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._started = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        now = utc_timestamp(time.time_ns()).encode()
        header = [(b"35", b"A"), (b"49", b"%d" % self._account), (b"56", b"SHARDEX")]
        secrets = [(b"553", self._username.encode()), (b"554", PASSWORD)]
        fields = [*header, (b"34", b"1"), (b"52", now), (b"98", b"0"), (b"108", b"60"), *secrets]
        transport.write(frame(encode_fields(fields)))

    def start(self) -> None:
        self._started = True
        self._send()

    def _send(self) -> None:
        count = min(WINDOW - (self._sent - self._acked), len(self._messages) - self._sent)
        if count >= WINDOW // 8 or self._sent + count == len(self._messages):
            self._transport.write(b"".join(self._messages[self._sent : self._sent + count]))
            self._sent += count

    def data_received(self, data: bytes) -> None:
        if not self._started:
            assert b"\x0135=A\x01" in data, data
            self.logged_on.set_result(None)
            return
        data = self._rest + data
        end = data.rfind(b"8=FIX.4.4\x01")
        whole, self._rest = data[:end], data[end:]
        if self._rest.endswith(b"\x01") and self._rest[-8:-4] == b"\x0110=":
            whole, self._rest = data, b""
        self.reports += whole.count(_REPORT)
        self._acked += whole.count(_NEW)
        self._send()
        if self.reports >= 2 * len(self._messages) and not self.done.done():
            self.done.set_result(None)


async def _client(port: int, accounts: list[int], orders: int, go: Any) -> float:
    loop = asyncio.get_running_loop()
    clients = []
    for account in accounts:
        messages = render_orders(account, orders // len(accounts))
        client = LoadClient(account, f"user{account}", messages)
        await loop.create_connection(lambda client=client: client, "127.0.0.1", port)
        await client.logged_on
        clients.append(client)
    await asyncio.to_thread(go.wait)
    begun = time.monotonic()
    for client in clients:
        client.start()
    async with asyncio.timeout(30):
        await asyncio.gather(*(client.done for client in clients))
    return time.monotonic() - begun


def _client_process(port: int, accounts: list[int], orders: int, go: Any, results: Any) -> None:
    results.put(uvloop.run(_client(port, accounts, orders, go)))


def _engines_process(config: Path, redis_url: str) -> None:
    async def run(settings: Settings) -> None:
        async with asyncio.TaskGroup() as tasks:
            for shard in settings.shards:
                tasks.create_task(run_engine(settings, redis_url, shard.id))

    uvloop.run(run(load_settings(config, {})))


async def measure(
    redis_url: str, directory: Path, orders: int, *, profile: bool
) -> dict[str, float]:
    """Run the load once and return orders/s and the gateway's CPU µs per order."""
    processes = get_context("spawn")
    async with AsyncExitStack() as stack:
        venue: Venue = await stack.enter_async_context(
            running_venue(redis_url, directory, engines=False)
        )
        config = directory / "exchange.toml"
        engines = processes.Process(target=_engines_process, args=(config, redis_url), daemon=True)
        engines.start()
        stack.callback(engines.kill)
        amounts = {"USD": _AMPLE, "BTC": _AMPLE, "ETH": _AMPLE}
        accounts = [await venue.add_user(f"user{n}", **amounts) for n in range(1, SESSIONS + 1)]
        gateway = await stack.enter_async_context(venue.gateway())
        results, go = processes.Queue(), processes.Event()
        arguments = (gateway.bound_port, accounts, orders, go, results)
        client = processes.Process(target=_client_process, args=arguments, daemon=True)
        client.start()
        await eventually_async(lambda: gateway.stats()["sessions"] == SESSIONS)
        before = time.process_time()
        go.set()
        profiler = cProfile.Profile() if profile else None
        if profiler:
            profiler.enable()
        await asyncio.to_thread(client.join)
        if profiler:
            profiler.disable()
            pstats.Stats(profiler).sort_stats("tottime").print_stats(45)
        cpu_s = time.process_time() - before
        seconds = results.get(timeout=1)
        assert gateway.stats()["reports"] == 2 * orders, gateway.stats()
        return {
            "orders_per_s": round(orders / seconds),
            "gateway_cpu_us_per_order": round(cpu_s / orders * 1e6, 1),
        }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--orders", type=int, default=ORDERS)
    parser.add_argument("--profile", action="store_true")
    args = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as name,
        DataDirectory.open(Path(name)) as data,
        EmbeddedRedis(data, port=0) as server,
    ):
        run = measure(server.url, Path(name), args.orders, profile=args.profile)
        print(json.dumps(uvloop.run(run)))


if __name__ == "__main__":
    sys.exit(main())
