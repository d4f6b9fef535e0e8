"""Signed Logons: Ed25519 over the header, in RawData (96). Pure.

A client signs the *values* of MsgType (35), SenderCompID (49), TargetCompID (56), MsgSeqNum (34)
and SendingTime (52), in this order, joined by SOH, and sends the 64 bytes of the signature in
base64: 95=88, 96=…. So the signature is good for one CompID at one venue at one moment.

It proves who made a Logon, not who sends it: a copy is as good as the original. ``Authenticator``
therefore takes it only near its SendingTime, and only if that is later than of every signed Logon
before. What else the Logon says (108, 141, 789) is not signed, and nothing protects what follows
it: against somebody who can change bytes on the way only TLS helps.

Source: RFC 8032; FIX 4.4 volume 2, "Logon": RawDataLength and RawData may hold what authenticates.
"""

from __future__ import annotations

import binascii
from base64 import b64decode, b64encode
from collections.abc import Iterable

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from gateway.fix_message import FixMessage
from gateway.fix_tags import (
    SOH,
    TAG_MSG_SEQ_NUM,
    TAG_MSG_TYPE,
    TAG_RAW_DATA,
    TAG_RAW_DATA_LENGTH,
    TAG_SENDER_COMP_ID,
    TAG_SENDING_TIME,
    TAG_TARGET_COMP_ID,
)
from gateway.fix_time import UtcTimestampReader

PUBLIC_KEY_BYTES = 32
_NS_PER_US = 1_000
_SIGNED_TAGS = (
    TAG_MSG_TYPE,
    TAG_SENDER_COMP_ID,
    TAG_TARGET_COMP_ID,
    TAG_MSG_SEQ_NUM,
    TAG_SENDING_TIME,
)


class LogonSignature(msgspec.Struct, frozen=True, gc=False):
    """What a Logon says about its maker.

    Args:
        signature: RawData (96) as it came.
        content: what it must be the signature of.
        sending_time_us: SendingTime (52), µs since 1970, rounded down.
    """

    signature: bytes
    content: bytes
    sending_time_us: int


def signature_of(message: FixMessage) -> LogonSignature | None:
    """Return the signature of a Logon without faults, or None where it has no RawData (96).

    Where RawDataLength (95) is missing or another one, the signature comes out empty: never good.
    """
    fields = message.fields
    signature = fields.get(TAG_RAW_DATA)
    if signature is None:
        return None
    if fields.get(TAG_RAW_DATA_LENGTH) != b"%d" % len(signature):
        signature = b""
    content = SOH.join([fields[tag] for tag in _SIGNED_TAGS])
    sending_time_ns = UtcTimestampReader().read_ns(fields[TAG_SENDING_TIME])
    return LogonSignature(signature, content, sending_time_ns // _NS_PER_US)


def is_signed_by(signed: LogonSignature, public_keys: Iterable[str]) -> bool:
    """Tell whether one of the keys made the signature.

    Args:
        signed: from ``signature_of``.
        public_keys: in base64, as ``parse_public_key`` returns them.
    """
    try:
        signature = b64decode(signed.signature, validate=True)
    except binascii.Error:
        return False
    return any(_verifies(key, signature, signed.content) for key in public_keys)


def _verifies(public_key: str, signature: bytes, content: bytes) -> bool:
    try:
        key = Ed25519PublicKey.from_public_bytes(b64decode(public_key, validate=True))
        key.verify(signature, content)
    except (InvalidSignature, ValueError):
        return False
    return True


def parse_public_key(text: str) -> str:
    """Return a raw Ed25519 public key in base64 in its one spelling.

    Raises:
        ValueError: it is none.
    """
    raw = b64decode(text.strip(), validate=True)
    if len(raw) != PUBLIC_KEY_BYTES:
        raise ValueError(f"expected {PUBLIC_KEY_BYTES} bytes in base64, received {len(raw)}")
    Ed25519PublicKey.from_public_bytes(raw)
    return b64encode(raw).decode("ascii")


def sign_logon(private_key: Ed25519PrivateKey, values: Iterable[bytes]) -> bytes:
    """Return RawData (96) for a Logon.

    Args:
        private_key: the client's.
        values: of 35, 49, 56, 34 and 52.
    """
    return b64encode(private_key.sign(SOH.join(values)))
