"""The data directory: one user at a time, and the versions that wrote it.

Two redis-servers on one append-only file destroy it, and Redis 6.2 reading the directory of a 7.x
starts empty without an error. Hence a lock, which the servers inherit (it is held until the last of
them has ended, whoever was killed), and a record of versions, which must be equal.

    var/lock            flock; holds the pid of the run that took it
    var/versions.json   {"data_directory": "5", "redis": "6.2", "postgres": "18"}
    var/<name>/         one directory per part, mode 0700
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import threading
import time
from pathlib import Path
from types import TracebackType

from ops.errors import DataDirectoryLocked, DataDirectoryMismatch

# Raised when the layout of the directory changes in a way that older files do not fit.
DATA_DIRECTORY_VERSION = "5"

VERSIONS_FILE = "versions.json"
_LAYOUT = "data_directory"

_POLL_S = 0.05


def read_versions(path: Path) -> dict[str, str]:
    """Return which version of each part has written a data directory; none where none has.

    Changes nothing, and needs no lock: the file is replaced whole.

    Raises:
        DataDirectoryMismatch: the file is damaged, or may not be read by this account.
    """
    file = path / VERSIONS_FILE
    try:
        found = json.loads(file.read_text())
    except FileNotFoundError:
        return {}
    except OSError as e:
        raise DataDirectoryMismatch(f"{file} cannot be read: {e.strerror}") from e
    except ValueError as e:
        raise DataDirectoryMismatch(f"{file} is damaged: {e}") from e
    versions = found if isinstance(found, dict) else {}
    if _LAYOUT not in versions or not all(isinstance(one, str) for one in versions.values()):
        raise DataDirectoryMismatch(
            f"{file} is damaged: expected versions by part, {_LAYOUT} among them"
        )
    return versions


def check_layout(path: Path) -> None:
    """Refuse a data directory of another layout; one that nobody has begun is welcome.

    Raises:
        DataDirectoryMismatch: it was made by another version, or nobody can tell.
    """
    expected = DATA_DIRECTORY_VERSION
    _check_version(path, _LAYOUT, read_versions(path).get(_LAYOUT, expected), expected)


def begin_layout(path: Path) -> None:
    """Say which layout a data directory has that a process alone, without `up`, begins.

    Raises:
        DataDirectoryMismatch: see ``check_layout``; or nothing can be written there.
    """
    check_layout(path)
    if (path / VERSIONS_FILE).exists():
        return
    try:
        path.mkdir(mode=0o711, parents=True, exist_ok=True)
        new = path / f"{VERSIONS_FILE}.{os.getpid()}.new"
        _write_durably(new, _text_of({_LAYOUT: DATA_DIRECTORY_VERSION}))
        # Whoever began it meanwhile, a process or `up`, has said so already.
        with contextlib.suppress(FileExistsError):
            os.link(new, path / VERSIONS_FILE)
        new.unlink()
        sync_directory(path)
    except OSError as error:
        raise _unusable(path, error) from error


def _unusable(path: Path, error: OSError) -> DataDirectoryMismatch:
    if isinstance(error, PermissionError):
        return DataDirectoryMismatch(
            f"{path} cannot be used by this account (uid {os.geteuid()}): {error.strerror}. "
            "It was made by another account; use that one, or another data directory"
        )
    return DataDirectoryMismatch(f"{path} cannot be used as a data directory: {error.strerror}")


def _text_of(versions: dict[str, str]) -> str:
    return json.dumps(versions, indent=2) + "\n"


def _check_version(path: Path, part: str, recorded: str, version: str) -> None:
    if recorded != version:
        raise DataDirectoryMismatch(
            f"{path} was made with {part} version {recorded}, and this is {part} version "
            f"{version}: use the former, or another data directory"
        )


class DataDirectory:
    """A locked data directory; create it with `DataDirectory.open`.

    Attributes:
        path: the absolute path.
        lock_fd: the lock's descriptor, passed to the servers so that they hold it too.
    """

    def __init__(self, path: Path, lock_fd: int) -> None:
        self.path = path
        self.lock_fd = lock_fd
        self._versions_lock = threading.Lock()

    @classmethod
    def open(cls, path: Path, *, wait_s: float = 30.0) -> DataDirectory:
        """Create the directory if need be, lock it, and check the version of its layout.

        Args:
            path: the directory.
            wait_s: how long servers of a run that was killed may take to end, in seconds. A run
                that is alive is not waited for.

        Raises:
            DataDirectoryLocked: another run holds it.
            DataDirectoryMismatch: it was made by another version, or by another account, or is no
                directory.
        """
        path = path.absolute()
        try:
            # Others may pass through (the servers may run under an account of their own), not list.
            path.mkdir(mode=0o711, parents=True, exist_ok=True)
            lock_fd = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise _unusable(path, error) from error
        directory = cls(path, lock_fd)
        try:
            directory._acquire(wait_s)
            directory.record_version(_LAYOUT, DATA_DIRECTORY_VERSION)
        except BaseException:
            directory.close()
            raise
        return directory

    def subdirectory(self, name: str) -> Path:
        """Return the directory of one part, created with mode 0700 if it is missing."""
        path = self.path / name
        path.mkdir(mode=0o700, exist_ok=True)
        return path

    def record_version(self, part: str, version: str) -> None:
        """Record the version that writes here, or check it against the recorded one.

        Args:
            part: "data_directory" or a server's name.
            version: the part of its version that must not change, such as "6.2".

        Raises:
            DataDirectoryMismatch: another version stands there.
        """
        # The servers start side by side.
        with self._versions_lock:
            self._record_version(part, version)

    def _record_version(self, part: str, version: str) -> None:
        path = self.path / VERSIONS_FILE
        versions = read_versions(self.path)
        _check_version(self.path, part, versions.setdefault(part, version), version)
        text = _text_of(versions)
        if path.exists() and path.read_text() == text:
            return
        _replace_file(path, text)

    def close(self) -> None:
        """Let go of the lock; servers that inherited it hold it until they end."""
        # Never LOCK_UN: it would take the lock from the servers as well.
        if self.lock_fd >= 0:
            os.close(self.lock_fd)
            self.lock_fd = -1

    def __enter__(self) -> DataDirectory:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _acquire(self, wait_s: float) -> None:
        deadline = time.monotonic() + wait_s
        while True:
            try:
                fcntl.flock(self.lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as e:
                pid = self._holder_pid()
                alive = pid is not None and _is_alive(pid)
                if alive or time.monotonic() > deadline:
                    raise DataDirectoryLocked(
                        self.path, holder_pid=pid, holder_alive=alive or pid is None
                    ) from e
                time.sleep(_POLL_S)
        os.ftruncate(self.lock_fd, 0)
        os.pwrite(self.lock_fd, f"{os.getpid()}\n".encode(), 0)

    def _holder_pid(self) -> int | None:
        text = os.pread(self.lock_fd, 32, 0).strip()
        return int(text) if text.isdigit() else None


def _is_alive(pid: int) -> bool:
    """Tell whether a process runs; one that only waits to be reaped does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] not in ("Z", "X")


def _replace_file(path: Path, text: str) -> None:
    """Write a file whole or not at all, whenever the machine stops."""
    new = path.with_suffix(".new")
    _write_durably(new, text)
    new.rename(path)
    sync_directory(path.parent)


def _write_durably(path: Path, text: str) -> None:
    with path.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def sync_directory(path: Path) -> None:
    """Force a directory's entries (a rename, a new file) to disk."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
