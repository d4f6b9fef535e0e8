"""Snapshots on disk: written whole or not at all, the newest good one found, old ones removed.

One file per symbol and seq, ``{symbol}.{seq}.snapshot``. A file is written beside its place under a
name that no other process uses, made durable and then renamed; so a crash leaves whole snapshots
and rests of unfinished ones, which the next start removes. The two newest of a symbol are kept:
should the newest be damaged, the one before is used, and streams keep what follows that one.

A snapshot is never the only copy of anything: where none is good, journals have it all.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path

from engine.errors import SnapshotCorrupt, SnapshotVersion
from engine.journal_file import sync_directory
from engine.shard import SymbolState
from engine.snapshot import decode_snapshot

KEPT_PER_SYMBOL = 2
"""One may be found damaged; then the other has to do."""

_SUFFIX = ".snapshot"
_NEW_SUFFIX = ".new"

logger = logging.getLogger("engine")


class SnapshotStore:
    """The snapshots of one engine.

    Opening it makes the directory, readable by its owner alone, and removes what a crash left.

    Args:
        directory: Of this engine alone.
        incarnations: Symbol to the incarnation of its stream.
        is_owner: False for somebody who only reads, beside the engine: nothing is changed.

    Attributes:
        refused: Path to why, of those that `newest_good` has passed over as damaged or foreign.
    """

    def __init__(
        self, directory: Path, incarnations: Mapping[str, str], *, is_owner: bool = True
    ) -> None:
        self._directory = directory
        self._incarnations = dict(incarnations)
        self.refused: dict[Path, OSError | SnapshotCorrupt | SnapshotVersion] = {}
        # Who only reads says itself what it found.
        self._level = logging.WARNING if is_owner else logging.DEBUG
        if is_owner:
            if not directory.is_dir():
                directory.mkdir(mode=0o700, parents=True)
                sync_directory(directory.parent)
            self.discard_new()

    def newest_good(self, symbol: str, *, at_most: int) -> SymbolState | None:
        """Return a state made from the newest good snapshot with a seq of `at_most` or less.

        One that is damaged, foreign or newer is passed over, by its owner with a warning. None if
        none is left.
        """
        for path, seq in reversed(self._snapshots(symbol)):
            if seq > at_most:
                logger.log(self._level, "Snapshot %s is passed over: beyond seq %d", path, at_most)
                continue
            try:
                return self._load(path, symbol, seq)
            except (OSError, SnapshotCorrupt, SnapshotVersion) as error:
                logger.log(self._level, "Snapshot %s is passed over: %s", path, error)
                self.refused[path] = error
        return None

    def floor(self, symbol: str) -> int:
        """Return the seq of the older of the two kept snapshots; 0 if there are fewer.

        One that was found to be damaged does not count.
        """
        found = [seq for path, seq in self._snapshots(symbol) if path not in self.refused]
        return found[-KEPT_PER_SYMBOL] if len(found) >= KEPT_PER_SYMBOL else 0

    def write_new(self, symbol: str, seq: int, data: bytes, *, writer: int) -> None:
        """Make the bytes durable beside their place; `adopt` puts them there.

        Args:
            symbol, seq: What it is a snapshot of.
            data: The encoded snapshot.
            writer: Process id of the writer, so that no two write the same file.

        Raises:
            OSError: The disk refused it. Nothing is left behind, unless it refuses that too.
        """
        path = self._new_path(symbol, seq, writer)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view) :]
            os.fsync(fd)
        except OSError:
            path.unlink()
            raise
        finally:
            os.close(fd)

    def adopt(self, positions: Mapping[str, int], *, writer: int) -> None:
        """Put what `write_new` wrote in its place, and remove the snapshots that it makes needless.

        Those are all but it and the good one before it. Those of a later seq come from a history
        that the stream has lost.

        Args:
            positions: Symbol to the seq that was written.
            writer: Process id of the writer.

        Raises:
            OSError: The disk refused it. Some may be in place.
        """
        for symbol, seq in positions.items():
            path = self._path(symbol, seq)
            self._new_path(symbol, seq, writer).replace(path)
            self.refused.pop(path, None)
        sync_directory(self._directory)
        for symbol, seq in positions.items():
            self._prune(symbol, seq)

    def _prune(self, symbol: str, seq: int) -> None:
        found = self._snapshots(symbol)
        good = [path for path, of in found if of <= seq and path not in self.refused]
        for path, _ in found:
            if path not in good[-KEPT_PER_SYMBOL:]:
                path.unlink()
                self.refused.pop(path, None)

    def discard_new(self) -> None:
        """Remove what was written beside its place and never put there."""
        for path in self._directory.glob(f"*{_NEW_SUFFIX}"):
            path.unlink(missing_ok=True)

    def _load(self, path: Path, symbol: str, seq: int) -> SymbolState:
        found_symbol, state = decode_snapshot(path.read_bytes(), name=path.name)
        for what, expected, found in (
            ("symbol", symbol, found_symbol),
            ("seq", seq, state.seq),
            ("incarnation", self._incarnations[symbol], state.incarnation),
        ):
            if found != expected:
                raise SnapshotCorrupt(path.name, what, expected, found)
        return state

    def _snapshots(self, symbol: str) -> list[tuple[Path, int]]:
        """Return path and seq of each snapshot of a symbol, oldest first."""
        prefix = f"{symbol}."
        found = []
        for path in sorted(self._directory.glob(f"{prefix}*{_SUFFIX}")):
            seq = path.name.removeprefix(prefix).removesuffix(_SUFFIX)
            if seq.isdecimal():  # anything else is not ours
                found.append((path, int(seq)))
        return found

    def _path(self, symbol: str, seq: int) -> Path:
        return self._directory / f"{symbol}.{seq:016d}{_SUFFIX}"

    def _new_path(self, symbol: str, seq: int, writer: int) -> Path:
        return self._directory / f"{symbol}.{seq:016d}.{writer}{_NEW_SUFFIX}"
