"""What a session is subscribed to, and whether it keeps up."""

from __future__ import annotations

from collections import deque
from typing import Final

from gateway.connection import Connection
from gateway.fix_message import Body
from gateway.market_book import NEVER, Mark
from gateway.market_requests import Kind
from router.market_state import PhaseStatus

UNWRITTEN_BYTES_MAX: Final = 65_536
"""A connection with more bytes to write is skipped: its reader is not fast enough."""

ROUNDS_BEHIND_MAX: Final = 10
"""Rounds, a second of them, that a subscription's mark is kept while it is skipped; then it gets a
whole snapshot, which bounds what slow readers cost us."""

ROUND_BYTES_MAX: Final = 262_144
"""Bytes after which a client has had its share of a round; its other subscriptions come first in
the next one."""


Message = tuple[bytes, Body]
"""MsgType and body."""


class Subscription:
    """One symbol of one MarketDataRequest; of a snapshot request until it is answered."""

    __slots__ = ("behind", "kind", "mark", "once", "prefix", "symbol", "told")

    def __init__(self, req_id: bytes, symbol: str, kind: Kind, *, once: bool) -> None:
        self.prefix = b"262=%b\x01" % req_id
        self.symbol = symbol
        self.kind = kind
        self.once = once
        self.mark: Mark | None = None
        self.told = NEVER
        self.behind = 0


class StatusSubscription:
    """One symbol of one SecurityStatusRequest or TradingSessionStatusRequest."""

    __slots__ = ("req_id", "sent", "symbol")

    def __init__(self, req_id: bytes, symbol: str, sent: PhaseStatus) -> None:
        self.req_id = req_id
        self.symbol = symbol
        self.sent = sent


class Client:
    """What the session of one connection is subscribed to.

    Attributes:
        number: of the session's incarnation; subscriptions end with it.
        markets: by MDReqID, those first whose turn it is.
        statuses: by MsgType of the answers, and the id of the request.
        answers: that wait for sequence numbers.
    """

    __slots__ = ("_held_at", "answers", "connection", "markets", "number", "statuses")

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.number = connection.number
        self.markets: dict[bytes, deque[Subscription]] = {}
        self.statuses: dict[tuple[bytes, bytes], list[StatusSubscription]] = {}
        self.answers: deque[Message] = deque()
        self._held_at = 0

    def count(self) -> int:
        """Return how many symbols it is subscribed to, in all."""
        return sum(map(len, self.markets.values())) + sum(map(len, self.statuses.values()))

    def may_write(self) -> bool:
        """Tell whether the peer keeps up, and nothing of an earlier round waits for a batch."""
        connection = self.connection
        if connection.unwritten_bytes > UNWRITTEN_BYTES_MAX:
            return False
        # While reports are being stored, one round may wait behind them.
        batch = connection.storing_from if connection.output_held else 0
        if batch and batch == self._held_at:
            return False
        self._held_at = batch
        return True

    def leave_behind(self) -> None:
        """Note that nothing is sent in this round."""
        for subscriptions in self.markets.values():
            for one in subscriptions:
                one.behind += 1
                if one.behind > ROUNDS_BEHIND_MAX:
                    one.mark = None
