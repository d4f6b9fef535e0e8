"""The examples of orders in docs/fix.md, replayed with a venue."""

from __future__ import annotations

import re
import time

import pytest

from gateway.server import Gateway
from ops.fix_documents import DOCS
from tests.venue import Venue, utc_timestamp

_GUIDE = (DOCS / "fix.md").read_text(encoding="utf-8")
_EXAMPLES = re.findall(r"^```fix-orders\n(.*?)^```$", _GUIDE, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("example", _EXAMPLES)
async def test_examples_of_orders_are_true(venue: Venue, gateway: Gateway, example: str) -> None:
    peer = await venue.trader(gateway, "member")
    for number, line in enumerate(example.splitlines(), 1):
        command, _, text = line.partition(" ")
        if command == "I":
            peer.send(text.replace("<now>", utc_timestamp(time.time_ns())))
        elif command == "E":
            expected = dict(piece.split("=", 1) for piece in text.split("|"))
            answer = await peer.next_message()
            assert answer is not None, f"line {number}: {line}: closed"
            named = {tag: answer.get(tag) for tag in expected}
            assert named == expected, f"line {number}: {line}: {answer}"
        else:
            assert command == "#", f"line {number}: no such command: {line}"


def test_there_are_examples_of_refusals() -> None:
    told = "".join(_EXAMPLES)
    for tag, reasons in (("103", "1 3 4 5 6 11 13 15 99"), ("102", "0 1 6"), ("380", "0 2 5")):
        assert set(reasons.split()) <= set(re.findall(rf"\|{tag}=(\d+)", told))
