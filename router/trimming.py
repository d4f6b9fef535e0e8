"""How far readers are, how far streams go, and the trimming of streams below all who read them.

``events:{symbol}``: entries that writer and market data are both past. The writer trims them: it is
the slowest. ``orders:{symbol}``: entries that no engine of the shard needs, because the older of
its two snapshots and its durable journal have them. The leader trims them.

Never a stream's last entry: its id is where the next one goes on (see ``keys``).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from router import keys
from router.dense_ids import last_entry, last_number
from router.redis_client import Argument, RedisLink
from router.shards import Shard

_TRIM_ENTRIES_MAX = 100_000
"""Entries that one command removes per stream: some 10 ms of Redis' one thread. A call a second
keeps up with 100,000 outputs/s of a symbol; what is more waits for the next call."""

ORDERS_KEPT_ALARM = 5_000_000
"""Commands of a symbol that may stay in Redis, 1 GB of them at most, before trimming says who holds
them back. Two intervals between snapshots at full load are half of it."""

EVENTS_KEPT_ALARM = 500_000
"""Likewise outputs of a symbol. Writer and market data follow at once, so one of them is behind."""

logger = logging.getLogger("router")


class _KeptAlarm:
    """Says which streams are kept long, and who needs them: at a limit, then at each doubling.

    Args:
        limit: entries of a stream.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._said: dict[str, int] = {}

    def look(self, key: str, length: int, holder: str, floor: int) -> None:
        """Say it where a stream of this length is said to be too long.

        Args:
            holder: who needs its entries longest; it needs none up to ``floor``.
        """
        if length <= self._limit:
            self._said.pop(key, None)
        elif length >= 2 * self._said.get(key, 0):
            self._said[key] = length
            logger.warning(
                "%s has %d entries: %s needs them from %d on", key, length, holder, floor + 1
            )


class EventStreams:
    """The event streams of all shards, and the ledger, as their slowest reader sees them.

    Args:
        link: accounts database; its server holds all shards.
        shards: whose streams.
    """

    def __init__(self, link: RedisLink, shards: Sequence[Shard]) -> None:
        self._link = link
        self._shards = [(shard, link.sibling(shard.db)) for shard in shards]
        self._alarm = _KeptAlarm(EVENTS_KEPT_ALARM)

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

        A symbol whose market data has not said how far it is keeps everything. Says whose reading
        holds back more than EVENTS_KEPT_ALARM entries.

        Args:
            written: symbol → seq that is on disk in PostgreSQL. Taken from the caller, because a
                Redis out of memory refuses to publish it, and needs the trimming most.

        Raises:
            RedisUnavailable: no reply; trimming again is safe.
        """
        removed = 0
        for shard, link in self._shards:
            seen = await self._link.call("HMGET", keys.POSITION_MARKETDATA, *shard.symbols)
            floors, holders = {}, {}
            for symbol, position in zip(shard.symbols, seen, strict=True):
                key = keys.events(symbol)
                needs = {"writer": written[symbol], "marketdata": int(position or 0)}
                holders[key] = min(needs, key=needs.__getitem__)
                floors[key] = needs[holders[key]]
            removed += await _trim(link, floors)
            await _look(self._alarm, link, floors, holders)
        return removed

    async def publish(self, written: Mapping[str, int]) -> None:
        """Say how far the writer is (``position:writer``): for ``status``, never to go on from.

        Args:
            written: symbol, or ``ledger`` → number of the last entry on disk in PostgreSQL.

        Raises:
            RedisUnavailable: no reply.
            OutOfMemory: Redis refused it; nothing was written.
        """
        await self._link.call("HSET", keys.POSITION_WRITER, *_fields(written))

    async def close(self) -> None:
        """Close the connections to the shards' databases."""
        for _, link in self._shards:
            await link.close()


