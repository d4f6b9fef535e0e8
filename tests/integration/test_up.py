"""``shardex up``: the whole exchange starts, trades, survives what ends, stops and goes on."""

from __future__ import annotations

import os
import re
import signal
import stat
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from tests.exchange_process import ExchangeProcess
from tests.helpers import eventually
from tests.venue import Peer

USD = 10**6
UNITS = {"USD": USD, "ALFA": 1, "BETA": 1, "GAMMA": 1, "DELTA": 1}
PROCESSES = ("gateway-1", "gateway-2", "engine-1", "engine-2", "marketdata", "writer")
FEE_PPM = {"maker": 100, "taker": 200}


@pytest.fixture(scope="module")
def exchange(
    tmp_path_factory: pytest.TempPathFactory, redis_binary: str
) -> Iterator[ExchangeProcess]:
    directory = tmp_path_factory.mktemp("exchange")
    process = ExchangeProcess(directory, SHARDEX_REDIS__BINARY=redis_binary)
    try:
        process.start()
        yield process
    finally:
        process.stop()


def order(symbol: str, cl_ord_id: str, side: int, qty: int, price: str) -> str:
    return f"35=D|11={cl_ord_id}|55={symbol}|54={side}|60=now|38={qty}|40=2|44={price}"


def cancel(symbol: str, cl_ord_id: str, orig: str, side: int) -> str:
    return f"35=F|11={cl_ord_id}|41={orig}|55={symbol}|54={side}|60=now"


async def log_off(peer: Peer) -> int:
    """Log off cleanly and return the number of the next message that we would have received."""
    peer.send("35=5")
    message = await peer.expect("5")
    await peer.close()
    return int(message["34"]) + 1


def test_endpoints_say_where_and_as_whom_to_connect(exchange: ExchangeProcess) -> None:
    endpoints = exchange.endpoints
    assert list(endpoints) == [
        *("fix", "target_comp_id", "users", "symbols", "redis_url", "postgres_url"),
        "market_data_url",
    ]
    assert [sorted(one) for one in endpoints["fix"]] == [["host", "port"]] * 2
    assert endpoints["target_comp_id"] == "SHARDEX"
    assert endpoints["symbols"] == ["ALFA-USD", "BETA-USD", "GAMMA-USD", "DELTA-USD"]
    users = endpoints["users"]
    first = int(users[0]["sender_comp_id"])
    assert len(users) >= 4
    assert [user["sender_comp_id"] for user in users] == [
        str(first + index) for index in range(len(users))
    ]
    assert all(user["username"] == user["sender_comp_id"] for user in users)
    assert len({user["password"] for user in users}) == 1
    for name in ("endpoints.json", "demo.json"):
        assert stat.S_IMODE((exchange.var / name).stat().st_mode) == 0o600
    with exchange.redis() as client:
        assert client.config_get("appendfsync") == {"appendfsync": "always"}
    eventually(lambda: exchange.query("SELECT count(*) >= 12 FROM users") == [(True,)])
    assert users[0]["password"] in exchange.said
    for url in (endpoints["redis_url"], endpoints["postgres_url"], endpoints["market_data_url"]):
        secrets, _, place = url.rpartition("@")
        assert place in exchange.said and secrets.rpartition(":")[2] not in exchange.said


