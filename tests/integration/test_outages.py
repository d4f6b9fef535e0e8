"""A part of a whole exchange is away or its disk is full: the others say so, wait, and go on.

A full disk is a limit on the size of files (RLIMIT_FSIZE), put on a running process a few bytes
behind what it has written: the next record is torn, and every write after it is refused.
"""

from __future__ import annotations

import json
import os
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from engine.journal_reader import segment_paths
from gateway.fixlog import FixLogFilter, read_fixlog
from tests.exchange_process import ExchangeProcess
from tests.helpers import eventually
from tests.integration.test_up import cancel, log_off, order
from tests.venue import Peer

UNLIMITED = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
ROOM_BYTES = 20
CALL_TIMEOUT_S = 15
"""After so long without a reply Redis counts as away: longer than a busy machine stands still."""
HEART_BT_INT_S = 10
"""Of a session in an outage of Redis; it is given up after 2.4 of these without a word."""


@pytest.fixture(scope="module")
def exchange(
    tmp_path_factory: pytest.TempPathFactory, redis_binary: str
) -> Iterator[ExchangeProcess]:
    process = ExchangeProcess(
        tmp_path_factory.mktemp("outages"),
        SHARDEX_REDIS__BINARY=redis_binary,
        SHARDEX_REDIS__CALL_TIMEOUT_MS=str(CALL_TIMEOUT_S * 1_000),
    )
    try:
        process.start()
        yield process
    finally:
        process.stop()


@contextmanager
def full_disk(pid: int, path: Path) -> Iterator[None]:
    """Let a process write only a few bytes more into its largest file."""
    limit = path.stat().st_size + ROOM_BYTES
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, UNLIMITED)


def journal(exchange: ExchangeProcess, process: str) -> Path:
    return segment_paths(exchange.var / "journals" / process)[-1]


def problems(exchange: ExchangeProcess) -> str:
    done = exchange.call("status", "--json")
    return "; ".join(json.loads(done.out)["problems"])


def problems_with(exchange: ExchangeProcess, text: str) -> str:
    """Wait until status names a problem with this text, and return all that it names then."""

    def found() -> str:
        named = problems(exchange)
        return named if text in named else ""

    return eventually(found)


def adds_up(exchange: ExchangeProcess) -> bool:
    return exchange.call("reconcile").code == 0


def redis_pid(exchange: ExchangeProcess) -> int:
    with exchange.redis() as client:
        return int(client.info("server")["process_id"])


async def test_a_gateway_whose_disk_is_full_refuses_orders_until_there_is_room(
    exchange: ExchangeProcess,
) -> None:
    maker, taker = await exchange.log_on(0), await exchange.log_on(1, gateway=1)
    maker.send(order("ALFA-USD", "f1", 2, 10, "60.00"))
    await maker.expect("8", t150="0", t11="f1")
    with full_disk(exchange.pid_of("gateway-1"), journal(exchange, "gateway-1")):
        for number in ("f2", "f3"):
            maker.send(order("ALFA-USD", number, 2, 10, "60.00"))
            refused = await maker.expect("j", t380="4", t379=number)
            assert refused["58"] == "The gateway cannot write its journal; try again"
        maker.send(cancel("ALFA-USD", "f4", "f1", 2))
        await maker.expect("j", t380="4", t379="f4")
        named = problems_with(exchange, "gateway-1: orders are refused (380=4)")
        assert "File too large" in named
        # Sessions live on: messages of theirs, reports, and others who log on.
        maker.send("35=1|112=still-there")
        await maker.expect("0", t112="still-there")
        taker.send(order("ALFA-USD", "f5", 1, 4, "60.00"))
        await taker.expect("8", t150="0")
        await taker.expect("8", t150="F", t32="4")
        await maker.expect("8", t150="F", t11="f1", t32="4")
        other = await exchange.log_on(2)
        await log_off(other)
    eventually(lambda: "gateway-1" not in problems(exchange))
    maker.send(order("ALFA-USD", "f6", 2, 10, "60.00"))
    accepted = await maker.expect("8", t150="0", t11="f6")
    assert accepted["151"] == "10"
    rests = [{"price": "60.00", "qty": "16", "orders": 2}]
    eventually(lambda: exchange.json("book", "ALFA-USD")["asks"] == rests)
    for peer in (maker, taker):
        await log_off(peer)
    check_raw_journal(exchange, maker)
    eventually(lambda: adds_up(exchange))


