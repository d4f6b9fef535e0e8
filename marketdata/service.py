"""MarketDataService: follows the events of all symbols and makes the market public.

    events:{symbol} ─▶ SymbolFeed ─▶ ring ─┬▶ publisher ─▶ pub/sub
                                           └─(behind it)─▶ keeper ─▶ snapshot, ticker, candles,
                                           state, position

One reader per shard decodes each output once and puts its update into the ring. The ring is the
limit of what waits in
memory: when Redis does not take what is published, the readers stop reading, and the streams keep
    the rest.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack
from typing import Any, Final

from engine.events import decode_output_events
from engine.limits import READ_BATCH_MAX, RING_SLOTS
from engine.ring import RingBuffer
from engine.ring_loop import run_consumer, wait_for_capacity
from marketdata.board import Board
from marketdata.feed import SymbolFeed
from marketdata.keeper import Keeper
from marketdata.publisher import Publisher
from marketdata.settings import MarketDataSettings
from marketdata.store import Kept, MarketStore
from marketdata.updates import Update
from router import keys
from router.errors import RedisUnavailable
from router.homes import read_homes
from router.redis_client import RedisLink, retry_while_away
from router.shards import Shard
from router.streams import StreamReader
from router.subscriber import Subscriber

logger = logging.getLogger("marketdata")

READ_BLOCK_MS: Final = 1_000
"""Longest wait of one read; only ends idle reads now and then, so that a dead connection shows."""


class MarketDataService:
    """The market data process; one per venue.

    Args:
        url: the server, without a database number.
        shards: all whose symbols are published; the symbols must have been defined.
        settings: see there.
        timeout_ms: longest wait for a reply of Redis; then it counts as away.
        now_us: the clock, µs since 1970 UTC; it only dates snapshots and rolls tickers.
    """

    def __init__(
        self,
        *,
        url: str,
        shards: Iterable[Shard],
        settings: MarketDataSettings,
        timeout_ms: int,
        now_us: Callable[[], int],
    ) -> None:
        self._shards = [shard for shard in shards if shard.symbols]
        self._settings = settings
        self._now_us = now_us
        self._timeout_ms = timeout_ms
        self._link = RedisLink(
            url, db=keys.ACCOUNTS_DB, name="marketdata-keys", timeout_ms=timeout_ms
        )
        self._feeds: dict[str, SymbolFeed] = {}
        self._publisher: Publisher | None = None
        self._keeper: Keeper | None = None

    async def run(self) -> None:
        """Publish until cancelled. Waits while Redis is away, at the start too.

        Raises:
            ExceptionGroup: of what stopped a part: HomeMismatch, StateMismatch: what is kept does
                not belong to this venue; nothing was done.
            StreamGap: events are missing that were not read yet.
            PositionMoved: another process publishes the same market data.
            DecodeError: an output or a kept value is none of ours.
        """
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._link.close)
            store = MarketStore(self._link, levels_max=self._settings.snapshot_levels_max)
            kept = await retry_while_away(lambda: self._load(store), what="market data")
            publishing = await stack.enter_async_context(
                self._link.sibling(keys.ACCOUNTS_DB, name="marketdata-publisher")
            )
            checkpoints = [one.checkpoint for one in kept.values()]
            publisher = Publisher(
                publishing,
                checkpoints,
                heartbeat_interval_ms=self._settings.heartbeat_interval_ms,
            )
            boards = {symbol: Board(*one) for symbol, one in kept.items()}
            keeper = Keeper(store, boards, self._settings, self._now_us)
            self._feeds = {one.symbol: SymbolFeed(one) for one in checkpoints}
            self._publisher, self._keeper = publisher, keeper

            ring: RingBuffer[Update] = RingBuffer(RING_SLOTS)
            first = ring.add_consumer("publisher")
            second = ring.add_consumer("keeper", after=(first,))
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(run_consumer(first, publisher, batch_max=READ_BATCH_MAX))
                tasks.create_task(run_consumer(second, keeper, batch_max=READ_BATCH_MAX))
                tasks.create_task(publisher.run_heartbeats())
                tasks.create_task(keeper.run_saves())
                tasks.create_task(self._take_wishes(keeper))
                for shard in self._shards:
                    tasks.create_task(self._follow(shard, ring))

    def stats(self) -> dict[str, Any]:
        """Return counters for the process registry.

        ``symbols``: per symbol the last input ``read``, ``published`` and ``saved``; the stream's
        end minus ``published`` is the lag. ``messages``: sent since the start, heartbeats not
        counted. ``redis_available``: whether publishing gets through.
        """
        if self._publisher is None or self._keeper is None:
            return {"symbols": {}, "messages": 0, "redis_available": False}
        published, saved = self._publisher.published(), self._keeper.saved()
        return {
            "symbols": {
                symbol: {
                    "read": feed.seq,
                    "published": published[symbol],
                    "saved": saved[symbol],
                }
                for symbol, feed in self._feeds.items()
            },
            "messages": self._publisher.messages,
            "redis_available": self._publisher.available,
        }

    async def _load(self, store: MarketStore) -> dict[str, Kept]:
        homes = await read_homes(self._link, self._shards)
        return await store.load(homes.values())

    async def _take_wishes(self, keeper: Keeper) -> None:
        """Hear which symbols' orders gateways want; they ask again when nobody has heard them."""
        subscriber = Subscriber(
            self._link.url,
            (keys.MD_CONTROL_CHANNEL,),
            name="marketdata-control",
            timeout_ms=self._timeout_ms,
        )
        try:
            while True:
                await retry_while_away(subscriber.open, what="market data control")
                try:
                    while True:
                        for _, symbol in await subscriber.messages():
                            keeper.want_orders(symbol.decode())
                except RedisUnavailable as error:
                    logger.warning("Requests lost, subscribing again: %s", error)
        finally:
            subscriber.close()

    async def _follow(self, shard: Shard, ring: RingBuffer[Update]) -> None:
        feeds = {symbol: self._feeds[symbol] for symbol in shard.symbols}
        streams = {symbol: keys.events(symbol) for symbol in shard.symbols}
        positions = {symbol: feed.seq for symbol, feed in feeds.items()}
        name = f"marketdata-reader-{shard.id}"
        async with self._link.sibling(shard.db, name=name) as link:
            reader = StreamReader(
                link, streams, positions, interval_ms=self._settings.read_interval_ms
            )
            while True:
                entries = await reader.read(block_ms=READ_BLOCK_MS)
                for start in range(0, len(entries), READ_BATCH_MAX):
                    updates = [
                        feeds[symbol].apply(decode_output_events(values[0]))
                        for symbol, _, values in entries[start : start + READ_BATCH_MAX]
                    ]
                    await wait_for_capacity(ring, len(updates))
                    ring.publish_many(updates)
