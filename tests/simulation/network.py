"""Connections in memory between the processes, Redis and the clients.

Bytes of one direction keep their order and come late by what the seed says. A connection can be
cut, which one end learns after the other, or go silent: nothing comes through any more and nobody
is told (half-open).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from contextvars import Context
from typing import Any

from tests.simulation.clock import Process, State, VirtualLoop, current_process

CONNECT_DELAY_S = 0.0005
CLIENT_ADDRESS = ("10.0.0.1", 40_000)


class Endpoint(asyncio.Transport):
    """One end of a connection: the transport of the protocol on this side."""

    def __init__(self, network: Network, owner: Process | None, context: Context) -> None:
        super().__init__()
        self.owner = owner
        self.peer: Endpoint
        self.protocol: Any = None
        self._network = network
        self._context = context
        self._next_s = 0.0
        self._reading = True
        self._kept: list[bytes] = []
        self._is_closing = False
        self._is_lost = False

    # ------------------------------------------------------------ asyncio.Transport

    def write(self, data: Any) -> None:
        """Send bytes (asyncio.Transport)."""
        if not self._is_closing and data:
            self._network.send(self, bytes(data))

    def is_closing(self) -> bool:
        """Tell whether the connection is ending (asyncio.Transport)."""
        return self._is_closing

    def close(self) -> None:
        """End the connection behind what was written (asyncio.Transport)."""
        if not self._is_closing:
            self._is_closing = True
            self._network.end(self)

    abort = close

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return the address; there is no socket (asyncio.Transport)."""
        return CLIENT_ADDRESS if name == "peername" else default

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Do nothing: what is written is on its way at once (asyncio.Transport)."""

    def get_write_buffer_size(self) -> int:
        """Return 0, likewise (asyncio.Transport)."""
        return 0

    def pause_reading(self) -> None:
        """Keep what comes (asyncio.Transport)."""
        self._reading = False

    def resume_reading(self) -> None:
        """Hand over what was kept (asyncio.Transport)."""
        self._reading = True
        if self._kept:
            data, self._kept = b"".join(self._kept), []
            self._network.loop.call_soon(self.receive, data, context=self._context)

    # ------------------------------------------------------------ the network's side

    def at(self, delay_s: float, call: Callable[..., None], *args: Any) -> None:
        """Have something happen at this end, behind all that is on its way there."""
        loop = self._network.loop
        self._next_s = max(self._next_s + 1e-9, loop.time() + delay_s)
        loop.call_at(self._next_s, call, *args, context=self._context)

    def receive(self, data: bytes) -> None:
        """Hand bytes to the protocol."""
        if self._is_lost or self._is_closing or self._network.is_over:
            return
        if self._reading:
            self.protocol.data_received(data)
        else:
            self._kept.append(data)

    def lose(self) -> None:
        """Tell the protocol, once, that the connection has ended."""
        if not self._is_lost and not self._network.is_over:
            self._is_lost = self._is_closing = True
            self.protocol.connection_lost(None)


class Listener:
    """What a process listens on; also the server object that asyncio gives."""

    def __init__(self, network: Network, factory: Callable[[], Any], port: int) -> None:
        self._network = network
        self.factory = factory
        self.port = port
        self.owner = current_process()
        self.sockets = [self]

    def getsockname(self) -> tuple[str, int]:
        """Return the address (socket)."""
        return "127.0.0.1", self.port

    def close(self) -> None:
        """Listen no more (asyncio.Server)."""
        if self._network.listeners.get(self.port) is self:
            del self._network.listeners[self.port]


class Network:
    """All connections of a world.

    Args:
        loop: the world's.
        choose: decides delays.
        delay_max_s: of a message, as a rule.
        slow_probability: of a message that takes up to 100 times as long.

    Attributes:
        is_over: whether nothing comes through any more, the end of a connection included.
    """

    def __init__(
        self,
        loop: VirtualLoop,
        choose: random.Random,
        *,
        delay_max_s: float,
        slow_probability: float,
    ) -> None:
        self.loop = loop
        self.is_over = False
        self.listeners: dict[int, Listener] = {}
        self._choose = choose
        self._delay_max_s = delay_max_s
        self._slow_probability = slow_probability
        self.endpoints: dict[Endpoint, None] = {}

    def calm(self) -> None:
        """Be quick and even from now on."""
        self._slow_probability = 0.0

    def listen(self, factory: Callable[[], Any], port: int) -> Listener:
        """Listen on a port, for the calling process."""
        if port in self.listeners:
            raise OSError(f"port {port} is in use")
        listener = self.listeners[port] = Listener(self, factory, port)
        return listener

    async def connect(self, factory: Callable[[], Any], port: int) -> tuple[Endpoint, Any]:
        """Connect the calling process to a port.

        Raises:
            ConnectionRefusedError: nobody listens.
        """
        await asyncio.sleep(CONNECT_DELAY_S)
        listener = self.listeners.get(port)
        if listener is None or (listener.owner and listener.owner.state is State.DEAD):
            raise ConnectionRefusedError(f"nobody listens on port {port}")
        ours, theirs = self._endpoint(current_process()), self._endpoint(listener.owner)
        ours.peer, theirs.peer = theirs, ours
        ours.protocol = factory()

        def accept() -> None:
            theirs.protocol = listener.factory()
            theirs.protocol.connection_made(theirs)

        # The kernel accepts; the process may be paused and take it later.
        theirs.at(0, accept)
        ours.protocol.connection_made(ours)
        return ours, ours.protocol

    def send(self, sender: Endpoint, data: bytes) -> None:
        """Put bytes on their way."""
        if sender in self.endpoints:
            receiver = sender.peer
            receiver.at(self._delay_s(), receiver.receive, data)

    def end(self, closer: Endpoint) -> None:
        """Carry the end of a connection to both ends."""
        if self.endpoints.pop(closer, self) is None:
            self.endpoints.pop(closer.peer, None)
            closer.peer.at(self._delay_s(), closer.peer.lose)
        self.loop.call_soon(closer.lose, context=closer._context)

    def cut(self, endpoint: Endpoint) -> None:
        """End a connection from outside; what is on its way may still come."""
        for one in (endpoint, endpoint.peer):
            if self.endpoints.pop(one, self) is None:
                one.at(self._delay_s(), one.lose)

    def silence(self, endpoint: Endpoint) -> None:
        """Let nothing more through, and tell nobody."""
        self.endpoints.pop(endpoint, None)
        self.endpoints.pop(endpoint.peer, None)

    def cut_all_of(self, process: Process) -> None:
        """End the connections of a killed process: the kernel closes its sockets."""
        for one in list(self.endpoints):
            if one.owner is process:
                self.cut(one)
        for listener in list(self.listeners.values()):
            if listener.owner is process:
                listener.close()

    def endpoints_of(self, process: Process | None) -> list[Endpoint]:
        """Return the open ends on a process' side."""
        return [one for one in self.endpoints if one.owner is process]

    def _endpoint(self, owner: Process | None) -> Endpoint:
        endpoint = Endpoint(self, owner, owner.context() if owner else Context())
        self.endpoints[endpoint] = None
        return endpoint

    def _delay_s(self) -> float:
        delay_s = self._choose.random() * self._delay_max_s
        if self._choose.random() < self._slow_probability:
            delay_s *= self._choose.randint(2, 100)
        return delay_s