def check_raw_journal(exchange: ExchangeProcess, peer: Peer) -> None:
    """Every message of the session is there, also those of the time without room, in order.

    Soon: the journal's stage runs beside the session, which has answered the last one.
    """
    show = FixLogFilter(session=peer.account)

    def recorded(direction: str) -> list[int]:
        lines = list(read_fixlog(exchange.var / "journals" / "gateway-1", show))
        numbers = [line.text.split("|34=")[1] for line in lines if line.direction == direction]
        return [int(text.split("|")[0]) for text in numbers]

    for direction, count in (("<", peer.next_out - 1), (">", len(peer.received))):
        eventually(lambda: len(recorded(direction)) >= count)  # noqa: B023
        assert recorded(direction) == list(range(1, count + 1))


async def test_an_engine_whose_disk_is_full_acknowledges_nothing_until_there_is_room(
    exchange: ExchangeProcess,
) -> None:
    peer = await exchange.log_on(3)
    peer.send(order("BETA-USD", "g1", 1, 5, "7.00"))
    await peer.expect("8", t150="0", t11="g1")
    with full_disk(exchange.pid_of("engine-1"), journal(exchange, "engine-1")):
        for number in ("g2", "g3"):
            peer.send(order("BETA-USD", number, 1, 5, "7.00"))
        problems_with(exchange, "engine-1: nothing is committed")
        # The other shard trades on, and what the full one has not recorded is not acknowledged.
        peer.send(order("GAMMA-USD", "g4", 1, 5, "7.00"))
        await peer.expect("8", t150="0", t11="g4")
        peer.send("35=1|112=nothing-before")
        await peer.expect("0", t112="nothing-before")
        assert exchange.pid_of("engine-1")
    for number in ("g2", "g3"):
        await peer.expect("8", t150="0", t11=number)
    peer.send("35=1|112=nothing-twice")
    await peer.expect("0", t112="nothing-twice")
    eventually(lambda: "engine-1" not in problems(exchange))
    rests = [{"price": "7.00", "qty": "15", "orders": 3}]
    eventually(lambda: exchange.json("book", "BETA-USD")["bids"] == rests)
    await log_off(peer)
    eventually(lambda: adds_up(exchange))


async def test_sessions_outlive_a_redis_that_does_not_answer(exchange: ExchangeProcess) -> None:
    """Longer than a call waits, and than the leases of sessions and shards last."""
    peer = await exchange.log_on(1, gateway=1, heart_bt_int_s=HEART_BT_INT_S)
    peer.send(order("ALFA-USD", "i1", 1, 5, "9.00"))
    await peer.expect("8", t150="0", t11="i1")
    stopped, before = redis_pid(exchange), len(exchange.said)
    os.kill(stopped, signal.SIGSTOP)
    refused = [f"refused-{number}" for number in range(3)]
    try:
        # In doubt until Redis answers; what comes behind it is not.
        peer.send(order("ALFA-USD", "i2", 1, 5, "9.00"))
        while "gateway-2: router: admission: Redis is away" not in exchange.said[before:]:
            assert (await peer.expect_any())["35"] in ("0", "1")
            peer.send("35=0")
        for name in refused:
            peer.send(order("ALFA-USD", name, 1, 5, "9.00"))
            answer = await after_heartbeats(peer)
            assert (answer["35"], answer["380"], answer["379"]) == ("j", "4", name)
        # The session goes on by itself.
        while (await peer.expect_any())["35"] != "0":
            peer.send("35=0")
    finally:
        os.kill(stopped, signal.SIGCONT)
    # On record, and so said again: orders are taken again then.
    answers = [await after_heartbeats(peer) for _ in ("i2", *refused)]
    told = sorted((one["35"], one.get("379") or one["11"]) for one in answers)
    assert told == [("8", "i2"), *(("j", name) for name in refused)]
    peer.send(order("ALFA-USD", "i3", 1, 5, "9.00"))
    accepted = await after_heartbeats(peer)
    assert (accepted["35"], accepted["150"], accepted["11"]) == ("8", "0", "i3")
    rests = [{"price": "9.00", "qty": "15", "orders": 3}]
    eventually(lambda: exchange.json("book", "ALFA-USD")["bids"] == rests)
    await peer.close()
    eventually(lambda: adds_up(exchange))


