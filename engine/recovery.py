"""Bring a shard back: the newest good snapshots, then all commands behind them.

The commands come from the streams. Where a stream has been trimmed past the snapshot that was found
(the newest one was damaged, or the engine was away for long), the beginning comes from journals:
the engine's own first, then any others that are given. All of them have the same commands.
"""

from __future__ import annotations

import gc
import logging
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Protocol

from engine.errors import RecoveryGap
from engine.journal import Record
from engine.journal_keys import hash_key
from engine.journal_reader import JournalReader
from engine.shard import Shard
from engine.snapshot_store import SnapshotStore

logger = logging.getLogger("engine")


class TrimmedSource(Protocol):
    """The streams of a shard's symbols, whose beginnings may be gone: a CommandSource."""

    async def ends(self) -> Mapping[str, int]:
        """Return the last seq of each symbol's stream."""

    async def firsts(self) -> Mapping[str, int]:
        """Return the first seq that each symbol's stream still has; 1 where it has none at all."""

    def move_to(self, positions: Mapping[str, int]) -> None:
        """Go on behind these positions."""

    async def read_batch(self, count: int) -> list[Record]:
        """Return the next commands, at most ``count``, in order per symbol; none if none came."""


def restorable(committed: Mapping[str, int], journalled: Mapping[str, int]) -> dict[str, int]:
    """Return symbol → the seq that its snapshot must not be beyond.

    Args:
        committed: Symbol to the older of the last settled and the last published seq.
        journalled: Key to the last seq in the engine's journal; missing: none.
    """
    return {
        symbol: min(seq, journalled.get(symbol, 0), journalled.get(hash_key(symbol), 0))
        for symbol, seq in committed.items()
    }


def restore(store: SnapshotStore, at_most: Mapping[str, int]) -> Shard:
    """Return a shard made from the newest good snapshots; a symbol without one begins empty.

    The collector stands still meanwhile, and never looks at what was restored again: all of it is
    in use (`engine.book` has figures).

    Args:
        store: The engine's snapshots.
        at_most: See `restorable`.
    """
    shard = Shard()
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        for symbol, seq in at_most.items():
            state = store.newest_good(symbol, at_most=seq)
            if state is not None:
                shard.restore_symbol(symbol, state)
                logger.info("%s: restored from its snapshot at seq %d", symbol, state.seq)
        gc.freeze()
    finally:
        if was_enabled:
            gc.enable()
    return shard


class RecoverySource:
    """A CommandSource that begins in journals where streams begin too late.

    Args:
        journals: Name to journal, the one to try first first.
        stream: Where the commands stand.
        positions: Symbol to the last seq that the shard has.
    """

    def __init__(
        self,
        journals: Mapping[str, JournalReader],
        stream: TrimmedSource,
        positions: Mapping[str, int],
    ) -> None:
        self._journals = dict(journals)
        self._stream = stream
        self._positions = dict(positions)
        self._untried = list(journals)
        self._has_progressed = False
        self._records: Iterator[Record] = iter(())
        self._is_streaming = False

    async def ends(self) -> Mapping[str, int]:
        """Return the last seq of each symbol's stream; waits while Redis is away."""
        return await self._stream.ends()

    async def read_batch(self, count: int) -> list[Record]:
        """Return the next commands, at most ``count``, in order per symbol; none if none came.

        Raises:
            RecoveryGap: A stream begins too late, and no journal has what is missing.
            JournalCorrupt: A journal is damaged; all before the damage was returned.
            JournalMismatch: A journal has another format version.
            ExchangeError: What the stream raises.
        """
        while not self._is_streaming:
            batch = list(islice(self._records, count))
            if batch:
                return batch
            await self._next_part()
        return await self._stream.read_batch(count)

    async def _next_part(self) -> None:
        """Turn to the next journal that may fill a gap, or to the streams when there is none.

        The streams are asked each time: they may have been trimmed further meanwhile.
        """
        firsts = await self._stream.firsts()
        lacking = {
            symbol: seq for symbol, seq in self._positions.items() if seq + 1 < firsts[symbol]
        }
        if not lacking:
            self._stream.move_to(self._positions)
            self._is_streaming = True
            return
        if not self._untried and self._has_progressed:
            self._untried = list(self._journals)
            self._has_progressed = False
        if not self._untried:
            symbol, seq = next(iter(lacking.items()))
            ends = {
                name: journal.positions().get(symbol, 0) for name, journal in self._journals.items()
            }
            raise RecoveryGap(symbol, seq + 1, firsts[symbol], ends)
        name = self._untried.pop(0)
        for symbol, seq in lacking.items():
            first = firsts[symbol]
            logger.info(
                "%s: seq %d is needed, its stream begins at %d: reading journal %s",
                *(symbol, seq + 1, first, name),
            )
        self._records = self._read(self._journals[name], lacking, firsts)

    def _read(
        self, journal: JournalReader, lacking: Mapping[str, int], firsts: Mapping[str, int]
    ) -> Iterator[Record]:
        """Yield what is lacking and comes next, until the streams take over."""
        positions = self._positions
        open_ends = len(lacking)
        for record in journal.read_from(lacking):
            symbol, seq = record.key, record.seq
            if seq != positions[symbol] + 1 or seq >= firsts[symbol]:
                continue
            positions[symbol] = seq
            self._has_progressed = True
            yield record
            if seq + 1 == firsts[symbol]:
                open_ends -= 1
                if not open_ends:
                    return
