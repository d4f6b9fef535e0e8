"""What `shardex torture` leaves out of promises 1 to 3, 7, 8 and 9 of the design: all of a venue
killed at once, a gateway that is stuck for long, and the end of `up` itself amid trading.

Clients trade without a break meanwhile, and each keeps a record of what it was told
(ops/torture_record.py); all else is compared with a replay of the order streams
(tests/consistency.py), which looks deeper than the torture: into outboxes and stored messages too.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pytest
import redis

from marketdata.subscriber import MarketSubscriber
from ops.endpoints import Credentials
from ops.torture_checks import check_record
from ops.torture_line import Line
from ops.torture_parts import kill_redis_torn
from ops.torture_trader import Trader
from persistence.told import read_reports
from router import keys
from router.dense_ids import last_number
from tests.consistency import Replay, check_market_data, check_redis, read_redis
from tests.consistency_postgres import check_postgres, read_positions, read_postgres
from tests.exchange_process import ExchangeProcess
from tests.helpers import DEADLINE_S, eventually_async

SYMBOLS = {"ALFA-USD": 1, "GAMMA-USD": 2}
"""Symbol → database of its shard: both engines have work."""

ALL_SYMBOLS = {**SYMBOLS, "BETA-USD": 1, "DELTA-USD": 2}
ANSWERS_BETWEEN = 300
PAUSE_S = 0.012
"""Between two bursts of a client's messages."""
_PATIENCE_S = int(DEADLINE_S)


class Market:
    """An exchange, the traders who live on through all tests, and what must have become of it."""

    def __init__(self, exchange: ExchangeProcess) -> None:
        self.exchange = exchange
        self.replay = Replay()
        self.subscriber = MarketSubscriber("", ())
        endpoints = exchange.endpoints
        self._postgres_url = endpoints["postgres_url"]
        self._redis_url = endpoints["redis_url"]
        self._gateways = [one["port"] for one in endpoints["fix"]]
        seed = time.time_ns() % 10**6
        print(f"seeds {seed} and following")
        self.traders = [
            Trader(
                Credentials(user["sender_comp_id"], user["username"], user["password"]),
                endpoints["target_comp_id"],
                tuple(SYMBOLS),
                seed=f"{seed + number}",
                ports=self.ports,
                gateway=number % 2,
                pause_s=PAUSE_S,
                roams=False,
            )
            for number, user in enumerate(endpoints["users"])
        ]

    def ports(self) -> list[int]:
        """Return where the gateways listen, or did when that was last known."""
        # `up` takes the file away when it stops, and before it starts.
        with suppress(FileNotFoundError):
            self._gateways = [one["port"] for one in self.exchange.endpoints["fix"]]
        return self._gateways

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Let everybody log on and trade; afterwards they log out."""
        self.subscriber = MarketSubscriber(self._redis_url, SYMBOLS)
        async with asyncio.TaskGroup() as tasks:
            following = tasks.create_task(self.subscriber.run())
            runs = [tasks.create_task(trader.run()) for trader in self.traders]
            await eventually_async(lambda: all(one.is_active for one in self.traders))
            for trader in self.traders:
                trader.trading = True
            try:
                yield
            finally:
                for task in (*runs, following):
                    task.cancel()

    async def hear(self, answers: int = ANSWERS_BETWEEN) -> None:
        """Wait until so many more messages have been answered, and each trader has been."""
        wanted = {trader: _answers(trader) + answers // 4 for trader in self.traders}
        await eventually_async(lambda: all(_answers(one) >= count for one, count in wanted.items()))

    async def settle(self) -> None:
        """Stop trading, wait until everything is at rest, and check all of it."""
        for trader in self.traders:
            trader.trading = False
        await eventually_async(self._all_answered)
        await eventually_async(self._is_at_rest)
        state = read_redis(self._redis_url, ALL_SYMBOLS, since=self.replay.position())
        self.replay.apply_entries(state.orders)
        check_redis(state, self.replay)
        rows = read_postgres(self._postgres_url)
        check_postgres(rows, state.ledger, self.replay)
        for trader in self.traders:
            stored = await read_reports(
                self._postgres_url, trader.account, connect_timeout_s=_PATIENCE_S
            )
            assert not list(check_record(trader.account, trader.record, stored))
            # What a stuck gateway had stored it may still say: the client was told that, too.
            assert not trader.unheard()
        await self.subscriber.joined()
        replicas = self.subscriber.replicas.values()
        await eventually_async(
            lambda: all(
                one.joined
                and one.seq >= max(msgspec.structs.astuple(state.snapshots[one.symbol].last_seq))
                for one in replicas
            )
        )
        check_market_data(state.snapshots, replicas, self.replay)

    def _all_answered(self) -> bool:
        return all(
            one.is_active and not one.record.unanswered and not one.record.expiring
            for one in self.traders
        )

    def _is_at_rest(self) -> bool:
        """Tell whether every reader has come to the end of what it reads."""
        try:
            written = read_positions(self._postgres_url)
            with redis.Redis.from_url(self._redis_url) as client:
                settled, shown = client.hgetall(keys.SETTLED), client.hgetall("position:marketdata")
                ledger = _last(client, keys.LEDGER)
                told = all(_has_been_told(client, one) for one in self.traders)
            ends = {}
            for symbol, db in ALL_SYMBOLS.items():
                with redis.Redis.from_url(self._redis_url, db=db) as client:
                    ends[symbol] = _last(client, keys.orders(symbol))
        except (psycopg.OperationalError, redis.RedisError):
            return False
        return (
            told
            and {name.decode(): int(value) for name, value in settled.items()} == ends
            and {name.decode(): int(value) for name, value in shown.items()} == ends
            and written == {**ends, keys.LEDGER: ledger}
        )

    def server_pid(self, server: str) -> int:
        """Return the pid of a private server."""
        if server == "redis":
            with redis.Redis.from_url(self._redis_url) as client:
                return int(client.info("server")["process_id"])
        text = (self.exchange.var / "postgres" / "data" / "postmaster.pid").read_text()
        return int(text.split()[0])


def _answers(trader: Trader) -> int:
    return sum(trader.record.answers.values())


def _has_been_told(client: redis.Redis, trader: Trader) -> bool:
    """Tell whether all that stands in a trader's outbox was sent to it, and has come."""
    session: Any = client.hgetall(keys.session(trader.account))
    sent = keys.sent(trader.account, int(session[b"number"]))
    is_sent = int(session.get(b"cursor", 0)) == _last(client, keys.outbox(trader.account))
    return is_sent and trader.initiator.next_in > _last(client, sent)


