"""The two kinds of services that `up` supervises: processes of the exchange and private servers."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from gateway.throttle import NS_PER_SECOND, TokenBucket
from ops.child_process import launch_command
from ops.embedded import EmbeddedServer
from ops.errors import ProcessFailed
from ops.logs import BoundedLog, split_line

START_TIMEOUT_S = 600.0
"""Until a process is ready: an engine that reads millions of commands again takes minutes."""

ECHOED_LINES_PER_S_MAX = 30
"""Lines of one process's log that are shown on the terminal too; the log has all of them."""

_SHOWN_LEVELS = ("WARNING", "ERROR", "CRITICAL")
_TAIL_LINES = 15
_POLL_S = 0.05
_CHUNK_BYTES = 65_536
_STILL_STARTING_S = 15.0


def describe_status(status: int) -> str:
    """Return how a process ended, from its exit status (negative: a signal)."""
    if status == 0:
        return "cleanly"
    if status > 0:
        return f"with status {status}"
    return f"by {signal.Signals(-status).name}"


class ProcessService:
    """A process of the exchange, ``python -m ops <arguments>``, as our child.

    It ends with us, whatever ends us (SIGKILL: nothing that it does needs a clean stop), and holds
    the lock of the data directory, so that the next run waits for it. What it logs goes to
    ``log_path``; warnings and worse are shown too.

    Args:
        name: of the service.
        arguments: asked for at each start.
        environment: of the process.
        lock_fd: the data directory's lock.
        log_path: its log.
        is_ready: tells whether the process with this pid serves.
        say: shows a line on the terminal.
        before_stop: awaited before it is asked to stop, within the time-out of the stop.
        is_needed: see ``Service``.
        start_attempts: how often `start` tries.
    """

    def __init__(
        self,
        name: str,
        arguments: Callable[[], Sequence[str]],
        *,
        environment: dict[str, str],
        lock_fd: int,
        log_path: Path,
        is_ready: Callable[[int], Awaitable[bool]],
        say: Callable[[str], None],
        before_stop: Callable[[], Awaitable[None]] | None = None,
        start_attempts: int = 1,
        is_needed: bool = True,
    ) -> None:
        self.name = name
        self.is_needed = is_needed
        self._arguments = arguments
        self._environment = environment
        self._lock_fd = lock_fd
        self._log_path = log_path
        self._is_ready = is_ready
        self._say = say
        self._before_stop = before_stop
        self._start_attempts = start_attempts
        self._process: asyncio.subprocess.Process | None = None
        self._output: asyncio.Task[None] | None = None
        self._tail: deque[str] = deque(maxlen=_TAIL_LINES)
        self._shown_lines = self._hidden_lines = 0

    @property
    def pid(self) -> int | None:
        """The process id while it runs, else None."""
        if self._process is None or self._process.returncode is not None:
            return None
        return self._process.pid

    async def start(self) -> None:
        """Start the process and wait until it is ready (main thread).

        Raises:
            ProcessFailed: it ended or was not ready in time; with the end of its log, unless that
                was shown already.
        """
        for attempts_left in reversed(range(self._start_attempts)):
            try:
                await self._start_once()
                return
            except ProcessFailed:
                if not attempts_left:
                    raise

    async def _start_once(self) -> None:
        program = [sys.executable, "-m", "ops", *self._arguments()]
        self._process = await asyncio.create_subprocess_exec(
            *launch_command(program, death_signal=signal.SIGKILL),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            pass_fds=(self._lock_fd,),
            # Ctrl-C on the terminal is for us: we stop the processes in their order.
            start_new_session=True,
            env=self._environment,
        )
        self._tail.clear()
        self._shown_lines = self._hidden_lines = 0
        self._output = asyncio.create_task(self._read_output(self._process))
        await self._wait_until_ready(self._process)

    async def ended(self) -> str:
        """Wait until it has ended, and return how."""
        assert self._process is not None, f"Invariant: {self.name} was started"
        return describe_status(await self._process.wait())

    async def stop(self, timeout_s: float) -> None:
        """Ask it to stop, and kill it after the time-out."""
        if self._process is None:
            return
        try:
            async with asyncio.timeout(timeout_s):
                if self._before_stop is not None and self.pid is not None:
                    await self._before_stop()
                if self.pid is not None:
                    self._process.terminate()
                await self._process.wait()
        except TimeoutError:
            self._say(f"{self.name} did not stop within {timeout_s:.0f} s and is killed")
            if self.pid is not None:
                self._process.kill()
            await self._process.wait()
        if self._output is not None:
            await self._output
        if self._process.returncode:
            self._say(f"{self.name} ended {describe_status(self._process.returncode)}")

    async def _wait_until_ready(self, process: asyncio.subprocess.Process) -> None:
        loop = asyncio.get_running_loop()
        deadline, remind_at = loop.time() + START_TIMEOUT_S, loop.time() + _STILL_STARTING_S
        while not await self._is_ready(process.pid):
            if process.returncode is not None:
                if self._output is not None:
                    await self._output
                what = f"{self.name} ended {describe_status(process.returncode)} while starting"
                log = f"(log: {self._log_path})"
                # What was shown whole stands right above.
                is_told = self._shown_lines and not self._hidden_lines
                tail = [] if is_told else self._tail
                lines = [f"{what}:", *tail, log] if tail else [f"{what} {log}"]
                raise ProcessFailed("\n".join(lines))
            if loop.time() > deadline:
                process.kill()
                raise ProcessFailed(f"{self.name} was not ready within {START_TIMEOUT_S:g} s")
            if loop.time() > remind_at:
                self._say(f"{self.name} is still starting")
                remind_at += _STILL_STARTING_S
            await asyncio.sleep(_POLL_S)

    async def _read_output(self, process: asyncio.subprocess.Process) -> None:
        """Copy what it writes to its log, and warnings to the terminal, until it ends."""
        assert process.stdout is not None, "Invariant: its output is a pipe"
        log = BoundedLog(self._log_path)
        bucket = TokenBucket(ECHOED_LINES_PER_S_MAX, period_ns=NS_PER_SECOND)
        # What comes before logging is set up is a failure to start.
        shown = True
        rest = b""
        try:
            while chunk := await process.stdout.read(_CHUNK_BYTES):
                *lines, rest = (rest + chunk).split(b"\n")
                if len(rest) > _CHUNK_BYTES:
                    lines, rest = [*lines, rest], b""
                if lines:
                    log.write(b"\n".join(lines) + b"\n")
                for line in lines:
                    shown = self._show(line, shown, bucket)
            if rest:
                log.write(rest + b"\n")
                self._show(rest, shown, bucket)
        finally:
            log.close()

    def _show(self, line: bytes, before_shown: bool, bucket: TokenBucket) -> bool:
        """Show a line that matters; return whether it does.

        A line without a level is a traceback and goes where the line before it went.
        """
        parsed = split_line(line)
        text = parsed[1] if parsed else line.decode(errors="replace")
        shown = parsed[0] in _SHOWN_LEVELS if parsed else before_shown
        now_ns = int(asyncio.get_running_loop().time() * NS_PER_SECOND)
        self._tail.append(text)
        if shown and bucket.take(now_ns):
            self._shown_lines += 1
            self._say(f"{self.name}: {text}")
        elif shown:
            self._hidden_lines += 1
        return shown


