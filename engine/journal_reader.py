"""Read a journal: its segments in order, checked for gaps and damage. For recovery and tools."""

from __future__ import annotations

import gzip
import zlib
from bisect import bisect_left
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from engine.errors import DecodeError, JournalCorrupt, JournalGap, JournalMismatch
from engine.journal import Record, SegmentHeader, SegmentScan, Tail

_SUFFIX = ".journal"
_ARCHIVED_SUFFIX = ".gz"

_HEADER_BYTES_TRIED = 1 << 16
"""Enough for the header of a journal with some 1,000 keys; for a longer one the file is read."""


def segment_path(directory: Path, first_record: int) -> Path:
    """Return the path of the segment that begins with record `first_record`.

    The name is the number with leading zeros, so the names sort as the records do.
    """
    return directory / f"{first_record:016d}{_SUFFIX}"


def segment_paths(directory: Path) -> list[Path]:
    """Return the paths of all segments in `directory`, oldest first, compressed ones too.

    A segment that is there both ways, because a crash came between, is named once, as it was
    written.
    """
    # In this order: a segment that is compressed in between is found the second time at the latest.
    paths = {path: path for path in directory.glob(f"*{_SUFFIX}")}
    for path in directory.glob(f"*{_SUFFIX}{_ARCHIVED_SUFFIX}"):
        paths.setdefault(plain_path(path), path)
    return [paths[plain] for plain in sorted(paths)]


def archived_path(path: Path) -> Path:
    """Return the path that a segment has once it is compressed."""
    return path.with_name(path.name + _ARCHIVED_SUFFIX)


def is_archived(path: Path) -> bool:
    """Tell whether a path is that of a compressed segment."""
    return path.suffix == _ARCHIVED_SUFFIX


def plain_path(path: Path) -> Path:
    """Return the path that a segment was written under."""
    return path.with_suffix("") if is_archived(path) else path


def _read(path: Path, size: int = -1) -> bytes:
    """Return the beginning of a segment, or all of it, whichever way it is there by now.

    Raises:
        JournalCorrupt: It is compressed and damaged.
    """
    if not is_archived(path):
        try:
            with path.open("rb") as file:
                return file.read(size)
        except FileNotFoundError:
            # Compressed since it was found.
            path = archived_path(path)
    try:
        with gzip.open(path) as file:
            return file.read(size)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise JournalCorrupt(str(path), 0, f"compressed, and damaged: {error}") from error


def read_header(path: Path) -> SegmentHeader:
    """Return the header of a segment without reading the rest, if it is not a very long one.

    Raises:
        JournalCorrupt: The header is damaged.
        JournalMismatch: The segment has another format version.
    """
    data = _read(path, _HEADER_BYTES_TRIED)
    try:
        return _scan(path, data).header
    except JournalCorrupt:
        if len(data) < _HEADER_BYTES_TRIED:
            raise
    return _scan(path, _read(path)).header


def _scan(path: Path, data: bytes) -> SegmentScan:
    try:
        return SegmentScan(data)
    except DecodeError as error:
        raise JournalCorrupt(str(path), 0, str(error)) from error
    except JournalMismatch as error:
        raise JournalMismatch(f"{path}: {error}") from error


def _first_needed(paths: Sequence[Path], positions: Mapping[str, int]) -> int:
    """Return the place of the first segment that has a record behind one of the positions."""
    for place in range(len(paths) - 1, 0, -1):
        before = read_header(paths[place]).positions
        if before is not None and all(before.get(key, -1) <= seq for key, seq in positions.items()):
            return place
    return 0


def _place_of(paths: Sequence[Path], key: str, seq: int) -> int:
    """Return the place of the segment that has a key's record `seq`; positions are kept."""

    def before(place: int) -> int:
        return (read_header(paths[place]).positions or {}).get(key, -1)

    return bisect_left(range(len(paths)), seq, key=before) - 1


