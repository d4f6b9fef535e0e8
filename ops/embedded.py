"""What the private servers have in common: a port, a log, the lock, start and stop.

Whoever starts a server does so on a thread that lives as long as it, the main one or one that is
kept for that (see child_process.py). Waiting for it may happen on any thread.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from ops.child_process import Account, launch_command
from ops.data_dir import DataDirectory
from ops.errors import EmbeddedServerFailed

HOST = "127.0.0.1"

# Nothing of ours reaches the servers: their messages and sorting are the same everywhere.
ENV = {"LC_ALL": "C", "TZ": "UTC"}

# A port is looked for among this many, from the preferred one on.
PORTS_TRIED_MAX = 200

# A log larger than this moves aside (one generation is kept) before its server starts again.
LOG_BYTES_MAX = 16 * 1024 * 1024

# Redis loads 1 GB of append-only file in some 10 s; PostgreSQL recovers at most max_wal_size.
START_TIMEOUT_S = 120.0

# Each way of asking a server to stop has so long, unless the caller is in a hurry.
STOP_STEP_TIMEOUT_S = 12.0

_START_ATTEMPTS_MAX = 5
_POLL_S = 0.02
_KILL_WAIT_S = 10.0
_LOG_TAIL_BYTES = 2_000


def free_port(preferred: int, *, host: str = "127.0.0.1") -> int:
    """Return the first port from the preferred one on that nobody listens at; 0 takes any.

    The port is not held: whoever binds it must expect to find it taken after all.

    Raises:
        EmbeddedServerFailed: none of the next `PORTS_TRIED_MAX` is free.
    """
    if preferred == 0:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.bind((host, 0))
            return int(probe.getsockname()[1])
    for port in range(preferred, min(preferred + PORTS_TRIED_MAX, 65_536)):
        if port_is_free(port, host=host):
            return port
    raise EmbeddedServerFailed(f"no free port on {host} from {preferred} on")


def port_is_free(port: int, *, host: str = "127.0.0.1") -> bool:
    """Tell whether a server could listen at the port now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True


def program_version(program: Path, pattern: str) -> tuple[int, ...]:
    """Run `program --version` and return the numbers that the pattern's groups match.

    Raises:
        EmbeddedServerFailed: it does not run, or prints something else.
    """
    command = [str(program), "--version"]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=30, check=True
        )
    except (OSError, subprocess.SubprocessError) as e:
        raise EmbeddedServerFailed(f"{program} cannot be used: {e}") from e
    output = done.stdout.decode(errors="replace").strip()
    match = re.search(pattern, output)
    if match is None:
        raise EmbeddedServerFailed(f"{program} --version is not understood: {output}")
    return tuple(int(text) for text in match.groups())


