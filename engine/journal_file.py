"""Append to a journal: segments, their roll, and what a failed or unfinished write leaves behind.

A journal is a directory of segments, named by the number of their first record (`journal.py` has
their bytes). Only its last segment grows. A new one is begun after the old one is durable, and
appears whole: written beside it, made durable, then renamed. So a crash can tear the end of the
last segment and nothing else, and anything else that is found torn is damage.

One process writes a journal: a lock on the directory, which ends with the process, sees to that.
Nothing here waits for anything but the disk; `journal_writer.py` is the asyncio side of it.
"""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from engine.errors import JournalLocked, JournalMismatch, JournalSyncFailed, JournalWriteFailed
from engine.journal import Record, SegmentHeader, encode_header, encode_records, header_seed
from engine.journal_reader import SegmentFile, is_archived, segment_path, segment_paths
from engine.limits import JOURNAL_SEGMENT_BYTES_MAX

_LOCK_NAME = "lock"
_NEW_NAME = "segment.new"

logger = logging.getLogger("engine")


class JournalFile:
    """The end of a journal, open for appending.

    Opening takes the lock, reads the last segment, cuts off a torn end, and begins the first
    segment of an empty journal. It blocks for as long as that takes: up to a second per segment.

    Args:
        directory: The journal's directory, made if it does not exist. Only its owner may read it:
            messages are in there as they were received.
        kind: What the payloads are; compared with what is there.
        owner: Shard or gateway; compared with what is there.
        incarnations: Key to the incarnation of its stream; compared for the keys that are there.
        keeps_positions: The seq of each key only grows; the journal knows the last of each.
        now_ns: The clock, for the headers of segments.
        segment_bytes_max: Where a segment ends and the next begins. A batch that is longer than
            this gets a segment of its own.

    Attributes:
        record_count: Records in the journal.
        positions: Key to its last seq; empty unless the journal keeps positions.
        cut_bytes: Bytes of an unfinished write that were cut off when the journal was opened.

    A JournalSyncFailed breaks the journal: all further calls but `close` raise it again.

    Raises:
        JournalLocked: Another process has it open.
        JournalCorrupt: The last segment is damaged before its tail; nothing is changed.
        JournalMismatch: It is another journal, or of another format version; nothing is changed.
        JournalWriteFailed: The disk is full: it refused a first segment, or the lock's holder.
        JournalSyncFailed: The disk failed to make durable what it holds of the journal.
    """

    def __init__(
        self,
        directory: Path,
        *,
        kind: str,
        owner: str,
        incarnations: Mapping[str, str],
        keeps_positions: bool,
        now_ns: Callable[[], int],
        segment_bytes_max: int = JOURNAL_SEGMENT_BYTES_MAX,
    ) -> None:
        self._directory = directory
        self._kind = kind
        self._owner = owner
        self._incarnations = dict(incarnations)
        self._keeps_positions = keeps_positions
        self._now_ns = now_ns
        self._segment_bytes_max = segment_bytes_max
        self.record_count = 0
        self.positions: dict[str, int] = {}
        self.cut_bytes = 0
        self._fd = -1
        self._size_bytes = 0
        self._first_record = 0
        self._seed = 0
        self._is_broken = False
        _make_directory(directory)
        self._lock_fd = _lock(directory)
        try:
            self._open_last()
        except BaseException:
            self.close()
            raise

    @property
    def directory(self) -> Path:
        """Where the segments stand."""
        return self._directory

    def append(self, records: Sequence[Record]) -> None:
        """Write a batch, into the next segment if this one has no room. Not yet durable.

        Raises:
            JournalWriteFailed: See `append_if_room` and `roll`.
            JournalSyncFailed: See `append_if_room` and `roll`.
        """
        if not self.append_if_room(records):
            self.roll()
            self.append_if_room(records)

    def append_if_room(self, records: Sequence[Record]) -> bool:
        """Write a batch with one write, if this segment has room for it. Not yet durable.

        Returns:
            False when the segment has to be rolled first; nothing is written then.

        Raises:
            JournalWriteFailed: The disk refused it (full, too large, broken). What was written of
                it is cut off again, and the same batch may be tried again.
            JournalSyncFailed: Cutting it off failed too, or the journal is already broken.
        """
        self._check_usable()
        positions = self._positions_after(records)
        data = encode_records(records, seed=self._seed)
        is_empty = self.record_count == self._first_record
        if self._size_bytes + len(data) > self._segment_bytes_max and not is_empty:
            return False
        try:
            _write_all(self._fd, data)
        except OSError as error:
            self._cut_back()
            raise JournalWriteFailed(f"journal {self._directory}: {error}") from error
        self._size_bytes += len(data)
        self.record_count += len(records)
        self.positions = positions
        return True

    def sync(self) -> None:
        """Make all that was written durable. Blocks; may run in another thread.

        Raises:
            JournalSyncFailed: The disk reports an error, now or before; see the class.
        """
        self._check_usable()
        try:
            os.fdatasync(self._fd)
        except OSError as error:
            raise self._broken(error) from error

    def roll(self) -> None:
        """Make this segment durable and begin the next. Blocks; may run in another thread.

        Raises:
            JournalWriteFailed: The disk refused the new segment; the old one goes on, and rolling
                may be tried again.
            JournalSyncFailed: See `sync`.
        """
        self.sync()
        self._begin_segment()

    def close(self) -> None:
        """Close the file and give up the lock, without a sync. Closing twice does nothing."""
        for fd in (self._fd, self._lock_fd):
            if fd >= 0:
                os.close(fd)
        self._fd = self._lock_fd = -1

    def _open_last(self) -> None:
        paths = segment_paths(self._directory)
        if not paths:
            self._begin_segment()
            return
        last = SegmentFile(paths[-1])
        self._check_same_journal(last)
        last.skip_to_end()
        if is_archived(last.path):
            # Closed for good; it is the last one where those behind it were cut off.
            self._incarnations = last.header.incarnations | self._incarnations
            self.record_count = last.next_record
            self.positions = last.positions or {}
            self._begin_segment()
            return
        self._fd = os.open(last.path, os.O_WRONLY | os.O_APPEND)
        self._size_bytes = last.valid_bytes
        self._first_record = last.header.first_record
        self._seed = last.seed
        self.record_count = last.next_record
        self.positions = last.positions or {}
        self.cut_bytes = last.torn_bytes
        if self.cut_bytes:
            logger.warning(
                "Journal %s: cutting off %d bytes of an unfinished write at byte %d",
                last.path,
                self.cut_bytes,
                self._size_bytes,
            )
            self._cut_back()
        # A killed process may have left records that are in the file but not yet on disk.
        self.sync()
        known = last.header.incarnations
        self._incarnations = known | self._incarnations
        if self._incarnations != known:
            self.roll()

    def _check_same_journal(self, last: SegmentFile) -> None:
        header = last.header
        pairs: list[tuple[str, object, object]] = [
            ("kind", self._kind, header.kind),
            ("owner", self._owner, header.owner),
            ("keeps positions", self._keeps_positions, header.positions is not None),
        ]
        for key, incarnation in self._incarnations.items():
            known = header.incarnations.get(key, incarnation)
            pairs.append((f"incarnation of {key}", incarnation, known))
        for name, expected, found in pairs:
            if found != expected:
                raise JournalMismatch(f"{last.path}: {name}: expected {expected}, found {found}")

    def _positions_after(self, records: Sequence[Record]) -> dict[str, int]:
        if not self._keeps_positions:
            return self.positions
        positions = self.positions.copy()
        for record in records:
            assert record.seq > positions.get(record.key, -1), "Invariant: a key's seq only grows"
            positions[record.key] = record.seq
        return positions

    def _begin_segment(self) -> None:
        header = encode_header(
            SegmentHeader(
                kind=self._kind,
                owner=self._owner,
                incarnations=self._incarnations,
                first_record=self.record_count,
                created_ns=self._now_ns(),
                positions=self.positions if self._keeps_positions else None,
            )
        )
        try:
            fd = _write_new(segment_path(self._directory, self.record_count), header)
        except OSError as error:
            raise JournalWriteFailed(f"journal {self._directory}: {error}") from error
        # From here on the new segment is there, and nothing may follow in the old one.
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = fd
        self._size_bytes = len(header)
        self._first_record = self.record_count
        self._seed = header_seed(header)
        try:
            sync_directory(self._directory)
        except OSError as error:
            raise self._broken(error) from error

    def _cut_back(self) -> None:
        """Cut the segment to its whole frames, after a write that failed or was interrupted."""
        try:
            os.ftruncate(self._fd, self._size_bytes)
        except OSError as error:
            raise self._broken(error) from error

    def _broken(self, error: OSError) -> JournalSyncFailed:
        self._is_broken = True
        return JournalSyncFailed(f"journal {self._directory}: {error}")

    def _check_usable(self) -> None:
        if self._is_broken:
            raise JournalSyncFailed(f"journal {self._directory}: failed before")