def _last(client: redis.Redis, key: str) -> int:
    found: Any = client.xrevrange(key, count=1)
    return last_number(found)


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory, redis_binary: str) -> Iterator[Market]:
    directory: Path = tmp_path_factory.mktemp("kill")
    exchange = ExchangeProcess(directory, SHARDEX_REDIS__BINARY=redis_binary)
    try:
        exchange.start()
        yield Market(exchange)
    finally:
        exchange.stop()


async def test_everything_killed_at_once_comes_back(market: Market) -> None:
    async with market.open():
        await market.hear()
        redis_pid = market.server_pid("redis")
        names = ("gateway-1", "engine-1", "engine-2", "marketdata", "writer")
        pids = [market.exchange.pid_of(name) for name in names]
        assert all(pids)
        for pid in (*pids, market.server_pid("postgres")):
            os.kill(pid, signal.SIGKILL)
        kill_redis_torn(redis_pid, market.exchange.var / "redis")
        await market.hear()
        await market.settle()


async def test_a_stuck_gateway_can_do_nothing_that_counts(market: Market) -> None:
    async with market.open():
        await market.hear()
        await eventually_async(lambda: all(one.is_active for one in market.traders))
        port = market.traders[0].port
        stuck = [one for one in market.traders if one.port == port]
        pid = market.exchange.pid_of(f"gateway-{market.ports().index(port) + 1}")
        os.kill(pid, signal.SIGSTOP)
        lines: list[Line] = []
        try:
            for trader in stuck:
                # Into the socket of the gateway that does not read; then away, leaving it open.
                trader.say()
                assert trader.line is not None
                lines.append(trader.line)
                trader.avoided = port
                trader.leave("abandon")
            await eventually_async(lambda: all(one.is_active for one in stuck))
            await market.hear()
        finally:
            os.kill(pid, signal.SIGCONT)
            for trader in stuck:
                trader.avoided = 0
        await eventually_async(lambda: all(line.is_gone for line in lines))
        await market.hear()
        await market.settle()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
async def test_a_venue_that_ends_amid_trading_goes_on_at_the_next_start(
    market: Market, number: signal.Signals
) -> None:
    async with market.open():
        await market.hear()
        exchange = market.exchange
        status = await asyncio.to_thread(exchange.signal, number)
        assert status == (0 if number is signal.SIGINT else -number)
        await asyncio.to_thread(exchange.start)
        await market.hear()
        await market.settle()