class OrderStreams:
    """The streams of one shard's commands, as its engines need them.

    Args:
        link: accounts database.
        shard: whose streams. Without its engine nothing is removed; its second engine counts from
            when it has first said what it needs until it is forgotten.
    """

    def __init__(self, link: RedisLink, shard: Shard) -> None:
        self._link = link
        self._shard = shard
        self._streams = link.sibling(shard.db)
        self._engine, self._standby = keys.engine_names(shard.id)
        self._alarm = _KeptAlarm(ORDERS_KEPT_ALARM)

    async def publish(self, name: str, floors: Mapping[str, int]) -> None:
        """Say what an engine needs no more (``position:{engine}``).

        Args:
            name: the engine's.
            floors: symbol → seq up to which it needs nothing; 0 = it needs all.

        Raises:
            RedisUnavailable: no reply.
            OutOfMemory: Redis refused it; nothing was written.
        """
        await self._link.call("HSET", keys.position_engine(name), *_fields(floors))

    async def forget(self, name: str) -> bool:
        """Let an engine that is not coming back hold back nothing any more; False: it did not.

        Should it come back all the same, it reads what is gone from journals.

        Raises:
            RedisUnavailable: no reply.
        """
        return bool(await self._link.call("DEL", keys.position_engine(name)))

    async def trim(self, said: Mapping[str, Mapping[str, int]] = MappingProxyType({})) -> int:
        """Remove what no engine needs, and return how many entries that were. For the leader.

        Says which engine holds back more than ORDERS_KEPT_ALARM entries.

        Args:
            said: engine → what it needs no more, in place of what it has published. Of the caller
                itself, because a Redis out of memory refuses to publish it, and needs the trimming
                most.

        Raises:
            RedisUnavailable: no reply; trimming again is safe.
        """
        symbols = self._shard.symbols
        names = (self._engine, self._standby)
        has_standby, *found = await self._link.pipeline(
            [
                ("EXISTS", keys.position_engine(self._standby)),
                *(("HMGET", keys.position_engine(name), *symbols) for name in names),
            ]
        )
        engines = {
            name: said.get(name)
            or {symbol: int(n or 0) for symbol, n in zip(symbols, numbers, strict=True)}
            for name, numbers in zip(names, found, strict=True)
            if name == self._engine or has_standby or name in said
        }
        floors, holders = {}, {}
        for symbol in symbols:
            needs = {name: numbers[symbol] for name, numbers in engines.items()}
            key = keys.orders(symbol)
            holders[key] = min(needs, key=needs.__getitem__)
            floors[key] = needs[holders[key]]
        total = 0
        while removed := await _trim(self._streams, floors):
            total += removed
        await _look(self._alarm, self._streams, floors, holders)
        return total

    async def close(self) -> None:
        """Close the connection to the shard's database."""
        await self._streams.close()


def _fields(positions: Mapping[str, int]) -> list[Argument]:
    return [part for stream, position in positions.items() for part in (stream, position)]


async def _look(
    alarm: _KeptAlarm, link: RedisLink, floors: Mapping[str, int], holders: Mapping[str, str]
) -> None:
    """Look how long streams are that have just been trimmed."""
    lengths = await link.pipeline([("XLEN", key) for key in floors])
    for (key, floor), length in zip(floors.items(), lengths, strict=True):
        alarm.look(key, length, holders[key], floor)


async def _trim(link: RedisLink, floors: Mapping[str, int]) -> int:
    """Remove entries below a number each, and return how many; the last one of each stays.

    A floor may be beyond the last entry: a server that has taken over may lack the newest ones.
    """
    lasts = await link.pipeline([last_entry(key) for key in floors])
    # MINID keeps the entry at the floor itself. "~" removes whole nodes of the stream: some entries
    # below the floor may stay too.
    trims: list[tuple[Argument, ...]] = []
    for (key, floor), last in zip(floors.items(), lasts, strict=True):
        if kept := min(floor, last_number(last)):
            trims.append(("XTRIM", key, "MINID", "~", kept, "LIMIT", _TRIM_ENTRIES_MAX))
    return sum(await link.pipeline(trims)) if trims else 0