def _make_directory(directory: Path) -> None:
    if not directory.is_dir():
        directory.mkdir(mode=0o700, parents=True)
        sync_directory(directory.parent)


def _lock(directory: Path) -> int:
    """Lock the journal and return the descriptor that holds the lock."""
    fd = os.open(directory / _LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.read(fd, 20).decode()
        os.close(fd)
        raise JournalLocked(f"journal {directory} is written by process {holder}") from error
    try:
        os.ftruncate(fd, 0)
        os.write(fd, b"%d" % os.getpid())
    except OSError as error:
        os.close(fd)
        raise JournalWriteFailed(f"journal {directory}: {error}") from error
    return fd


def _write_all(fd: int, data: bytes) -> None:
    """Write all of `data`: one system call, unless the disk takes only a part of it."""
    written = os.write(fd, data)
    while written < len(data):
        # Asking for the rest brings out the reason of a short write as an error.
        written += os.write(fd, data[written:])


def _write_new(path: Path, header: bytes) -> int:
    """Make a durable file of `header` appear at `path`, whole, and open to append."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND
    new_path = path.with_name(_NEW_NAME)  # an earlier attempt may have left it
    fd = os.open(new_path, flags, 0o600)
    try:
        _write_all(fd, header)
        os.fsync(fd)
        new_path.replace(path)
    except OSError:
        os.close(fd)
        raise
    return fd


def sync_directory(directory: Path) -> None:
    """Make the names in a directory durable."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
