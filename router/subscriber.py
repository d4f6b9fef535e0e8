"""Listen to Redis channels: at most once, as pub/sub is; never the only source of anything."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any

import hiredis

from router.errors import RedisUnavailable
from router.redis_client import Wire, greeting, open_wire, pack_commands, translate

MESSAGES_WAITING_MAX = 100_000
"""Messages that wait to be taken; with more the connection is ended, as Redis itself would do."""


class Subscriber:
    """One subscription, from ``open`` until the connection ends.

    After RedisUnavailable, open it again: what was said meanwhile is lost.

    Args:
        url: the server; channels do not know databases.
        channels: their names.
        name: shows in CLIENT LIST.
        timeout_ms: longest wait for connecting.
    """

    def __init__(self, url: str, channels: Sequence[str], *, name: str, timeout_ms: int) -> None:
        self._url = url
        self._channels = tuple(channels)
        self._name = name
        self._timeout_ms = timeout_ms
        self._wire: Wire | None = None
        self._waiting: deque[tuple[str, bytes]] = deque()
        self._wake = asyncio.Event()
        self._subscribed: asyncio.Future[None] | None = None
        self._lost = "not open"
        self._to_come = 0

    async def open(self) -> None:
        """Connect and subscribe; when this returns, everything said from now on will come.

        Raises:
            RedisUnavailable: no answer.
        """
        self.close()
        self._waiting.clear()
        self._lost = ""
        self._to_come = len(self._channels)
        self._wire = await open_wire(
            self._url, on_reply=self._on_reply, on_lost=self._on_lost, timeout_ms=self._timeout_ms
        )
        self._subscribed = asyncio.get_running_loop().create_future()
        try:
            hello = greeting(self._url, db=0, name=self._name)
            self._wire.send(pack_commands([*hello, ("SUBSCRIBE", *self._channels)]))
            async with asyncio.timeout(self._timeout_ms / 1000):
                await self._subscribed
        except TimeoutError as error:
            self.close()
            raise RedisUnavailable("no answer to SUBSCRIBE") from error
        except BaseException:
            # Nobody waits for it any more, so it must not get an error that nobody would take.
            self._subscribed.cancel()
            self.close()
            raise

    async def messages(self) -> list[tuple[str, bytes]]:
        """Wait for messages and return all that have come: channel and payload.

        Raises:
            RedisUnavailable: the connection has ended.
        """
        while not self._waiting:
            if self._lost:
                raise RedisUnavailable(f"subscription lost: {self._lost}")
            self._wake.clear()
            await self._wake.wait()
        taken = list(self._waiting)
        self._waiting.clear()
        return taken

    def close(self) -> None:
        """End the subscription; ``messages`` raises from then on."""
        wire, self._wire = self._wire, None
        if wire is not None:
            wire.abort()
            self._on_lost("closed")

    def _on_reply(self, reply: Any) -> None:
        if isinstance(reply, hiredis.ReplyError):
            self._fail(translate(reply))
        elif isinstance(reply, list) and reply[0] == b"message":
            self._waiting.append((reply[1].decode(), reply[2]))
            self._wake.set()
            if len(self._waiting) > MESSAGES_WAITING_MAX:
                self.close()
        elif isinstance(reply, list) and reply[0] == b"subscribe":
            self._to_come -= 1
            if not self._to_come and self._subscribed and not self._subscribed.done():
                self._subscribed.set_result(None)

    def _on_lost(self, reason: str) -> None:
        self._lost = reason
        self._wake.set()
        self._fail(RedisUnavailable(f"connection to Redis lost: {reason}"))

    def _fail(self, error: Exception) -> None:
        if self._subscribed is not None and not self._subscribed.done():
            self._subscribed.set_exception(error)
