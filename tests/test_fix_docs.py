"""What docs/ says about FIX is what the code does: tables, the dictionary, examples of the session.

The examples that need a venue are replayed by tests/integration/test_fix_docs.py.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from gateway.fix_fields import FIELDS
from gateway.fix_message import encode_fields, frame
from gateway.fix_messages import MESSAGES
from gateway.logon_signature import sign_logon, signature_of
from gateway.validate import MessageReader
from ops.fix_documents import DOCS
from ops.fix_tables import SENDERS, types_with_tables, with_tables
from ops.fix_xml import dictionary_xml
from tests.fix_player import Player, run_lines

_GUIDE = (DOCS / "fix.md").read_text(encoding="utf-8")
_EXAMPLES = re.findall(r"^```fix\n(.*?)^```$", _GUIDE, re.DOTALL | re.MULTILINE)
_OF_VENUE = "".join(re.findall(r"^```fix-venue\n(.*?)^```$", _GUIDE, re.DOTALL | re.MULTILINE))
_OWN_TAGS = {7928, 8013}
_TOO_SHORT_LIVED = {"39": {"A", "E"}, "326": {"22"}}
"""What no example can wait for: an order that is on its way to its engine, an opening auction."""


def test_tables_are_current() -> None:
    assert with_tables(_GUIDE) == _GUIDE, "run python -m ops.fix_documents"


def test_every_message_has_its_table() -> None:
    told = types_with_tables(_GUIDE)
    assert sorted(told) == sorted(msg_type.decode() for msg_type in MESSAGES)


def test_list_of_messages_names_each_with_its_direction() -> None:
    rows = re.findall(r"^\| (\w+) \| (\w+) \| ([\w ]+) \| .*\]\(#.*\) \|$", _GUIDE, re.MULTILINE)
    assert len(rows) == len(MESSAGES)
    assert set(rows) == {
        (message.msg_type.decode(), message.name, SENDERS[message.direction])
        for message in MESSAGES.values()
    }


def test_dictionary_is_current() -> None:
    written = (DOCS / "FIX44-shardex.xml").read_text(encoding="utf-8")
    assert written == dictionary_xml(), "run python -m ops.fix_documents"


def test_dictionary_names_all_that_it_uses() -> None:
    root = ElementTree.fromstring(dictionary_xml())
    defined = {field.get("name") for field in root.iterfind("fields/field")}
    numbers = [int(field.get("number", "")) for field in root.iterfind("fields/field")]
    used = {
        element.get("name")
        for part in ("header", "messages", "trailer")
        for element in root.iterfind(f"{part}//*")
        if element.tag in ("field", "group")
    }
    assert used == defined
    assert len(numbers) == len(set(numbers)) == len(FIELDS) + 3
    assert {number for number in numbers if number > 956} == _OWN_TAGS


def test_only_clients_send_tags_of_ours() -> None:
    for message in MESSAGES.values():
        tags = {int(member.tag) for member in message.members}
        assert not tags & _OWN_TAGS or message.name in (
            "Logon",
            "NewOrderSingle",
            "OrderCancelReplaceRequest",
        )


@pytest.mark.parametrize("mode", ["whole", "bytes", "blocked"])
@pytest.mark.parametrize("number", range(len(_EXAMPLES)))
def test_examples_of_the_session_are_true(number: int, mode: str) -> None:
    run_lines(f"example {number + 1}", _EXAMPLES[number].splitlines(), Player(mode))


def test_there_is_an_example_of_each_message() -> None:
    lines = "".join(_EXAMPLES) + _OF_VENUE
    shown = re.findall(r"^(?:I=?|E|A|G .*?) ?\|?35=(\w+)", lines, re.MULTILINE)
    assert {msg_type.decode() for msg_type in MESSAGES} <= set(shown)


@pytest.mark.parametrize(
    "tag", "39 102 103 150 279 281 326 340 373 378 380 434 531 532 560 567 851".split()
)
def test_there_is_an_example_for_each_value_that_the_venue_sends(tag: str) -> None:
    shown = set(re.findall(rf"^E .*?\|{tag}=(\w+)", "".join(_EXAMPLES) + _OF_VENUE, re.MULTILINE))
    values = {value for value, _ in FIELDS[tag.encode()].values}
    assert values - shown == _TOO_SHORT_LIVED.get(tag, set())
    assert shown <= values


def test_example_of_a_signed_logon_is_true() -> None:
    found = re.search(
        r"^```pem\n(.*?)^```$.*?^```fix-signed\n(.*?)\n(.*?)\n```$", _GUIDE, re.S | re.M
    )
    assert found is not None
    key = load_pem_private_key(found[1].encode(), password=None)
    assert isinstance(key, Ed25519PrivateKey)
    values = found[2].encode().split(b"|")
    fields = [tuple(piece.split(b"=", 1)) for piece in found[3].encode().split(b"|")]
    message = MessageReader().read(frame(encode_fields(fields)))
    signed = signature_of(message)
    assert message.fault is None
    assert signed is not None
    assert (signed.signature, signed.content) == (sign_logon(key, values), b"\x01".join(values))


def test_table_of_contents_names_every_section() -> None:
    named = re.findall(r"^ *- \[([^]]+)\]\(#([a-z-]+)\)$", _GUIDE, re.MULTILINE)
    headings = re.findall(r"^##+ (.*)$", _GUIDE, re.MULTILINE)
    assert [name for name, _ in named] == headings
    anchors = {heading.lower().replace(" ", "-") for heading in headings}
    assert set(re.findall(r"\]\(#([^)]+)\)", _GUIDE)) <= anchors


def test_tests_that_are_named_exist() -> None:
    files = set(re.findall(r"`(tests/[\w/]+\.py)`", _GUIDE))
    text = "".join((DOCS.parent / name).read_text(encoding="utf-8") for name in files)
    named = set(re.findall(r"`(test_\w+)`", _GUIDE))
    assert files and named
    assert {name for name in named if f"def {name}(" not in text} == set()
