"""Supervision: start in order, wait until ready, start again what ends by itself, stop in reverse.

A `Service` is a private server or a process of the exchange (services.py). One that ends by itself
is started again after a wait that doubles with each failure, and the operator is told so. During
the first start a failure of what is needed is final: the exchange stops and says why.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any, Protocol

import uvloop

from ops.errors import OpsError

RESTART_DELAY_MIN_S = 0.5
RESTART_DELAY_MAX_S = 15.0
"""Wait before a restart: doubled from the first to the second while the service keeps ending."""

STEADY_AFTER_S = 10.0
"""A service that ran so long is healthy: its next restart waits as little as the first."""

STOP_TIMEOUT_S = 20.0
"""For everything together; what is left then has SERVICE_STOP_MIN_S each and is killed. So Ctrl-C
ends within 30 s."""

SERVICE_STOP_MIN_S = 1.0
SERVICE_STOP_MAX_S = 8.0


class Service(Protocol):
    """Something that runs beside us, under a name."""

    @property
    def name(self) -> str:
        """Its name, unique in the exchange."""

    @property
    def is_needed(self) -> bool:
        """Whether nothing starts without it. A shard's engine is not: the other shards trade."""

    async def start(self) -> None:
        """Start it and wait until it is ready.

        Raises:
            OpsError: it ended, or was not ready in time.
        """

    async def ended(self) -> str:
        """Wait until it has ended; return how: ``cleanly``, ``with status 1``, ``by SIGKILL``."""

    async def stop(self, timeout_s: float) -> None:
        """Ask it to stop, kill it after the time-out; no harm where it does not run."""


class Supervisor:
    """Keeps services running; made by `supervise`.

    Args:
        tasks: owns the watchers.
        say: tells the operator.
    """

    def __init__(self, tasks: asyncio.TaskGroup, say: Callable[[str], None]) -> None:
        self._tasks = tasks
        self._say = say
        self._stages: list[Sequence[Service]] = []
        self._watchers: list[asyncio.Task[None]] = []

    async def start(self, *stages: Sequence[Service]) -> None:
        """Start the services of all stages at once and wait until all are ready.

        Args:
            stages: stopped in the reverse order, the services of one stage together.

        Raises:
            OpsError: a needed service failed. Whatever runs is stopped when `supervise` is left.
                Others are started again like services that ended.
        """
        self._stages.extend(stages)
        services = [service for stage in stages for service in stage]
        starts = [asyncio.ensure_future(self._start(service)) for service in services]
        try:
            failures = await asyncio.gather(*starts)
        except BaseException:
            for start in starts:
                start.cancel()
            await asyncio.gather(*starts, return_exceptions=True)
            raise
        for service, failure in zip(services, failures, strict=True):
            self._watchers.append(self._tasks.create_task(self._watch(service, failure)))

    async def stop(self) -> None:
        """Stop everything, last stage first, within STOP_TIMEOUT_S."""
        for watcher in self._watchers:
            watcher.cancel()
        await asyncio.gather(*self._watchers, return_exceptions=True)
        deadline = time.monotonic() + STOP_TIMEOUT_S
        for stage in reversed(self._stages):
            left_s = deadline - time.monotonic()
            timeout_s = max(SERVICE_STOP_MIN_S, min(SERVICE_STOP_MAX_S, left_s))
            await asyncio.gather(*(service.stop(timeout_s) for service in stage))

    async def _start(self, service: Service) -> str:
        """Start a service; return why it failed where it is not needed, else nothing."""
        try:
            await service.start()
        except OpsError as error:
            if service.is_needed:
                raise
            return f"did not start ({error})"
        return ""

    async def _watch(self, service: Service, failure: str) -> None:
        delay_s = RESTART_DELAY_MIN_S
        while True:
            since = time.monotonic()
            reason = failure or f"ended {await service.ended()}"
            failure = ""
            if time.monotonic() - since >= STEADY_AFTER_S:
                delay_s = RESTART_DELAY_MIN_S
            while True:
                self._say(f"{service.name} {reason}; starting it again in {delay_s:g} s")
                await asyncio.sleep(delay_s)
                delay_s = min(2 * delay_s, RESTART_DELAY_MAX_S)
                try:
                    await service.start()
                    break
                except OpsError as error:
                    reason = f"did not start ({error})"
            self._say(f"{service.name} runs again")


@asynccontextmanager
async def supervise(say: Callable[[str], None]) -> AsyncIterator[Supervisor]:
    """Give a supervisor; leaving stops all its services, however it is left."""
    async with asyncio.TaskGroup() as tasks:
        supervisor = Supervisor(tasks, say)
        try:
            yield supervisor
        finally:
            await supervisor.stop()


def run_until_signal(main: Coroutine[Any, Any, None]) -> None:
    """Run a process's main coroutine on uvloop; SIGINT and SIGTERM end it by cancelling it once.

    Whatever else ends it is raised, single errors without the groups around them.
    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_until_signal(main))


async def _until_signal(main: Coroutine[Any, Any, None]) -> None:
    task = asyncio.ensure_future(main)
    asked: list[int] = []

    def stop(number: int) -> None:
        # Once: a second Ctrl-C must not interrupt the clean stop, which has its own limit.
        if not asked:
            task.cancel()
        asked.append(number)

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop, number)
    try:
        await task
    except asyncio.CancelledError:
        if not asked:
            raise
    except BaseExceptionGroup as group:
        raise single_error(group) from None


def single_error(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the one error in nested groups, or the group when there are several."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
