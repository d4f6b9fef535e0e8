"""How soon a client goes on when its gateway is killed: `python -m tests.bench.bench_reconnect`.

A client with resting orders is on one of the two gateways of a private venue. That gateway gets
SIGKILL, the orders are filled by somebody on the other one, and the client reconnects there at
once, with its own sequence numbers: the worst moment, because the dead gateway's lease of the
session has just been renewed. Measured, from its reconnection: until it has got every fill that it
missed, and until its first new order is acknowledged. Every report must come once and in order;
`shardex reconcile` has the last word.

Left out: how long a client takes to notice, and to find the other gateway.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import uvloop

from engine.enums import Side, TimeInForce
from gateway.fix_message import FixMessage
from gateway.fix_time import UtcTimestampWriter
from ops.endpoints import Credentials
from ops.fix_client import FixClient
from ops.fix_initiator import Identity, Initiator
from ops.fix_orders import OrderBodies
from ops.private_venue import PrivateSymbol, PrivateVenue, private_venue
from ops.settings import private_environment
from ops.wiring import accounts_link
from router.process_registry import read_processes
from router.redis_client import RedisLink
from tests.helpers import eventually_async

SYMBOL = "ALFA-USD"
KILLS, QUICK_KILLS = 20, 4
MISSED = 100
"""Fills that the client misses each time."""

PRICE_TICKS = 5_000
MUST_REACH_S = 3.0
_DEADLINE_S = 30.0


class Client:
    """A session that goes on over many connections, and what it was told."""

    def __init__(self, user: Credentials, target: str) -> None:
        identity = Identity(user.sender_comp_id, target, user.username, user.password)
        self.initiator = Initiator(identity)
        self.line = FixClient(self.initiator, on_messages=self._on_messages)
        self.acknowledged: list[bytes] = []
        self.filled: list[bytes] = []
        self._make = OrderBodies(SYMBOL, tick_size="0.01", lot_size="1", stp=None)
        self._times = UtcTimestampWriter()
        self._sent = 0
        self._news = asyncio.Event()

    async def connect(self, port: int, *, reset: bool = False) -> None:
        """Log on, over a new connection."""
        self.line = FixClient(self.initiator, on_messages=self._on_messages)
        await self.line.connect("127.0.0.1", port, reset=reset)

    async def order(self, side: Side, count: int) -> None:
        """Send orders for one lot each, and wait until all are acknowledged."""
        for _ in range(count):
            self._sent += 1
            body = self._make.new(
                b"%d" % self._sent,
                side,
                price_ticks=PRICE_TICKS,
                qty_lots=1,
                time_in_force=TimeInForce.GTC,
                time=self._times.write(time.time_ns()),
            )
            self.line.send(*body)
        self.line.flush()
        await self.told(lambda: len(self.acknowledged) == self._sent)

    async def told(self, condition: Any) -> None:
        """Wait until what it was told fulfils a condition."""
        async with asyncio.timeout(_DEADLINE_S):
            while not condition():
                self._news.clear()
                await self._news.wait()

    def check(self) -> None:
        """Every order was acknowledged and filled once, in the order in which they were sent."""
        expected = [b"%d" % number for number in range(1, self._sent + 1)]
        assert self.acknowledged == expected, "an acknowledgement is missing, doubled or misplaced"
        assert self.filled == expected, "a fill is missing, doubled or misplaced"

    def _on_messages(self, messages: list[FixMessage]) -> None:
        for message in messages:
            fields = message.fields
            assert fields[b"35"] == b"8" and fields[b"150"] in (b"0", b"F"), message.raw
            told = self.acknowledged if fields[b"150"] == b"0" else self.filled
            told.append(fields[b"11"])
        self._news.set()


async def measure(kills: int, parent: Path) -> dict[str, Any]:
    """Return the figures, in s; every check has held."""
    async with private_venue([PrivateSymbol(SYMBOL)], parent=parent, gateways=2) as venue:
        endpoints = venue.endpoints
        ports = [one.port for one in endpoints.fix]
        client, other = (Client(user, endpoints.target_comp_id) for user in endpoints.users[:2])
        caught_up_s, trading_s = [], []
        async with accounts_link(venue.settings, endpoints.redis_url, name="bench") as link:
            await client.connect(ports[0], reset=True)
            await other.connect(ports[1], reset=True)
            for number in range(kills):
                here, there = number % 2, 1 - number % 2
                await client.order(Side.SELL, MISSED)
                killed = await kill(link, f"gateway-{here + 1}")
                await client.line.wait_lost()
                await other.order(Side.BUY, MISSED)
                start_s = time.perf_counter()
                await client.connect(ports[there])
                await client.told(lambda: len(client.filled) == len(client.acknowledged))
                caught_up_s.append(time.perf_counter() - start_s)
                await client.order(Side.SELL, 1)
                trading_s.append(time.perf_counter() - start_s)
                await other.order(Side.BUY, 1)
                await restarted(link, f"gateway-{here + 1}", killed)
                await other.line.logout()
                await other.connect(ports[here])
        for one in (client, other):
            await one.told(lambda: len(one.filled) == len(one.acknowledged))  # noqa: B023
            one.check()
            await one.line.logout()
        reconcile(venue)
    return {
        "kills": kills,
        "missed": MISSED,
        "caught_up_p50_s": statistics.median(caught_up_s),
        "caught_up_max_s": max(caught_up_s),
        "trading_p50_s": statistics.median(trading_s),
        "trading_max_s": max(trading_s),
    }


async def kill(link: RedisLink, name: str) -> int:
    """Kill a gateway and return the pid that it had."""
    pid = (await read_processes(link, [name]))[name].pid
    os.kill(pid, signal.SIGKILL)
    return pid


async def restarted(link: RedisLink, name: str, killed: int) -> None:
    """Wait until another process of that name serves."""

    async def serves() -> bool:
        state = (await read_processes(link, [name])).get(name)
        return state is not None and state.pid != killed and bool(state.counters.get("port"))

    await eventually_async(serves, _DEADLINE_S)


def reconcile(venue: PrivateVenue) -> None:
    """Let the venue prove that everything adds up."""
    config = venue.settings.var_dir.parent / "exchange.toml"
    subprocess.run(
        [sys.executable, "-m", "ops", "reconcile", "--config", str(config)],
        env=private_environment(),
        stdout=subprocess.DEVNULL,
        check=True,
    )


def describe(result: dict[str, Any]) -> list[str]:
    """Return the result as lines."""
    return [
        f"client of a killed gateway, {result['kills']} kills, {result['missed']} fills missed"
        " each time, from its reconnection on:",
        f"  {result['caught_up_p50_s']:>8.2f} s until caught up, p50"
        f" ({result['caught_up_max_s']:.2f} at most)",
        f"  {result['trading_p50_s']:>8.2f} s until its next order is acknowledged, p50"
        f" ({result['trading_max_s']:.2f} at most, must reach {MUST_REACH_S:g})",
    ]


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Measure, check, print, and return the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_KILLS} kills")
    args = parser.parse_args(arguments)
    parent = Path("var")
    parent.mkdir(exist_ok=True)
    result = uvloop.run(measure(QUICK_KILLS if args.quick else KILLS, parent))
    print("\n".join(describe(result)))
    return result


if __name__ == "__main__":
    main()
