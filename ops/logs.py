"""Logs: one line per event on stderr, and bounded files of what children write.

A line is ``2026-01-31T12:00:00.123Z WARNING router: what happened``, in UTC; what does not look so
(a traceback) belongs to the line before it.
"""

from __future__ import annotations

import logging
import re
import sys
import time
from io import FileIO
from pathlib import Path

LOG_BYTES_MAX = 8 * 1024 * 1024
"""A child's log that would grow beyond this moves aside; one older generation is kept."""

_LINE = re.compile(rb"^\d{4}-\d\d-\d\dT[\d:.]+Z (DEBUG|INFO|WARNING|ERROR|CRITICAL) (.*)")


def configure_logging(level: str) -> None:
    """Send all loggers of this process to stderr.

    Args:
        level: ``debug``, ``info`` or ``warning``.
    """
    formatter = logging.Formatter(
        "%(asctime)s.%(msecs)03dZ %(levelname)s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S"
    )
    formatter.converter = time.gmtime
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())


def split_line(line: bytes) -> tuple[str, str] | None:
    """Return the level and the rest of a line in our format, or None."""
    match = _LINE.match(line)
    if match is None:
        return None
    return match[1].decode(), match[2].decode(errors="replace")


class BoundedLog:
    """A log file that moves aside to ``<name>.old.log`` when it is full.

    What the disk refuses is left out, because whoever reads a child's output must go on reading it;
    the log says how much that was as soon as it can.

    Args:
        path: the file; appended to.
        bytes_max: its size limit.
    """

    def __init__(self, path: Path, *, bytes_max: int = LOG_BYTES_MAX) -> None:
        self.path = path
        self._bytes_max = bytes_max
        self._file: FileIO | None = None
        self._left_out_bytes = 0

    def write(self, data: bytes) -> None:
        """Append whole lines, unless the disk refuses them."""
        missing = b""
        if self._left_out_bytes:
            missing = b"(%d bytes are missing here: the disk was full)\n" % self._left_out_bytes
        try:
            self._append(missing + data)
            self._left_out_bytes = 0
        except OSError:
            self._left_out_bytes += len(data)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _append(self, data: bytes) -> None:
        file = self._file or FileIO(self.path, "ab")
        self._file = file
        size_bytes = file.tell()
        if size_bytes and size_bytes + len(data) > self._bytes_max:
            self.close()
            self.path.replace(self.path.with_suffix(".old.log"))
            self._append(data)
            return
        written = file.write(data)
        while written < len(data):
            # Asking for the rest brings out the reason of a short write as an error.
            written += file.write(data[written:])
