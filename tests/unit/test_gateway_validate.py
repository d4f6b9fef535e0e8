"""Reading messages in all ways. The faults by case: tests/fix_scripts/14*."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gateway.fix_dictionary import HEADER_TAGS, TRAILER_TAGS
from gateway.fix_fields import FIELDS
from gateway.fix_message import Fault, frame
from gateway.fix_messages import HEADER, MESSAGES, TRAILER, Member, Message
from gateway.fix_tags import SessionRejectReason
from gateway.validate import (
    COMPILED_MAX,
    LAYOUT_FIELDS_MAX,
    LAYOUT_SIGHTINGS,
    LAYOUTS_MAX,
    REPLACED_EVERY,
    MessageReader,
    group_entries,
)

_HEADER = "49=7|56=SHARDEX|34=2|52=20240102-12:00:00.000|"
_ORDER = "11=a1|55=AAPL-USD|54=1|38=100|40=2|44=10.5|60=20240102-12:00:00|"


def fix(content: str) -> bytes:
    return frame(content.replace("|", "\x01").encode())


def compiled(reader: MessageReader) -> int:
    return sum(layout.match is not None for layout in reader._layouts.values())


def test_a_busy_layout_is_compiled_and_reads_the_same() -> None:
    reader = MessageReader()
    raw = fix(f"35=D|{_HEADER}{_ORDER}")
    first = reader.read(raw)
    assert compiled(reader) == 0
    for _ in range(LAYOUT_SIGHTINGS):
        assert reader.read(raw) == first
    assert compiled(reader) == 1
    assert first.msg_type == b"D"
    assert first.fields[b"44"] == b"10.5"
    assert first.fault is None


def test_layouts_of_one_type_live_side_by_side() -> None:
    reader = MessageReader()
    limit, market = fix(f"35=D|{_HEADER}{_ORDER}"), fix(f"35=D|{_HEADER}{_ORDER}59=3|")
    for _ in range(LAYOUT_SIGHTINGS):
        reader.read(limit)
        reader.read(market)
    assert compiled(reader) == 2
    for _ in range(3):
        assert b"59" in reader.read(market).fields
        assert b"59" not in reader.read(limit).fields


def messages_of_many_layouts() -> Iterator[bytes]:
    optional = ["1", "21", "58", "15", "120", "100", "526", "583"]
    for number in range(256):
        chosen = "".join(f"{tag}=1|" for place, tag in enumerate(optional) if number >> place & 1)
        yield fix(f"35=D|{_HEADER}{_ORDER}{chosen}")


def test_layouts_are_limited() -> None:
    reader = MessageReader()
    for _ in range(2):
        for raw in messages_of_many_layouts():
            for _ in range(LAYOUT_SIGHTINGS):
                assert reader.read(raw).fault is None
    assert compiled(reader) == reader._compiled == COMPILED_MAX
    assert len(reader._layouts) == LAYOUTS_MAX
    assert len(reader._likely) <= COMPILED_MAX


def test_of_new_layouts_beyond_the_most_only_some_are_learnt() -> None:
    reader = MessageReader()
    raws = list(messages_of_many_layouts())
    for raw in raws[:LAYOUTS_MAX]:
        reader.read(raw)
    before = set(reader._layouts)
    for raw in raws[LAYOUTS_MAX : LAYOUTS_MAX + 2 * REPLACED_EVERY]:
        reader.read(raw)
    assert len(reader._layouts) == LAYOUTS_MAX
    assert len(set(reader._layouts) - before) == 2


def test_what_is_known_does_not_go_the_general_way(monkeypatch: pytest.MonkeyPatch) -> None:
    raws = list(messages_of_many_layouts())[: LAYOUTS_MAX - 2]
    raws.append(fix(f"35=D|{_HEADER}{_ORDER}354=3|355=abc|"))
    raws.append(frame(fix(f"35=D|{_HEADER}{_ORDER}354=3|355=a?=|")[16:-7].replace(b"?", b"\x01")))
    reader = MessageReader()
    first = [reader.read(raw) for raw in raws]
    monkeypatch.setattr(MessageReader, "_read_general", None)
    for _ in range(LAYOUT_SIGHTINGS + 1):
        assert [reader.read(raw) for raw in raws] == first


def test_a_very_long_layout_is_not_remembered() -> None:
    reader = MessageReader()
    parties = "448=x|447=D|452=1|" * (LAYOUT_FIELDS_MAX // 3)
    raw = fix(f"35=D|{_HEADER}{_ORDER}453={LAYOUT_FIELDS_MAX // 3}|{parties}")
    assert reader.read(raw).fault is None
    assert not reader._layouts


def test_data_is_never_compiled() -> None:
    reader = MessageReader()
    for _ in range(LAYOUT_SIGHTINGS + 1):
        assert reader.read(fix(f"35=D|{_HEADER}{_ORDER}354=3|355=abc|")).fault is None
    assert compiled(reader) == 0


def test_a_layout_knows_how_many_entries_its_groups_have() -> None:
    reader = MessageReader()
    party = "448=x|447=D|452=1|"
    one, wrong = (fix(f"35=D|{_HEADER}{_ORDER}453={count}|{party}") for count in (1, 2))
    for _ in range(LAYOUT_SIGHTINGS + 1):
        first = reader.read(one)
        assert first.fault is None
    assert compiled(reader) == 1
    assert reader.read(one) == MessageReader().read(one)
    count_fault = Fault(SessionRejectReason.INCORRECT_NUM_IN_GROUP, b"453")
    assert reader.read(wrong).fault == count_fault
    two = fix(f"35=D|{_HEADER}{_ORDER}453=2|{party}{party}")
    assert reader.read(two).fault is None


def test_a_checksum_field_in_the_body_does_not_end_the_message() -> None:
    reader = MessageReader()
    for _ in range(LAYOUT_SIGHTINGS):
        reader.read(fix(f"35=D|{_HEADER}{_ORDER}"))
    message = reader.read(fix(f"35=D|{_HEADER}{_ORDER}10=000|58=x|"))
    assert message.fault == Fault(SessionRejectReason.TAG_NOT_DEFINED_FOR_MESSAGE, b"10")


@pytest.mark.parametrize("price", ["10", "10.", "10.25", ".5", "0010.50", "-1", "23.0"])
def test_every_decimal_of_fix_is_a_price(price: str) -> None:
    order = _ORDER.replace("44=10.5", f"44={price}")
    assert MessageReader().read(fix(f"35=D|{_HEADER}{order}")).fault is None


@pytest.mark.parametrize("price", ["1e3", "+1", "1,5", ".", "-", "1.2.3", " 1", "0x1", "9" * 21])
def test_anything_else_is_not(price: str) -> None:
    order = _ORDER.replace("44=10.5", f"44={price}")
    fault = MessageReader().read(fix(f"35=D|{_HEADER}{order}")).fault
    assert fault == Fault(SessionRejectReason.INCORRECT_DATA_FORMAT, b"44")


@pytest.mark.parametrize(
    ("field", "reason"),
    [
        ("201=1", None),
        ("461=ESXXXX", None),
        ("479=USD", None),
        ("388=0", None),
        ("711=1|311=x|315=1|318=USD", None),
        ("864=1|865=99|866=20260102|867=1.5|868=split", None),
        ("453=1|448=x|447=D|452=38", None),
        ("453=1|448=x|447=D|452=23", SessionRejectReason.VALUE_INCORRECT),
        ("453=1|448=x|447=D|452=x", SessionRejectReason.INCORRECT_DATA_FORMAT),
        ("22=XX", SessionRejectReason.VALUE_INCORRECT),
        ("63=A", SessionRejectReason.VALUE_INCORRECT),
        ("167=CRYPTO", SessionRejectReason.VALUE_INCORRECT),
        ("201=2", SessionRejectReason.VALUE_INCORRECT),
        ("206=xx", SessionRejectReason.INCORRECT_DATA_FORMAT),
        ("227=x", SessionRejectReason.INCORRECT_DATA_FORMAT),
        ("847=1000", None),
    ],
)
def test_optional_fields_have_the_values_of_fix44(
    field: str, reason: SessionRejectReason | None
) -> None:
    fault = MessageReader().read(fix(f"35=D|{_HEADER}{_ORDER}{field}|")).fault
    assert (fault.reason if fault else None) == reason


def test_unsupported_types_have_no_fault_and_unknown_ones_have() -> None:
    assert MessageReader().read(fix(f"35=Q|{_HEADER}")).fault is None
    unknown = MessageReader().read(fix(f"35=I|{_HEADER}"))
    assert unknown.fault == Fault(SessionRejectReason.INVALID_MSG_TYPE, b"35")


def walk(members: tuple[Member, ...]) -> Iterator[Member]:
    for member in members:
        yield member
        yield from walk(member.members)


@pytest.mark.parametrize("message", MESSAGES.values(), ids=lambda message: message.name)
def test_the_dictionary_is_consistent(message: Message) -> None:
    outer = {member.tag for member in message.members}
    assert not outer & (HEADER_TAGS | TRAILER_TAGS)
    for member in walk((*HEADER, *TRAILER, *message.members)):
        field = FIELDS[member.tag]
        assert (field.type == "NUMINGROUP") == bool(member.members)
        inner = {nested.tag for nested in walk(member.members)}
        # What ends a group must not look like one of its entries.
        assert not inner & outer - {b"372"}
    tags = [member.tag for member in walk(message.members)]
    assert len(tags) == len(set(tags) - {b"372"}) + tags.count(b"372")


def test_every_field_stands_in_a_message() -> None:
    everywhere = [*HEADER, *TRAILER]
    for message in MESSAGES.values():
        everywhere += message.members
    assert {member.tag for member in walk(tuple(everywhere))} == set(FIELDS)
    assert len({field.name for field in FIELDS.values()}) == len(FIELDS)


def test_the_entries_of_a_group_are_read() -> None:
    request = "262=r1|263=1|264=0|267=2|269=0|269=1|146=2|55=A|454=1|455=x|456=1|55=B|48=id|266=Y|"
    message = MessageReader().read(fix(f"35=V|{_HEADER}{request}"))
    assert message.fault is None
    assert group_entries(message, b"267") == [{b"269": b"0"}, {b"269": b"1"}]
    assert group_entries(message, b"146") == [
        {b"55": b"A", b"454": b"1"},
        {b"55": b"B", b"48": b"id"},
    ]
    assert group_entries(message, b"386") == []
