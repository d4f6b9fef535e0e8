"""Promises 1 to 3, 7, 8 and 9 of the design against kill -9: clients trade without a break while
parts of a whole exchange are killed or stopped; then nothing may be lost, doubled or unequal.

Each client keeps a record of what it was told (tests/trader.py); the rest is compared with a replay
of the order streams (tests/consistency.py).
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pytest
import redis

from engine.events import CancelRejected
from marketdata.feed_codec import SnapshotMessage
from marketdata.subscriber import MarketSubscriber
from ops.endpoints import Credentials
from persistence.rows import decode_event
from router import keys
from router.dense_ids import last_number
from tests.consistency import Replay, check_market_data, check_redis, read_redis
from tests.consistency_postgres import (
    PostgresState,
    check_postgres,
    read_positions,
    read_postgres,
)
from tests.exchange_process import ExchangeProcess
from tests.helpers import eventually_async
from tests.trader import Line, Trader

SYMBOLS = {"ALFA-USD": 1, "GAMMA-USD": 2}
"""Symbol → database of its shard: both engines have work."""

ALL_SYMBOLS = {**SYMBOLS, "BETA-USD": 1, "DELTA-USD": 2}
STATUSES = {
    "0": "new",
    "1": "partially_filled",
    "2": "filled",
    "4": "canceled",
    "8": "rejected",
    "C": "expired",
}
ANSWERS_BETWEEN = 300
REST_S = 30.0


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
                seed=seed + number,
                ports=self.ports,
                gateway=number % 2,
            )
            for number, user in enumerate(endpoints["users"])
        ]

    def ports(self) -> list[int]:
        """Return where the gateways listen, or did when that was last known."""
        if (self.exchange.var / "endpoints.json").exists():
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
        await eventually_async(
            lambda: all(_answers(one) >= count for one, count in wanted.items()), REST_S
        )

    async def restarted(self, *names: str, number: signal.Signals = signal.SIGKILL) -> None:
        """Kill processes at once and wait until all have been started again."""
        pids = {name: self.exchange.pid_of(name) for name in names}
        for pid in pids.values():
            os.kill(pid, number)
        for name, pid in pids.items():
            await eventually_async(lambda: self._pid_of(name) not in (0, pid), REST_S)  # noqa: B023

    def _pid_of(self, name: str) -> int:
        try:
            return self.exchange.pid_of(name)
        except redis.RedisError:
            return 0

    async def settle(self) -> None:
        """Stop trading, wait until everything is at rest, and check all of it."""
        for trader in self.traders:
            trader.trading = False
        await eventually_async(self._all_answered, REST_S)
        await eventually_async(self._is_at_rest, REST_S)
        for trader in self.traders:
            assert not trader.wrong, (trader.account, trader.wrong[:5])
        state = read_redis(self._redis_url, ALL_SYMBOLS, since=self.replay.position())
        self.replay.apply_entries(state.orders)
        check_redis(state, self.replay)
        rows = read_postgres(self._postgres_url)
        check_postgres(rows, state.ledger, self.replay)
        for trader in self.traders:
            check_told(trader, rows, self.replay)
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
        return all(one.is_active and not one.unanswered for one in self.traders)

    def _is_at_rest(self) -> bool:
        """Tell whether every reader has come to the end of what it reads."""
        try:
            written = read_positions(self._postgres_url)
            with redis.Redis.from_url(self._redis_url) as client:
                settled, shown = client.hgetall(keys.SETTLED), client.hgetall("position:marketdata")
                ledger = _last(client, keys.LEDGER)
                told = all(
                    int(client.hget(keys.session(one.account), "cursor") or 0)
                    == _last(client, keys.outbox(one.account))
                    for one in self.traders
                )
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
    return sum(trader.answers.values())


def _last(client: redis.Redis, key: str) -> int:
    found: Any = client.xrevrange(key, count=1)
    return last_number(found)


def _last_seqs(snapshot: SnapshotMessage) -> tuple[int, ...]:
    return msgspec.structs.astuple(snapshot.last_seq)


def check_told(trader: Trader, rows: PostgresState, replay: Replay) -> None:
    """What a client was told is what is stored about it: each report, order and fill, once."""
    account = trader.account
    expected, refusals = set(), 0
    for (owner, symbol, seq, index), event in replay.executions.items():
        if owner == account:
            if isinstance(decode_event(event), CancelRejected):
                refusals += 1
            else:
                expected.add(f"{symbol}-{seq}-{index}")
    own = re.compile(rf"{account}-\d+-R\d+")
    told = {one for one in trader.exec_ids if not own.fullmatch(one)}
    assert told == expected, (account, sorted(told ^ expected)[:5])
    assert trader.cancel_rejects >= refusals, account
    stored = {
        order_id: (cl_ord_id, status, filled, remaining)
        for order_id, (user, cl_ord_id, status, filled, remaining) in rows.orders.items()
        if user == account
    }
    assert stored == {
        order_id: (one.cl_ord_id, STATUSES[one.status.decode()], one.cum, one.leaves)
        for order_id, one in trader.orders.items()
    }
    trades = {
        f"{symbol}-{seq}-{trade}"
        for (symbol, seq, trade), (maker, taker, *_) in rows.trades.items()
        if account in (maker, taker)
    }
    assert trades == trader.fills.keys(), account


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory, redis_binary: str) -> Iterator[Market]:
    directory: Path = tmp_path_factory.mktemp("kill")
    exchange = ExchangeProcess(directory, SHARDEX_REDIS__BINARY=redis_binary)
    try:
        exchange.start()
        yield Market(exchange)
    finally:
        exchange.stop()


async def test_clients_of_a_killed_gateway_go_on_at_the_other(market: Market) -> None:
    async with market.open():
        await market.hear()
        await market.restarted("gateway-1")
        await market.hear()
        await market.restarted("gateway-2")
        await market.hear()
        await market.settle()


async def test_killed_engines_go_on_where_they_were(market: Market) -> None:
    async with market.open():
        for names in (("engine-1",), ("engine-1", "engine-2")):
            await market.hear()
            await market.restarted(*names)
        await market.hear()
        await market.settle()


async def test_killed_market_data_and_writer_miss_nothing(market: Market) -> None:
    async with market.open():
        await market.hear()
        await market.subscriber.joined()
        await market.restarted("marketdata", "writer")
        await market.hear()
        await market.settle()
        assert not any(one.gaps for one in market.subscriber.replicas.values())


@pytest.mark.parametrize("server", ["redis", "postgres"])
async def test_trading_outlives_a_killed_server(market: Market, server: str) -> None:
    async with market.open():
        await market.hear()
        os.kill(market.server_pid(server), signal.SIGKILL)
        if server == "redis":
            tear_append_only_file(market.exchange.var / "redis")
        await market.hear(2 * ANSWERS_BETWEEN)
        await market.settle()


def tear_append_only_file(directory: Path) -> None:
    """Add what a crash in the middle of a write leaves: half of a transaction without a reply."""
    newest = max(directory.rglob("*.aof*"), key=lambda path: path.stat().st_mtime_ns)
    with newest.open("ab") as file:
        file.write(b"*1\r\n$5\r\nMULTI\r\n*4\r\n$4\r\nHSET\r\n$7\r\nsettled\r\n$8\r\nALFA")


async def test_everything_killed_at_once_comes_back(market: Market) -> None:
    async with market.open():
        await market.hear()
        redis_pid = market.server_pid("redis")
        names = ("gateway-1", "engine-1", "engine-2", "marketdata", "writer")
        pids = [market.exchange.pid_of(name) for name in names]
        for pid in (*pids[:2], redis_pid, *pids[2:], market.server_pid("postgres")):
            os.kill(pid, signal.SIGKILL)
        await market.hear()
        await market.settle()


async def test_a_stuck_gateway_can_do_nothing_that_counts(market: Market) -> None:
    async with market.open():
        await market.hear()
        port = _port_of(market.traders[0])
        stuck = [one for one in market.traders if _port_of(one) == port]
        pid = market.exchange.pid_of(f"gateway-{market.ports().index(port) + 1}")
        os.kill(pid, signal.SIGSTOP)
        lines: dict[Trader, Line] = {}
        try:
            for trader in stuck:
                # Into the socket of the gateway that does not read; then away, leaving it open.
                trader.say()
                line = trader.line
                assert line is not None
                line.abandon()
                lines[trader] = line
                trader.avoided = line.port
            await eventually_async(lambda: all(one.is_active for one in stuck), REST_S)
            await market.hear()
        finally:
            os.kill(pid, signal.SIGCONT)
            for trader in stuck:
                trader.avoided = 0
        await eventually_async(lambda: all(line.is_gone for line in lines.values()), REST_S)
        await market.hear()
        await market.settle()
        for trader, line in lines.items():
            # What it had stored before it got stuck it may still say: the client got that, too.
            heard = re.findall(rb"\x0117=([^\x01]+)\x01", line.heard)
            assert {one.decode() for one in heard} <= trader.exec_ids


def _port_of(trader: Trader) -> int:
    line = trader.line
    assert line is not None
    return line.port


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
