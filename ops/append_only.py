"""The end of Redis' append-only file after a crash: a transaction that was only half written.

Redis itself would cut off an unfinished command, but leave the MULTI and the finished commands
before it: the next transaction is appended behind them, and at the start after that one all of it
counts, the half included, which was settled anew meanwhile. Therefore `redis.conf` has it refuse
such a file (aof-load-truncated no), and the whole transaction is cut off here. Nobody got a reply
for it: replies are sent when all of it is on the disk.

redis-check-aof knows where that is. It is the same program as redis-server, by another name.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from ops.errors import EmbeddedServerFailed

TORN_BYTES_MAX = 64 * 1024 * 1024
"""Longest end that is cut off: far above what is written at once. A file that is damaged before
that is for somebody to look at."""

_CHECK_TIMEOUT_S = 300
_FOUND = re.compile(r"\bsize=(\d+), ok_up_to=(\d+)")
_NUMBER = re.compile(r"\d+")
_DAMAGED = "Unexpected"


def newest_file(directory: Path) -> Path:
    """Return the append-only file that Redis writes to.

    Before Redis 7 it is the only one; from then on the incremental one with the highest number.

    Args:
        directory: of the server.

    Raises:
        EmbeddedServerFailed: there is none.
    """
    parts = sorted(
        directory.glob("appendonlydir/appendonly.aof.*.incr.aof"),
        key=lambda path: int(_NUMBER.findall(path.name)[0]),
    )
    for path in (*reversed(parts), directory / "appendonly.aof"):
        if path.is_file():
            return path
    raise EmbeddedServerFailed(f"{directory}: there is no append-only file")


def cut_torn_end(program: Path, path: Path) -> int:
    """Cut off what is not finished at the end of an append-only file, and make that durable.

    Args:
        program: redis-server.
        path: the file; no server runs on it.

    Returns:
        How many bytes that were; 0 if its end is whole.

    Raises:
        EmbeddedServerFailed: it cannot be read, or is damaged in another way; it is left alone.
    """
    try:
        done = subprocess.run(
            ["redis-check-aof", str(path)],
            executable=program,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_CHECK_TIMEOUT_S,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise EmbeddedServerFailed(f"{path} cannot be checked: {error}") from error
    said = f"{done.stdout.decode(errors='replace')}{done.stderr.decode(errors='replace')}".strip()
    found = _FOUND.search(said)
    if found is None:
        raise EmbeddedServerFailed(f"{path} cannot be checked: {said}")
    size, whole = map(int, found.groups())
    torn = size - whole
    if _DAMAGED in said or torn > TORN_BYTES_MAX:
        raise EmbeddedServerFailed(f"{path} is damaged, and not at its end alone: {said}")
    if torn:
        with path.open("rb+") as file:
            file.truncate(whole)
            os.fsync(file.fileno())
    return torn
