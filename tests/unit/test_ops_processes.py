"""Supervision: order of start and stop, restarts, failures; and signals of a process."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator

import pytest

from ops import processes
from ops.errors import ProcessFailed
from ops.processes import run_until_signal, single_error, supervise
from tests.helpers import eventually_async


class FakeService:
    """A service that notes what is done to it, ends when told, and fails when told."""

    def __init__(
        self, name: str, log: list[str], *, failures: int = 0, is_needed: bool = True
    ) -> None:
        self.name = name
        self.is_needed = is_needed
        self.log = log
        self.failures = failures
        self.end = asyncio.Event()

    async def start(self) -> None:
        if self.failures:
            self.failures -= 1
            raise ProcessFailed(f"{self.name} is broken")
        self.end.clear()
        self.log.append(f"start {self.name}")

    async def ended(self) -> str:
        await self.end.wait()
        return "with status 3"

    async def stop(self, timeout_s: float) -> None:
        assert timeout_s > 0
        self.log.append(f"stop {self.name}")


@pytest.fixture(autouse=True)
def quick_restarts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(processes, "RESTART_DELAY_MIN_S", 0.001)
    monkeypatch.setattr(processes, "RESTART_DELAY_MAX_S", 0.003)
    yield


async def test_stages_stop_in_the_reverse_order() -> None:
    log: list[str] = []
    async with supervise(log.append) as supervisor:
        await supervisor.start([FakeService("redis", log)])
        await supervisor.start([FakeService("writer", log)], [FakeService("engine", log)])
    assert log == [
        *("start redis", "start writer", "start engine"),
        *("stop engine", "stop writer", "stop redis"),
    ]


async def test_what_is_not_needed_may_fail_at_the_first_start_and_is_tried_again() -> None:
    log: list[str] = []
    said: list[str] = []
    async with supervise(said.append) as supervisor:
        engine = FakeService("engine", log, failures=2, is_needed=False)
        await supervisor.start([FakeService("writer", log)], [engine])
        assert log == ["start writer"]
        await eventually_async(lambda: "engine runs again" in said)
    assert said[0] == "engine did not start (engine is broken); starting it again in 0.001 s"


async def test_what_ends_by_itself_is_started_again_and_said_so() -> None:
    log: list[str] = []
    said: list[str] = []
    async with supervise(said.append) as supervisor:
        service = FakeService("engine", log)
        await supervisor.start([service])
        service.failures = 2
        service.end.set()
        await eventually_async(lambda: "engine runs again" in said)
        service.end.set()
        await eventually_async(lambda: said.count("engine runs again") == 2)
    assert said[:4] == [
        "engine ended with status 3; starting it again in 0.001 s",
        "engine did not start (engine is broken); starting it again in 0.002 s",
        "engine did not start (engine is broken); starting it again in 0.003 s",
        "engine runs again",
    ]
    assert log == ["start engine"] * 3 + ["stop engine"]


async def test_a_failure_at_the_first_start_stops_all_and_is_raised() -> None:
    log: list[str] = []
    with pytest.raises(ExceptionGroup) as caught:
        async with supervise(log.append) as supervisor:
            await supervisor.start([FakeService("redis", log)])
            await supervisor.start([FakeService("engine", log, failures=1)])
    assert str(single_error(caught.value)) == "engine is broken"
    assert log == ["start redis", "stop engine", "stop redis"]


async def test_cancelling_stops_everything() -> None:
    log: list[str] = []

    async def run() -> None:
        async with supervise(log.append) as supervisor:
            await supervisor.start([FakeService("redis", log)])
            await asyncio.Event().wait()

    task = asyncio.create_task(run())
    await eventually_async(lambda: log == ["start redis"])
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert log == ["start redis", "stop redis"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_cancels_once_and_is_no_error(number: int) -> None:
    log: list[str] = []

    async def main() -> None:
        os.kill(os.getpid(), number)
        try:
            await asyncio.Event().wait()
        finally:
            os.kill(os.getpid(), number)
            for _ in range(10):
                await asyncio.sleep(0)
            log.append("stopped cleanly")

    run_until_signal(main())
    assert log == ["stopped cleanly"]


def test_an_error_leaves_the_groups_around_it() -> None:
    async def main() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(fail())

    async def fail() -> None:
        raise ProcessFailed("broken")

    with pytest.raises(ProcessFailed, match="broken"):
        run_until_signal(main())
