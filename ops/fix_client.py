"""FixClient: an ``Initiator`` over a socket. Used by demo, replay-flow, simulate and benchmarks.

What is sent waits until ``flush``, so that a batch of orders is one write. A client that sends
faster than the venue reads waits in ``drained``.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from ssl import SSLContext
from types import TracebackType
from typing import cast

from gateway.errors import RemoteFixError
from gateway.fix_message import FixMessage
from ops.errors import FixClientFailed
from ops.fix_initiator import Initiator, Phase

CONNECT_TIMEOUT_S = 15.0
"""From the first byte to the answered Logon: argon2 takes its time on a busy machine."""

LOGOUT_TIMEOUT_S = 5.0

_WRITE_BUFFER_BYTES = 1 << 20
"""Bytes that the venue has not read, beyond which ``drained`` waits."""

_NS_PER_S = 1_000_000_000


class FixClient(asyncio.Protocol):
    """One connection at a time of one session.

    Args:
        initiator: the session; it lives on when the client is connected again.
        on_messages: called with application messages and Rejects (35=3), in sequence.
        tls: to speak TLS with; None: plain text.

    Attributes:
        initiator: the session.
    """

    def __init__(
        self,
        initiator: Initiator,
        *,
        on_messages: Callable[[list[FixMessage]], None],
        tls: SSLContext | None = None,
    ) -> None:
        self.initiator = initiator
        self._tls = tls
        self._on_messages = on_messages
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._changed = asyncio.Event()
        self._lost = asyncio.Event()
        self._lost.set()
        self._writable = asyncio.Event()

    # ------------------------------------------------------------ a connection's life

    async def connect(
        self,
        host: str,
        port: int,
        *,
        reset: bool,
        says_expected: bool = False,
        more: Sequence[tuple[bytes, bytes]] = (),
    ) -> None:
        """Connect and log on.

        Args:
            host: the gateway's address.
            port: its port.
            reset: begin at MsgSeqNum 1 both ways.
            says_expected, more: see ``Initiator.connect``.

        Raises:
            FixClientFailed: nobody answers, or the Logon is refused; the text says why.
        """
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await loop.create_connection(
                    lambda: self,
                    host,
                    port,
                    ssl=self._tls,
                    server_hostname=None if self._tls is None else host,
                )
                self.initiator.connect(
                    reset=reset, says_expected=says_expected, more=more, now_ns=time.time_ns()
                )
                self.flush()
                self._arm()
                while self.initiator.phase is Phase.LOGON_SENT:
                    self._changed.clear()
                    await self._changed.wait()
        except (OSError, TimeoutError) as error:
            self.abort("no answer to the Logon")
            reason = str(error) or "no answer in time"
            raise FixClientFailed(f"cannot log on to {host}:{port}: {reason}") from error
        if self.initiator.phase is not Phase.ACTIVE:
            raise FixClientFailed(f"cannot log on to {host}:{port}: {self.initiator.reason}")

    async def logout(self) -> None:
        """Log out and close; harmless when the connection has ended."""
        if self.initiator.phase is Phase.ACTIVE:
            self.initiator.logout(now_ns=time.time_ns())
            self.flush()
        try:
            async with asyncio.timeout(LOGOUT_TIMEOUT_S):
                await self._lost.wait()
        except TimeoutError:
            self.abort("no answer to the Logout")

    def abort(self, reason: str) -> None:
        """Cut the connection without a Logout; the session can be connected again."""
        self.initiator.disconnect(reason)
        if self._transport is not None:
            self._transport.abort()

    async def wait_lost(self) -> str:
        """Wait until the connection has ended and return why."""
        await self._lost.wait()
        return self.initiator.reason

    async def __aenter__(self) -> FixClient:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.logout()

    # ------------------------------------------------------------ out

    def send(self, msg_type: bytes, body: bytes) -> int:
        """Queue an application message for ``flush``; return its MsgSeqNum.

        Raises:
            LocalFixError: not logged on.
        """
        return self.initiator.send(msg_type, body, now_ns=time.time_ns())

    def flush(self) -> None:
        """Write what is queued, in one piece."""
        data = self.initiator.data_to_send()
        if data and self._transport is not None:
            self._transport.write(data)

    async def drained(self) -> None:
        """Wait while the venue reads more slowly than we write."""
        await self._writable.wait()

    # ------------------------------------------------------------ asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport (asyncio.Protocol)."""
        # uvloop's transports are no subclasses of asyncio's.
        transport = cast(asyncio.Transport, transport)
        transport.set_write_buffer_limits(_WRITE_BUFFER_BYTES)
        self._transport = transport
        self._lost.clear()
        self._writable.set()

    def data_received(self, data: bytes) -> None:
        """Feed the session (asyncio.Protocol)."""
        try:
            messages = self.receive(data)
        except RemoteFixError as error:
            self.abort(error.text)
            return
        if messages:
            self._on_messages(messages)
        self.flush()
        self._changed.set()
        if self.initiator.phase is Phase.OFFLINE and self._transport is not None:
            self._transport.close()

    def receive(self, data: bytes) -> list[FixMessage]:
        """Turn bytes into messages; a load generator counts them instead.

        Raises:
            RemoteFixError: the connection must end.
        """
        return self.initiator.receive_data(data, now_ns=time.time_ns())

    def pause_writing(self) -> None:
        """Note that the venue does not keep up (asyncio.Protocol)."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """Note that it does again (asyncio.Protocol)."""
        self._writable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """Note the end of the connection (asyncio.Protocol)."""
        self.initiator.disconnect(str(exc) if exc else "connection closed by the venue")
        self._transport = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._writable.set()
        self._changed.set()
        self._lost.set()

    # ------------------------------------------------------------ time

    def _arm(self) -> None:
        next_ns = self.initiator.next_timer_ns()
        if next_ns is not None:
            delay_s = max(0.0, (next_ns - time.time_ns()) / _NS_PER_S)
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self.initiator.handle_timer(now_ns=time.time_ns())
        self.flush()
        if self.initiator.phase is Phase.OFFLINE:
            self.abort(self.initiator.reason)
        self._arm()
