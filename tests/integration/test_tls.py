"""Gateways over TLS: who gets in, who does not, and what it costs others.

On uvloop (see conftest.py), as the processes run: its TLS is another than asyncio's.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from gateway.errors import TlsUnusable
from gateway.server import Gateway
from gateway.settings import GatewaySettings
from gateway.tls import TlsFiles, server_context
from ops.errors import FixClientFailed
from ops.fix_client import FixClient
from ops.fix_initiator import Identity, Initiator
from ops.fix_tls import client_context, venue_context
from tests.certificates import Authority
from tests.helpers import eventually_async
from tests.venue import BTC, PASSWORD, USD, Peer, Venue, limit_order

# Of links to Redis, which a cancelled engine leaves to the end of its process.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed resource <TCPTransport:ResourceWarning")


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def with_tls(venue: Venue, authority: Authority, **changed: object) -> GatewaySettings:
    """Return the gateway's settings with a certificate, and patience for handshakes."""
    cert, key = authority.issue("gateway")
    update = {"tls_cert": cert, "tls_key": key, "tls_handshake_timeout_s": 60, **changed}
    return venue.settings.gateway.model_copy(update=update)


class Tls:
    """A gateway with TLS, and clients that trust the CA."""

    def __init__(self, venue: Venue, gateway: Gateway, authority: Authority) -> None:
        self.venue = venue
        self.gateway = gateway
        self.context = client_context(authority.cert)
        self._stack = AsyncExitStack()

    async def connect(self, context: ssl.SSLContext | None = None) -> Peer:
        """Return a connection whose handshake is done."""
        reader, writer = await asyncio.open_connection(
            "127.0.0.1",
            self.gateway.bound_port,
            ssl=context or self.context,
            server_hostname="127.0.0.1",
        )
        peer = Peer(reader, writer)
        self.venue._peers.append(peer)
        return peer

    def client(self, account: int, password: bytes = PASSWORD) -> FixClient:
        identity = Identity(str(account), "SHARDEX", "user", password.decode())
        return FixClient(Initiator(identity), on_messages=lambda messages: None, tls=self.context)


@pytest.fixture
async def tls(venue: Venue, authority: Authority) -> AsyncIterator[Tls]:
    async with venue.gateway(settings=with_tls(venue, authority)) as gateway:
        yield Tls(venue, gateway, authority)


async def test_client_trades_over_tls(tls: Tls) -> None:
    account = await tls.venue.add_user("user", USD=10_000 * USD, BTC=BTC)
    peer = await tls.connect()
    peer.logon(account, "user", PASSWORD)
    await peer.expect("A")
    peer.send(limit_order("a1", 1, "0.01", "100"))
    await peer.expect("8", t11="a1", t150="0")
    [connection] = tls.gateway._pipeline.connections
    assert connection.address == "127.0.0.1" and connection.certificate_name is None
    raw = connection._transport.get_extra_info("socket")
    assert raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY), "the same as in plain text"
    peer.send("35=5")
    await peer.expect("5")
    await peer.expect_closed()


async def test_our_own_client_speaks_it(tls: Tls) -> None:
    account = await tls.venue.add_user("user")
    async with tls.client(account) as client:
        await client.connect("127.0.0.1", tls.gateway.bound_port, reset=False)
    with pytest.raises(FixClientFailed, match="Wrong Username"):
        await tls.client(account, b"x").connect("127.0.0.1", tls.gateway.bound_port, reset=False)


async def test_venues_own_clients_trust_the_certificate_that_is_set(tls: Tls) -> None:
    tls.context = venue_context(tls.gateway._settings) or pytest.fail("no TLS")
    account = await tls.venue.add_user("user")
    async with tls.client(account) as client:
        await client.connect("127.0.0.1", tls.gateway.bound_port, reset=False)


async def test_certificate_of_another_ca_is_not_trusted(tls: Tls, tmp_path: Path) -> None:
    account = await tls.venue.add_user("user")
    tls.context = client_context(Authority(tmp_path, "other").cert)
    with pytest.raises(FixClientFailed, match="CERTIFICATE_VERIFY_FAILED"):
        await tls.client(account).connect("127.0.0.1", tls.gateway.bound_port, reset=False)


async def test_old_versions_and_plain_text_do_not_get_in(tls: Tls) -> None:
    old = client_context(tls.gateway._settings.tls_cert or Path())
    old.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    with pytest.warns(DeprecationWarning):
        old.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await tls.connect(old)
    plain = await tls.venue.connect(tls.gateway)
    plain.logon(1, "user", PASSWORD)
    await plain._reader.read()
    assert not tls.gateway.stats()["connections"]
    await tls.connect()


async def test_large_orders_of_bytes_arrive_whole(tls: Tls) -> None:
    account = await tls.venue.add_user("user", USD=10_000 * USD)
    peer = await tls.connect()
    peer.logon(account, "user", PASSWORD)
    await peer.expect("A")
    for number in range(300):
        peer.send(limit_order(f"a{number}", 1, "0.01", "100"))
    for number in range(300):
        await peer.expect("8", t11=f"a{number}", t150="0")


