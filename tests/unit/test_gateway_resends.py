"""Stored messages, which lie one behind the other, are split and numbered."""

from __future__ import annotations

import pytest

from gateway.fix_message import frame
from gateway.resends import split_stored
from router.sessions import SentMessages

MESSAGES = [frame(b"35=8\x0134=%d\x0158=8=FIX.4.4\x01" % number) for number in (5, 6, 7)]


def test_batch_is_split_into_numbered_messages() -> None:
    sent = SentMessages(first=5, last=7, messages=b"".join(MESSAGES))
    assert split_stored(sent) == [(5, MESSAGES[0]), (6, MESSAGES[1]), (7, MESSAGES[2])]


def test_batch_that_lacks_a_message_is_a_bug() -> None:
    with pytest.raises(AssertionError):
        split_stored(SentMessages(first=5, last=8, messages=b"".join(MESSAGES)))
