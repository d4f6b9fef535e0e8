"""One connection of a client of the torture, which may turn away from it and leave it open."""

from __future__ import annotations

from collections.abc import Callable

from gateway.fix_message import FixMessage
from ops.fix_client import FixClient
from ops.fix_initiator import Initiator


class Line(FixClient):
    """One connection. Abandoned, it only notes what still comes, and leaves the session alone."""

    def __init__(
        self, initiator: Initiator, *, on_messages: Callable[[list[FixMessage]], None]
    ) -> None:
        super().__init__(initiator, on_messages=on_messages)
        self.port = 0
        self.abandoned = False
        self.is_gone = False
        self.heard = b""

    def abandon(self) -> None:
        """Leave the socket open, so that the session can go on over another connection."""
        self.abandoned = True
        self.initiator.disconnect("abandoned")
        if self._timer is not None:
            self._timer.cancel()

    def close(self) -> None:
        """Close the socket of an abandoned line."""
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Note what comes after all (asyncio.Protocol)."""
        if self.abandoned:
            self.heard += data
        else:
            super().data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """Note the end (asyncio.Protocol)."""
        self.is_gone = True
        if self.abandoned:
            self._transport = None
        else:
            super().connection_lost(exc)
