"""What the torture holds against a venue, and what not: a machine that stands still is no fault."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.fix_message import FixMessage
from ops.endpoints import Credentials
from ops.errors import FixClientFailed
from ops.fix_initiator import Phase
from ops.torture import Torture
from ops.torture_chaos import Chaos, Outage, _StillWatch
from ops.torture_client import Client
from ops.torture_parts import kill_redis_torn
from ops.torture_plan import RESTART, Blow
from ops.torture_record import Complaints
from router.lease import Leader
from tests.helpers import DEADLINE_S

UP = {"redis", "gateway-1", "engine-1"}
PATIENCE_S = 30.0


def still_watch(failures: list[str]) -> _StillWatch:
    """Watch one trader who is never answered."""
    record = SimpleNamespace(answered_s={}, answers={})
    trader: Any = SimpleNamespace(trading=True, account=7, record=record)
    return _StillWatch([trader], {1: ["ALFA-USD"]}, PATIENCE_S, failures.append)


def test_trading_that_stands_still_while_all_is_up_is_a_failure() -> None:
    failures: list[str] = []
    watch = still_watch(failures)
    now_s = watch._looked_s
    for tenths in range(310):
        watch.look(UP, now_s + tenths / 10)
    assert [text.partition(":")[0] for text in failures] == ["ALFA-USD", "client 7"]


def test_a_machine_that_stood_still_is_no_failure_of_the_venue() -> None:
    failures: list[str] = []
    watch = still_watch(failures)
    now_s = watch._looked_s
    for minutes in range(20):
        watch.look(UP, now_s + 60 * minutes)
    assert failures == []


@pytest.mark.parametrize(
    ("epoch", "engine", "is_other"),
    [
        (5, "engine-1", False),
        (6, "engine-1", False),
        (6, "engine-1-standby", True),
        (7, "engine-1", True),
    ],
)
def test_a_shard_is_handed_over_when_another_engine_leads_or_has_led(
    epoch: int, engine: str, is_other: bool
) -> None:
    seen: Any = SimpleNamespace(
        _parts=SimpleNamespace(epochs={1: epoch}, leaders={1: engine}),
    )
    before = Leader("engine-1:4711:9f3a", 5, 1_000)
    assert Chaos._has_other_leader(seen, 1, before) is is_other


def test_a_part_that_does_not_end_when_it_is_asked_to_is_not_back() -> None:
    outage = Outage(Blow(RESTART, "writer"), "writer", 4711, None)
    parts: Any = SimpleNamespace(pids={"writer": 4711}, ready={"writer"})
    chaos: Any = SimpleNamespace(_parts=parts, _names=["writer"], outages=[outage])
    outage.look(parts, outage.began_s)
    found = Chaos.still_out(chaos)
    assert found == ["writer: the same process still runs after its restart"]
    parts.pids["writer"] = 4712
    outage.look(parts, outage.began_s)
    assert Chaos.still_out(chaos) == []


@pytest.mark.parametrize(
    ("end", "is_torn"), [(b"*1\r\n$4\r\nEXEC\r\n", True), (b"*3\r\n$3\r\nSE", False)]
)
def test_a_server_is_torn_while_its_parent_stands_still_and_that_goes_on(
    end: bytes, is_torn: bool, tmp_path: Path
) -> None:
    path = tmp_path / "appendonly.aof"
    path.write_bytes(end)
    script = "sleep 1000 & echo $!; wait; echo ended"
    with subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert kill_redis_torn(pid, tmp_path) is is_torn
        assert parent.stdout.readline() == "ended\n"
        assert parent.wait(DEADLINE_S) == 0
    assert path.read_bytes().startswith(end + b"*1\r\n$5\r\nMULTI" * is_torn)
    assert not kill_redis_torn(pid, tmp_path)


class Leaver(Client):
    """A client whose first Logout is not answered."""

    def __init__(self) -> None:
        user = Credentials("7", "7", "secret")
        super().__init__(
            user, "SHARDEX", Complaints(), seed="1", ports=list, gateway=0, roams=False
        )
        self.did: list[str] = []

    def hear(self, message: FixMessage) -> None:
        self.did.append(f"heard {message.fields[b'34'].decode()}")

    async def _log_on(self) -> None:
        self.did.append("logon")
        self.initiator.phase = Phase.ACTIVE

    async def _log_out(self) -> None:
        self.did.append("logout")
        self.initiator.phase = Phase.OFFLINE
        if self.did.count("logout") == 1:
            raise FixClientFailed("no answer to the Logout")


async def test_a_client_leaves_when_its_logout_is_answered() -> None:
    leaver = Leaver()
    leaver.is_leaving = True
    await leaver.run()
    assert leaver.has_left and leaver.did == ["logon", "logout"] * 2


async def test_what_was_sent_up_to_a_reset_that_did_not_come_about_is_known() -> None:
    client = Leaver()
    client._known_until = b"20260102-03:04:05.678"
    times = {b"1": b"20260102-03:04:05.677", b"2": client._known_until}
    times[b"3"] = b"20260102-03:04:05.679"
    again = [FixMessage(b"", b"j", {b"34": n, b"122": at}) for n, at in times.items()]
    client._on_messages([*again, FixMessage(b"", b"j", {b"34": b"4"})])
    assert client.did == ["heard 3", "heard 4"]


async def test_a_run_that_ends_at_the_first_failure_hears_every_kind_of_client() -> None:
    watcher = Leaver()
    watcher.complaints.complain("no market data")
    options: Any = SimpleNamespace(fail_fast=True)
    cast: Any = SimpleNamespace(
        traders=[], clients=[watcher], chaos=SimpleNamespace(done={"kill": 1})
    )
    torture = Torture(options, say=lambda _: None, show=lambda _: None)
    reporting = asyncio.create_task(torture._report_progress(cast))
    await asyncio.sleep(0)
    reporting.cancel()
    assert torture.failures == ["no market data"]