# ---------------------------------------------------------------- half-open handshakes


async def test_handshakes_are_limited(venue: Venue, authority: Authority) -> None:
    settings = with_tls(venue, authority, tls_handshakes_max=2)
    async with venue.gateway(settings=settings) as gateway:
        silent = [await venue.connect(gateway) for _ in range(2)]
        await eventually_async(lambda: gateway.stats()["handshakes"] == 2)
        refused = await venue.connect(gateway)
        assert await refused._reader.read() == b""
        for peer in silent:
            await peer.close()
        await eventually_async(lambda: gateway.stats()["handshakes"] == 0)
        await Tls(venue, gateway, authority).connect()


async def test_handshakes_end_by_themselves(venue: Venue, authority: Authority) -> None:
    settings = with_tls(venue, authority, tls_handshake_timeout_s=1)
    async with venue.gateway(settings=settings) as gateway:
        silent = await venue.connect(gateway)
        assert await silent._reader.read() == b""
        await eventually_async(lambda: gateway.stats()["handshakes"] == 0)


async def test_handshakes_and_connections_together_are_limited(
    venue: Venue, authority: Authority
) -> None:
    settings = with_tls(venue, authority, connections_max=1)
    async with venue.gateway(settings=settings) as gateway:
        tls = Tls(venue, gateway, authority)
        await tls.connect()
        await eventually_async(lambda: gateway.stats()["connections"] == 1)
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await tls.connect()


async def test_stop_ends_handshakes_that_are_under_way(venue: Venue, authority: Authority) -> None:
    async with venue.gateway(settings=with_tls(venue, authority)) as gateway:
        await venue.connect(gateway)
        await eventually_async(lambda: gateway.stats()["handshakes"] == 1)


# ---------------------------------------------------------------- client certificates


async def test_client_certificate_must_be_of_the_sender_comp_id(
    venue: Venue, authority: Authority, tmp_path: Path
) -> None:
    account = await venue.add_user("user")
    settings = with_tls(venue, authority, tls_client_ca=authority.cert)
    async with venue.gateway(settings=settings) as gateway:
        tls = Tls(venue, gateway, authority)

        def presenting(by: Authority, name: str, files: str = "") -> ssl.SSLContext:
            cert, key = by.issue(name, files=files)
            return client_context(authority.cert, client_cert=cert, client_key=key)

        right = await tls.connect(presenting(authority, str(account)))
        right.logon(account, "user", PASSWORD)
        await right.expect("A")
        await right.close()
        for name, said in (("99", "99"), ("", "nobody")):
            wrong = await tls.connect(presenting(authority, name, "wrong"))
            wrong.logon(account, "user", PASSWORD)
            text = f"SenderCompID (49) is {account}, the client certificate is of {said}"
            await wrong.expect("5", t58=text)
        other = Authority(tmp_path, "other")
        for context in (None, presenting(other, str(account), "other")):
            with pytest.raises((ssl.SSLError, ConnectionError, AssertionError)):
                # With TLS 1.3 the client learns that it is refused when it reads.
                peer = await tls.connect(context)
                peer.logon(account, "user", PASSWORD)
                await peer.expect("A")


# ---------------------------------------------------------------- files


async def test_renewed_certificate_is_used_after_a_reload(
    tls: Tls, authority: Authority, tmp_path: Path
) -> None:
    before = await tls.connect()
    renewed = Authority(tmp_path, "renewed")
    renewed.issue("gateway")
    with pytest.raises(ssl.SSLError):
        await tls.connect(client_context(renewed.cert))
    tls.gateway.reload_certificates()
    await tls.connect(client_context(renewed.cert))
    with pytest.raises(ssl.SSLError):
        await tls.connect()
    before.logon(await tls.venue.add_user("user"), "user", PASSWORD)
    await before.expect("A")


async def test_certificate_that_cannot_be_used_changes_nothing(
    tls: Tls, authority: Authority
) -> None:
    assert tls.gateway._settings.tls_key is not None
    tls.gateway._settings.tls_key.write_text("no key")
    tls.gateway.reload_certificates()
    await tls.connect()


def test_files_that_cannot_be_used_are_refused_by_name(
    authority: Authority, tmp_path: Path
) -> None:
    cert, key = authority.issue("gateway")
    _, other_key = authority.issue("other")
    _, locked = authority.issue("locked", passphrase=b"secret")
    missing = tmp_path / "missing.pem"
    for files in (
        TlsFiles(missing, key, None),
        TlsFiles(cert, other_key, None),
        TlsFiles(cert, locked, None),
        TlsFiles(cert, key, missing),
        TlsFiles(cert, key, key),
    ):
        with pytest.raises(TlsUnusable, match="TLS cannot be used with"):
            server_context(files)
