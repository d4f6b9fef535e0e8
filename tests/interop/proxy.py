"""A TCP proxy between a client and its gateway, which can cut, or lose what one side says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from ssl import SSLContext

_READ_BYTES = 65_536
_LOSS_TIMEOUT_S = 20.0


class Proxy:
    """Listens on a port of its own; a connection is passed on to the first gateway that takes it.

    Args:
        gateway_ports: of gateways on the loopback address.
        tls: to speak to them with, for a client that cannot; None: bytes are passed on as they are.

    Attributes:
        port: where it listens, after ``start``.
        loses_requests: what the client sends goes nowhere.
        loses_answers: what the gateway sends goes nowhere.
        refuses: new connections are closed at once.
    """

    def __init__(self, gateway_ports: Sequence[int], tls: SSLContext | None = None) -> None:
        self._gateway_ports = gateway_ports
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self.port = 0
        self.loses_requests = False
        self.loses_answers = False
        self.refuses = False
        self._lost = asyncio.Event()

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def lost(self) -> None:
        """Wait until something was lost.

        Raises:
            TimeoutError: nothing was.
        """
        async with asyncio.timeout(_LOSS_TIMEOUT_S):
            await self._lost.wait()

    def cut(self) -> None:
        """Break all connections without a word; what was lost before is lost."""
        for writer in list(self._writers):
            writer.transport.abort()

    async def stop(self) -> None:
        """Listen no more, and break what there is."""
        assert self._server is not None, "Invariant: a proxy is stopped after its start"
        self._server.close()
        self.cut()
        await self._server.wait_closed()

    async def _serve(self, client_in: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        if self.refuses:
            client.transport.abort()
            return
        streams = await self._connect()
        if streams is None:
            client.transport.abort()
            return
        gateway_in, gateway = streams
        self._writers |= {client, gateway}
        try:
            await asyncio.gather(
                self._pass_on(client_in, gateway, lambda: self.loses_requests),
                self._pass_on(gateway_in, client, lambda: self.loses_answers),
            )
        finally:
            self._writers -= {client, gateway}
            client.transport.abort()
            gateway.transport.abort()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        for port in self._gateway_ports:
            with suppress(OSError):
                return await asyncio.open_connection("127.0.0.1", port, ssl=self._tls)
        return None

    async def _pass_on(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, loses: Callable[[], bool]
    ) -> None:
        """Copy until one side ends; the other is then closed too, after what it has to read."""
        try:
            while data := await reader.read(_READ_BYTES):
                if loses():
                    self._lost.set()
                else:
                    writer.write(data)
        except ConnectionError:
            writer.transport.abort()
            return
        writer.close()