async def after_heartbeats(peer: Peer) -> dict[str, str]:
    """Return the next message that is none of the session's own; answer those."""
    while (message := await peer.expect_any())["35"] in ("0", "1"):
        peer.send("35=0")
    return message


async def test_redis_whose_disk_is_full_ends_and_is_back_when_there_is_room(
    exchange: ExchangeProcess,
) -> None:
    peer = await exchange.log_on(0)
    largest = max((exchange.var / "redis").rglob("*.aof*"), key=lambda path: path.stat().st_size)
    before = len(exchange.said)
    # What `up` starts inherits its limits: there is no room for the next Redis.
    with full_disk(exchange.pid, largest):
        os.kill(redis_pid(exchange), signal.SIGKILL)
        eventually(lambda: "redis ended with status 1" in exchange.said[before:])
        # The first one may have been admitted for all that its gateway knows: it is, or will be.
        peer.send(order("DELTA-USD", "h1", 1, 5, "8.00"))
        away = "gateway-1: router: admission: Redis is away"
        eventually(lambda: away in exchange.said[before:])
        peer.send(order("DELTA-USD", "h2", 1, 5, "8.00"))
        await peer.expect("j", t380="4", t379="h2")
    answers = [await peer.expect_any() for _ in range(2)]
    told = sorted((one["35"], one.get("379") or one["11"]) for one in answers)
    assert told == [("8", "h1"), ("j", "h2")], "on record, and so said again"
    peer.send(order("DELTA-USD", "h3", 1, 5, "8.00"))
    await peer.expect("8", t150="0", t11="h3")
    await log_off(peer)
    eventually(lambda: adds_up(exchange))


async def test_client_of_a_killed_gateway_gets_what_it_missed_in_order_and_once(
    exchange: ExchangeProcess,
) -> None:
    maker, taker = await exchange.log_on(2), await exchange.log_on(3, gateway=1)
    maker.send(order("GAMMA-USD", "k1", 2, 6, "70.00"))
    accepted = await maker.expect("8", t150="0", t11="k1")
    killed = exchange.pid_of("gateway-1")
    os.kill(killed, signal.SIGKILL)
    await maker.expect_closed()
    await maker.close()
    for number in range(3):
        taker.send(order("GAMMA-USD", f"k2-{number}", 1, number + 1, "70.00"))
        await taker.expect("8", t150="0")
        await taker.expect("8", t150="F")

    # At once: the Logon waits for the end of the dead gateway's lease.
    back = await exchange.log_on(2, gateway=1)
    missed = [await back.expect("8", t150="F", t11="k1") for _ in range(3)]
    assert [one["32"] for one in missed] == ["1", "2", "3"]
    assert not any("43" in one for one in missed)
    first = int(accepted["34"])
    assert int(missed[0]["34"]) > first + 1

    back.send(f"35=2|7={first}|16=0")
    again = await back.expect("8", t34=accepted["34"], t43="Y", t11="k1")
    assert (again["17"], again["122"]) == (accepted["17"], accepted["52"])
    await back.expect("4", t34=str(first + 1), t36=missed[0]["34"], t123="Y", t43="Y")
    for one in missed:
        again = await back.expect("8", t34=one["34"], t43="Y")
        assert (again["17"], again["122"]) == (one["17"], one["52"])
    back.send("35=1|112=nothing-more")
    await back.expect("0", t112="nothing-more")
    for peer in (back, taker):
        await log_off(peer)
    eventually(lambda: exchange.pid_of("gateway-1") not in (0, killed))
