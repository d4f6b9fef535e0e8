"""Journals on a disk that forgets: the production JournalFile, and what a crash leaves of it.

A killed process leaves what it wrote, and perhaps the beginning of a write that it was at. A
machine that loses power leaves what was synced, and any beginning of the rest. Files are real, in
memory where the machine has such a place.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from engine.errors import JournalWriteFailed
from engine.journal import Record, SegmentScan, encode_records
from engine.journal_file import JournalFile
from engine.journal_reader import segment_paths
from tests.simulation.clock import Process, current_process

_SHARED_MEMORY = Path("/dev/shm")


class Disk:
    """The journals of a world.

    Args:
        choose: decides what a crash leaves.

    Attributes:
        root: their directory.
        is_full: whether writes are refused.
        drops: the deliberate fault of acknowledging batches that are not written.
    """

    def __init__(self, choose: random.Random) -> None:
        place = _SHARED_MEMORY if _SHARED_MEMORY.is_dir() else None
        self._directory = tempfile.TemporaryDirectory(prefix="shardex-simulation-", dir=place)
        self._choose = choose
        self.root = Path(self._directory.name)
        self.is_full = False
        self.drops = False

    def open(self, directory: Path, **options: Any) -> WatchedFile:
        """Open a journal for the calling process: in the place of ``JournalFile``."""
        file = WatchedFile(self, directory, options)
        process = current_process()
        assert process is not None, "journals belong to processes"
        process.objects["journal"] = file
        return file

    def crash(self, process: Process, *, power_lost: bool) -> None:
        """Leave of a dead process' journal what the seed says."""
        file = process.objects.get("journal")
        if file is not None:
            file.crash(self._choose, power_lost=power_lost)

    def remove(self) -> None:
        """Remove everything."""
        self._directory.cleanup()


class WatchedFile(JournalFile):
    """A JournalFile that remembers up to where it is durable."""

    def __init__(self, disk: Disk, directory: Path, options: dict[str, Any]) -> None:
        self._disk = disk
        self._place = directory
        self._segment: Path | None = None
        self._durable_bytes = 0
        super().__init__(directory, **options)
        self._note_segment()

    def append_if_room(self, records: Sequence[Record]) -> bool:
        """Write a batch, unless the disk is full (JournalFile)."""
        if self._disk.is_full:
            raise JournalWriteFailed("no space left on device")
        if self._disk.drops and self.record_count > 3:
            self.positions = {**self.positions, **{one.key: one.seq for one in records}}
            return True
        return super().append_if_room(records)

    def sync(self) -> None:
        """Make it durable, and note how far (JournalFile)."""
        super().sync()
        if self._segment is not None:
            self._durable_bytes = self._segment.stat().st_size

    def roll(self) -> None:
        """Begin another segment, which is durable as far as it goes (JournalFile)."""
        super().roll()
        self._note_segment()

    def crash(self, choose: random.Random, *, power_lost: bool) -> None:
        """Close it as a dying process does, and tear its end."""
        self.close()
        segment = segment_paths(self._place)[-1]
        data = segment.read_bytes()
        if power_lost:
            assert segment == self._segment, "the last segment is the one that is written"
            data = data[: choose.randint(self._durable_bytes, len(data))]
        elif choose.random() < 0.5:
            scan = SegmentScan(data)
            begun = encode_records([Record("TORN", 1, 0, 0, bytes(40))], seed=scan.seed)
            data += begun[: choose.randrange(len(begun))]
        segment.write_bytes(data)

    def _note_segment(self) -> None:
        self._segment = segment_paths(self._place)[-1]
        self._durable_bytes = self._segment.stat().st_size
