"""``shardex reconcile`` of a venue with stop orders, icebergs, dates and a halted symbol."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ops.embedded_postgres import EmbeddedPostgres
from ops.embedded_redis import EmbeddedRedis
from tests.exchange_process import ExchangeProcess, own_servers
from tests.helpers import eventually
from tests.venue import Peer

DATABASE = "test_reconcile_conditions"
BUYER, SELLER = 0, 1
TOO_LATE = "4"
"""OrdRejReason (103) of an order whose time has passed when it comes."""

ORDERS = (
    "11=stop|55=ALFA-USD|54=1|38=6|40=3|99=90.00|59=1",
    "11=stop-limit|55=ALFA-USD|54=1|38=5|40=4|44=92.00|99=91.00|59=1",
    "11=show|55=ALFA-USD|54=1|38=20|40=2|44=10.00|111=3|59=1",
    "11=till|55=ALFA-USD|54=1|38=4|40=2|44=9.00|59=6|126={tomorrow}",
    "11=stop-till|55=ALFA-USD|54=1|38=2|40=4|44=95.00|99=94.00|111=1|59=6|126={tomorrow}",
    "11=day|55=GAMMA-USD|54=1|38=7|40=2|44=5.00|59=0",
)
"""What the buyer has open; each of them stays."""


@pytest.fixture(scope="module")
def exchange(
    tmp_path_factory: pytest.TempPathFactory,
    embedded_redis: EmbeddedRedis,
    embedded_postgres: EmbeddedPostgres,
) -> Iterator[ExchangeProcess]:
    process = ExchangeProcess(
        tmp_path_factory.mktemp("reconcile"),
        **own_servers(embedded_redis.url, embedded_postgres.url, DATABASE),
        SHARDEX_GATEWAY__COUNT="1",
    )
    try:
        process.start()
        asyncio.run(trade(process))
        assert process.call("phase", "GAMMA-USD", "halted").code == 0
        yield process
    finally:
        process.stop()


async def trade(exchange: ExchangeProcess) -> None:
    """Leave every kind of open order, and have parts of an iceberg and an expired order behind."""
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).strftime("%Y%m%d-%H:%M:%S.000")
    buyer = await exchange.log_on(BUYER)
    for order in ORDERS:
        buyer.send(f"35=D|{order.format(tomorrow=tomorrow)}|60=now")
        await buyer.expect("8", t150="0")
    await let_one_expire(buyer)
    seller = await exchange.log_on(SELLER)
    seller.send("35=D|11=sell|55=ALFA-USD|54=2|38=7|40=2|44=10.00|59=3|60=now")
    await seller.expect("8", t150="0")
    for leaves in ("17", "14", "13"):
        await buyer.expect("8", t150="F", t151=leaves)
    for leaves in ("4", "1", "0"):
        await seller.expect("8", t150="F", t151=leaves)
    for peer in (buyer, seller):
        peer.send("35=5")
        await peer.expect("5")
        await peer.close()


async def let_one_expire(peer: Peer) -> None:
    """Have an order that expires; while it comes too late, one that has longer to come."""
    for doublings in itertools.count():
        until = datetime.now(UTC) + timedelta(seconds=2**doublings)
        name, text = f"soon-{doublings}", until.strftime("%Y%m%d-%H:%M:%S.%f")[:-3]
        peer.send(f"35=D|11={name}|55=ALFA-USD|54=1|38=4|40=2|44=8.00|59=6|126={text}|60=now")
        answer = await peer.expect("8", t11=name)
        if answer["150"] == "0":
            break
        assert (answer["150"], answer["103"]) == ("8", TOO_LATE), answer
    await peer.expect("8", t150="C", t11=name)


def result_of(exchange: ExchangeProcess, *options: str) -> dict[str, Any]:
    done = exchange.call("reconcile", "--json", *options)
    result: dict[str, Any] = json.loads(done.out)
    assert done.code == (1 if result["differences"] else 0), done
    return result


def test_open_orders_of_every_kind_are_in_order(exchange: ExchangeProcess) -> None:
    for options in ((), ("--full",)):
        assert result_of(exchange, *options)["differences"] == []


def test_the_halted_symbol_stays_halted(exchange: ExchangeProcess) -> None:
    stored = "SELECT phase FROM phase_changes WHERE symbol = 'GAMMA-USD' ORDER BY seq DESC LIMIT 1"
    eventually(lambda: exchange.query(stored) == [("halted",)])
    assert result_of(exchange)["differences"] == []

    def phases() -> dict[str, str]:
        return {one["symbol"]: one["phase"] for one in exchange.json("symbols")}

    # Soon: of a process that stood still for a while nothing is known until it says it again.
    wanted = {"GAMMA-USD": "halted", "ALFA-USD": "continuous"}
    eventually(lambda: phases().items() >= wanted.items())

    def is_a_warning() -> bool:
        status = exchange.call("status")
        return (status.code, "warning: GAMMA-USD is halted" in status.out) == (0, True)

    eventually(is_a_warning)


@pytest.mark.parametrize(
    ("cl_ord_id", "place", "value"),
    [
        ("stop", 9, "8999"),
        ("stop-limit", 13, "1"),
        ("stop-till", 10, "2"),
        ("show", 10, "4"),
        ("till", 12, "1"),
    ],
    ids=["stop price", "triggered", "floor of a stop order", "floor", "expiry"],
)
def test_a_condition_that_is_damaged_is_named(
    exchange: ExchangeProcess, cl_ord_id: str, place: int, value: str
) -> None:
    account = exchange.endpoints["users"][BUYER]["username"]
    key, field = f"open:{account}", f"ALFA-USD|{cl_ord_id}"
    with exchange.redis() as client:
        whole = client.hget(key, field).decode()
        parts = whole.split(" ")
        parts[place] = value
        client.hset(key, field, " ".join(parts))
        try:
            found = result_of(exchange)["differences"]
        finally:
            client.hset(key, field, whole)
    assert [one["check"] for one in found] == ["open order"], found
    assert cl_ord_id in found[0]["where"] + found[0]["text"]
    assert result_of(exchange)["differences"] == []
