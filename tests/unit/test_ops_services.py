"""Processes as services: readiness, logs, failures to start, stopping."""

from __future__ import annotations

import os
import signal
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from ops import services
from ops.data_dir import DataDirectory
from ops.errors import ProcessFailed
from ops.services import ProcessService, describe_status
from tests.helpers import DEADLINE_S, eventually

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def data(tmp_path: Path) -> Iterator[DataDirectory]:
    with DataDirectory.open(tmp_path / "var") as directory:
        yield directory


@pytest.fixture
def waiting(tmp_path: Path) -> Path:
    """Where processes find a program that waits until somebody ends it, however late."""
    package = tmp_path / "waits" / "ops"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text("import signal\nsignal.pause()\n")
    return package.parent


async def ready(pid: int) -> bool:
    return True


async def never(pid: int) -> bool:
    return False


def service(
    data: DataDirectory,
    *arguments: str,
    path: Path = ROOT,
    is_ready: Callable[[int], Awaitable[bool]] = ready,
    said: list[str] | None = None,
    start_attempts: int = 1,
    before_stop: Callable[[], Awaitable[None]] | None = None,
) -> ProcessService:
    return ProcessService(
        "part",
        lambda: arguments,
        environment={**os.environ, "PYTHONSAFEPATH": "1", "PYTHONPATH": str(path)},
        lock_fd=data.lock_fd,
        log_path=data.path / "part.log",
        is_ready=is_ready,
        say=([] if said is None else said).append,
        start_attempts=start_attempts,
        before_stop=before_stop,
    )


async def test_a_process_that_ends_while_starting_says_why(data: DataDirectory) -> None:
    said: list[str] = []
    one = service(data, "symbols", "--config", "no.toml", is_ready=never, said=said)
    with pytest.raises(ProcessFailed) as caught:
        await one.start()
    log = data.path / "part.log"
    assert str(caught.value) == f"part ended with status 1 while starting (log: {log})"
    assert "no.toml" in log.read_text()
    # Once, where it was said.
    [line] = said
    assert line.startswith("part: shardex: no.toml: No such")
    assert one.pid is None
    await one.stop(1.0)


async def test_what_was_not_shown_of_a_process_that_ends_while_starting_is_its_reason(
    data: DataDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(services, "ECHOED_LINES_PER_S_MAX", 1)
    said: list[str] = []
    one = service(data, "--help", is_ready=never, said=said)
    with pytest.raises(ProcessFailed) as caught:
        await one.start()
    first, *tail, log = str(caught.value).splitlines()
    assert first == "part ended cleanly while starting:"
    assert "  2  wrong usage" in tail
    assert log == f"(log: {data.path / 'part.log'})"
    assert len(said) < len(tail)
    await one.stop(1.0)


async def test_a_start_may_be_tried_more_than_once(data: DataDirectory) -> None:
    said: list[str] = []
    one = service(data, "--version", is_ready=never, said=said, start_attempts=2)
    with pytest.raises(ProcessFailed):
        await one.start()
    assert len(said) == 2
    assert len((data.path / "part.log").read_text().splitlines()) == 2


async def test_a_process_stops_when_asked(data: DataDirectory, waiting: Path) -> None:
    order: list[str] = []

    async def before() -> None:
        order.append("before")

    one = service(data, path=waiting, before_stop=before)
    await one.start()
    pid = one.pid
    assert pid is not None
    await one.stop(DEADLINE_S)
    assert order == ["before"]
    assert one.pid is None
    assert not _is_running(pid)


async def test_a_process_that_does_not_stop_is_killed(data: DataDirectory, waiting: Path) -> None:
    said: list[str] = []
    one = service(data, path=waiting, said=said)
    await one.start()
    assert one.pid is not None
    # Stopped by the system, it cannot obey.
    os.kill(one.pid, signal.SIGSTOP)
    eventually(lambda: _state(one.pid) == "T")
    await one.stop(0.05)
    assert said[0] == "part did not stop within 0 s and is killed"
    assert said[-1] == "part ended by SIGKILL"


async def test_a_process_not_ready_in_time_is_killed(
    data: DataDirectory, waiting: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(services, "START_TIMEOUT_S", 0.0)
    one = service(data, path=waiting, is_ready=never)
    with pytest.raises(ProcessFailed, match="was not ready within 0 s"):
        await one.start()
    assert await one.ended() == "by SIGKILL"
    await one.stop(1.0)


def test_statuses_are_described() -> None:
    assert describe_status(0) == "cleanly"
    assert describe_status(-signal.SIGSEGV) == "by SIGSEGV"


def _is_running(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def _state(pid: int | None) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
