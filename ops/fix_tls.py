"""TLS as a FIX client speaks it: what demo, replay-flow and tests connect to gateways with."""

from __future__ import annotations

import ssl
from pathlib import Path

from gateway.settings import GatewaySettings
from ops.errors import CommandFailed


def client_context(
    trusted: Path, *, client_cert: Path | None = None, client_key: Path | None = None
) -> ssl.SSLContext:
    """Return a context that trusts the certificates in one file and no others.

    A gateway's own certificate may be the file: whoever has its key is the gateway, by whatever
    name it is reached.

    Args:
        trusted: PEM: CAs, or the gateway's certificate itself.
        client_cert, client_key: PEM: what to present where the gateway asks for it.

    Raises:
        CommandFailed: a file is missing, or no PEM.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        context.load_verify_locations(trusted)
        if client_cert is not None:
            context.load_cert_chain(client_cert, client_key)
    except OSError as error:
        raise CommandFailed(f"TLS cannot be used with {trusted}: {error}") from error
    return context


def venue_context(settings: GatewaySettings) -> ssl.SSLContext | None:
    """Return what the venue's own clients connect to its gateways with; None: plain text.

    Raises:
        CommandFailed: the certificate cannot be read, or each client needs one of its own.
    """
    if settings.tls_cert is None:
        return None
    if settings.tls_client_ca is not None:
        raise CommandFailed(
            "gateway.tls_client_ca is set: clients need certificates, and this command has none"
        )
    return client_context(settings.tls_cert)
