"""A poison command stops its shard alone; ``shardex skip`` moves past it, and all adds up."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Iterator

import pytest
import redis

from engine.commands import NewOrder, encode_command
from engine.enums import OrdType, SelfTradePrevention, Side, TimeInForce
from engine.events import Skipped, decode_output
from ops.embedded_postgres import EmbeddedPostgres
from ops.embedded_redis import EmbeddedRedis
from tests.exchange_process import ExchangeProcess, own_servers
from tests.helpers import DEADLINE_S, eventually, eventually_async
from tests.venue import Peer

DATABASE = "test_skip"
ALFA, GAMMA = "ALFA-USD", "GAMMA-USD"
ALFA_DB = 1
WAIT = ("--wait", f"{DEADLINE_S:.0f}")
"""For an engine that is started again ever later, the more often it has ended."""
CENT = 10_000
"""One cent in smallest units of USD."""


@pytest.fixture(scope="module")
def exchange(
    tmp_path_factory: pytest.TempPathFactory,
    embedded_redis: EmbeddedRedis,
    embedded_postgres: EmbeddedPostgres,
) -> Iterator[ExchangeProcess]:
    process = ExchangeProcess(
        tmp_path_factory.mktemp("skip"),
        **own_servers(embedded_redis.url, embedded_postgres.url, DATABASE),
        SHARDEX_GATEWAY__COUNT="1",
    )
    try:
        process.start()
        yield process
    finally:
        process.stop()


def order(symbol: str, cl_ord_id: str, price: str) -> str:
    return f"35=D|11={cl_ord_id}|55={symbol}|54=1|60=now|38=5|40=2|44={price}"


async def settled_all(exchange: ExchangeProcess) -> int:
    """Wait until nothing is under way in ALFA-USD, and return where its stream ends."""
    end = 0
    with exchange.redis() as client, redis.Redis.from_url(client_url(exchange)) as shard:

        def at_rest() -> bool:
            nonlocal end
            end = int(shard.xrevrange(f"orders:{ALFA}", count=1)[0][0].partition(b"-")[0])
            return int(client.hget("settled", ALFA)) == end

        await eventually_async(at_rest)
    return end


def client_url(exchange: ExchangeProcess) -> str:
    return f"{exchange.endpoints['redis_url']}/{ALFA_DB}"


async def plant(exchange: ExchangeProcess, command: bytes, stamp: int) -> int:
    """Append an entry to ALFA-USD's stream behind the gateways' backs; return its seq."""
    seq = await settled_all(exchange) + 1
    with redis.Redis.from_url(client_url(exchange)) as shard:
        shard.execute_command("XADD", f"orders:{ALFA}", f"{seq}-0", "c", command, "t", stamp)
    return seq


async def refused_by_the_engine(exchange: ExchangeProcess, seq: int) -> None:
    await eventually_async(lambda: f"{ALFA} seq {seq} cannot be applied" in exchange.said)


async def trades_on(peer: Peer, symbol: str, cl_ord_id: str) -> None:
    peer.send(order(symbol, cl_ord_id, "1.00"))
    await peer.expect("8", t150="0", t11=cl_ord_id)
    peer.send(f"35=F|11={cl_ord_id}x|41={cl_ord_id}|55={symbol}|54=1|60=now")
    await peer.expect("8", t150="4", t41=cl_ord_id)


async def skip(exchange: ExchangeProcess, seq: int, reason: str) -> dict[str, object]:
    done = await asyncio.to_thread(
        exchange.call, "skip", ALFA, str(seq), "--reason", reason, "--yes", "--json", *WAIT
    )
    assert done.code == 0, done
    found: dict[str, object] = json.loads(done.out)
    return found


async def test_poison_stops_its_shard_alone_until_it_is_skipped(exchange: ExchangeProcess) -> None:
    peer = await exchange.log_on(0)
    account = peer.account
    await trades_on(peer, ALFA, "a1")
    before = exchange.balances(str(account))

    # A real reservation, and a stamp that falls: an invariant of the engine.
    reserved = 5 * 100 * CENT + 100 * CENT // 1_000
    command = NewOrder(
        *(account, 1, 1, "poison", Side.BUY, OrdType.LIMIT, TimeInForce.GTC),
        *(False, SelfTradePrevention.NONE, 100, 5, 1, reserved),
    )
    seq = await plant(exchange, encode_command(command), stamp=1)
    with exchange.redis() as client:
        client.hincrby(f"bal:{account}", "USD:a", -reserved)
        client.hincrby(f"bal:{account}", "USD:p", reserved)
    await refused_by_the_engine(exchange, seq)
    await trades_on(peer, GAMMA, "g1")
    peer.send(order(ALFA, "a2", "1.00"))
    # Admitted, and behind the poison: its reservation comes on top.
    await eventually_async(lambda: exchange.balances(str(account))["USD:p"] > reserved)

    asked = exchange.call("skip", ALFA, str(seq), "--reason", "x")
    assert (asked.code, asked.err) == (1, "shardex: no terminal to ask at: use --yes\n")
    assert (
        f"{ALFA} seq {seq} (settled up to {seq - 1}, the stream ends at {seq + 1}): NewOrder"
        in (asked.out)
    )
    assert "cl_ord_id poison, side buy" in asked.out
    assert "price 1.00, qty 5, rules_version 1, reserved 5.001000 USD" in asked.out

    skipped = await skip(exchange, seq, "stamp fell")
    # What stands behind may be settled with it, or a moment later.
    assert skipped.pop("settled") in (seq, seq + 1)
    assert skipped == {
        "symbol": ALFA,
        "seq": seq,
        "reason": "stamp fell",
        "command": "NewOrder",
        "account": account,
        "cl_ord_id": "poison",
        "freed": {"USD": "5.001000"},
    }
    told = await peer.expect("8", t150="8", t39="8", t103="99", t11="poison")
    assert (told["37"], told["58"]) == (f"{ALFA}-{seq}", "Skipped by an operator: stamp fell")
    await peer.expect("8", t150="0", t11="a2")
    peer.send(f"35=F|11=a3|41=a2|55={ALFA}|54=1|60=now")
    await peer.expect("8", t150="4", t41="a2")
    assert exchange.balances(str(account)) == before
    peer.send("35=5")
    await peer.expect("5")
    await peer.close()


async def test_garbage_is_skipped_too_and_nobody_is_told(exchange: ExchangeProcess) -> None:
    seq = await plant(exchange, b"\xc1garbage", stamp=1)
    await refused_by_the_engine(exchange, seq)
    # The venue opens without the shard, though it is the one that clears the accounts' database.
    assert await asyncio.to_thread(exchange.signal, signal.SIGINT) == 0
    await asyncio.to_thread(exchange.start)
    peer = await exchange.log_on(0)
    await trades_on(peer, GAMMA, "g2")
    await peer.close()
    await exchange.released(0)
    shown = exchange.call("skip", ALFA, str(seq), "--reason", "garbage", "--yes", *WAIT)
    assert shown.code == 0, shown
    assert shown.out.splitlines() == [
        f"{ALFA} seq {seq} (settled up to {seq - 1}, the stream ends at {seq}): no command,"
        " 8 bytes: b'\\xc1garbage'",
        f"{ALFA} seq {seq}: skipped, settled up to {seq}",
    ]
    with redis.Redis.from_url(client_url(exchange)) as shard:
        [(_, fields)] = shard.xrange(f"events:{ALFA}", f"{seq}-0", f"{seq}-0")
    assert decode_output(fields[b"e"]).events == [Skipped(0, 0, "", "garbage", None)]
    peer = await exchange.log_on(0)
    await trades_on(peer, ALFA, "a5")
    await peer.close()


def test_what_cannot_be_skipped_is_refused(exchange: ExchangeProcess) -> None:
    for arguments, why in (
        ((ALFA, "1"), f"{ALFA} seq 1: settled already, up to "),
        (("NO-USD", "1"), "NO-USD: there is no such symbol"),
        ((ALFA, "999999"), f"{ALFA} seq 999999: the stream ends at "),
    ):
        done = exchange.call("skip", *arguments, "--reason", "x", "--yes")
        assert (done.code, done.out) == (1, "")
        assert done.err.startswith(f"shardex: {why}"), done.err
    assert exchange.call("skip", ALFA, "1", "--reason", " ", "--yes").err == (
        "shardex: reason: it is empty\n"
    )
    with pytest.raises(SystemExit) as usage:
        exchange.call("skip", ALFA, "1", "--yes")
    assert usage.value.code == 2


def test_all_adds_up_afterwards_and_the_journal_agrees(exchange: ExchangeProcess) -> None:
    done = exchange.call("reconcile")
    assert (done.code, done.out.startswith("clean: ")) == (0, True), done
    with exchange.redis() as client, redis.Redis.from_url(client_url(exchange)) as shard:
        settled = int(client.hget("settled", ALFA))
        count = shard.hlen(f"skips:{ALFA}")
    stored = f"SELECT position FROM stream_positions WHERE stream = '{ALFA}'"
    eventually(lambda: exchange.query(stored) == [(settled,)])
    skipped = "SELECT count(*) FROM executions WHERE kind = 'skipped'"
    assert exchange.query(skipped) == [(count,)]
    exchange.stop()
    replayed = exchange.call("replay", "--journal", str(exchange.var / "journals"), "--json")
    assert replayed.code == 0, replayed
    assert json.loads(replayed.out)["differences"] == []
