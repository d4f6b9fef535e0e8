"""What docs/ says about FIX is what the code does: tables, the dictionary, examples of the session.

The examples of orders are replayed by tests/integration/test_fix_docs.py.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree

import pytest

from gateway.fix_fields import FIELDS
from gateway.fix_messages import MESSAGES
from ops.fix_documents import DOCS
from ops.fix_tables import types_with_tables, with_tables
from ops.fix_xml import dictionary_xml
from tests.fix_player import Player, run_lines

_GUIDE = (DOCS / "fix.md").read_text(encoding="utf-8")
_EXAMPLES = re.findall(r"^```fix\n(.*?)^```$", _GUIDE, re.DOTALL | re.MULTILINE)
_OWN_TAGS = {7928, 8013}


def test_tables_are_current() -> None:
    assert with_tables(_GUIDE) == _GUIDE, "run python -m ops.fix_documents"


def test_every_message_has_its_table() -> None:
    told = types_with_tables(_GUIDE)
    assert sorted(told) == sorted(msg_type.decode() for msg_type in MESSAGES)


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


def test_there_is_an_example_for_each_kind_of_reject() -> None:
    reasons = set(re.findall(r"\|373=(\d+)", "".join(_EXAMPLES)))
    assert reasons == set("0 1 2 4 5 6 9 10 11 13 14 15 16 17".split())
