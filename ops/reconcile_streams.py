"""Reads commands back, from streams or journals, and compares what they give with the outputs.

One symbol at a time where the streams are read; a journal has all symbols of a shard mixed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from engine.errors import DecodeError, JournalCorrupt, JournalMismatch, SequenceGap
from engine.events import decode_output, encode_output
from engine.journal_reader import JournalReader
from engine.limits import READ_BATCH_MAX
from ops.reconcile import Differences, Owner, add_transfers
from ops.reconcile_cut import gap_difference
from ops.reconcile_replay import Behind, Holdings, Replay
from router import keys
from router.dense_ids import entry_number, last_entry, last_number
from router.errors import StreamGap
from router.redis_client import RedisLink
from router.venue_cut import SymbolCut, VenueCut, read_entries

PUBLISH_WAIT_S = 5.0
"""How long outputs that were settled at the cut may take to be published: a moment in a running
venue; an engine that ended in between publishes them at its next start."""

_POLL_S = 0.02

Entry = tuple[int, bytes, int]
"""Seq, bytes and stamp (µs) of a command."""

Transfers = tuple[dict[Owner, int], dict[Owner, int]]
"""Deposits less withdrawals by account and asset, up to an entry of the ledger, and behind it."""


class StreamMoved(Exception):
    """A stream was trimmed beyond what was still to be read of it: look again at a later moment."""


class Reading:
    """One look at a venue: what it was at the cut, and what was found.

    Args:
        found: gets the differences.
        link: accounts database.
        cut: the moment.
        may_move: what is trimmed while it is read raises StreamMoved; else it is a difference.
    """

    def __init__(
        self, found: Differences, link: RedisLink, cut: VenueCut, *, may_move: bool
    ) -> None:
        self.found = found
        self.link = link
        self.cut = cut
        self._may_move = may_move

    async def published(self, link: RedisLink, symbol: str) -> int:
        """Return how far a symbol's outputs are published, which is `settled` after a moment.

        Args:
            link: the shard's database.
        """
        key, end = keys.events(symbol), self.cut.symbols[symbol].settled
        deadline_s = time.monotonic() + PUBLISH_WAIT_S
        while True:
            published = last_number(await link.call(*last_entry(key)))
            if published >= end:
                return end
            if time.monotonic() > deadline_s:
                text = (
                    f"end at {published}, settled is {end}: the engine has not published the rest"
                )
                self.found.add("events", key, text)
                return published
            await asyncio.sleep(_POLL_S)

    async def add_gap(self, link: RedisLink, gap: StreamGap) -> None:
        """Say that a stream lacks an entry.

        Args:
            link: the stream's database.

        Raises:
            StreamMoved: it has been trimmed meanwhile.
        """
        first = await link.call("XRANGE", gap.key, "-", "+", "COUNT", 1)
        if self._may_move and first and entry_number(first[0][0]) > gap.expected:
            raise StreamMoved(gap.key)
        gap_difference(self.found, gap)

    async def transfers(self, position: int) -> Transfers | None:
        """Return what came in by the ledger, up to an entry and behind it; None if it has gaps."""
        then: dict[Owner, int] = {}
        later: dict[Owner, int] = {}
        try:
            # It is never trimmed.
            async for bite in read_entries(self.link, keys.LEDGER, 1, self.cut.ledger.last):
                add_transfers(then, [values[0] for n, values in bite if n <= position])
                add_transfers(later, [values[0] for n, values in bite if n > position])
        except StreamGap as gap:
            gap_difference(self.found, gap)
            return None
        except DecodeError as error:
            self.found.add("replay", keys.LEDGER, str(error))
            return None
        return then, later

    async def behind(self, positions: Mapping[str, int]) -> Behind | None:
        """Return what was published behind PostgreSQL's positions; None if not all of it is there.

        Raises:
            StreamMoved: the writer has gone on, and what it lacked has been trimmed.
        """
        behind, is_whole = Behind(), True
        for symbol, cut in self.cut.symbols.items():
            key = keys.events(symbol)
            async with self.link.sibling(cut.db) as link:
                first, end = positions.get(symbol, 0) + 1, await self.published(link, symbol)
                is_whole &= end == cut.settled
                try:
                    async for bite in read_entries(link, key, first, end):
                        for _, values in bite:
                            behind.add(decode_output(values[0]))
                except StreamGap as gap:
                    await self.add_gap(link, gap)
                    is_whole = False
                except DecodeError as error:
                    self.found.add("events", key, str(error))
                    is_whole = False
        return behind if is_whole else None


class SymbolReading:
    """One symbol's commands beside a replay, which has been brought to where they begin.

    Args:
        link: the shard's database.
        then: gets what inputs up to ``stored`` did, too.
    """

    def __init__(
        self,
        reading: Reading,
        link: RedisLink,
        symbol: str,
        replay: Replay,
        *,
        then: Holdings,
        stored: int,
    ) -> None:
        self._reading = reading
        self._link = link
        self._symbol = symbol
        self._cut: SymbolCut = reading.cut.symbols[symbol]
        self._replay = replay
        self._then = then
        self._stored = stored
        self._published = -1
        self._is_stopped = False

    async def read_stream(self) -> bool:
        """Apply the rest of the stream up to `settled`; False where not all could be applied.

        Raises:
            StreamMoved: it has been trimmed meanwhile.
        """
        symbol = self._symbol
        if self._is_stopped:
            return False
        first = self._replay.shard.position(symbol) + 1
        try:
            async for bite in read_entries(
                self._link, keys.orders(symbol), first, self._cut.settled
            ):
                await self.take([(seq, values[0], int(values[1])) for seq, values in bite])
                if self._is_stopped:
                    return False
        except StreamGap as gap:
            await self._reading.add_gap(self._link, gap)
            return False
        except ValueError as error:
            self._stopped(self._replay.shard.position(symbol) + 1, error)
            return False
        return True

    async def take(self, entries: list[Entry]) -> None:
        """Apply commands that follow, and compare; nothing behind one that cannot be applied."""
        if self._is_stopped:
            return
        if self._published < 0:
            self._published = await self._reading.published(self._link, self._symbol)
        symbol, outputs = self._symbol, {}
        for seq, payload, ts_us in entries:
            try:
                applied = self._replay.apply_entry(symbol, seq, ts_us, payload)
            except (AssertionError, DecodeError, SequenceGap) as error:
                self._stopped(seq, error)
                break
            if seq <= self._stored:
                self._then.add(symbol, applied)
            if seq <= self._published:
                outputs[seq] = encode_output(applied.output)
        await self._compare(outputs)

    def _stopped(self, seq: int, error: Exception) -> None:
        self._is_stopped = True
        self._reading.found.add("replay", self._symbol, f"stops at {seq}: {error}")

    async def _compare(self, outputs: Mapping[int, bytes]) -> None:
        """Compare outputs with a stream's entries; below its first one they have been trimmed."""
        if not outputs:
            return
        link, found, key = self._link, self._reading.found, keys.events(self._symbol)
        wanted = min(outputs), max(outputs), "COUNT", len(outputs)
        entries = {n: fields for n, fields in await link.call("XRANGE", key, *wanted)}
        missing = [seq for seq in outputs if b"%d-0" % seq not in entries]
        # Read behind the entries: what was trimmed meanwhile must not seem to be missing.
        first = await link.call("XRANGE", key, "-", "+", "COUNT", 1) if missing else []
        for seq in missing:
            if first and seq > entry_number(first[0][0]):
                found.add("events", key, f"has no entry {seq}")
        for seq, output in outputs.items():
            fields = entries.get(b"%d-0" % seq)
            if fields is not None and fields != [b"e", output]:
                found.add("events", key, f"entry {seq} is not what its command gives")


async def read_journal(
    found: Differences,
    directory: Path,
    readings: Mapping[str, SymbolReading],
    ends: Mapping[str, int],
) -> None:
    """Apply a journal's commands from the first on; damage is a difference, and ends it.

    Args:
        readings: by symbol.
        ends: symbol → the last seq that is wanted.
    """
    pending: dict[str, list[Entry]] = {symbol: [] for symbol in readings}
    try:
        for symbol, entry in _commands(directory, ends):
            pending[symbol].append(entry)
            if len(pending[symbol]) == READ_BATCH_MAX:
                await readings[symbol].take(pending[symbol])
                pending[symbol] = []
    except (JournalCorrupt, JournalMismatch) as error:
        found.add("journal", directory.name, str(error))
    for symbol, entries in pending.items():
        await readings[symbol].take(entries)


def _commands(directory: Path, ends: Mapping[str, int]) -> Iterator[tuple[str, Entry]]:
    for record in JournalReader(directory):
        if record.seq <= ends.get(record.key, 0):
            yield record.key, (record.seq, record.payload, record.ts_ns // 1_000)
