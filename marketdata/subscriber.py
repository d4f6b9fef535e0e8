"""MarketSubscriber: a connection to the channels of some symbols, with a replica of each.

Everything that decides is in `replica.py`. This is the loop around it: subscribe, hand over what
arrives, read snapshots while a replica wants one, and begin again when the connection breaks or
falls silent.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from marketdata.feed_codec import Message, decode_message, decode_snapshot
from marketdata.replica import CHANNELS, MarketReplica
from router import keys
from router.errors import RedisUnavailable
from router.redis_client import RedisLink
from router.subscriber import Subscriber

SNAPSHOT_POLL_S: Final = 0.1
"""Between two readings of the snapshots that replicas want."""

SILENCE_MAX_S: Final = 5.0
"""Without any message, heartbeats included, for so long the connection is taken for dead."""

RECONNECT_DELAY_S: Final = 0.5

_CHANNEL_KEYS: Final[dict[str, Callable[[str], str]]] = {
    "trades": keys.md_trades,
    "bbo": keys.md_bbo,
    "depth": keys.md_depth,
    "status": keys.md_status,
}

logger = logging.getLogger("marketdata")


class MarketSubscriber:
    """Follows symbols; run it as a task, look at `replicas`.

    Args:
        url: the server, without a database number.
        symbols: which symbols; one connection for all of them.
        channels: which of trades, bbo, depth and status.
        on_message: called with each message as it is applied to its replica: once and in order,
            except for what was lost (`gaps` of the replica, `connections` of this).
        timeout_ms: longest wait for a reply.

    Attributes:
        replicas: by symbol; `joined` tells whether one is complete.
        connections: how often it has connected; more than 1: messages may have been lost.
    """

    def __init__(
        self,
        url: str,
        symbols: Iterable[str],
        *,
        channels: Sequence[str] = CHANNELS,
        on_message: Callable[[Message], None] = lambda message: None,
        timeout_ms: int = 5_000,
    ) -> None:
        self.replicas = {symbol: MarketReplica(symbol) for symbol in symbols}
        self.connections = 0
        self._url = url
        self._names = [_CHANNEL_KEYS[channel](s) for s in self.replicas for channel in channels]
        self._on_message = on_message
        self._timeout_ms = timeout_ms
        self._changed = asyncio.Event()

    async def run(self) -> None:
        """Follow the symbols until cancelled.

        Raises:
            DecodeError: a message or snapshot is none of ours.
        """
        subscriber = Subscriber(
            self._url, self._names, name="market-subscriber", timeout_ms=self._timeout_ms
        )
        link = RedisLink(
            self._url,
            db=keys.ACCOUNTS_DB,
            name="market-subscriber",
            timeout_ms=self._timeout_ms,
        )
        async with link:
            while True:
                try:
                    await self._follow(subscriber, link)
                except RedisUnavailable as error:
                    logger.warning("market data: subscribing again: %s", error)
                finally:
                    subscriber.close()
                await asyncio.sleep(RECONNECT_DELAY_S)

    async def joined(self) -> None:
        """Wait until every replica is complete."""
        while not all(replica.joined for replica in self.replicas.values()):
            await self.changed()

    async def changed(self) -> None:
        """Wait until something has been applied since the last call; for one waiting task."""
        await self._changed.wait()
        self._changed.clear()

    async def _follow(self, subscriber: Subscriber, link: RedisLink) -> None:
        for replica in self.replicas.values():
            replica.lose()
        await subscriber.open()
        self.connections += 1
        loop = asyncio.get_running_loop()
        silent_s = 0.0
        read_at_s = loop.time() - SNAPSHOT_POLL_S
        while True:
            wanting = [one for one in self.replicas.values() if not one.joined]
            now_s = loop.time()
            if wanting and now_s - read_at_s >= SNAPSHOT_POLL_S:
                read_at_s = now_s
                await self._read_snapshots(link, wanting)
            try:
                async with asyncio.timeout(SNAPSHOT_POLL_S):
                    received = await subscriber.messages()
            except TimeoutError as error:
                # Not by the clock: a process that stood still itself has not listened.
                silent_s += SNAPSHOT_POLL_S
                if silent_s > SILENCE_MAX_S:
                    raise RedisUnavailable(f"nothing heard for {SILENCE_MAX_S:g} s") from error
                continue
            silent_s = 0.0
            for _, data in received:
                message = decode_message(data)
                self._applied(self.replicas[message.symbol].receive(message))

    async def _read_snapshots(self, link: RedisLink, wanting: Sequence[MarketReplica]) -> None:
        values = await link.call("MGET", *(keys.md_snapshot(one.symbol) for one in wanting))
        for replica, value in zip(wanting, values, strict=True):
            applied = None if value is None else replica.load(decode_snapshot(value))
            if applied is not None:
                self._changed.set()
                self._applied(applied)

    def _applied(self, messages: Sequence[Message]) -> None:
        if messages:
            self._changed.set()
        for message in messages:
            self._on_message(message)
