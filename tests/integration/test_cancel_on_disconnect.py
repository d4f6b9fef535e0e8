"""Cancel on disconnect of a whole exchange: clients, gateways and Redis die; it happens once."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
import redis

from engine.commands import CancelAll, decode_command
from engine.enums import CancelReason
from engine.events import OrderCanceled, decode_output
from ops.torture_parts import kill_redis_torn
from router import keys
from tests.exchange_process import ExchangeProcess
from tests.helpers import eventually_async
from tests.venue import Peer

SYMBOLS = {"ALFA-USD": 1, "GAMMA-USD": 2}
GATEWAYS = ("gateway-1", "gateway-2")


class Market:
    """The exchange, and what its streams say about one account."""

    def __init__(self, exchange: ExchangeProcess) -> None:
        self.exchange = exchange
        self.orders = 0

    async def log_on(self, visitor: int, *, gateway: int = 0) -> Peer:
        """Log a visitor on who wants its orders canceled, once the gateway is there again."""

        async def log_on() -> Peer | None:
            try:
                return await self.exchange.log_on(
                    visitor, gateway=gateway, reset="Y", tail="|8013=Y"
                )
            except OSError:
                return None

        return await eventually_async(log_on)

    def send_orders(self, peer: Peer, count: int) -> None:
        """Send orders that rest, in both shards."""
        for _ in range(count):
            self.orders += 1
            symbol = tuple(SYMBOLS)[self.orders % 2]
            peer.send(f"35=D|11=cod-{self.orders}|55={symbol}|54=1|60=now|38=1|40=2|44=1.00|59=1")

    async def rest(self, peer: Peer, count: int) -> None:
        """Send orders and wait until they rest."""
        self.send_orders(peer, count)
        accepted = 0
        while accepted < count:
            accepted += (await peer.expect_any()).get("150") == "0"

    def kill(self, *names: str) -> None:
        """Kill processes at once; one that was killed before may not be back yet."""
        for pid in [self.exchange.pid_of(name) for name in names]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def told(self, account: int) -> tuple[Counter[str], int]:
        """Return how many cancels for a client that is gone each stream has, and what they did."""
        commands: Counter[str] = Counter()
        canceled = 0
        with self.exchange.redis() as client:
            for symbol, db in SYMBOLS.items():
                client.select(db)
                found: Any = client.xrange(keys.orders(symbol))
                for _, fields in found:
                    command = decode_command(fields[b"c"])
                    commands[symbol] += command == CancelAll(account, CancelReason.DISCONNECTED)
                found = client.xrange(keys.events(symbol))
                for _, fields in found:
                    canceled += sum(
                        type(event) is OrderCanceled
                        and event.account == account
                        and event.reason is CancelReason.DISCONNECTED
                        for event in decode_output(fields[b"e"]).events
                    )
        return +commands, canceled

    async def until_gone(self, account: int) -> None:
        """Wait until an account is off the list and nothing of it is open or under way."""

        def is_gone() -> bool:
            try:
                with self.exchange.redis() as client:
                    if client.zscore(keys.DISCONNECTS, account) or client.hlen(
                        keys.open_orders(account)
                    ):
                        return False
                    settled: Any = client.hgetall(keys.SETTLED)
                    for symbol, db in SYMBOLS.items():
                        client.select(db)
                        last: Any = client.xrevrange(keys.orders(symbol), count=1)
                        if last[0][0] != settled[symbol.encode()] + b"-0":
                            return False
                    return True
            except (redis.ConnectionError, redis.BusyLoadingError, KeyError):
                return False

        await eventually_async(is_gone)


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory, redis_binary: str) -> Iterator[Market]:
    exchange = ExchangeProcess(tmp_path_factory.mktemp("cod"), SHARDEX_REDIS__BINARY=redis_binary)
    try:
        exchange.start()
        yield Market(exchange)
    finally:
        exchange.stop()


async def test_gateways_that_are_killed_leave_nothing_open_and_nothing_in_flight(
    market: Market,
) -> None:
    peer = await market.log_on(0)
    await market.rest(peer, 6)
    before = market.told(peer.account)
    # Some of these are admitted, some are not: none may rest in the end.
    market.send_orders(peer, 200)
    market.kill(*GATEWAYS)
    await market.until_gone(peer.account)
    commands, canceled = market.told(peer.account)
    assert commands - before[0] == Counter(SYMBOLS.keys())
    assert canceled - before[1] >= 6
    await peer.close()


async def test_a_gateway_that_is_killed_alone_is_stood_in_for_by_the_other(market: Market) -> None:
    peer = await market.log_on(1, gateway=1)
    await market.rest(peer, 4)
    before = market.told(peer.account)
    market.kill("gateway-2")
    await market.until_gone(peer.account)
    commands, canceled = market.told(peer.account)
    assert (commands - before[0], canceled - before[1]) == (Counter(SYMBOLS.keys()), 4)
    await peer.close()


async def test_redis_that_is_killed_with_all_gateways_does_not_lose_or_repeat_it(
    market: Market,
) -> None:
    peer = await market.log_on(2)
    await market.rest(peer, 4)
    before = market.told(peer.account)
    with market.exchange.redis() as client:
        pid = int(client.info("server")["process_id"])
    market.kill(*GATEWAYS)
    kill_redis_torn(pid, market.exchange.var / "redis")
    await market.until_gone(peer.account)
    commands, canceled = market.told(peer.account)
    assert (commands - before[0], canceled - before[1]) == (Counter(SYMBOLS.keys()), 4)
    await peer.close()


async def test_an_outage_longer_than_the_lease_is_no_disconnect(market: Market) -> None:
    peer = await market.log_on(3)
    await market.rest(peer, 2)
    before = market.told(peer.account)
    with market.exchange.redis() as client:
        pid = int(client.info("server")["process_id"])
        until_ms = float(client.zscore(keys.DISCONNECTS, peer.account) or 0)
    os.kill(pid, signal.SIGSTOP)
    try:
        # It lasts until the lease has run out, and the zset says that the client is gone.
        await eventually_async(lambda: time.time() > until_ms / 1_000 + 1.0)
    finally:
        os.kill(pid, signal.SIGCONT)
    await market.rest(peer, 2)
    assert market.told(peer.account) == before
    peer.send("35=5")
    await market.until_gone(peer.account)
    commands, canceled = market.told(peer.account)
    assert (commands - before[0], canceled - before[1]) == (Counter(SYMBOLS.keys()), 4)
    await peer.close()
