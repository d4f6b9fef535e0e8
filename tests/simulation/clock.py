"""An event loop whose time only moves when nothing is left to do, and processes that live in it.

Idle waiting jumps to the next timer; so a second costs what is done in it, and the same seed gives
the same order of steps. A process is a mark in the context of tasks and callbacks. What belongs to
a paused process waits; what belongs to a killed one never runs again, not even a ``finally`` (until
the world is over, when every task has to be ended).
"""

from __future__ import annotations

import asyncio
import enum
import heapq
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context, ContextVar
from typing import Any, TypeVar

T = TypeVar("T")

START_S = 1_700_000_000
"""The time at which every world begins, s since 1970 UTC."""

STEPS_MAX = 2_000_000
"""Callbacks of one world; a world that needs more spins."""


CANCELLED_TIMERS_MAX = 500
"""Timers that may wait although they are cancelled: each call has a time-out that is not needed."""


class Stuck(Exception):
    """Nothing is left to run, and no timer is set: everybody waits for somebody else."""


class State(enum.Enum):
    """Whether what belongs to a process runs."""

    RUNNING = "running"
    PAUSED = "paused"
    DEAD = "dead"


class Process:
    """One life of a process of the venue.

    Attributes:
        name: its name in the venue; its successor has the same.
        state: see State.
        held: what waits while it is paused, or would have run.
        objects: by kind, what the simulation wants to look at (the runner, the journal's file).
        on_error: what its event loop does with errors of callbacks.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.state = State.RUNNING
        self.held: deque[asyncio.Handle] = deque()
        self.objects: dict[str, Any] = {}
        self.on_error: Callable[[asyncio.AbstractEventLoop, dict[str, Any]], None] | None = None

    def context(self) -> Context:
        """Return a new context that belongs to the process."""
        context = Context()
        context.run(_current.set, self)
        return context


_current: ContextVar[Process | None] = ContextVar("process", default=None)


def current_process() -> Process | None:
    """Return the process that the running code belongs to; None for the world around them."""
    return _current.get()


class SimTask(asyncio.Task[T]):
    """A task with a hash that is the same in each run: sets of tasks are walked in one order."""

    def __init__(self, coro: Generator[Any, Any, T] | Coroutine[Any, Any, T], **kwargs: Any):
        loop = kwargs["loop"]
        self._number = len(loop.tasks)
        loop.tasks.append(self)
        super().__init__(coro, **kwargs)
        # A killed process leaves its tasks where they are.
        self._log_destroy_pending = False

    def __hash__(self) -> int:
        return int(self._number)


def _make_task(loop: asyncio.AbstractEventLoop, coro: Any, **kwargs: Any) -> asyncio.Task[Any]:
    return SimTask(coro, loop=loop, **kwargs)


class VirtualLoop(asyncio.BaseEventLoop):
    """See the head of this file.

    Args:
        disk_delay_s: how long the next job of a thread takes; a job runs at its end, in the loop.

    Attributes:
        now_s: virtual seconds since the world began.
        tasks: all that were ever made.
        on_callback_error: told what a callback raised where its process has no handler.
        network: set by the world; has ``connect`` and ``listen``.
    """

    def __init__(self, disk_delay_s: Callable[[], float]) -> None:
        super().__init__()
        self.now_s = 0.0
        self.tasks: list[asyncio.Task[Any]] = []
        self.steps = 0
        self.network: Any = None
        self.on_callback_error: Callable[[Process | None, BaseException], None] = _raise
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._timer_count = 0
        self._cancelled_count = 0
        self._disk_delay_s = disk_delay_s
        self.set_task_factory(_make_task)

    def time(self) -> float:
        """Return the virtual time (asyncio)."""
        return self.now_s

    def time_ns(self) -> int:
        """Return the virtual time of day, ns since 1970 UTC."""
        return START_S * 1_000_000_000 + int(self.now_s * 1e9)

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> Any:
        """Run a thread's job in the loop, some time later (asyncio)."""
        future: asyncio.Future[Any] = self.create_future()
        self.call_later(self._disk_delay_s(), _run_job, future, func, args)
        return future

    async def create_connection(
        self, factory: Any, host: Any = None, port: Any = None, **_: Any
    ) -> Any:
        """Connect over the simulated network (asyncio)."""
        return await self.network.connect(factory, port)

    async def create_server(
        self, factory: Any, host: Any = None, port: Any = None, **_: Any
    ) -> Any:
        """Listen on the simulated network (asyncio)."""
        return self.network.listen(factory, port)

    def add_signal_handler(self, sig: int, callback: Callable[..., object], *args: Any) -> None:
        """Do nothing: no signals are sent here."""

    def set_exception_handler(self, handler: Any) -> None:
        """Set the handler of the calling process (asyncio)."""
        process = current_process()
        if process is None:
            super().set_exception_handler(handler)
        else:
            process.on_error = handler

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Call the handler of the process whose callback failed (asyncio)."""
        process = current_process()
        if process is not None and process.on_error is not None:
            process.on_error(self, context)
        elif "handle" in context:
            self.on_callback_error(process, context["exception"])

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        """Say nothing: whoever handles the error reports it (asyncio)."""

    def resume(self, process: Process) -> None:
        """Let a process go on with all that has come meanwhile."""
        process.state = State.RUNNING
        self._ready.extend(process.held)
        process.held.clear()

    # ------------------------------------------------------------ what BaseEventLoop runs on

    def call_soon(self, callback: Any, *args: Any, context: Context | None = None) -> Any:
        """Run a callback in this moment (asyncio)."""
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def call_at(
        self, when: float, callback: Any, *args: Any, context: Context | None = None
    ) -> Any:
        """Run a callback at a moment; those of one moment in the order of their calls (asyncio)."""
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        self._timer_count += 1
        heapq.heappush(self._timers, (when, self._timer_count, timer))
        timer._scheduled = True
        return timer

    def _run_once(self) -> None:
        ready = self._ready
        if not ready:
            self._jump()
        for _ in range(len(ready)):
            handle = ready.popleft()
            if handle._cancelled:
                continue
            process = handle._context.get(_current)
            if process is not None and process.state is not State.RUNNING:
                process.held.append(handle)
                continue
            self.steps += 1
            handle._run()
        if self.steps > STEPS_MAX:
            raise Stuck(f"more than {STEPS_MAX} steps")

    def _jump(self) -> None:
        """Move to the next timer, and make ready what is due then."""
        timers = self._timers
        while timers and timers[0][2]._cancelled:
            heapq.heappop(timers)
        if not timers:
            raise Stuck("nothing is left to run, and no timer is set")
        self.now_s = now_s = max(self.now_s, timers[0][0])
        while timers and timers[0][0] <= now_s:
            self._ready.append(heapq.heappop(timers)[2])

    def _process_events(self, event_list: Any) -> None:
        raise AssertionError("nothing is selected")

    def _write_to_self(self) -> None:
        """Wake nobody: there is one thread."""

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Drop cancelled timers when they are many (BaseEventLoop)."""
        self._cancelled_count += 1
        if self._cancelled_count > CANCELLED_TIMERS_MAX:
            self._cancelled_count = 0
            self._timers = [one for one in self._timers if not one[2]._cancelled]
            heapq.heapify(self._timers)


def _raise(process: Process | None, error: BaseException) -> None:
    raise error


def _run_job(future: asyncio.Future[Any], func: Callable[..., Any], args: tuple[Any, ...]) -> None:
    if future.done():
        return
    try:
        result = func(*args)
    except Exception as error:
        future.set_exception(error)
    else:
        future.set_result(result)