async def test_two_clients_trade_and_every_balance_is_exact(exchange: ExchangeProcess) -> None:
    seller, buyer = (exchange.endpoints["users"][n]["username"] for n in (0, 1))
    before = {name: exchange.balances(name) for name in (seller, buyer)}
    maker, taker = await exchange.log_on(0), await exchange.log_on(1, gateway=1)
    maker.send(order("ALFA-USD", "s1", 2, 100, "50.00"))
    await maker.expect("8", t150="0", t39="0", t11="s1")
    taker.send(order("ALFA-USD", "b1", 1, 60, "50.10"))
    await taker.expect("8", t150="0", t39="0")
    bought = await taker.expect("8", t150="F", t39="2", t31="50.00", t32="60", t14="60")
    sold = await maker.expect("8", t150="F", t39="1", t31="50.00", t32="60", t151="40")
    assert bought["527"] == sold["527"]

    notional = 60 * 50 * USD
    fees = {kind: notional * ppm // 10**6 for kind, ppm in FEE_PPM.items()}
    changes = {
        seller: {"ALFA:a": -100, "ALFA:h": 40, "USD:a": notional - fees["maker"]},
        buyer: {"ALFA:a": 60, "USD:a": -notional - fees["taker"]},
    }
    for name, changed in changes.items():
        after = exchange.balances(name)
        names = {*before[name], *after}
        difference = {n: after.get(n, 0) - before[name].get(n, 0) for n in names}
        assert {n: amount for n, amount in difference.items() if amount} == changed

    trade = (
        "SELECT maker_user_id, taker_user_id, price, quantity, maker_fee, taker_fee FROM trades"
        " WHERE symbol || '-' || seq || '-' || index = %s"
    )
    paid = [Decimal(fees[kind]) / USD for kind in ("maker", "taker")]
    wanted = [(int(seller), int(buyer), 50, 60, *paid)]
    eventually(lambda: exchange.query(trade, bought["527"]) == wanted)
    columns = "status, price, quantity, filled_quantity, remaining_quantity"
    orders = f"SELECT {columns} FROM orders WHERE id = %s"
    assert exchange.query(orders, sold["37"]) == [("partially_filled", 50, 100, 60, 40)]
    assert exchange.query(orders, bought["37"]) == [("filled", Decimal("50.1"), 60, 60, 0)]
    stored = "SELECT asset, available, held FROM balances WHERE user_id = %s"
    for name in changes:
        now = exchange.balances(name)
        kept = sorted(
            (asset, Decimal(now[f"{asset}:a"]) / unit, Decimal(now.get(f"{asset}:h", 0)) / unit)
            for asset, unit in UNITS.items()
        )
        # The ledger's part may come behind that of the trade.
        eventually(lambda: sorted(exchange.query(stored, int(name))) == kept)  # noqa: B023
    maker.send(cancel("ALFA-USD", "s2", "s1", 2))
    await maker.expect("8", t150="4", t39="4", t11="s2", t41="s1")
    for peer in (maker, taker):
        await log_off(peer)


def test_a_second_up_on_the_same_directory_names_the_holder(exchange: ExchangeProcess) -> None:
    second = exchange.run("up")
    assert second.code == 1
    assert f"in use by process {exchange.pid}" in second.err
    assert (exchange.var / "endpoints.json").exists()


def test_without_a_terminal_it_says_how_things_are_every_five_seconds(
    exchange: ExchangeProcess,
) -> None:
    eventually(lambda: "orders/s" in exchange.said and "lag engine-1" in exchange.said)


def test_killed_processes_are_started_again_and_said_so(exchange: ExchangeProcess) -> None:
    pids = {name: exchange.pid_of(name) for name in PROCESSES}
    for pid in pids.values():
        os.kill(pid, signal.SIGKILL)
    for name, pid in pids.items():
        eventually(lambda: exchange.pid_of(name) not in (0, pid))  # noqa: B023
        assert f"{name} ended by SIGKILL; starting it again in" in exchange.said
        # It has a pid before it serves.
        eventually(lambda: f"{name} runs again" in exchange.said)  # noqa: B023


@pytest.mark.parametrize("server", ["redis", "postgres"])
async def test_a_killed_server_is_started_again_and_trading_goes_on(
    exchange: ExchangeProcess, server: str
) -> None:
    peer = await exchange.log_on(2)
    symbol, first, second = "BETA-USD", f"{server}1", f"{server}2"
    peer.send(order(symbol, first, 1, 10, "20.00"))
    await peer.expect("8", t150="0", t11=first)
    os.kill(_server_pid(exchange, server), signal.SIGKILL)
    eventually(lambda: f"{server} ended by SIGKILL; starting it again in" in exchange.said)
    eventually(lambda: f"{server} runs again" in exchange.said)
    peer.send(cancel(symbol, second, first, 1))
    canceled = await peer.expect("8", t150="4", t39="4", t11=second, t41=first)
    status = "SELECT status FROM orders WHERE id = %s"
    eventually(lambda: exchange.query(status, canceled["37"]) == [("canceled",)])
    await log_off(peer)
    await exchange.released(2)


async def test_a_restart_goes_on_with_books_balances_and_numbers_unless_ticks_change(
    exchange: ExchangeProcess,
) -> None:
    name = exchange.endpoints["users"][3]["username"]
    peer = await exchange.log_on(3)
    peer.send(order("GAMMA-USD", "r1", 2, 7, "33.00"))
    await peer.expect("8", t150="0", t11="r1")
    next_in = await log_off(peer)
    endpoints, balances = exchange.endpoints, exchange.balances(name)

    assert exchange.signal(signal.SIGINT) == 0
    assert not (exchange.var / "endpoints.json").exists()
    check_that_tick_sizes_stay(exchange)
    exchange.start_until("Starting the exchange")
    assert exchange.signal(signal.SIGTERM) == 0
    exchange.start()
    assert exchange.endpoints == endpoints
    assert exchange.balances(name) == balances
    asks = [{"price": "33.00", "qty": "7", "orders": 1}]
    eventually(lambda: exchange.json("book", "GAMMA-USD")["asks"] == asks)
    again = await exchange.log_on(3)
    assert int(again.received[0].get(34)) == next_in
    again.send(cancel("GAMMA-USD", "r2", "r1", 2))
    await again.expect("8", t150="4", t39="4", t11="r2", t41="r1")
    await log_off(again)


def check_that_tick_sizes_stay(exchange: ExchangeProcess) -> None:
    good = exchange.config.read_text()
    exchange.config.write_text(good.replace('tick_size = "0.01"', 'tick_size = "0.05"', 1))
    refused = exchange.run("up")
    exchange.config.write_text(good)
    assert refused.code == 1
    assert "symbols.ALFA-USD.tick_size" in refused.err
    assert "there are balances of ALFA" in refused.err


async def test_killed_outright_it_leaves_nothing_behind_and_starts_again(
    exchange: ExchangeProcess,
) -> None:
    peer = await exchange.log_on(2)
    peer.send(order("DELTA-USD", "k1", 1, 5, "11.00"))
    await peer.expect("8", t150="0", t11="k1")
    processes = [exchange.pid_of(name) for name in ("gateway-1", "engine-2", "writer")]
    assert exchange.signal(signal.SIGKILL) == -signal.SIGKILL
    await peer.close()
    exchange.start()
    eventually(lambda: not any(map(is_running, processes)))
    bids = [{"price": "11.00", "qty": "5", "orders": 1}]
    eventually(lambda: exchange.json("book", "DELTA-USD")["bids"] == bids)


def is_running(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def _server_pid(exchange: ExchangeProcess, server: str) -> int:
    if server == "redis":
        with exchange.redis() as client:
            return int(client.info("server")["process_id"])
    text = (exchange.var / "postgres" / "data" / "postmaster.pid").read_text()
    match = re.match(r"\d+", text)
    assert match is not None
    return int(match[0])
