"""``shardex backup`` and ``restore`` of a whole exchange, running and stopped."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.exchange_process import ExchangeProcess
from tests.helpers import eventually
from tests.integration.test_up import cancel, log_off, order

SETTLE_S = 30.0


@pytest.fixture
def exchanges(tmp_path: Path, redis_binary: str) -> Iterator[list[ExchangeProcess]]:
    """Three of them, with a data directory each; none runs."""
    made = []
    for name in ("first", "second", "third"):
        (tmp_path / name).mkdir()
        made.append(ExchangeProcess(tmp_path / name, SHARDEX_REDIS__BINARY=redis_binary))
    yield made
    for one in made:
        one.stop()


def state(exchange: ExchangeProcess) -> dict[str, object]:
    """What must come back: balances, books, and what PostgreSQL has once all is written."""
    assert exchange.call("reconcile").code == 0
    users = [user["username"] for user in exchange.endpoints["users"]]
    return {
        "balances": {user: exchange.balances(user) for user in users},
        "books": [exchange.json("book", symbol) for symbol in ("ALFA-USD", "GAMMA-USD")],
        "orders": exchange.query("SELECT * FROM orders ORDER BY id"),
        "trades": exchange.query("SELECT * FROM trades ORDER BY symbol, seq, index"),
    }


def at_rest(exchange: ExchangeProcess) -> dict[str, object]:
    def is_written() -> bool:
        lags = exchange.json("status")["lags"]
        return not any(lags.values())

    eventually(is_written, SETTLE_S)
    return state(exchange)


async def test_a_venue_comes_back_as_it_was_at_its_backup(
    exchanges: list[ExchangeProcess], tmp_path: Path
) -> None:
    first, second, third = exchanges
    first.start()
    maker, taker = await first.log_on(0), await first.log_on(1)
    maker.send(order("ALFA-USD", "s1", 2, 100, "50.00"))
    await maker.expect("8", t150="0", t11="s1")
    taker.send(order("ALFA-USD", "b1", 1, 60, "50.00"))
    await taker.expect("8", t150="0")
    await taker.expect("8", t150="F")
    await maker.expect("8", t150="F", t151="40")
    taker.send(order("GAMMA-USD", "b2", 1, 5, "20.00"))
    await taker.expect("8", t150="0", t11="b2")
    before = at_rest(first)
    done = first.call("backup", str(tmp_path / "running"))
    assert done.code == 0 and "of a venue that is running" in done.out, done.err
    # What comes after it is not in it, although the journals may have it.
    taker.send(order("ALFA-USD", "b3", 1, 10, "50.00"))
    await taker.expect("8", t150="0")
    await taker.expect("8", t150="F")
    await maker.expect("8", t150="F", t151="30")
    for peer in (maker, taker):
        await log_off(peer)
    at_rest(first)
    positions = first.json("status")["progress"]
    first.stop()
    assert first.call("backup", str(tmp_path / "running")).err.endswith("name another directory\n")
    done = first.call("backup", str(tmp_path / "stopped"))
    assert done.code == 0 and "of a venue that is stopped" in done.out, done.err

    restored = third.json("restore", str(tmp_path / "stopped"))
    assert restored["cut_records"] == 0
    ends = {symbol: one["published"] for symbol, one in positions["symbols"].items()}
    assert restored["positions"] == {**ends, "ledger": positions["ledger"]}
    assert restored["rebuilt"]["positions"] == restored["positions"]

    done = second.call("restore", str(tmp_path / "running"))
    assert done.code == 0, done.err
    second.start()
    assert at_rest(second) == before
    # A client of the backup's time begins anew; its order is still there.
    peer = await second.log_on(0, reset="Y")
    peer.send(cancel("ALFA-USD", "s2", "s1", 2))
    canceled = await peer.expect("8", t150="4", t39="4", t41="s1")
    assert canceled["14"] == "60"
    await log_off(peer)
    again = second.call("restore", str(tmp_path / "running"))
    assert again.code == 1 and "is not empty" in again.err


def test_a_backup_that_is_damaged_or_of_another_version_is_refused(
    exchanges: list[ExchangeProcess], tmp_path: Path
) -> None:
    first = exchanges[0]
    assert "there is no venue here" in first.call("backup", str(tmp_path / "none")).err
    backup = tmp_path / "backup"
    (backup / "journals" / "engine-1").mkdir(parents=True)
    assert "is no backup" in first.call("restore", str(backup)).err
    digest = {"size_bytes": 4, "digest": "00"}
    manifest = {
        "format": 1,
        "data_directory": "0",
        "redis_version": "6.2",
        "shardex_version": "1",
        "created_s": 0,
        "was_running": False,
        "files": {"redis.rdb": digest},
    }
    path = backup / "manifest.json"
    path.write_text(json.dumps(manifest))
    assert "data_directory version 0, expected 1" in first.call("restore", str(backup)).err
    path.write_text(json.dumps({**manifest, "data_directory": "1"}))
    assert "redis.rdb is missing" in first.call("restore", str(backup)).err
    (backup / "redis.rdb").write_bytes(b"REDI")
    assert "redis.rdb is damaged" in first.call("restore", str(backup)).err
    assert not first.var.exists()


@pytest.mark.parametrize("command", ["backup", "restore"])
def test_servers_of_ones_own_are_not_copied(
    exchanges: list[ExchangeProcess], tmp_path: Path, command: str
) -> None:
    first = exchanges[0]
    first.environment["SHARDEX_REDIS_URL"] = "redis://127.0.0.1:1"
    refused = first.call(command, str(tmp_path / "backup"))
    assert refused.code == 1 and "redis_url name servers of your own" in refused.err
