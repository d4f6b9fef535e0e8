"""FlowRecorder: what the public feed says about one symbol while a flow is played."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from marketdata.feed_codec import (
    HeartbeatMessage,
    Message,
    SnapshotMessage,
    decode_message,
    decode_snapshot,
)
from ops.errors import CommandFailed
from router import keys
from router.errors import RedisUnavailable
from router.homes import read_settled
from router.redis_client import RedisLink
from router.subscriber import Subscriber

WAIT_TIMEOUT_S = 30.0
"""Market data says its last seq every second; after so long without it, it is away."""

_TIMEOUT_MS = 5_000
_POLL_S = 0.02


class FlowRecorder:
    """Follows the public feed of one symbol: a snapshot, and every message of bbo and depth."""

    def __init__(self, redis_url: str, symbol: str) -> None:
        self._symbol = symbol
        self._link = RedisLink(
            redis_url, db=keys.ACCOUNTS_DB, name="replay", timeout_ms=_TIMEOUT_MS
        )
        self._subscriber = Subscriber(
            redis_url,
            (keys.md_bbo(symbol), keys.md_depth(symbol)),
            name="replay-feed",
            timeout_ms=_TIMEOUT_MS,
        )
        self._task: asyncio.Task[None] | None = None
        self._heartbeats: dict[str, HeartbeatMessage] = {}
        self._settled = 0
        self._snapshot: SnapshotMessage | None = None
        self.messages: list[Message] = []

    @property
    def snapshot(self) -> SnapshotMessage:
        """The state before the run."""
        assert self._snapshot is not None, "Invariant: the recorder was opened"
        return self._snapshot

    async def open(self) -> None:
        """Subscribe, and read the snapshot that the messages continue.

        It holds all that anybody has been told of before: what was reported as cancelled does not
        rest in it any more.

        Raises:
            CommandFailed: the book is not empty.
            RedisUnavailable: market data says nothing.
        """
        await self._subscriber.open()
        self._task = asyncio.create_task(self._follow())
        self._settled = (await read_settled(self._link, (self._symbol,)))[self._symbol]
        await self._next_heartbeats()
        await self._until(self._read_snapshot)
        levels = len(self.snapshot.bids) + len(self.snapshot.asks)
        if levels:
            raise CommandFailed(
                f"{self._symbol}: expected an empty book, {levels} price levels rest in it"
                " (--private runs the flow in a venue of its own)"
            )

    async def wait_for(self, input_seq: int) -> None:
        """Wait until everything up to an input has been said and heard.

        Raises:
            RedisUnavailable: market data does not get there.
        """

        async def is_published() -> bool:
            found = await self._link.call("HGET", keys.POSITION_MARKETDATA, self._symbol)
            return int(found or 0) >= input_seq

        await self._until(is_published)
        await self._next_heartbeats()

    async def _read_snapshot(self) -> bool:
        """Take the snapshot unless it is older than what members or the channels were told."""
        body = await self._link.call("GET", keys.md_snapshot(self._symbol))
        if body is None:
            return False
        snapshot = decode_snapshot(body)
        if snapshot.seq < self._settled:
            return False
        last = {"bbo": snapshot.last_seq.bbo, "depth": snapshot.last_seq.depth}
        if any(last[name] < heartbeat.seq for name, heartbeat in self._heartbeats.items()):
            return False
        self._snapshot = snapshot
        return True

    async def _next_heartbeats(self) -> None:
        """Wait for a heartbeat of each channel: what was said before it has been heard."""
        self._heartbeats.clear()

        async def are_here() -> bool:
            return self._heartbeats.keys() >= {"bbo", "depth"}

        await self._until(are_here)

    async def _until(self, is_done: Callable[[], Awaitable[bool]]) -> None:
        try:
            async with asyncio.timeout(WAIT_TIMEOUT_S):
                while not await is_done():
                    self._check_alive()
                    await asyncio.sleep(_POLL_S)
        except TimeoutError as error:
            raise RedisUnavailable(f"{self._symbol}: market data is silent or behind") from error

    def _check_alive(self) -> None:
        if self._task is not None and self._task.done():
            self._task.result()

    async def _follow(self) -> None:
        while True:
            for _, payload in await self._subscriber.messages():
                message = decode_message(payload)
                if isinstance(message, HeartbeatMessage):
                    self._heartbeats[message.channel] = message
                else:
                    self.messages.append(message)

    async def close(self) -> None:
        """End the subscription."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._subscriber.close()
        await self._link.close()
