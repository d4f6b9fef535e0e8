"""``shardex backup`` and ``restore`` of a whole exchange, running and stopped."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ops.data_dir import DATA_DIRECTORY_VERSION
from tests.exchange_process import ExchangeProcess
from tests.helpers import DEADLINE_S, eventually
from tests.integration.test_up import cancel, log_off, order
from tests.venue import Peer


@pytest.fixture
def exchanges(tmp_path: Path, redis_binary: str) -> Iterator[list[ExchangeProcess]]:
    """Three of them, with a data directory each; none runs."""
    made = []
    for name in ("first", "second", "third"):
        (tmp_path / name).mkdir()
        made.append(
            ExchangeProcess(
                tmp_path / name, SHARDEX_REDIS__BINARY=redis_binary, SHARDEX_GATEWAY__COUNT="1"
            )
        )
    yield made
    for one in made:
        one.stop()


def is_at_rest(exchange: ExchangeProcess) -> bool:
    return not any(exchange.json("status")["lags"].values())


async def trade(peer: Peer, numbers: Iterator[int], enough: Callable[[], bool]) -> None:
    """Buy one lot after the other of what rests, each as soon as the one before is filled."""
    while not enough():
        peer.send(order("ALFA-USD", f"b{next(numbers)}", 1, 1, "50.00"))
        await peer.expect("8", t150="0")
        await peer.expect("8", t150="F")


async def test_a_venue_comes_back_as_it_was_at_its_backup(
    exchanges: list[ExchangeProcess], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ops.backup.LEDGER_TIMEOUT_S", DEADLINE_S)
    first, second, third = exchanges
    first.start()
    maker, taker = await first.log_on(0), await first.log_on(1)
    maker.send(order("ALFA-USD", "s1", 2, 50_000, "50.00"))
    await maker.expect("8", t150="0", t11="s1")
    taker.send(order("GAMMA-USD", "b0", 1, 5, "20.00"))
    await taker.expect("8", t150="0", t11="b0")
    # It is copied while it trades; journals get ahead of Redis' copy meanwhile.
    numbers = itertools.count(1)
    backup = asyncio.create_task(asyncio.to_thread(first.call, "backup", str(tmp_path / "running")))
    await trade(taker, numbers, backup.done)
    done = await backup
    assert done.code == 0 and "of a venue that is running" in done.out, done.err
    rounds = itertools.count()
    await trade(taker, numbers, lambda: next(rounds) == 20)
    await log_off(taker)
    eventually(lambda: is_at_rest(first))
    trades = first.query("SELECT * FROM trades ORDER BY symbol, seq, index")
    streams = first.json("status")["progress"]
    await maker.close()
    first.stop()
    again = first.call("backup", str(tmp_path / "running"))
    assert again.code == 1 and "exists already" in again.err
    done = first.call("backup", str(tmp_path / "stopped"))
    assert done.code == 0 and "of a venue that is stopped" in done.out, done.err

    restored = third.json("restore", str(tmp_path / "stopped"))
    assert restored["cut_records"] == 0
    ends = {symbol: one["published"] for symbol, one in streams["symbols"].items()}
    assert restored["positions"] == {**ends, "ledger": streams["ledger"]}
    assert restored["rebuilt"]["positions"] == restored["positions"]

    restored = second.json("restore", str(tmp_path / "running"))
    position = restored["positions"]["ALFA-USD"]
    assert position < ends["ALFA-USD"]
    second.start()
    eventually(lambda: is_at_rest(second))
    done = second.call("reconcile")
    assert done.code == 0, done.out
    rows = second.query("SELECT * FROM trades ORDER BY symbol, seq, index")
    # Admitted but not published at that moment is what the engine did at the start.
    assert rows == trades[: len(rows)]
    assert sum(row[1] <= position for row in rows) == sum(row[1] <= position for row in trades)
    # A client of the backup's time begins anew; its order is there as it was then.
    peer = await second.log_on(0, reset="Y")
    peer.send(cancel("ALFA-USD", "s2", "s1", 2))
    # Fills that it had not been told of yet come first.
    while (report := await peer.expect("8"))["150"] == "F":
        assert report["11"] == "s1"
    assert [report[tag] for tag in ("150", "41", "14")] == ["4", "s1", str(len(rows))]
    await log_off(peer)
    refused = second.call("restore", str(tmp_path / "running"))
    assert refused.code == 1 and "is not empty" in refused.err


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
        "format": 2,
        "data_directory": "0",
        "redis_version": "6.2",
        "shardex_version": "1",
        "created_s": 0,
        "moment_us": 0,
        "was_running": False,
        "files": {"redis.rdb": digest},
    }
    path = backup / "manifest.json"
    path.write_text(json.dumps({"format": 1, "data_directory": "0"}))
    assert "format 1, expected 2" in first.call("restore", str(backup)).err
    path.write_text(json.dumps(manifest))
    refused = f"data_directory version 0, expected {DATA_DIRECTORY_VERSION}"
    assert refused in first.call("restore", str(backup)).err
    path.write_text(json.dumps({**manifest, "data_directory": DATA_DIRECTORY_VERSION}))
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
