"""Signed Logons at two gateways: the same bytes are good once, whatever they ask for."""

from __future__ import annotations

import time
from base64 import b64encode
from collections.abc import AsyncIterator

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.server import Gateway
from gateway.settings import GatewaySettings
from ops.fix_initiator import Identity, Initiator
from router.user_access import set_public_keys
from tests.venue import Peer, Venue

KEY = Ed25519PrivateKey.generate()
PUBLIC_KEY = b64encode(KEY.public_key().public_bytes_raw()).decode()


def patient(venue: Venue) -> GatewaySettings:
    """Return the gateway's settings, with which no Logon here is too old."""
    return venue.settings.gateway.model_copy(update={"signed_logon_window_s": 120})


@pytest.fixture
async def gateway(venue: Venue) -> AsyncIterator[Gateway]:
    async with venue.gateway(settings=patient(venue)) as running:
        yield running


@pytest.fixture
async def account(venue: Venue) -> int:
    account = await venue.add_user("user")
    await set_public_keys(venue.link, account=account, public_keys=[PUBLIC_KEY])
    return account


def logon(account: int, *, reset: bool, number: int = 1) -> bytes:
    """Return a signed Logon of now, as it goes over the wire."""
    initiator = Initiator(Identity(str(account), "SHARDEX", "user", "", KEY))
    initiator.set_numbers(next_in=1, next_out=number)
    initiator.connect(reset=reset, now_ns=time.time_ns())
    return initiator.data_to_send()


async def present(venue: Venue, gateway: Gateway, data: bytes) -> Peer:
    peer = await venue.connect(gateway)
    peer._writer.write(data)
    return peer


async def log_out(venue: Venue, peer: Peer, account: int) -> None:
    peer.account, peer.next_out = account, 2
    peer.send("35=5")
    await peer.expect("5")
    await peer.expect_closed()
    await venue.released(account)


@pytest.mark.parametrize("reset", [False, True])
async def test_captured_logon_is_worth_nothing_at_any_gateway(
    venue: Venue, gateway: Gateway, account: int, reset: bool
) -> None:
    captured = logon(account, reset=reset)
    async with venue.gateway("gateway-2", patient(venue)) as other:
        peer = await present(venue, gateway, captured)
        await peer.expect("A")
        await log_out(venue, peer, account)
        for one in (gateway, other):
            thief = await present(venue, one, captured)
            await thief.expect("5", t58="Wrong Username (553), Password (554), or signature (96)")
            await thief.expect_closed()


async def test_changed_logon_is_not_taken(venue: Venue, gateway: Gateway, account: int) -> None:
    other = await venue.add_user("other")
    stolen = logon(account, reset=True).replace(b"49=%d\x01" % account, b"49=%d\x01" % other)
    total = sum(stolen[: stolen.rindex(b"10=")]) % 256
    stolen = stolen[: stolen.rindex(b"10=")] + b"10=%03d\x01" % total
    await (await present(venue, gateway, stolen)).expect("5")


async def test_number_below_the_expected_one_is_refused(
    venue: Venue, gateway: Gateway, account: int
) -> None:
    peer = await present(venue, gateway, logon(account, reset=False))
    await peer.expect("A")
    await log_out(venue, peer, account)
    late = await present(venue, gateway, logon(account, reset=False, number=2))
    await late.expect("5", t58="MsgSeqNum too low, expecting 3 but received 2")
    good = await present(venue, gateway, logon(account, reset=False, number=3))
    await good.expect("A")
