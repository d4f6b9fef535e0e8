"""``shardex reconcile`` beside trading, at rest, without processes; and everything it must find."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
import redis

from ops import reconcile_streams
from ops.embedded_postgres import EmbeddedPostgres
from ops.embedded_redis import EmbeddedRedis
from ops.endpoints import Credentials
from ops.torture_trader import Trader
from tests.exchange_process import ExchangeProcess, own_servers
from tests.helpers import eventually, eventually_async

DATABASE = "test_reconcile"
SYMBOLS = ("ALFA-USD", "GAMMA-USD")
ALFA_DB = 1
ANSWERS = 60
"""Between two looks, by each trader."""


@pytest.fixture(scope="module")
def exchange(
    tmp_path_factory: pytest.TempPathFactory,
    embedded_redis: EmbeddedRedis,
    embedded_postgres: EmbeddedPostgres,
) -> Iterator[ExchangeProcess]:
    process = ExchangeProcess(
        tmp_path_factory.mktemp("reconcile"),
        **own_servers(embedded_redis.url, embedded_postgres.url, DATABASE),
        SHARDEX_RECONCILE_INTERVAL_S="1",
    )
    try:
        process.start()
        yield process
    finally:
        process.stop()


@pytest.fixture(scope="module")
def resting(exchange: ExchangeProcess) -> int:
    """An account with an open order in ALFA-USD, beside what the traders have left."""
    account = int(exchange.endpoints["users"][3]["username"])
    asyncio.run(place(exchange, "rest", "1.00"))
    # What is damaged must be there: entry 5-0 of orders, 2-0 of the outbox.
    for number in range(4):
        asyncio.run(place(exchange, f"rest-{number}", "1.01"))
    return account


def keep_three_events(exchange: ExchangeProcess) -> None:
    """Place orders until the last event but one of ALFA-USD stays, and one before it.

    When all have read them, whole nodes of the stream go; the last entry may be alone in its node.
    A stream that lacks its first entry would be as if trimmed.
    """
    while retained_events(exchange) < 3:
        number = _settled(exchange, "ALFA-USD")
        asyncio.run(place(exchange, f"more-{number}", "1.01"))


async def place(exchange: ExchangeProcess, cl_ord_id: str, price: str) -> None:
    peer = await exchange.log_on(3)
    peer.send(f"35=D|11={cl_ord_id}|55=ALFA-USD|54=1|60=now|38=5|40=2|44={price}")
    await peer.expect("8", t150="0", t11=cl_ord_id)
    peer.send("35=5")
    await peer.expect("5")
    await peer.close()


def retained_events(exchange: ExchangeProcess) -> int:
    """Return how many events of ALFA-USD stay, once all of them are read and trimmed as usual."""
    settled = _settled(exchange, "ALFA-USD")
    stored = "SELECT position FROM stream_positions WHERE stream = 'ALFA-USD'"
    eventually(lambda: exchange.query(stored) == [(settled,)])
    with exchange.redis() as client:
        eventually(lambda: client.hget("position:marketdata", "ALFA-USD") == b"%d" % settled)
        client.select(ALFA_DB)
        client.xtrim("events:ALFA-USD", minid=settled, approximate=True)
        return int(client.xlen("events:ALFA-USD"))


def differences(exchange: ExchangeProcess) -> list[dict[str, str]]:
    done = exchange.call("reconcile", "--json")
    found: list[dict[str, str]] = json.loads(done.out)["differences"]
    assert done.code == (1 if found else 0), done
    return found


async def test_it_is_clean_while_everybody_trades(exchange: ExchangeProcess) -> None:
    endpoints = exchange.endpoints
    traders = [
        Trader(
            Credentials(user["sender_comp_id"], user["username"], user["password"]),
            endpoints["target_comp_id"],
            SYMBOLS,
            seed=f"{number}",
            ports=lambda: [one["port"] for one in endpoints["fix"]],
            gateway=number % 2,
            pause_s=0.012,
            roams=False,
        )
        for number, user in enumerate(endpoints["users"][:3])
    ]

    def answers() -> int:
        return min(sum(one.record.answers.values()) for one in traders)

    settled: list[int] = []
    async with asyncio.TaskGroup() as tasks:
        runs = [tasks.create_task(trader.run()) for trader in traders]
        await eventually_async(lambda: all(one.is_active for one in traders))
        for trader in traders:
            trader.trading = True
        for command in (exchange.run, exchange.call, exchange.call):
            wanted = answers() + ANSWERS
            await eventually_async(lambda: answers() >= wanted)  # noqa: B023
            done = await asyncio.to_thread(command, "reconcile", "--json")
            result = json.loads(done.out)
            assert (result["differences"], done.code) == ([], 0), done
            settled.append(sum(result["settled"].values()))
        for trader in traders:
            trader.trading = False
        await eventually_async(
            lambda: not any(one.record.unanswered or one.record.expiring for one in traders)
        )
        for run in runs:
            run.cancel()
    assert settled == sorted(set(settled)), "it was traded between two looks"
    assert "ALARM" not in exchange.said


async def test_what_an_engine_has_not_settled_is_pending_and_accounted_for(
    exchange: ExchangeProcess, resting: int
) -> None:
    peer = await exchange.log_on(3)
    pid = exchange.pid_of("engine-1")
    os.kill(pid, signal.SIGSTOP)
    try:
        for side, price in ((1, "2.00"), (2, "900.00")):
            text = f"35=D|11=p{side}|55=ALFA-USD|54={side}|60=now|38=4|40=2|44={price}"
            peer.send(text)
        pending = ("USD:p", "ALFA:p")
        await eventually_async(
            lambda: all(exchange.balances(str(resting)).get(name) for name in pending)
        )
        done = await asyncio.to_thread(exchange.call, "reconcile", "--json")
        result = json.loads(done.out)
        assert (result["differences"], result["unsettled"], done.code) == ([], 2, 0)
    finally:
        os.kill(pid, signal.SIGCONT)
    for side in (1, 2):
        await peer.expect("8", t150="0", t11=f"p{side}")
    peer.send("35=5")
    await peer.expect("5")
    await peer.close()


@dataclass(frozen=True)
class Damage:
    """A key of Redis, a command that damages it, and the checks that must see it.

    In the command {a} is the account with the resting order, {end} the end of ALFA-USD's orders.
    """

    key: str
    command: tuple[str, ...]
    seen_by: frozenset[str]
    db: int = 0


def damage(key: str, *command: str, seen_by: str, db: int = 0) -> Damage:
    return Damage(key, command, frozenset(seen_by.split(", ")), db)


DAMAGES = [
    damage("bal:{a}", "HINCRBY", "USD:a", "1", seen_by="money, balance"),
    damage("bal:{a}", "HINCRBY", "USD:h", "-1", seen_by="money, balance, held"),
    damage("bal:{a}", "HINCRBY", "USD:p", "1", seen_by="money, balance, pending"),
    damage("bal:{a}", "HSET", "BETA:a", "-3", seen_by="money, balance, negative"),
    damage("totals", "HINCRBY", "USD", "1", seen_by="money, totals"),
    damage("open:{a}", "HDEL", "ALFA-USD|rest", seen_by="open order, held"),
    damage("open:{a}", "HSET", "ALFA-USD|new", "9 1 2 3 0 6 0 2 1 0", seen_by="open order, held"),
    damage("open:{a}", "HSET", "ALFA-USD|new", "nonsense", seen_by="open order, held"),
    damage("bbo", "HSET", "ALFA-USD", "1 2 3", seen_by="best prices"),
    damage("settled", "HINCRBY", "ALFA-USD", "1", seen_by="positions, replay, dense, events"),
    damage("settled", "HSET", "LOST-USD", "4", seen_by="home"),
    damage("copies", "HSET", "{a}", "1", seen_by="copies"),
    damage("disconnects", "ZADD", "9000000000000", "999", seen_by="disconnects"),
    damage("ledger", "XDEL", "2-0", seen_by="dense, replay"),
    damage("outbox:{a}", "XDEL", "2-0", seen_by="dense"),
    damage("orders:ALFA-USD", "XDEL", "5-0", db=ALFA_DB, seen_by="dense, replay"),
    damage("events:ALFA-USD", "XDEL", "{before}-0", db=ALFA_DB, seen_by="dense, events"),
    # Behind all that needs the engine: it ends of that, and its journal has it for ever.
    damage("orders:ALFA-USD", "XADD", "{next}-0", "c", "x", "t", "1", db=ALFA_DB, seen_by="replay"),
    damage("events:ALFA-USD", "XADD", "{next}-0", "e", "x", db=ALFA_DB, seen_by="positions"),
]


@pytest.mark.parametrize(
    "damage", DAMAGES, ids=lambda one: "-".join((one.key.split(":")[0], *one.command[:2]))
)
def test_damage_in_redis_is_named(
    exchange: ExchangeProcess,
    resting: int,
    damage: Damage,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # At rest an engine has published what it has settled: nobody needs to wait for it.
    monkeypatch.setattr(reconcile_streams, "PUBLISH_WAIT_S", 0.1)
    if "{before}-0" in damage.command:
        keep_three_events(exchange)
    with redis.Redis.from_url(exchange.endpoints["redis_url"], db=damage.db) as client:
        end = _settled(exchange, "ALFA-USD")
        names = {"a": resting, "before": end - 1, "next": end + 1}
        key = damage.key.format(**names)
        verb, *arguments = (part.format(**names) for part in damage.command)
        whole = client.dump(key)
        client.execute_command(verb, key, *arguments)
        assert client.dump(key) != whole, "it is damaged"
        try:
            found = differences(exchange)
        finally:
            client.delete(key)
            if whole is not None:
                client.restore(key, 0, whole)
    assert {one["check"] for one in found} == damage.seen_by, found
    assert differences(exchange) == []


def test_an_event_of_other_bytes_is_named(exchange: ExchangeProcess, resting: int) -> None:
    with redis.Redis.from_url(exchange.endpoints["redis_url"], db=ALFA_DB) as client:
        key, end = "events:ALFA-USD", _settled(exchange, "ALFA-USD")
        whole = client.dump(key)
        client.xdel(key, f"{end}-0")
        client.execute_command("XSETID", key, f"{end - 1}-0")
        client.xadd(key, {"e": b"something else"}, id=f"{end}-0")
        try:
            found = differences(exchange)
        finally:
            client.restore(key, 0, whole, replace=True)
    assert found == [
        {"check": "events", "where": key, "text": f"entry {end} is not what its command gives"}
    ]


@pytest.mark.parametrize(
    ("change", "undo", "seen_by"),
    [
        (
            "UPDATE balances SET available = available + 0.000001 WHERE user_id = %s"
            " AND asset = 'USD'",
            "UPDATE balances SET available = available - 0.000001 WHERE user_id = %s"
            " AND asset = 'USD'",
            "postgres balance",
        ),
        (
            "UPDATE orders SET status = 'canceled' WHERE user_id = %s AND cl_ord_id = 'rest'",
            "UPDATE orders SET status = 'new' WHERE user_id = %s AND cl_ord_id = 'rest'",
            "postgres open order",
        ),
        (
            "UPDATE orders SET price = price + 0.01 WHERE user_id = %s AND cl_ord_id = 'rest'",
            "UPDATE orders SET price = price - 0.01 WHERE user_id = %s AND cl_ord_id = 'rest'",
            "postgres open order",
        ),
        (
            "UPDATE stream_positions SET position = position + 1 WHERE stream = 'ALFA-USD'"
            " AND %s > 0",
            "UPDATE stream_positions SET position = position - 1 WHERE stream = 'ALFA-USD'"
            " AND %s > 0",
            "postgres position",
        ),
    ],
)
def test_damage_in_postgres_is_named(
    exchange: ExchangeProcess, resting: int, change: str, undo: str, seen_by: str
) -> None:
    def execute(statement: str) -> None:
        with psycopg.connect(exchange.endpoints["postgres_url"]) as db:
            assert db.execute(statement.encode(), [resting]).rowcount == 1

    execute(change)
    try:
        found = differences(exchange)
    finally:
        execute(undo)
    assert [one["check"] for one in found] == [seen_by], found
    assert differences(exchange) == []


def test_up_raises_an_alarm_and_says_when_it_is_over(
    exchange: ExchangeProcess, resting: int
) -> None:
    before = len(exchange.said)
    with exchange.redis() as client:
        client.hincrby(f"bal:{resting}", "USD:a", 1)
        try:
            eventually(lambda: "ALARM reconcile: money: USD: " in exchange.said[before:])
            printed = exchange.call("reconcile")
        finally:
            client.hincrby(f"bal:{resting}", "USD:a", -1)
    assert printed.code == 1
    assert [line.split(": ")[0] for line in printed.out.splitlines()] == [
        "money",
        "balance",
        "2 differences",
    ]
    eventually(lambda: "reconcile: no difference any more" in exchange.said[before:])


def test_a_balance_that_is_no_number_is_an_error_and_ends_nobody(
    exchange: ExchangeProcess, resting: int
) -> None:
    before = len(exchange.said)
    with exchange.redis() as client:
        whole = client.dump(f"bal:{resting}")
        client.hset(f"bal:{resting}", "BETA:a", "many")
        try:
            eventually(lambda: "ALARM reconcile: Redis has" in exchange.said[before:])
            done = exchange.call("reconcile")
        finally:
            client.restore(f"bal:{resting}", 0, whole, replace=True)
    assert (done.code, done.out) == (1, "")
    assert "'many'" in done.err
    assert differences(exchange) == []


def test_a_stopped_venue_is_reconciled_too(exchange: ExchangeProcess) -> None:
    exchange.stop()
    done = exchange.call("reconcile")
    assert done.code == 0, done
    assert done.out.startswith("clean: ")


def _settled(exchange: ExchangeProcess, symbol: str) -> int:
    with exchange.redis() as client:
        found: Any = client.hget("settled", symbol)
    return int(found)