class ServerService:
    """A private server, with a thread of its own: starting and stopping it takes seconds.

    That thread lives until the server has stopped, as the server ends with the thread that started
    it (child_process.py).

    Args:
        name: of the service.
        server: not started yet.
    """

    is_needed = True

    def __init__(self, name: str, server: EmbeddedServer) -> None:
        self.name = name
        self._server = server
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._port_chosen = False

    async def start(self) -> None:
        """Start the server and wait until it accepts; the port stays the same from then on.

        Raises:
            EmbeddedServerFailed: see the message.
            DataDirectoryMismatch: its data was written by another version.
        """
        loop = asyncio.get_running_loop()
        if not self._port_chosen:
            await loop.run_in_executor(self._thread, self._server.start)
            self._port_chosen = True
            return
        await loop.run_in_executor(self._thread, self._server.start_again)

    async def ended(self) -> str:
        """Wait until it has ended, and return how."""
        while True:
            status = self._server.poll()
            if status is not None:
                return describe_status(status)
            await asyncio.sleep(_POLL_S)

    async def stop(self, timeout_s: float) -> None:
        """Stop it, in as many steps as its kind has, at most ``timeout_s`` each."""
        # From another thread first: its own may still be waiting for the server to accept.
        await asyncio.to_thread(self._server.stop, step_timeout_s=timeout_s)
        loop = asyncio.get_running_loop()
        stop = partial(self._server.stop, step_timeout_s=timeout_s)
        await loop.run_in_executor(self._thread, stop)
        self._thread.shutdown()
