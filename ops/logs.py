"""Logs: one line per event on stderr, and bounded files of what children write.

A line is ``2026-01-31T12:00:00.123Z WARNING router: what happened``, in UTC; what does not look so
(a traceback) belongs to the line before it.
"""

from __future__ import annotations

import logging
import re
import sys
import time
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

    Args:
        path: the file; appended to.
        bytes_max: its size limit.
    """

    def __init__(self, path: Path, *, bytes_max: int = LOG_BYTES_MAX) -> None:
        self.path = path
        self._bytes_max = bytes_max
        self._file = path.open("ab", buffering=0)

    def write(self, data: bytes) -> None:
        """Append whole lines.

        Raises:
            OSError: the disk refused them.
        """
        if self._file.tell() + len(data) > self._bytes_max and self._file.tell():
            self._file.close()
            self.path.replace(self.path.with_suffix(".old.log"))
            self._file = self.path.open("ab", buffering=0)
        self._file.write(data)

    def close(self) -> None:
        """Close the file."""
        self._file.close()
