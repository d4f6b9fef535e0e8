"""One client's connection: a socket around a FixSession, with one timer and flow control.

No decision stands here. Bytes go into the session; its events go to the host, its messages to the
socket. While the application messages of a batch are being stored, whatever the session says after
them waits (``hold_output``), because numbers must arrive in order.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from typing import Protocol, cast

from gateway.account_limits import NO_LIMITS, AccountLimits, limits_of, rate_of
from gateway.fix_time import NS_PER_SECOND
from gateway.reservations import KnownOrder
from gateway.session import FixSession
from gateway.session_events import Event, Outbound, SessionRules
from gateway.throttle import TokenBucket
from gateway.tls import certificate_name
from router.user_settings import UserSettings


class Host(Protocol):
    """What a connection needs of the gateway around it (and a test can stand in for)."""

    def room(self) -> int:
        """Return how many messages may be read now."""

    def take_events(self, connection: Connection, events: Sequence[Event], now_ns: int) -> None:
        """Deal with what the session says."""

    def wait_for_room(self, connection: Connection) -> None:
        """Call ``go_on`` when there is room again."""

    def note_output(
        self, connection: Connection, messages: Sequence[Outbound], now_ns: int
    ) -> None:
        """Put what is being written into the journal."""

    def connected(self, connection: Connection) -> bool:
        """Tell whether the connection may stay."""

    def disconnected(self, connection: Connection) -> None:
        """Forget the connection: its socket is gone."""


class ConnectionLimits:
    """What all connections of a gateway share.

    Args:
        rules: of every session.
        write_buffer_bytes_max: see ``GatewaySettings``.
        orders_per_s_max: see ``GatewaySettings``.
        requests_per_s_max: see ``GatewaySettings``.
        now_ns: the clock.
    """

    __slots__ = (
        "now_ns",
        "orders_per_s_max",
        "requests_per_s_max",
        "rules",
        "write_buffer_bytes_max",
    )

    def __init__(
        self,
        rules: SessionRules,
        *,
        write_buffer_bytes_max: int,
        orders_per_s_max: int,
        requests_per_s_max: int,
        now_ns: Callable[[], int],
    ) -> None:
        self.rules = rules
        self.write_buffer_bytes_max = write_buffer_bytes_max
        self.orders_per_s_max = orders_per_s_max
        self.requests_per_s_max = requests_per_s_max
        self.now_ns = now_ns


class Connection(asyncio.Protocol):
    """See the head of this file.

    Attributes:
        session: the FIX session.
        address: the peer's network address.
        certificate_name: common name of the peer's certificate; None where none was asked for.
        account: SenderCompID once it is logged on, else 0.
        epoch: of the account's session in Redis, named in every write; 0 when not logged on.
        journal_key: the account as text; empty when not logged on.
        number: incarnation of the account's session.
        cursor: the last outbox entry that has been numbered here.
        in_flight: what orders and replaces that nobody has answered yet come to, by symbol and
            ClOrdID; at most ``GatewaySettings.orders_in_flight_max``.
        new_in_flight: those of them that are new orders, where the account's limits count them.
        limits: of the account.
        open_orders: of the account, as far as its session has been told.
        counted_to: the outbox entry up to which they were counted at logon.
        only_reads: a drop-copy session: it sends no orders.
        bucket: limits the rate of orders and replaces.
        storing_from: the first MsgSeqNum of the batch that is being stored; 0 = none is.
        numbers_wanted: MsgSeqNums that must be leased before reporting can go on.
        unanswered_from: the first MsgSeqNum received that nobody could be answered, because the
            connection had ended; 0 = none. What came behind it is not admitted.
    """

    __slots__ = (
        "_armed_ns",
        "_held",
        "_host",
        "_limits",
        "_loop",
        "_paused",
        "_requests",
        "_timer",
        "_transport",
        "_writable",
        "account",
        "address",
        "bucket",
        "certificate_name",
        "counted_to",
        "cursor",
        "epoch",
        "in_flight",
        "journal_key",
        "limits",
        "new_in_flight",
        "number",
        "numbers_wanted",
        "only_reads",
        "open_orders",
        "session",
        "storing_from",
        "unanswered_from",
    )

    def __init__(self, host: Host, limits: ConnectionLimits) -> None:
        self._host = host
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._armed_ns = 0
        self._held = False
        self._paused = False
        self._writable = asyncio.Event()
        self._writable.set()
        self.session = FixSession(limits.rules, now_ns=limits.now_ns())
        self.address = ""
        self.certificate_name: str | None = None
        self.account = 0
        self.epoch = 0
        self.number = 0
        self.journal_key = ""
        self.cursor = 0
        self.numbers_wanted = 0
        self.storing_from = 0
        self.unanswered_from = 0
        self.in_flight: dict[tuple[str, str], KnownOrder] = {}
        self.new_in_flight: set[tuple[str, str]] = set()
        self.open_orders = 0
        self.counted_to = 0
        self.only_reads = False
        self._requests = TokenBucket(limits.requests_per_s_max, period_ns=NS_PER_SECOND)
        self.set_limits(NO_LIMITS)

    # ------------------------------------------------------------ asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to wait for a Logon (asyncio.Protocol)."""
        # uvloop's transports are no subclasses of asyncio's.
        transport = cast(asyncio.Transport, transport)
        self._transport = transport
        peer = transport.get_extra_info("peername")
        self.address = str(peer[0]) if peer else ""
        self.certificate_name = certificate_name(transport)
        raw_socket = transport.get_extra_info("socket")
        if raw_socket is not None and raw_socket.family != socket.AF_UNIX:
            # One write per batch makes Nagle useless, and it would stall every second report.
            raw_socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if not self._host.connected(self):
            self._transport.abort()
            return
        self._settle(self._limits.now_ns())

    def data_received(self, data: bytes) -> None:
        """Give bytes to the session, as many messages as there is room for (asyncio.Protocol)."""
        now_ns = self._limits.now_ns()
        self.session.receive_data(data, now_ns=now_ns, max_messages=self._host.room())
        self._settle(now_ns)

    def pause_writing(self) -> None:
        """Note that the peer reads slower than we write (asyncio.Protocol)."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """Note that the peer has caught up (asyncio.Protocol)."""
        self._writable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the session (asyncio.Protocol)."""
        self._transport = None
        self._writable.set()
        now_ns = self._limits.now_ns()
        self.session.receive_eof(now_ns=now_ns)
        self._settle(now_ns)
        if self._timer is not None:
            self._timer.cancel()
        self._host.disconnected(self)

    # ------------------------------------------------------------ what the gateway does with it

    @property
    def is_open(self) -> bool:
        """Whether there is a socket."""
        return self._transport is not None

    @property
    def unwritten_bytes(self) -> int:
        """How much of what was written the peer has not taken yet."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    @property
    def output_held(self) -> bool:
        """Whether what the session says waits for a batch that is being stored."""
        return self._held

    def settle_in(self, settings: UserSettings) -> None:
        """Serve a user under these settings; the count of the rate starts over."""
        self.only_reads = bool(settings.drop_copy)
        self.set_limits(limits_of(settings))

    def set_limits(self, limits: AccountLimits) -> None:
        """Take the limits of the account; the count of its rate starts over."""
        self.limits = limits
        rate = rate_of(limits, orders_per_s_max=self._limits.orders_per_s_max)
        self.bucket = TokenBucket(rate, period_ns=NS_PER_SECOND)

    def problem_of_rate(self, count: int, now_ns: int) -> str:
        """Count a request for status or market data; say what is wrong if there are too many.

        Args:
            count: symbols or orders that it asks for.
            now_ns: when it came, or when its turn has come.
        """
        if self._requests.take(now_ns, count):
            return ""
        return f"Rate limit: at most {self._limits.requests_per_s_max} requests per second"

    def answered(self, symbol: str, cl_ord_id: str) -> None:
        """Note that an order or replace is not in flight any more."""
        key = symbol, cl_ord_id
        self.in_flight.pop(key, None)
        self.new_in_flight.discard(key)

    def settle(self) -> None:
        """Do what follows from a call to the session: events, output, closing, timer."""
        self._settle(self._limits.now_ns())

    def go_on(self) -> None:
        """Read on after there was no room, or after a Logon was decided or numbers were leased."""
        now_ns = self._limits.now_ns()
        self.session.receive_data(b"", now_ns=now_ns, max_messages=self._host.room())
        self._settle(now_ns)
        if not self._paused:
            return
        if self.session.has_unprocessed:
            self._host.wait_for_room(self)
            return
        self._paused = False
        self.session.resume_reading(now_ns)
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def hold_output(self) -> list[Outbound]:
        """Take what is to be stored and then written; hold back what the session says next."""
        assert not self._held, "Invariant: one batch of a connection is stored at a time"
        self._held = True
        messages = self.session.data_to_send()
        self.storing_from = messages[0].msg_seq_num if messages else self.session.next_out
        return messages

    def release_output(self, messages: Sequence[Outbound]) -> None:
        """Write a batch, if it is stored, and in any case what the session has said since."""
        self._held = False
        now_ns = self._limits.now_ns()
        self._write(messages, now_ns)
        self._settle(now_ns)

    @property
    def is_writable(self) -> bool:
        """Whether the peer has read nearly all."""
        return self._writable.is_set()

    async def writable(self) -> None:
        """Wait until the peer has read nearly all; a peer that is gone ends the wait too."""
        await self._writable.wait()

    def write_late(self, messages: Sequence[Outbound]) -> None:
        """Write resends of a batch whose place in the sequence others did not wait for."""
        if self.session.can_send:
            self._write(messages, self._limits.now_ns())

    def drop(self) -> None:
        """End the connection without a word: it may not speak for its account any more."""
        if self._transport is not None:
            self._transport.abort()

    # ------------------------------------------------------------ inside

    def _settle(self, now_ns: int) -> None:
        session = self.session
        events = session.events_received()
        if events:
            self._host.take_events(self, events, now_ns)
        if not self._held:
            messages = session.data_to_send()
            if messages:
                self._write(messages, now_ns)
        if session.close_expected():
            self._close()
            return
        if session.has_unprocessed and not self._paused:
            self._pause(now_ns)
        self._arm(now_ns)

    def _write(self, messages: Sequence[Outbound], now_ns: int) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        transport.write(b"".join([message.data for message in messages]))
        self._host.note_output(self, messages, now_ns)
        waiting_bytes = transport.get_write_buffer_size()
        if waiting_bytes > self._limits.write_buffer_bytes_max and self.session.can_send:
            text = f"Slow reader: {waiting_bytes} bytes are waiting to be read"
            self.session.logout(text, now_ns=now_ns)
            self._settle(now_ns)

    def _pause(self, now_ns: int) -> None:
        self._paused = True
        self.session.pause_reading(now_ns)
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()
        self._host.wait_for_room(self)

    def _close(self) -> None:
        """Close when all is written; cut the connection if the peer does not read that."""
        if self._held or self._transport is None or self._transport.is_closing():
            return
        self._transport.close()
        timeout_s = self._limits.rules.logout_timeout_s
        self._rearm(self._loop.call_later(timeout_s, self.drop))

    def _arm(self, now_ns: int) -> None:
        """See that the timer goes off in time; one that goes off early is armed again."""
        deadline_ns = self.session.next_timer_ns()
        if deadline_ns is None or (self._timer is not None and self._armed_ns <= deadline_ns):
            return
        self._armed_ns = deadline_ns
        delay_s = max(0, deadline_ns - now_ns) / NS_PER_SECOND
        self._rearm(self._loop.call_later(delay_s, self._on_timer))

    def _rearm(self, timer: asyncio.TimerHandle) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = timer

    def _on_timer(self) -> None:
        self._timer = None
        now_ns = self._limits.now_ns()
        self.session.handle_timer(now_ns=now_ns)
        self._settle(now_ns)
