"""Where journals end: the last record of each key, over the journals of both engines of a shard."""

from __future__ import annotations

from collections.abc import Container, Iterable
from pathlib import Path

from engine.journal import Record
from engine.journal_reader import SegmentFile, segment_paths


def read_tails(directories: Iterable[Path], keys: Container[str]) -> dict[str, Record]:
    """Return the last record of each key; of several journals' the one with the highest seq.

    May run beside a writer. Reads the last segment, and older ones only for keys that are not in
    it: up to a second per segment, and blocks meanwhile.

    Args:
        directories: of journals that keep positions; one that does not exist has no records.
        keys: which ones are wanted.

    Raises:
        JournalCorrupt: A segment is damaged.
        JournalMismatch: A segment has another format version.
    """
    tails: dict[str, Record] = {}
    for directory in directories:
        for key, record in _tails_of(directory, keys).items():
            if key not in tails or tails[key].seq < record.seq:
                tails[key] = record
    return tails


def _tails_of(directory: Path, keys: Container[str]) -> dict[str, Record]:
    found: dict[str, Record] = {}
    for path in reversed(segment_paths(directory)):
        segment = SegmentFile(path)
        # Later records replace earlier ones of this segment, not those of later segments.
        here = {record.key: record for record in segment if record.key in keys}
        found = here | found
        before = segment.header.positions or {}
        if all(key in found for key in before if key in keys):
            break
    return found