class EmbeddedServer(ABC):
    """A server as our child: the same directory and port at each start.

    As a context it runs from entering to leaving.

    Args:
        name: of the program, for messages and the log's file name.
        data: the locked data directory; the server holds its lock too.
        directory: the server's own part of it.
        port: where to listen on 127.0.0.1; taken → the next free one; 0 → any.
        stop_signals: asked in this order to stop; SIGKILL comes last. The first is also what the
            server gets when we die.
    """

    def __init__(
        self,
        name: str,
        data: DataDirectory,
        *,
        directory: Path,
        port: int,
        stop_signals: Sequence[signal.Signals],
    ) -> None:
        self._name = name
        self._data = data
        self._directory = directory
        self._port_preferred = port
        self._port: int | None = None
        self._stop_signals = tuple(stop_signals)
        self._log_path = directory / f"{name}.log"
        self._log_start_bytes = 0
        self._popen: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def spawn(self) -> None:
        """Start the server at the port it had, without waiting (main thread)."""

    @abstractmethod
    def _accepts(self) -> bool:
        """Tell whether the spawned server serves us."""

    @property
    @abstractmethod
    def url(self) -> str:
        """Where clients connect."""

    @property
    def port(self) -> int:
        """The port it listens at, known from the first start on."""
        assert self._port is not None, f"Invariant: {self._name} was started"
        return self._port

    @property
    def pid(self) -> int | None:
        """The process id while it runs, else None."""
        return self._popen.pid if self._popen is not None and self.poll() is None else None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Choose a port, start the server and wait until it accepts (main thread).

        Raises:
            EmbeddedServerFailed: see the message.
            DataDirectoryMismatch: the data was written by another version of the server.
        """
        for attempts_left in reversed(range(_START_ATTEMPTS_MAX)):
            if self._port is None:
                self._port = free_port(self._port_preferred)
            port = self._port
            try:
                self.start_again()
                return
            except EmbeddedServerFailed:
                # Somebody took the port between our look and the server's: look again.
                if attempts_left == 0 or port_is_free(port):
                    raise
                self._port = None

    def start_again(self) -> None:
        """Start the server at the port it had, and wait until it accepts (as ``start``).

        Raises:
            EmbeddedServerFailed: see the message; it does not run.
            DataDirectoryMismatch: see ``start``.
        """
        for may_mend in (True, False):
            self.spawn()
            try:
                self.wait_until_accepting()
                return
            except EmbeddedServerFailed:
                self.stop()
                if not (may_mend and self._mend()):
                    raise

    def _mend(self) -> bool:
        """Mend, where that can be done, what kept the server from starting; tell whether it was."""
        return False

    def wait_until_accepting(self, *, timeout_s: float = START_TIMEOUT_S) -> None:
        """Wait until the spawned server accepts (any thread).

        Raises:
            EmbeddedServerFailed: it ended, or the time passed; with the end of its log.
        """
        deadline = time.monotonic() + timeout_s
        while not self._accepts():
            status = self.poll()
            if status is not None:
                raise EmbeddedServerFailed(
                    f"{self._name} ended with status {status} while starting:\n{self._log_tail()}"
                )
            if time.monotonic() > deadline:
                raise EmbeddedServerFailed(
                    f"{self._name} does not accept connections after {timeout_s:g} s:\n"
                    f"{self._log_tail()}"
                )
            time.sleep(_POLL_S)

    def poll(self) -> int | None:
        """Return the exit status (negative for a signal) once it has ended, else None."""
        assert self._popen is not None, f"Invariant: {self._name} was spawned"
        return self._popen.poll()

    def stop(self, *, step_timeout_s: float = STOP_STEP_TIMEOUT_S) -> None:
        """Stop it: each stop signal has its time, then SIGKILL. No harm if it has ended."""
        if self._popen is None:
            return
        for stop_signal in self._stop_signals:
            self._popen.send_signal(stop_signal)
            try:
                self._popen.wait(step_timeout_s)
                return
            except subprocess.TimeoutExpired:
                continue
        self._popen.kill()
        self._popen.wait(_KILL_WAIT_S)

    def _launch(self, program: Path, arguments: Sequence[str], *, account: Account | None) -> None:
        assert self.pid is None, f"Invariant: one {self._name} at a time"
        command = launch_command(
            [str(program), *arguments],
            death_signal=self._stop_signals[0],
            account=account,
        )
        if self._log_path.exists() and self._log_path.stat().st_size > LOG_BYTES_MAX:
            self._log_path.replace(self._log_path.with_suffix(".old.log"))
        with self._log_path.open("ab") as log:
            self._log_start_bytes = log.tell()
            self._popen = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=(self._data.lock_fd,),
                # Ctrl-C on the terminal is for us: we stop the servers last.
                start_new_session=True,
                cwd="/",
                env=ENV,
            )

    def _log_tail(self) -> str:
        with self._log_path.open("rb") as log:
            size = log.seek(0, os.SEEK_END)
            log.seek(max(self._log_start_bytes, size - _LOG_TAIL_BYTES))
            return f"{log.read().decode(errors='replace').strip()}\n(log: {self._log_path})"
