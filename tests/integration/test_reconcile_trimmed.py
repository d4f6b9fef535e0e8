"""``shardex reconcile`` where orders have been trimmed: from snapshots, from journals, in part."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis

from engine.commands import CancelAll
from engine.snapshot import decode_snapshot, encode_snapshot
from engine.turn import Turn
from ops import reconcile_reader
from ops.embedded_postgres import EmbeddedPostgres
from ops.embedded_redis import EmbeddedRedis
from router.redis_client import RedisLink
from router.venue_cut import VenueCut, read_venue_cut
from tests.exchange_process import ExchangeProcess, own_servers
from tests.helpers import eventually, eventually_async
from tests.integration.test_reconcile import Damage, damage

DATABASE = "test_reconcile_trimmed"
ALFA = "ALFA-USD"
ALFA_DB = 1
INPUTS_MIN = 10
"""Inputs without which no snapshot is made."""


@pytest.fixture(scope="module")
def exchange(
    tmp_path_factory: pytest.TempPathFactory,
    embedded_redis: EmbeddedRedis,
    embedded_postgres: EmbeddedPostgres,
) -> Iterator[ExchangeProcess]:
    process = ExchangeProcess(
        tmp_path_factory.mktemp("trimmed"),
        **own_servers(embedded_redis.url, embedded_postgres.url, DATABASE),
        SHARDEX_GATEWAY__COUNT="1",
        SHARDEX_ENGINE__SNAPSHOT_INTERVAL_S="1",
        SHARDEX_ENGINE__SNAPSHOT_INPUTS_MIN=str(INPUTS_MIN),
    )
    try:
        process.start()
        asyncio.run(_trade(process))
        yield process
    finally:
        process.stop()


async def _trade(exchange: ExchangeProcess) -> None:
    """Trade until two snapshots are there, trim what they make needless, and trade on a little."""
    buyer, seller = await exchange.log_on(3), await exchange.log_on(0)
    number = 0

    async def inputs(count: int) -> None:
        nonlocal number
        for _ in range(count):
            number += 1
            peer, side = (buyer, 1) if number % 3 else (seller, 2)
            price = "10.00" if number % 4 == 0 or side == 2 else f"{1 + number % 7}.00"
            peer.send(f"35=D|11=n{number}|55={ALFA}|54={side}|60=now|38=3|40=2|44={price}")
            while (answer := await peer.expect_any())["11"] != f"n{number}" or answer["150"] != "0":
                pass

    buyer.send(f"35=D|11=rest|55={ALFA}|54=1|60=now|38=5|40=2|44=1.00")
    await buyer.expect("8", t150="0", t11="rest")
    floor = 0
    while not floor:
        await inputs(INPUTS_MIN)
        with exchange.redis() as client:
            floor = _number(client.hget("position:engine-1", ALFA))
    with _alfa(exchange) as shard:
        shard.xtrim(f"orders:{ALFA}", minid=floor, approximate=False)
    while True:
        # No further snapshot is made of what comes now: it is too little.
        await eventually_async(lambda: _unsaved(exchange) < INPUTS_MIN)
        await inputs(INPUTS_MIN - 1 - _unsaved(exchange))
        await eventually_async(lambda: _is_read(exchange))
        # As it is going to be trimmed. Three outputs must stay, so that one is missed.
        with _alfa(exchange) as shard:
            shard.xtrim(f"events:{ALFA}", minid=_settled(exchange))
            if shard.xlen(f"events:{ALFA}") > 2:
                break
        await inputs(1)
    for peer in (buyer, seller):
        await peer.close()


def _settled(exchange: ExchangeProcess) -> int:
    with exchange.redis() as client:
        return _number(client.hget("settled", ALFA))


def _is_read(exchange: ExchangeProcess) -> bool:
    """Tell whether all have everything, and the engine keeps two snapshots and has said so."""
    settled = _settled(exchange)
    with exchange.redis() as client:
        seen = _number(client.hget("position:marketdata", ALFA))
        floor = _number(client.hget("position:engine-1", ALFA))
    stored = f"SELECT position FROM stream_positions WHERE stream = '{ALFA}'"
    is_read = seen == settled and exchange.query(stored) == [(settled,)]
    return is_read and [seq for _, seq in _snapshots(exchange)][:-1] == [floor]


def _unsaved(exchange: ExchangeProcess) -> int:
    return _settled(exchange) - _newest_snapshot(exchange)[1]


def _number(value: Any) -> int:
    return int(value or 0)


def _alfa(exchange: ExchangeProcess) -> redis.Redis:
    client: redis.Redis = redis.Redis.from_url(exchange.endpoints["redis_url"], db=ALFA_DB)
    return client


def _snapshots(exchange: ExchangeProcess) -> list[tuple[Path, int]]:
    found = (exchange.var / "snapshots").glob(f"engine-1*/{ALFA}.*.snapshot")
    return sorted(((path, int(path.name.split(".")[1])) for path in found), key=lambda one: one[1])


def _newest_snapshot(exchange: ExchangeProcess) -> tuple[Path, int]:
    return _snapshots(exchange)[-1]


def reconciled(exchange: ExchangeProcess, *more: str) -> dict[str, Any]:
    done = exchange.call("reconcile", "--json", *more)
    found: dict[str, Any] = json.loads(done.out)
    assert done.code == (1 if found["differences"] else 0), done
    return found


def test_what_is_trimmed_is_proved_from_snapshots(exchange: ExchangeProcess) -> None:
    with _alfa(exchange) as shard:
        assert int(shard.xrange(f"orders:{ALFA}", count=1)[0][0].partition(b"-")[0]) > 1
    result = reconciled(exchange)
    assert (result["differences"], result["unchecked"]) == ([], [])
    assert result["proof"] == "snapshots and PostgreSQL"
    newest = _newest_snapshot(exchange)[1]
    assert result["snapshots"][ALFA] == newest
    # The other symbols have their definition, and may have a snapshot behind it.
    assert result["settled"][ALFA] - newest == (replayed := INPUTS_MIN - 1)
    assert replayed <= result["replayed"] <= replayed + 3
    printed = exchange.call("reconcile").out.splitlines()
    assert f"{ALFA} at {newest}" in printed[0]
    assert printed[-1].startswith("clean: ")
    assert printed[-1].endswith("; by snapshots and PostgreSQL")


def test_journals_prove_it_from_the_first_command(exchange: ExchangeProcess) -> None:
    result = reconciled(exchange, "--full")
    assert (result["differences"], result["unchecked"]) == ([], [])
    assert result["proof"] == "journals"
    assert result["snapshots"][ALFA] == _newest_snapshot(exchange)[1]
    assert result["replayed"] == sum(result["settled"].values())
    assert "ALARM" not in exchange.said


def test_what_is_trimmed_while_it_is_read_is_looked_at_again(
    exchange: ExchangeProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 0
    with _alfa(exchange) as shard:
        key = f"orders:{ALFA}"
        whole = shard.dump(key)

        async def read_cut(link: RedisLink) -> VenueCut:
            nonlocal looks
            looks += 1
            if looks == 2:
                shard.restore(key, 0, whole, replace=True)
            cut = await read_venue_cut(link)
            if looks == 1:
                shard.xtrim(key, minid=cut.symbols[ALFA].settled, approximate=False)
            return cut

        monkeypatch.setattr(reconcile_reader, "read_venue_cut", read_cut)
        assert (reconciled(exchange)["differences"], looks) == ([], 2)


BOOK = "open order, held, postgres open order"
DAMAGES = [
    damage("bal:{a}", "HINCRBY", "USD:a", "1", seen_by="money, balance"),
    damage("bal:{a}", "HINCRBY", "USD:h", "-1", seen_by="money, balance, held"),
    damage("bal:{a}", "HINCRBY", "USD:p", "1", seen_by="money, balance, pending"),
    damage("bal:{a}", "HSET", "BETA:a", "-3", seen_by="money, balance, negative"),
    damage("totals", "HINCRBY", "USD", "1", seen_by="money, totals"),
    damage("open:{a}", "HDEL", "ALFA-USD|rest", seen_by=BOOK),
    damage("open:{a}", "HSET", "ALFA-USD|new", "9 1 2 3 0 6 0 2 1 0", seen_by=BOOK),
    damage("open:{a}", "HSET", "ALFA-USD|new", "nonsense", seen_by=BOOK),
    damage("bbo", "HSET", "ALFA-USD", "1 2 3", seen_by="best prices"),
    damage("settled", "HSET", "LOST-USD", "4", seen_by="home"),
    damage("ledger", "XDEL", "2-0", seen_by="dense, replay"),
    damage("outbox:{a}", "XDEL", "2-0", seen_by="dense"),
    damage("orders:ALFA-USD", "XDEL", "{floor}-0", db=ALFA_DB, seen_by="dense"),
    damage("orders:ALFA-USD", "XDEL", "{before}-0", db=ALFA_DB, seen_by="dense"),
    damage("orders:ALFA-USD", "XTRIM", "MINID", "{beyond}", db=ALFA_DB, seen_by="dense"),
    damage("events:ALFA-USD", "XDEL", "{before}-0", db=ALFA_DB, seen_by="dense, events"),
]


@pytest.mark.parametrize(
    "damage", DAMAGES, ids=lambda one: "-".join((one.key.split(":")[0], *one.command[:2]))
)
def test_damage_in_redis_is_named(exchange: ExchangeProcess, damage: Damage) -> None:
    with redis.Redis.from_url(exchange.endpoints["redis_url"], db=damage.db) as client:
        with exchange.redis() as accounts:
            end = _number(accounts.hget("settled", ALFA))
            floor = _number(accounts.hget("position:engine-1", ALFA))
        account = exchange.endpoints["users"][3]["sender_comp_id"]
        names = {"a": account, "before": end - 1, "floor": floor, "beyond": floor + 1}
        key = damage.key.format(**names)
        verb, *arguments = (part.format(**names) for part in damage.command)
        whole = client.dump(key)
        client.execute_command(verb, key, *arguments)
        try:
            found = reconciled(exchange)["differences"]
        finally:
            client.restore(key, 0, whole, replace=True)
    assert {one["check"] for one in found} == damage.seen_by, found


@pytest.mark.parametrize(
    ("change", "undo", "seen_by"),
    [
        (
            "UPDATE balances SET available = available + 0.000001 WHERE user_id = %s"
            " AND asset = 'USD'",
            "UPDATE balances SET available = available - 0.000001 WHERE user_id = %s"
            " AND asset = 'USD'",
            "balance",
        ),
        (
            "UPDATE orders SET status = 'canceled' WHERE user_id = %s AND cl_ord_id = 'rest'",
            "UPDATE orders SET status = 'new' WHERE user_id = %s AND cl_ord_id = 'rest'",
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
    exchange: ExchangeProcess, change: str, undo: str, seen_by: str
) -> None:
    def execute(statement: str) -> None:
        account = int(exchange.endpoints["users"][3]["sender_comp_id"])
        with psycopg.connect(exchange.endpoints["postgres_url"]) as db:
            assert db.execute(statement.encode(), [account]).rowcount == 1

    execute(change)
    try:
        found = reconciled(exchange)["differences"]
    finally:
        execute(undo)
    assert [one["check"] for one in found] == [seen_by], found
    assert reconciled(exchange)["differences"] == []


def test_an_event_of_other_bytes_is_named(exchange: ExchangeProcess) -> None:
    with _alfa(exchange) as client:
        key, end = f"events:{ALFA}", _settled(exchange)
        whole = client.dump(key)
        client.xdel(key, f"{end}-0")
        client.execute_command("XSETID", key, f"{end - 1}-0")
        client.xadd(key, {"e": b"something else"}, id=f"{end}-0")
        try:
            found = reconciled(exchange)["differences"]
        finally:
            client.restore(key, 0, whole, replace=True)
    assert found == [
        {"check": "events", "where": key, "text": f"entry {end} is not what its command gives"}
    ]


def test_a_snapshot_of_another_book_is_found_out(exchange: ExchangeProcess) -> None:
    path, seq = _newest_snapshot(exchange)
    whole = path.read_bytes()
    symbol, state = decode_snapshot(whole, name=path.name)
    account = int(exchange.endpoints["users"][3]["sender_comp_id"])
    # One that is whole and agrees with itself, but lacks an order.
    state.matcher.apply(Turn(seq), CancelAll(account))
    path.write_bytes(encode_snapshot(symbol, state))
    try:
        found = reconciled(exchange)["differences"]
        by_journals = reconciled(exchange, "--full")["differences"]
    finally:
        path.write_bytes(whole)
    [one] = by_journals
    assert (one["check"], one["where"]) == ("snapshot", f"{ALFA} at {seq}")
    assert "open order" in {one["check"] for one in found}, found
    assert any("|rest: is " in one["where"] + ": " + one["text"] for one in found)


@pytest.mark.parametrize("more", [(), ("--full",)])
def test_a_damaged_snapshot_is_named_and_replaced_by_the_one_before_it_or_said_to_be_missing(
    exchange: ExchangeProcess, more: tuple[str, ...]
) -> None:
    (older, older_seq), (newest, _) = _snapshots(exchange)  # there is no standby here
    kept = {path: path.read_bytes() for path in (older, newest)}
    try:
        newest.write_bytes(kept[newest][:-1])
        result = reconciled(exchange, *more)
        [one] = result["differences"]
        assert (one["check"], one["where"]) == ("snapshot", f"engine-1/{newest.name}")
        assert result["snapshots"][ALFA] == older_seq
        older.write_bytes(b"")
        result = reconciled(exchange, *more)
        names = [f"engine-1/{path.name}" for path in (newest, older)]
        assert [one["where"] for one in result["differences"]] == names
        assert ALFA not in result["snapshots"]
        shown = exchange.call("reconcile", *more)
        assert (shown.err, "2 differences: " in shown.out) == ("", True)
        if not more:
            [text] = result["unchecked"]
            assert text.startswith(f"{ALFA}: events and open orders against its commands: no snap")
            assert f"not checked: {text}" in shown.out
    finally:
        for path, data in kept.items():
            path.write_bytes(data)


def test_damage_in_a_journal_is_named_and_so_is_its_absence(exchange: ExchangeProcess) -> None:
    journal = exchange.var / "journals" / "engine-1"
    segment = sorted(journal.glob("*.journal"))[0]
    whole = segment.read_bytes()
    middle = len(whole) // 2
    segment.write_bytes(whole[:middle] + bytes([whole[middle] ^ 0xFF]) + whole[middle + 1 :])
    try:
        found = reconciled(exchange, "--full")["differences"]
    finally:
        segment.write_bytes(whole)
    # What lies behind the damage comes from the stream, as far as it has it.
    assert "journal" in {one["check"] for one in found}, found
    hidden = journal.rename(journal.with_name("elsewhere"))
    try:
        done = exchange.call("reconcile", "--full")
    finally:
        hidden.rename(journal)
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("shardex: shard 1: no journal engine-1 or engine-1-standby in ")


def test_what_postgres_lacks_is_added_from_events(exchange: ExchangeProcess) -> None:
    async def replace_and_cancel() -> None:
        peer = await exchange.log_on(3)
        peer.send(f"35=G|11=more|41=rest|55={ALFA}|54=1|60=now|38=9|40=2|44=1.00")
        await peer.expect("8", t150="5", t11="more")
        peer.send(f"35=F|11=end|41=more|55={ALFA}|54=1|60=now")
        await peer.expect("8", t150="4", t41="more")
        await peer.close()

    pid = exchange.pid_of("writer")
    assert pid, exchange.said
    os.kill(pid, signal.SIGSTOP)
    try:
        asyncio.run(replace_and_cancel())
        exchange.json("deposit", str(exchange.endpoints["users"][3]["username"]), "USD", "5",
                      "--ref", "behind")  # fmt: skip
        for more in ((), ("--full",)):
            result = reconciled(exchange, *more)
            assert result["differences"] == []
            assert result["written"][ALFA] == result["settled"][ALFA] - 2
            assert result["written"]["ledger"] > 0
    finally:
        os.kill(pid, signal.SIGCONT)
    stored = f"SELECT position FROM stream_positions WHERE stream = '{ALFA}'"
    eventually(lambda: exchange.query(stored) == [(result["settled"][ALFA],)])


def test_garbage_behind_what_is_settled_is_named_until_it_is_skipped(
    exchange: ExchangeProcess,
) -> None:
    pid = exchange.pid_of("engine-1")
    assert pid, exchange.said
    os.kill(pid, signal.SIGSTOP)
    seq = _settled(exchange) + 1
    with _alfa(exchange) as client:
        client.xadd(f"orders:{ALFA}", {"c": b"x", "t": 1}, id=f"{seq}-0")
        found = reconciled(exchange)["differences"]
        assert [one["check"] for one in found] == ["replay"], found
        client.hset(f"skips:{ALFA}", seq, "1 garbage")
        assert reconciled(exchange)["differences"] == []
    os.kill(pid, signal.SIGCONT)
