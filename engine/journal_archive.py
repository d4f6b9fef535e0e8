"""Compress closed segments of a journal: a journal is kept for ever, and only its end is written.

A closed segment is replaced by its gzip file: written beside, compared, made durable, renamed, and
only then the plain one is removed. Whenever the machine stops, the segment is there, one way or
both; readers take either (`journal_reader.py`). Blocks for a second or two per segment: for a
thread of its own.
"""

from __future__ import annotations

import gzip
import os
import threading
from collections.abc import Callable
from pathlib import Path

from engine.journal_file import sync_directory
from engine.journal_reader import archived_path, is_archived, segment_paths

COMPRESSION_LEVEL = 3
"""zlib's; beyond it a segment takes twice as long to become a tenth smaller."""

NICENESS = 10
"""Of the thread that compresses: whatever else the machine has to do goes first."""

_CHUNK_BYTES = 1 << 18
_NEW_SUFFIX = ".new"


def yield_to_others() -> None:
    """Lower the priority of the calling thread alone (Linux)."""
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)


def archive_closed_segments(directory: Path, *, should_stop: Callable[[], bool]) -> int:
    """Compress every segment but the last one, and return how many that were.

    Args:
        directory: The journal's directory; only the process that writes the journal may do this.
        should_stop: Asked now and then; a segment that is under way stays as it was.

    Raises:
        OSError: The disk refused it; the segment stays as it was, and may be tried again.
        AssertionError: What was compressed is not what was read.
    """
    count = 0
    for path in segment_paths(directory)[:-1]:
        if is_archived(path):
            continue
        if not _archive(path, should_stop):
            break
        count += 1
    return count


def _archive(path: Path, should_stop: Callable[[], bool]) -> bool:
    archived = archived_path(path)
    new = archived.with_name(archived.name + _NEW_SUFFIX)
    try:
        is_done = _compress(path, new, should_stop) and _is_same(path, new, should_stop)
        if is_done:
            new.replace(archived)
            sync_directory(path.parent)
            path.unlink()
            sync_directory(path.parent)
    finally:
        new.unlink(missing_ok=True)
    return is_done


def _compress(path: Path, new: Path, should_stop: Callable[[], bool]) -> bool:
    with path.open("rb") as plain, open(new, "wb", opener=_private) as file:
        with gzip.GzipFile("", "wb", COMPRESSION_LEVEL, file, mtime=0) as packed:
            while chunk := plain.read(_CHUNK_BYTES):
                if should_stop():
                    return False
                packed.write(chunk)
        file.flush()
        os.fsync(file.fileno())
    return True


def _is_same(path: Path, new: Path, should_stop: Callable[[], bool]) -> bool:
    with path.open("rb") as plain, gzip.open(new) as packed:
        while chunk := plain.read(_CHUNK_BYTES):
            if should_stop():
                return False
            assert packed.read(len(chunk)) == chunk, f"Invariant: {new} holds {path}"
        assert not packed.read(1), f"Invariant: {new} holds {path} and no more"
    return True


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
