"""What members and operators meet after a restore, and what backup and restore refuse."""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.journal import Record
from engine.journal_file import JournalFile
from engine.journal_reader import segment_paths
from ops.backup import only_one
from tests.exchange_process import ExchangeProcess
from tests.helpers import eventually
from tests.integration.test_up import cancel, log_off, order
from tests.venue import Peer


@pytest.fixture(scope="module")
def exchange(
    tmp_path_factory: pytest.TempPathFactory, redis_binary: str
) -> Iterator[ExchangeProcess]:
    """A venue that runs."""
    one = made(tmp_path_factory.mktemp("first"), redis_binary)
    one.start()
    yield one
    one.stop()


@pytest.fixture
def second(
    exchange: ExchangeProcess, tmp_path: Path, redis_binary: str
) -> Iterator[ExchangeProcess]:
    """Another one that does not run, at other ports."""
    (tmp_path / "second").mkdir()
    one = made(tmp_path / "second", redis_binary)
    yield one
    one.stop()


def made(directory: Path, redis_binary: str) -> ExchangeProcess:
    return ExchangeProcess(
        directory, SHARDEX_REDIS__BINARY=redis_binary, SHARDEX_GATEWAY__COUNT="1"
    )


async def refused(exchange: ExchangeProcess, visitor: int) -> dict[str, str]:
    """Log on without a reset, and return the Logout."""
    user = exchange.endpoints["users"][visitor]
    port = exchange.endpoints["fix"][0]["port"]
    peer = Peer(*await asyncio.open_connection("127.0.0.1", port))
    peer.next_out = 40
    peer.logon(int(user["sender_comp_id"]), user["username"], user["password"].encode())
    logout = await peer.expect("5")
    await peer.expect_closed()
    await peer.close()
    return logout


async def test_members_begin_anew_and_the_audit_knows_of_no_other_life(
    exchange: ExchangeProcess, second: ExchangeProcess, tmp_path: Path
) -> None:
    backup = str(tmp_path / "backup")
    maker = await exchange.log_on(0)
    maker.send(order("ALFA-USD", "s1", 2, 500, "50.00"))
    await maker.expect("8", t150="0", t11="s1")
    done = exchange.call("backup", backup)
    assert done.code == 0, done.err
    # A life that will not have been: the same numbers, other orders.
    maker.send(order("ALFA-USD", "s2", 2, 10, "51.00"))
    lost = await maker.expect("8", t150="0", t11="s2")
    maker.send(cancel("ALFA-USD", "s3", "s1", 2))
    await maker.expect("8", t150="4", t11="s3")
    taker = await exchange.log_on(1)
    taker.send(order("ALFA-USD", "b1", 1, 10, "51.00"))
    await taker.expect("8", t150="0", t11="b1")
    await taker.expect("8", t150="F", t11="b1")
    await maker.expect("8", t150="F", t11="s2")
    for peer in (maker, taker):
        await log_off(peer)

    done = second.call("restore", backup)
    assert done.code == 0, done.err
    assert "records of engines and" in done.out and "log on with 141=Y" in done.out
    second.start()
    for visitor in (0, 1):
        assert "restored from a backup" in (await refused(second, visitor))["58"]
    again = await second.log_on(0, reset="Y")
    again.send(order("ALFA-USD", "n1", 2, 7, "52.00"))
    found = await again.expect("8", t150="0", t11="n1")
    # Which is why the members have to be told.
    assert (found["37"], found["17"]) == (lost["37"], lost["17"])
    again.send(cancel("ALFA-USD", "n2", "s1", 2))
    await again.expect("8", t150="4", t11="n2", t41="s1")
    await log_off(again)
    await second.released(0)
    again = await second.log_on(0)
    await log_off(again)
    eventually(lambda: not any(second.json("status")["lags"].values()))
    second.stop()
    audit = second.call("audit")
    assert audit.code == 0 and audit.out.startswith("clean: 3 of 3 commands"), audit.out


def test_a_running_venue_whose_backup_cannot_be_made(
    exchange: ExchangeProcess, tmp_path: Path
) -> None:
    target = tmp_path / "backup"
    (tmp_path / "file").touch()
    done = exchange.call("backup", str(tmp_path / "file" / "backup"))
    assert done.code == 1 and "Not a directory" in done.err and done.err.count("\n") == 1
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
        done = exchange.call("backup", str(target))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert done.code == 1, done.err
    assert f"backup into {target}" in done.err and "File too large" in done.err
    assert done.err.count("\n") == 1
    with only_one(exchange.var, "backup"):
        done = exchange.call("backup", str(target))
    assert done.code == 1 and "another backup is under way" in done.err
    # Of a second engine's journal the oldest segment has been moved away.
    journal = exchange.var / "journals" / "engine-1-standby"
    file = JournalFile(
        journal,
        kind="commands",
        owner="1",
        incarnations={},
        keeps_positions=True,
        now_ns=lambda: 1,
        segment_bytes_max=1,
    )
    for seq in (1, 2):
        file.append([Record("ALFA-USD", seq, seq, 0, b"")])
    file.close()
    segment_paths(journal)[0].unlink()
    done = exchange.call("backup", str(target))
    assert done.code == 1 and "records 0 to 0 are missing: a segment is gone" in done.err
    assert "put them back first" in done.err and done.err.count("\n") == 1
    shutil.rmtree(journal)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]


def test_places_that_cannot_be_restored_to(
    exchange: ExchangeProcess, second: ExchangeProcess, tmp_path: Path
) -> None:
    backup = tmp_path / "backup"
    assert exchange.call("backup", str(backup)).code == 0

    var, second.var = second.var, Path("/proc")
    done = second.call("restore", str(backup))
    assert done.code == 1 and "/proc is a mount point" in done.err
    second.var = var / "file" / "var"
    var.mkdir()
    (var / "file").touch()
    done = second.call("restore", str(backup))
    assert done.code == 1 and "Not a directory" in done.err and done.err.count("\n") == 1

    # A link stays one, and work that somebody else has under way is left alone.
    disk = tmp_path / "disk"
    disk.mkdir()
    second.var = tmp_path / "link"
    second.var.symlink_to(disk / "var")
    work = disk / "var.restoring"
    work.mkdir()
    (work / "of the first").touch()
    with only_one(work, "restore"):
        done = second.call("restore", str(backup))
    assert done.code == 1 and "another restore is under way" in done.err
    assert os.listdir(work) == ["of the first"]
    manifest = (backup / "manifest.json").read_text()
    (backup / "manifest.json").write_text(manifest.replace('"digest": "', '"digest": "0'))
    done = second.call("restore", str(backup))
    assert done.code == 1 and "is damaged" in done.err and not os.listdir(disk)
    (backup / "manifest.json").write_text(manifest)
    done = second.call("restore", str(backup))
    assert done.code == 0, done.err
    assert second.var.is_symlink() and os.listdir(disk) == ["var"]
    assert (disk / "var" / "journals" / "engine-1").is_dir()
