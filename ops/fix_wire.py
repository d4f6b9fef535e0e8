"""Bytes from a venue, as a client reads them that trusts it, and a Logon's signature. Pure."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.errors import RemoteFixError
from gateway.fix_framer import FixFramer
from gateway.fix_tags import LOGON, SOH
from gateway.fix_time import UtcTimestampWriter
from gateway.logon_signature import sign_logon

MESSAGE_BYTES_MAX = 65_536
"""Longest message, and most garbled bytes, that are taken from a venue."""


def new_framer() -> FixFramer:
    """Return a framer for the bytes of one connection."""
    return FixFramer(max_message_bytes=MESSAGE_BYTES_MAX, max_garbled_bytes=MESSAGE_BYTES_MAX)


def fields_of(raw: bytes) -> dict[bytes, bytes]:
    """Return the fields of a framed message: the venue sends no data fields; of groups the last.

    Takes two thirds of the time of `gateway.fix_message.split_fields`, which reads what anybody
    may send.

    Raises:
        RemoteFixError: it is no list of fields.
    """
    try:
        return dict([piece.split(b"=", 1) for piece in raw[:-1].split(SOH)])
    except ValueError as error:
        raise RemoteFixError(f"a field without =: {raw!r}") from error


def signature_fields(
    key: Ed25519PrivateKey, sender: bytes, target: bytes, *, msg_seq_num: int, now_ns: int
) -> list[tuple[bytes, bytes]]:
    """Return RawDataLength (95) and RawData (96) of a Logon that is sent now."""
    number, sending_time = b"%d" % msg_seq_num, UtcTimestampWriter().write(now_ns)
    signature = sign_logon(key, (LOGON, sender, target, number, sending_time))
    return [(b"95", b"%d" % len(signature)), (b"96", signature)]
