"""How far each symbol's commands have got, process by process; read in one round per database.

A consumer's lag is the number of entries between the end of what it reads and its own position.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec

from router import keys
from router.dense_ids import last_entry, last_number
from router.redis_client import Argument, RedisLink
from router.shards import Shard


class SymbolProgress(msgspec.Struct, frozen=True):
    """One symbol. Positions are seqs; prices in ticks, 0 for an empty side."""

    shard: int
    admitted: int
    settled: int
    published: int
    marketdata: int
    writer: int
    orders_length: int
    events_length: int
    best_bid_ticks: int
    best_ask_ticks: int


class Progress(msgspec.Struct, frozen=True):
    """The whole venue at about one moment, in which no stage is ahead of the one before it.

    Attributes:
        ledger: its last entry. ``ledger_written``: the last one in Postgres.
    """

    symbols: dict[str, SymbolProgress]
    ledger: int
    ledger_written: int
    ledger_length: int

    def lags(self) -> dict[str, int]:
        """Return the lag of each consumer, by the name of its process."""
        lags: dict[str, int] = {}
        for one in self.symbols.values():
            engine = keys.engine_name(one.shard, standby=False)
            lags[engine] = lags.get(engine, 0) + max(0, one.admitted - one.settled)
        rows = self.symbols.values()
        lags["marketdata"] = sum(max(0, one.published - one.marketdata) for one in rows)
        lags["writer"] = max(0, self.ledger - self.ledger_written) + sum(
            max(0, one.published - one.writer) for one in rows
        )
        return lags


class ProgressReader:
    """Reads the progress of a venue, with connections of its own.

    Args:
        link: accounts database.
        shards: all of the venue.
    """

    def __init__(self, link: RedisLink, shards: Sequence[Shard]) -> None:
        self._link = link
        self._shards = [(shard, link.sibling(shard.db)) for shard in shards if shard.symbols]

    async def read(self) -> Progress:
        """Return how far everything is.

        Raises:
            RedisUnavailable: no reply.
        """
        # The last stage first: what an order passes before is read after it, so that none seems
        # to overtake another.
        consumers = (keys.POSITION_MARKETDATA, keys.POSITION_WRITER)
        replies = await self._link.pipeline([("HGETALL", key) for key in consumers])
        marketdata, writer = map(_fields, replies)
        events = await self._ends(keys.events)
        replies = await self._link.pipeline(
            [
                *(("HGETALL", key) for key in (keys.SETTLED, keys.BBO)),
                *(last_entry(keys.LEDGER), ("XLEN", keys.LEDGER)),
            ]
        )
        settled, bbo = map(_fields, replies[:2])
        orders = await self._ends(keys.orders)
        symbols: dict[str, SymbolProgress] = {}
        for shard, _ in self._shards:
            for symbol in shard.symbols:
                bid, ask, _seq = (int(text) for text in bbo.get(symbol, "0 0 0").split())
                symbols[symbol] = SymbolProgress(
                    shard=shard.id,
                    admitted=orders[symbol][0],
                    settled=_position(settled, symbol),
                    published=events[symbol][0],
                    marketdata=_position(marketdata, symbol),
                    writer=_position(writer, symbol),
                    orders_length=orders[symbol][1],
                    events_length=events[symbol][1],
                    best_bid_ticks=bid,
                    best_ask_ticks=ask,
                )
        return Progress(
            symbols, last_number(replies[2]), _position(writer, keys.LEDGER), replies[3]
        )

    async def _ends(self, key_of: Callable[[str], str]) -> dict[str, tuple[int, int]]:
        """Return number of the last entry and length of one kind of stream, by symbol."""
        ends: dict[str, tuple[int, int]] = {}
        for shard, link in self._shards:
            commands: list[tuple[Argument, ...]] = []
            for symbol in shard.symbols:
                commands += [last_entry(key_of(symbol)), ("XLEN", key_of(symbol))]
            found = await link.pipeline(commands)
            for symbol, last, length in zip(shard.symbols, found[::2], found[1::2], strict=True):
                ends[symbol] = last_number(last), length
        return ends

    async def close(self) -> None:
        """Close the connections to the shards' databases."""
        for _, link in self._shards:
            await link.close()


def _fields(reply: list[bytes]) -> dict[str, str]:
    names, values = reply[::2], reply[1::2]
    return {name.decode(): value.decode() for name, value in zip(names, values, strict=True)}


def _position(positions: Mapping[str, str], stream: str) -> int:
    return int(positions.get(stream, 0))
