"""Signatures of Logons: over which bytes, and by whom. The key is that of RFC 8032, 7.1, test 2."""

from __future__ import annotations

from base64 import b64encode

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.fix_message import encode_fields, frame
from gateway.logon_signature import (
    LogonSignature,
    is_signed_by,
    parse_public_key,
    sign_logon,
    signature_of,
)
from gateway.validate import MessageReader

SECRET = bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")
PUBLIC = "PUAXw+hDiVqStwqnTRt+vJyYLM8uxJaMwM1V8Sr0Zgw="
KEY = Ed25519PrivateKey.from_private_bytes(SECRET)
VALUES = (b"A", b"1001", b"SHARDEX", b"7", b"20260102-03:04:05.678")
HEADER = list(zip((b"35", b"49", b"56", b"34", b"52"), VALUES, strict=True))


def logon(*fields: tuple[bytes, bytes]) -> LogonSignature | None:
    """Return the signature of a Logon with some fields behind its header."""
    every = [*HEADER, (b"98", b"0"), (b"108", b"30"), *fields]
    return signature_of(MessageReader().read(frame(encode_fields(every))))


def raw_data(signature: bytes) -> tuple[tuple[bytes, bytes], tuple[bytes, bytes]]:
    return (b"95", b"%d" % len(signature)), (b"96", signature)


def test_signature_is_over_the_values_of_the_header() -> None:
    signature = sign_logon(KEY, VALUES)
    signed = logon(*raw_data(signature), (b"553", b"user"))
    assert signed == LogonSignature(signature, b"\x01".join(VALUES), 1_767_323_045_678_000)
    assert len(signature) == 88
    assert is_signed_by(signed, [PUBLIC])
    assert is_signed_by(signed, [b64encode(bytes(32)).decode(), "nonsense", PUBLIC])
    assert not is_signed_by(signed, [])


def test_known_answer_of_the_specification_verifies() -> None:
    signature = bytes.fromhex(
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
    )
    assert is_signed_by(LogonSignature(b64encode(signature), b"\x72", 0), [PUBLIC])
    assert sign_logon(KEY, [b"\x72"]) == b64encode(signature)


@pytest.mark.parametrize("index", range(len(VALUES)))
def test_every_signed_value_counts(index: int) -> None:
    others = [value + b"1" if n == index else value for n, value in enumerate(VALUES)]
    signed = logon(*raw_data(sign_logon(KEY, others)))
    assert signed is not None and not is_signed_by(signed, [PUBLIC])


def test_logon_without_raw_data_has_no_signature() -> None:
    assert logon((b"554", b"secret")) is None


@pytest.mark.parametrize("length", [None, b"87", b"8"])
def test_wrong_length_makes_a_signature_that_is_never_good(length: bytes | None) -> None:
    signature = sign_logon(KEY, VALUES)
    before = [] if length is None else [(b"95", length)]
    signed = logon(*before, (b"96", signature))
    assert signed is not None and not is_signed_by(signed, [PUBLIC])


def test_public_key_has_one_spelling() -> None:
    assert parse_public_key(f" {PUBLIC}\n") == PUBLIC
    for wrong in ("", "AAAA", "not base64", PUBLIC[:-4], b64encode(bytes(33)).decode()):
        with pytest.raises(ValueError):
            parse_public_key(wrong)
