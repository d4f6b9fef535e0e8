"""How far readers are, how far streams go, and the trimming of ``events:{symbol}`` below all.

Only entries that writer and market data are both past are removed, and never a stream's last entry:
its id is where the next output goes on (see ``keys``). The writer calls this: it is the slowest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from router import keys
from router.dense_ids import last_entry, last_number
from router.redis_client import Argument, RedisLink
from router.shards import Shard

_TRIM_ENTRIES_MAX = 100_000
"""Entries that one call removes per stream: some 10 ms of Redis' one thread. A call a second keeps
up with 100,000 outputs/s of a symbol; what is more waits for the next call."""


class EventStreams:
    """The event streams of all shards, and the ledger, as their slowest reader sees them.

    Args:
        link: accounts database; its server holds all shards.
        shards: whose streams.
    """

    def __init__(self, link: RedisLink, shards: Sequence[Shard]) -> None:
        self._link = link
        self._shards = [(shard, link.sibling(shard.db)) for shard in shards]

    async def ends(self) -> dict[str, int]:
        """Return the number of the last entry by symbol, and by ``ledger``; 0 for no entry.

        Raises:
            RedisUnavailable: no reply.
        """
        ends = {keys.LEDGER: last_number(await self._link.call(*last_entry(keys.LEDGER)))}
        for shard, link in self._shards:
            found = await link.pipeline(
                [last_entry(keys.events(symbol)) for symbol in shard.symbols]
            )
            ends.update(zip(shard.symbols, map(last_number, found), strict=True))
        return ends

    async def trim(self, written: Mapping[str, int]) -> int:
        """Remove what everybody has read, and return how many entries that were.

        A symbol whose market data has not said how far it is keeps everything.

        Args:
            written: symbol → seq that is on disk in PostgreSQL. Taken from the caller, because a
                Redis out of memory refuses to publish it, and needs the trimming most.

        Raises:
            RedisUnavailable: no reply; trimming again is safe.
        """
        removed = 0
        for shard, link in self._shards:
            seen = await self._link.call("HMGET", keys.POSITION_MARKETDATA, *shard.symbols)
            # MINID keeps the entry at the floor itself, so the last one always stays. "~" removes
            # whole nodes of the stream: some entries below the floor may stay too.
            trims: list[tuple[Argument, ...]] = []
            for symbol, position in zip(shard.symbols, seen, strict=True):
                floor = min(written[symbol], int(position or 0))
                if floor:
                    key = keys.events(symbol)
                    trims.append(("XTRIM", key, "MINID", "~", floor, "LIMIT", _TRIM_ENTRIES_MAX))
            if trims:
                removed += sum(await link.pipeline(trims))
        return removed

    async def publish(self, written: Mapping[str, int]) -> None:
        """Say how far the writer is (``position:writer``): for ``status``, never to go on from.

        Args:
            written: symbol, or ``ledger`` → number of the last entry on disk in PostgreSQL.

        Raises:
            RedisUnavailable: no reply.
            OutOfMemory: Redis refused it; nothing was written.
        """
        fields = [part for stream, position in written.items() for part in (stream, position)]
        await self._link.call("HSET", keys.POSITION_WRITER, *fields)

    async def close(self) -> None:
        """Close the connections to the shards' databases."""
        for _, link in self._shards:
            await link.close()