class SegmentFile:
    """One segment on disk. Iterate once, to the end; the attributes then say where it ends.

    Args:
        path: The segment.

    Attributes:
        header: The segment's header.
        seed: What the checksums of this segment's records start from.
        next_record: Number of the first record behind this segment.
        valid_bytes: Bytes up to the end of the last whole frame.
        torn_bytes: Bytes of an unfinished write behind that.
        positions: Key to the last seq up to the end of this segment; None as in SegmentHeader.

    Raises:
        JournalCorrupt: The header is damaged, or belongs to a segment of another name.
        JournalMismatch: The segment has another format version.
    """

    def __init__(self, path: Path) -> None:
        data = _read(path)
        self._scan = _scan(path, data)
        self.path = path
        self.header = self._scan.header
        self.seed = self._scan.seed
        self.next_record = self.header.first_record
        self.valid_bytes = self._scan.valid_bytes
        self.torn_bytes = 0
        self.positions = None if self.header.positions is None else dict(self.header.positions)
        self._size = len(data)
        if segment_path(path.parent, self.next_record) != plain_path(path):
            reason = f"segment of record {self.next_record} under another name"
            raise JournalCorrupt(str(path), 0, reason)

    def __iter__(self) -> Iterator[Record]:
        """Yield each whole record.

        Raises:
            JournalCorrupt: The segment is damaged before its tail, or the seq of a key does not
                grow though the journal keeps positions.
        """
        positions = self.positions
        for record in self._scan:
            if positions is not None:
                last_seq = positions.get(record.key, -1)
                if record.seq <= last_seq:
                    reason = f"{record.key}: expected a seq above {last_seq}, found {record.seq}"
                    raise JournalCorrupt(str(self.path), self._scan.valid_bytes, reason)
                positions[record.key] = record.seq
            self.next_record += 1
            yield record
        self.valid_bytes = self._scan.valid_bytes
        if self._scan.tail is Tail.CORRUPT:
            raise JournalCorrupt(str(self.path), self.valid_bytes, self._scan.reason)
        self.torn_bytes = self._size - self.valid_bytes

    def skip_to_end(self) -> None:
        """Walk through all records for their checks and the attributes alone.

        Raises:
            JournalCorrupt: As when iterating.
        """
        deque(self, maxlen=0)

    def check_followed_by(self, following: SegmentFile) -> None:
        """Check that `following` goes on where this segment, read to its end, stops.

        Raises:
            JournalCorrupt: This one is torn, or the other one begins before its end.
            JournalGap: Records between the two are missing.
        """
        if self.torn_bytes:
            reason = f"torn by {self.torn_bytes} bytes, though {following.path.name} follows"
            raise JournalCorrupt(str(self.path), self.valid_bytes, reason)
        found = following.header.first_record
        if found > self.next_record:
            raise JournalGap(str(self.path.parent), self.next_record, found - 1)
        if found < self.next_record:
            reason = f"begins with record {found}, expected {self.next_record}"
            raise JournalCorrupt(str(following.path), 0, reason)


class JournalReader:
    """All records of the journal in a directory, oldest first; iterate as often as you like.

    May run beside a writer: an unfinished end of the last segment is where reading stops.

    Args:
        directory: The journal's directory.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def __iter__(self) -> Iterator[Record]:
        """Yield each record, with one segment in memory at a time.

        Raises:
            JournalGap: A segment is missing, the first one too; all before that were yielded.
            JournalCorrupt: A segment is damaged; likewise.
            JournalMismatch: A segment has another format version.
        """
        paths = segment_paths(self._directory)
        if paths and (first := read_header(paths[0]).first_record):
            raise JournalGap(str(self._directory), 0, first - 1)
        yield from self._records_of(paths)

    def remaining(self) -> Iterator[Record]:
        """Yield each record of the segments that are there: the oldest may have been moved away.

        Raises: as when iterating, but for the first segment.
        """
        yield from self._records_of(segment_paths(self._directory))

    def _records_of(self, paths: Sequence[Path]) -> Iterator[Record]:
        previous: SegmentFile | None = None
        for path in paths:
            segment = SegmentFile(path)
            if previous is not None:
                previous.check_followed_by(segment)
            yield from segment
            previous = segment

    def read_from(self, positions: Mapping[str, int]) -> Iterator[Record]:
        """Yield the records of some keys behind a seq each, and no others.

        Segments that end before all of these are not read, apart from their headers.

        Args:
            positions: Key to the last seq that is not wanted.

        Raises:
            JournalCorrupt: A segment that is read is damaged or missing; as when iterating.
            JournalMismatch: A segment has another format version.
        """
        paths = segment_paths(self._directory)
        for record in self._records_of(paths[_first_needed(paths, positions) :]):
            if record.seq > positions.get(record.key, record.seq):
                yield record

    def tails(self, wanted: Collection[str]) -> dict[str, Record]:
        """Return the last record of each of some keys; a key that has none is missing.

        Reads the last segment, and of those before it only the ones that such a record stands in;
        their headers say which, so a key that has been quiet for long costs no more than another.
        Where that segment is gone, moved away or lost, the header of the last one still says the
        seq: such a record has that alone, and an empty payload.

        Raises:
            JournalCorrupt: A segment that is read is damaged.
            JournalMismatch: A segment that is read has another format version.
        """
        paths = segment_paths(self._directory)
        if not paths:
            return {}
        last = SegmentFile(paths[-1])
        found = {record.key: record for record in last if record.key in wanted}
        earlier = last.header.positions or {}
        lacking: dict[int, set[str]] = {}
        for key in wanted:
            if key not in found and key in earlier:
                lacking.setdefault(_place_of(paths, key, earlier[key]), set()).add(key)
        for place, some in lacking.items():
            if place >= 0:
                found |= {one.key: one for one in SegmentFile(paths[place]) if one.key in some}
        for key in (key for some in lacking.values() for key in some):
            if key not in found or found[key].seq < earlier[key]:
                found[key] = Record(key, earlier[key], 0, 0, b"")
        return found

    def positions(self) -> dict[str, int]:
        """Return the last seq of each key, reading the last segment alone.

        An empty journal has none, and neither has one that keeps no positions (SegmentHeader).

        Raises:
            JournalCorrupt: The last segment is damaged.
            JournalMismatch: The last segment has another format version.
        """
        paths = segment_paths(self._directory)
        if not paths:
            return {}
        last = SegmentFile(paths[-1])
        last.skip_to_end()
        return last.positions or {}
