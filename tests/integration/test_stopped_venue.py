"""Commands on a venue with private servers that is stopped, or whose data is of another version."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from ops.data_dir import DataDirectory
from tests.exchange_process import ExchangeProcess
from tests.helpers import eventually

ALFA = "ALFA-USD"


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ExchangeProcess]:
    """A venue that had private servers and traded."""
    exchange = ExchangeProcess(tmp_path_factory.mktemp("stopped"), SHARDEX_GATEWAY__COUNT="1")
    try:
        exchange.start()
        asyncio.run(_trade(exchange))
        # A stop does not wait for the writer for ever.
        eventually(lambda: not any(exchange.json("status")["lags"].values()))
    finally:
        exchange.stop()
    yield exchange


async def _trade(exchange: ExchangeProcess) -> None:
    buyer, seller = await exchange.log_on(3), await exchange.log_on(0)
    for peer, side, qty in ((buyer, 1, 5), (seller, 2, 3)):
        peer.send(f"35=D|11=a|55={ALFA}|54={side}|60=now|38={qty}|40=2|44=10.00")
        await peer.expect("8", t150="0", t11="a")
    await seller.expect("8", t150="F", t11="a")
    for peer in (buyer, seller):
        await peer.close()


def test_a_stopped_venue_is_reconciled_with_servers_started_for_it(
    stopped: ExchangeProcess,
) -> None:
    assert not (stopped.var / "endpoints.json").exists()
    for more in ((), ("--full",)):
        done = stopped.call("reconcile", "--json", *more)
        assert done.code == 0, done
        found = json.loads(done.out)
        assert found["differences"] == found["unchecked"] == []
        # What defines the symbol, and both orders.
        assert found["settled"][ALFA] == 3 and found["written"] == {
            **found["settled"],
            "ledger": found["written"]["ledger"],
        }
    # Nothing of it runs any more.
    DataDirectory.open(stopped.var, wait_s=0).close()
    assert not (stopped.var / "endpoints.json").exists()


def test_a_stopped_venue_is_repaired_with_a_server_started_for_it(
    stopped: ExchangeProcess,
) -> None:
    done = stopped.call("repair", "1")
    assert (done.code, done.err) == (0, "")
    assert done.out == (
        "shard 1: 0 ledger entries and 0 commands restored; an engine may lead it again\n"
    )


def test_a_stopped_venue_is_rebuilt_and_compared_with_a_server_started_for_it(
    stopped: ExchangeProcess,
) -> None:
    journals = str(stopped.var / "journals")
    rebuilt = stopped.json("replay", "--journal", journals, "--into", "live/re built")
    assert rebuilt["differences"] == [] and rebuilt["positions"][ALFA] == 3
    assert stopped.json("diff", "live", "live/re built")["equal"]
    again = stopped.call("replay", "--journal", journals, "--into", "live/re built")
    assert again.code == 1 and "database re built is not empty" in again.err


def test_a_venue_that_is_starting_or_stopping_is_left_alone(stopped: ExchangeProcess) -> None:
    with DataDirectory.open(stopped.var):
        for command in (["reconcile"], ["repair", "1"], ["diff", "live", "live/other"]):
            done = stopped.call(*command)
            assert (done.code, done.out) == (1, "")
            assert "is in use by process" in done.err


def test_where_no_venue_ever_was_none_is_made(stopped: ExchangeProcess, tmp_path: Path) -> None:
    nowhere = ExchangeProcess(tmp_path)
    done = nowhere.call("reconcile")
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("shardex: no exchange runs here (")
    assert not nowhere.var.exists()


@pytest.mark.parametrize("versions", ['{"data_directory": "3", "redis": "6.2"}', "[]"])
def test_every_command_refuses_a_data_directory_of_another_version_by_name(
    stopped: ExchangeProcess, versions: str
) -> None:
    path = stopped.var / "versions.json"
    whole = path.read_text()
    path.write_text(versions)
    target = stopped.directory / "backup"
    journals = str(stopped.var / "journals")
    commands = (
        *(["up"], ["status"], ["reconcile"], ["repair", "1"], ["backup", str(target)], ["audit"]),
        *(["replay", "--journal", journals], ["replay", "--journal", f"{journals}/engine-1"]),
        *(["engine", "--shard", "1"], ["gateway"], ["marketdata"], ["writer"]),
    )
    before = {one: one.stat().st_mtime_ns for one in stopped.var.rglob("*")}
    try:
        for command in commands:
            done = stopped.call(*command)
            assert (done.code, done.out) == (1, ""), command
            assert str(stopped.var) in done.err, command
            assert ("version 3" if versions != "[]" else "is damaged") in done.err, command
        assert {one: one.stat().st_mtime_ns for one in stopped.var.rglob("*")} == before
    finally:
        path.write_text(whole)
    assert not target.exists()
