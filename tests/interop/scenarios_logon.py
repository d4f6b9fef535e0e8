"""What a Logon may say beyond user and password: a signature, 789, and 8013."""

from __future__ import annotations

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.interop.stage import BUY, SELL, Stage


async def signed_logon_needs_no_password(stage: Stage) -> None:
    """The Logon is signed (95, 96) with a key that the operator has added; without it: refused."""
    key = Ed25519PrivateKey.generate()
    private, public = stage.directory / "key.pem", stage.directory / "public.pem"
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    public.write_bytes(
        key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    client = await stage.client(more={"SigningKey": str(private)})
    await stage.shardex("user", "key", "add", client.account, "--file", str(public))
    await client.connect()
    order = await stage.rest(client, BUY, "1", "10.00")
    await stage.cancel_resting(client, order, BUY)


async def next_expected_number_makes_requests_needless(stage: Stage) -> None:
    """With 789 both sides resend at the logon; nobody asks."""
    client = await stage.client(more={"SendNextExpectedMsgSeqNum": "Y"})
    await client.connect()
    proxy = stage.proxy(client)
    proxy.loses_answers = True
    order = stage.order(BUY, "1", "10.00")
    await client.send("D", order)
    await proxy.lost()
    logons = client.logons
    proxy.cut()
    proxy.loses_answers = False
    await client.until(lambda: client.logons > logons, "logged on again")
    await client.expect("8", {11: order[0][1], 150: "0", 43: "Y"})
    await stage.cancel_resting(client, order[0][1], BUY)
    asked = [one for one in client.admin_out + client.admin_in if one[35] == "2"]
    assert not asked, asked


async def cancel_on_disconnect_by_logon(stage: Stage) -> None:
    """8013=Y: what rests is canceled when the connection is gone."""
    client = await stage.client()
    await client.connect({8013: "Y"})
    ids = {await stage.rest(client, side, "5", price) for side, price in ((BUY, "9"), (SELL, "11"))}
    await client.kill()
    await stage.until_book_is_empty()
    await client.start()
    await client.connect()
    canceled: set[str] = set()
    while canceled != ids:
        message = await client.next()
        if message[150] == "4":
            canceled.add(message[11])


SCENARIOS = [
    signed_logon_needs_no_password,
    next_expected_number_makes_requests_needless,
    cancel_on_disconnect_by_logon,
]
