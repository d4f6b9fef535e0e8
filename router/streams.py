"""Follow dense streams: orders (engines), events (market data, writer), the ledger (writer).

Plain XREAD from the reader's own position, never a consumer group: a group's state is lost on its
own terms. A reader owns its position, and reading twice is harmless.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from engine.journal import Record
from engine.limits import READ_BATCH_MAX
from router import keys
from router.dense_ids import entry_number, first_entry, first_number, last_entry, last_number
from router.errors import StreamGap
from router.redis_client import Argument, RedisLink, retry_while_away

StreamEntry = tuple[str, int, list[bytes]]
"""Name (symbol or ``ledger``), seq, and the values of the entry's fields in the order of keys.py:
orders [command, stamp], events [output], ledger [entry, stamp]."""


class StreamReader:
    """Reads several streams of one database, each from its own position.

    Args:
        link: for nothing else, because reading blocks it.
        streams: name → key, such as BTC-USD → events:BTC-USD.
        positions: name → the last seq that the reader has; 0 = from the first entry.
        interval_ms: a read begins so long after the one before it brought something, at the
            earliest, unless that one was full. So under load a read brings many entries and costs
            each of them less; the first entry after a quiet time is read at once.

    Attributes:
        positions: moves with every read.
        interval_ms: may be changed between reads.
        available: False while Redis does not answer; a read waits.
    """

    def __init__(
        self,
        link: RedisLink,
        streams: Mapping[str, str],
        positions: Mapping[str, int],
        *,
        interval_ms: int = 0,
    ) -> None:
        assert streams, "Invariant: a reader has a stream"
        self._link = link
        self._keys = tuple(streams.values())
        self._names = {key.encode(): name for name, key in streams.items()}
        self.positions = {name: positions[name] for name in streams}
        self.interval_ms = interval_ms
        self._next_at_s = 0.0
        self.available = True

    async def read(self, *, block_ms: int, count: int = READ_BATCH_MAX) -> list[StreamEntry]:
        """Return the next entries, in order per stream; none if none came in time.

        Waits while Redis is away. A cancelled read closes the connection and moves no position.

        Args:
            block_ms: longest wait for a first entry; 0 = do not wait.
            count: at most so many entries per stream.

        Raises:
            StreamGap: an entry is missing: trimmed before it was read, or lost.
        """
        if self.interval_ms:
            await self._wait_for_turn()
        ids = [f"{seq}-0" for seq in self.positions.values()]
        block = ("BLOCK", block_ms) if block_ms else ()
        reply = await retry_while_away(
            lambda: self._link.call(
                "XREAD", "COUNT", count, *block, "STREAMS", *self._keys, *ids, block_ms=block_ms
            ),
            what=f"reader {self._link.name}",
            on_change=self._on_change,
        )
        entries: list[StreamEntry] = []
        for key, found in reply or ():
            name = self._names[key]
            seq = self.positions[name]
            for entry_id, fields in found:
                seq += 1
                # Comparing text takes a third of the time of reading the number.
                if entry_id != b"%d-0" % seq:
                    raise StreamGap(key.decode(), seq, entry_number(entry_id))
                entries.append((name, seq, fields[1::2]))
            self.positions[name] = seq
        if self.interval_ms and 0 < len(entries) < count:
            self._next_at_s = asyncio.get_running_loop().time() + self.interval_ms / 1_000
        return entries

    async def _wait_for_turn(self) -> None:
        wait_s = self._next_at_s - asyncio.get_running_loop().time()
        if wait_s > 0:
            await asyncio.sleep(wait_s)

    def _on_change(self, available: bool) -> None:
        self.available = available


class CommandSource:
    """The commands of a shard's symbols, as records for its journal.

    Args:
        link: the shard's database, for nothing else.
        positions: symbol → the last seq that the engine has.
        block_ms: longest wait of one read.
        interval_ms: asked before each read: see ``StreamReader``.
    """

    def __init__(
        self,
        link: RedisLink,
        positions: Mapping[str, int],
        *,
        block_ms: int,
        interval_ms: Callable[[], int] = int,
    ) -> None:
        assert len(positions) <= READ_BATCH_MAX, "Invariant: a read has an entry for each stream"
        streams = {symbol: keys.orders(symbol) for symbol in positions}
        self._link = link
        self._reader = StreamReader(link, streams, positions)
        self._block_ms = block_ms
        self._interval_ms = interval_ms

    async def ends(self) -> dict[str, int]:
        """Return the last seq of each stream; waits while Redis is away."""
        return await self._numbers(last_entry, last_number)

    async def firsts(self) -> dict[str, int]:
        """Return the first seq that each stream still has; 1 for an empty one; waits like ends."""
        return await self._numbers(first_entry, first_number)

    def move_to(self, positions: Mapping[str, int]) -> None:
        """Go on behind these positions, instead of where reading has got to."""
        assert positions.keys() == self._reader.positions.keys(), "Invariant: the same streams"
        self._reader.positions.update(positions)

    async def _numbers(
        self,
        command: Callable[[str], tuple[Argument, ...]],
        number: Callable[[list[Any]], int],
    ) -> dict[str, int]:
        symbols = list(self._reader.positions)
        commands = [command(keys.orders(symbol)) for symbol in symbols]
        found = await retry_while_away(
            lambda: self._link.pipeline(commands), what=f"reader {self._link.name}"
        )
        return dict(zip(symbols, map(number, found), strict=True))

    async def read_batch(self, count: int) -> list[Record]:
        """Return the next commands, at most ``count`` in all; none if none came in time.

        Raises:
            StreamGap: a command is missing.
        """
        per_stream = max(1, count // len(self._reader.positions))
        self._reader.interval_ms = self._interval_ms()
        entries = await self._reader.read(block_ms=self._block_ms, count=per_stream)
        return [
            Record(symbol, seq, int(values[1]) * 1_000, 0, values[0])
            for symbol, seq, values in entries
        ]
