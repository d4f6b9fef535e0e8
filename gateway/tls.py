"""TLS at the door: contexts, accepting with a limit, and whose certificate a client has.

Handshakes are work for whoever answers and none for whoever asks, so they are counted before they
begin: at most ``tls_handshakes_max`` are under way at once, each for ``tls_handshake_timeout_s`` at
most, and with the connections that stand they are never more than ``connections_max``. What is too
much is closed at once. A connection that does not get through never reaches the pipeline.

Certificates are read when the gateway starts and again at ``reload``; connections that stand keep
what they began with.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import msgspec

from gateway.errors import TlsUnusable

_BACKLOG = 128
_ACCEPT_RETRY_S = 0.1
"""After the system could give no socket: no file descriptors, or no memory."""

logger = logging.getLogger("gateway")


class TlsFiles(msgspec.Struct, frozen=True):
    """PEM files: certificate chain, private key, and the CA of clients' certificates or None."""

    cert: Path
    key: Path
    client_ca: Path | None


def server_context(files: TlsFiles) -> ssl.SSLContext:
    """Return what a gateway answers handshakes with: TLS 1.2 or newer.

    Raises:
        TlsUnusable: a file is missing or no PEM, or key and certificate do not belong together.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    try:
        # A key with a passphrase is refused instead of asked about: nobody is there to answer.
        context.load_cert_chain(files.cert, files.key, password="")
        if files.client_ca is not None:
            context.load_verify_locations(files.client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
    except (OSError, ValueError) as error:
        names = ", ".join(str(path) for path in (files.cert, files.key, files.client_ca) if path)
        raise TlsUnusable(f"TLS cannot be used with {names}: {error}") from error
    return context


def certificate_name(transport: asyncio.BaseTransport) -> str | None:
    """Return the common name of the peer's certificate, which the handshake has verified.

    None where none was asked for; empty where it has no common name, or several.
    """
    certificate = transport.get_extra_info("peercert")
    if not certificate:
        return None
    names = [
        value
        for part in certificate.get("subject", ())
        for name, value in part
        if name == "commonName"
    ]
    return names[0] if len(names) == 1 else ""


class TlsDoor:
    """Listen, and let in who gets through a handshake.

    Args:
        files: see ``TlsFiles``.
        make_protocol: for a connection that got through.
        room: how many more connections there may be.
        spawn: runs a task.
        handshakes_max, handshake_timeout_s: see ``GatewaySettings``.

    Attributes:
        handshakes: that are under way.

    Raises:
        TlsUnusable: see ``server_context``.
    """

    def __init__(
        self,
        files: TlsFiles,
        *,
        make_protocol: Callable[[], asyncio.Protocol],
        room: Callable[[], int],
        spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
        handshakes_max: int,
        handshake_timeout_s: int,
    ) -> None:
        self._files = files
        self._make_protocol = make_protocol
        self._room = room
        self._spawn = spawn
        self._handshakes_max = handshakes_max
        self._timeout_s = handshake_timeout_s
        self._context = server_context(files)
        self._listener: socket.socket | None = None
        self._accepting: asyncio.Task[None] | None = None
        self.handshakes = 0

    def open(self, host: str, port: int) -> int:
        """Begin to listen and return the port.

        Raises:
            OSError: the port cannot be listened on.
        """
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, port), family=family, backlog=_BACKLOG)
        self._listener.setblocking(False)
        self._accepting = self._spawn(self._accept(self._listener))
        bound_port: int = self._listener.getsockname()[1]
        return bound_port

    def close(self) -> None:
        """Listen no more; handshakes that are under way go on."""
        if self._accepting is not None:
            self._accepting.cancel()
        if self._listener is not None:
            self._listener.close()

    def reload(self) -> None:
        """Read the files again for the handshakes to come; what cannot be used changes nothing."""
        try:
            self._context = server_context(self._files)
        except TlsUnusable as error:
            logger.error("The certificate in use stays: %s", error)
        else:
            logger.info("The certificate was read again")

    async def _accept(self, listener: socket.socket) -> None:
        loop, failing = asyncio.get_running_loop(), False
        while True:
            try:
                accepted, address = await loop.sock_accept(listener)
            except OSError as error:
                if not failing:
                    logger.warning("No connection can be accepted, trying again: %s", error)
                failing = True
                await asyncio.sleep(_ACCEPT_RETRY_S)
                continue
            failing = False
            if self.handshakes >= min(self._handshakes_max, self._room()):
                logger.warning("%s: connection refused, there are too many", address[0])
                accepted.close()
                continue
            self.handshakes += 1
            self._spawn(self._shake_hands(accepted, str(address[0])))

    async def _shake_hands(self, accepted: socket.socket, address: str) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.connect_accepted_socket(
                self._make_protocol,
                accepted,
                ssl=self._context,
                ssl_handshake_timeout=self._timeout_s,
            )
        except OSError as error:
            # Of the peer's making, all of them: no TLS, no certificate, no patience.
            logger.info("%s: no TLS: %s", address, error or type(error).__name__)
        finally:
            self.handshakes -= 1
