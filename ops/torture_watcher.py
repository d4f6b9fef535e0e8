"""A subscriber to market data over FIX, and to the phases of symbols, who comes back like others.

Subscriptions end with the session's connection, so it asks anew after each logon, and forgets what
it was told before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from gateway.fix_message import FixMessage
from gateway.fix_tags import (
    BUSINESS_MESSAGE_REJECT,
    MARKET_DATA_INCREMENTAL_REFRESH,
    MARKET_DATA_REQUEST,
    MARKET_DATA_SNAPSHOT,
    TRADING_SESSION_STATUS,
    TRADING_SESSION_STATUS_REQUEST,
)
from ops.endpoints import Credentials
from ops.torture_books import BookBroken, Subscription, WatchedBook, read_entries
from ops.torture_client import Client
from ops.torture_record import Complaints

SUBSCRIPTIONS = (
    (Subscription("levels", 0, True, False), Subscription("orders", 0, True, True)),
    (Subscription("top", 5, True, False), Subscription("whole", 1, False, False)),
)
"""What each of several watchers asks for."""

ASK_PHASES_S = 0.5
"""From a refusal, since the gateway does not know the phases yet, to the next request."""

_NOT_AVAILABLE = b"4"


class Watcher(Client):
    """One of them; how it lives: ``Client``.

    Args:
        user: who logs on.
        target: TargetCompID.
        symbols: which are watched.
        subscriptions: how.
        seed, ports, gateway: see ``Client``.

    Attributes:
        books: name of the subscription and symbol → the book since the last logon.
        phases: symbol → phase (625), since the last logon.
        messages: how many W and X were applied.
    """

    def __init__(
        self,
        user: Credentials,
        target: str,
        symbols: Sequence[str],
        subscriptions: Sequence[Subscription],
        *,
        seed: str,
        ports: Callable[[], list[int]],
        gateway: int,
    ) -> None:
        super().__init__(
            user, target, Complaints(), seed=seed, ports=ports, gateway=gateway, roams=True
        )
        self.subscriptions = tuple(subscriptions)
        self.books: dict[tuple[str, str], WatchedBook] = {}
        self.phases: dict[str, str] = {}
        self.messages = 0
        self._symbols = list(symbols)
        self._logons = 0
        self._requests = 0
        self._ask_phases_at_s: float | None = None

    def begin(self) -> None:
        """Subscribe to everything."""
        self._logons += 1
        self.phases.clear()
        self.books.clear()
        for one in self.subscriptions:
            self.books |= {(one.name, symbol): WatchedBook() for symbol in self._symbols}
            self.ask(MARKET_DATA_REQUEST, one.request(self._req_id(one.name), self._symbols))
        self._ask_phases()

    def act(self, now_s: float) -> None:
        """Ask for the phases again where they were not known."""
        if self._ask_phases_at_s is not None and now_s >= self._ask_phases_at_s:
            self._ask_phases()

    def hear(self, message: FixMessage) -> None:
        """Apply a message."""
        fields = message.fields
        if message.msg_type in (MARKET_DATA_SNAPSHOT, MARKET_DATA_INCREMENTAL_REFRESH):
            self._apply(message)
        elif message.msg_type == TRADING_SESSION_STATUS and b"625" in fields:
            self.phases[fields[b"336"].decode()] = fields[b"625"].decode()
        elif message.msg_type == BUSINESS_MESSAGE_REJECT and fields[b"380"] == _NOT_AVAILABLE:
            self._ask_phases_at_s = self._answered_at_s + ASK_PHASES_S
        else:
            self.complaints.complain(f"no market data: {message.raw!r}")

    def _apply(self, message: FixMessage) -> None:
        is_refresh = message.msg_type == MARKET_DATA_INCREMENTAL_REFRESH
        req_id = message.fields[b"262"].decode()
        name = req_id.rpartition("-")[0]
        symbol = message.fields[b"55"].decode()
        book = self.books.get((name, symbol))
        if book is None or req_id != self._req_id(name):
            self.complaints.complain(f"not subscribed to: {message.raw!r}")
            return
        self.messages += 1
        try:
            book.apply(message.msg_type, read_entries(message.raw, is_refresh=is_refresh))
        except BookBroken as error:
            self.complaints.complain(f"{symbol}, {name}: {error}")

    def _ask_phases(self) -> None:
        self._ask_phases_at_s = None
        self._requests += 1
        self.ask(TRADING_SESSION_STATUS_REQUEST, b"335=phases-%d\x01263=1\x01" % self._requests)
        self._open_line().flush()

    def _req_id(self, name: str) -> str:
        return f"{name}-{self._logons}"
