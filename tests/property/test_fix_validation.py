"""Every message type of clients: generated good ones pass, and each kind of fault is named.

Messages are made of the same data that checks them (``gateway/fix_messages.py``), so what is tested
is that the checks follow the data: reason (373), RefTagID (371) and RefMsgType (372).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.fix_fields import FIELDS
from gateway.fix_message import Fault, encode_fields, frame, split_fields
from gateway.fix_messages import HEADER, MESSAGES, TRAILER, Direction, Member, Message
from gateway.fix_tags import LOGON, LOGOUT, SessionRejectReason
from gateway.session_events import RejectedMessage
from gateway.validate import LAYOUT_SIGHTINGS, MessageReader
from tests.bench.bench_session import NOW_NS, logged_on

Pairs = list[tuple[bytes, bytes]]
_TYPES = [message for message in MESSAGES.values() if message.direction is not Direction.VENUE]
_TIME = b"20240102-12:00:00.000"
_HEAD = [(b"49", b"1001"), (b"56", b"SHARDEX"), (b"34", b"2"), (b"52", _TIME)]
_GOOD = {
    "ID": b"a-1",
    "STRING": b"text",
    "CURRENCY": b"USD",
    "EXCHANGE": b"XNAS",
    "COUNTRY": b"CH",
    "CHAR": b"x",
    "BOOLEAN": b"Y",
    "INT": b"12",
    "SEQNUM": b"7",
    "QTY": b"1.5",
    "PRICE": b"10.25",
    "PRICEOFFSET": b"-0.5",
    "AMT": b"100",
    "FLOAT": b"0.5",
    "PERCENTAGE": b"0.05",
    "LOCALMKTDATE": b"20240102",
    "UTCDATEONLY": b"20240102",
    "UTCTIMESTAMP": _TIME,
    "MONTHYEAR": b"202412",
    "MULTIPLEVALUESTRING": b"1 2",
}
_FORMATTED = set(_GOOD) - {"ID", "STRING", "CURRENCY", "EXCHANGE", "COUNTRY"}


def value_of(draw: st.DrawFn, tag: bytes) -> bytes:
    field = FIELDS[tag]
    if field.values:
        value, _ = draw(st.sampled_from(field.values))
        return value.encode()
    return _GOOD[field.type]


def fill(draw: st.DrawFn, members: tuple[Member, ...], chosen: frozenset[bytes]) -> Pairs:
    """Return fields for what is required and what is chosen; groups have one or two entries."""
    pairs: Pairs = []
    for place, member in enumerate(members):
        if not (member.required or chosen.intersection(tags_of((member,)))):
            continue
        fix_type = FIELDS[member.tag].type
        if fix_type == "LENGTH" and FIELDS[members[place + 1].tag].type == "DATA":
            pairs += [(member.tag, b"5"), (members[place + 1].tag, b"a\x01b=c")]
        elif fix_type == "LENGTH":
            pairs.append((member.tag, b"5"))
        elif fix_type == "NUMINGROUP":
            entries = draw(st.integers(1, 2))
            pairs.append((member.tag, b"%d" % entries))
            for _ in range(entries):
                first = member.members[0].tag
                pairs += fill(draw, member.members, chosen | {first})
        elif fix_type != "DATA":
            pairs.append((member.tag, value_of(draw, member.tag)))
    return pairs


def tags_of(members: tuple[Member, ...]) -> Iterator[bytes]:
    for member in members:
        yield member.tag
        yield from tags_of(member.members)


@st.composite
def bodies(draw: st.DrawFn, message: Message, including: bytes = b"") -> Pairs:
    """Draw the fields behind the header, in order: some of the optional ones, and that one."""
    tags = sorted(set(tags_of(message.members)))
    chosen = draw(st.lists(st.sampled_from(tags), max_size=6))
    return fill(draw, message.members, frozenset([*chosen, including]))


def raw_of(message: Message, body: Pairs) -> bytes:
    return frame(encode_fields([(b"35", message.msg_type), *_HEAD, *body]))


@pytest.mark.parametrize("message", _TYPES, ids=lambda message: message.name)
@settings(max_examples=30)
@given(data=st.data())
def test_good_messages_pass_both_ways(message: Message, data: st.DataObject) -> None:
    body = data.draw(bodies(message))
    raw = raw_of(message, body)
    reader = MessageReader()
    first = reader.read(raw)
    assert first.fault is None
    assert split_fields(raw)[5:] == body
    for _ in range(LAYOUT_SIGHTINGS):
        assert reader.read(raw) == first


# ---------------------------------------------------------------- faults


class Case(NamedTuple):
    """A kind of fault.

    Args:
        reason: SessionRejectReason (373).
        tags: the tags of a message with which it can be made, each in turn RefTagID (371).
        spoil: makes it of a good body that has the tag, where it is one of the message's.
    """

    reason: SessionRejectReason
    tags: Callable[[Message], Iterable[bytes]]
    spoil: Callable[[Message, Pairs, bytes], Pairs]


def single_tags(message: Message) -> Iterator[bytes]:
    """Return the tags of fields outside groups that are no part of length and data."""
    for member in message.members:
        if FIELDS[member.tag].type not in ("NUMINGROUP", "LENGTH", "DATA"):
            yield member.tag


def text_tags(message: Message) -> Iterator[bytes]:
    for tag in single_tags(message):
        if FIELDS[tag].type in ("ID", "STRING") and not FIELDS[tag].values:
            yield tag


def foreign_tags(message: Message) -> Iterable[bytes]:
    known = {*tags_of(message.members), *tags_of(HEADER), *tags_of(TRAILER)}
    return set(FIELDS) - known


def group_tags(message: Message) -> Iterator[bytes]:
    return (member.tag for member in message.members if member.members)


def second_members(message: Message) -> Iterator[bytes]:
    """Return fields that stand behind the first of an entry."""
    for group in message.members:
        for member in group.members[1:]:
            if FIELDS[member.tag].type not in ("NUMINGROUP", "LENGTH", "DATA"):
                yield member.tag


def never_empty(message: Message) -> bool:
    return any(member.required for member in message.members)


def put(body: Pairs, tag: bytes, value: bytes) -> Pairs:
    """Change the value of the first field with that tag outside groups."""
    place = [pair[0] for pair in body].index(tag)
    return [*body[:place], (tag, value), *body[place + 1 :]]


def repeat(message: Message, body: Pairs, tag: bytes) -> Pairs:
    return [*body, (tag, value_first(tag))]


def move_to_front(message: Message, body: Pairs, tag: bytes) -> Pairs:
    """Put a field of an entry before the entry's first."""
    count_tag = next(m.tag for m in message.members if any(n.tag == tag for n in m.members))
    place = [pair[0] for pair in body].index(count_tag) + 1
    return [*body[:place], (tag, value_first(tag)), *body[place:]]


def one_more(message: Message, body: Pairs, tag: bytes) -> Pairs:
    return put(body, tag, b"%d" % (int(dict(body)[tag]) + 1))


def value_first(tag: bytes) -> bytes:
    field = FIELDS[tag]
    return field.values[0][0].encode() if field.values else _GOOD[field.type]


def out_of_range(tag: bytes) -> bytes | None:
    """Return a value that has the format, but is none of the values; None where there is none."""
    field = FIELDS[tag]
    bad = _OUT_OF_RANGE.get(field.type)
    return bad if bad and field.values and not field.is_valid(bad) else None


_OUT_OF_RANGE = {"CHAR": b"~", "INT": b"98765", "STRING": b"ZZZ", "MULTIPLEVALUESTRING": b"~ ~"}
_REASON = SessionRejectReason

CASES = {
    "14a unknown tag": Case(
        _REASON.INVALID_TAG_NUMBER,
        lambda message: [b"957", b"5001", b"999999999", b"0"],
        lambda message, body, tag: [*body, (tag, b"x")],
    ),
    "14b tag missing": Case(
        _REASON.REQUIRED_TAG_MISSING,
        lambda message: [m.tag for m in message.members if m.required and not m.members],
        lambda message, body, tag: [pair for pair in body if pair[0] != tag],
    ),
    "14c tag of another message": Case(
        _REASON.TAG_NOT_DEFINED_FOR_MESSAGE,
        foreign_tags,
        lambda message, body, tag: [*body, (tag, b"1")],
    ),
    "14d no value": Case(
        _REASON.TAG_WITHOUT_VALUE,
        single_tags,
        lambda message, body, tag: put(body, tag, b""),
    ),
    "14e value out of range": Case(
        _REASON.VALUE_INCORRECT,
        lambda message: [tag for tag in single_tags(message) if out_of_range(tag)],
        lambda message, body, tag: put(body, tag, out_of_range(tag) or b""),
    ),
    "14f format": Case(
        _REASON.INCORRECT_DATA_FORMAT,
        lambda message: [t for t in single_tags(message) if FIELDS[t].type in _FORMATTED],
        lambda message, body, tag: put(body, tag, b"no!"),
    ),
    "14g header field behind the header": Case(
        _REASON.TAG_OUT_OF_ORDER,
        lambda message: [b"97", b"43", b"50", b"115"] if never_empty(message) else [],
        lambda message, body, tag: [*body, (tag, value_first(tag))],
    ),
    "14h repeated tag": Case(_REASON.TAG_APPEARS_MORE_THAN_ONCE, single_tags, repeat),
    "14i count of a group": Case(_REASON.INCORRECT_NUM_IN_GROUP, group_tags, one_more),
    "14i order in a group": Case(_REASON.GROUP_FIELDS_OUT_OF_ORDER, second_members, move_to_front),
    "14j delimiter in a value": Case(
        _REASON.FIELD_DELIMITER_IN_VALUE,
        text_tags,
        lambda message, body, tag: put(body, tag, b"A\x01B"),
    ),
}


@pytest.mark.parametrize("message", _TYPES, ids=lambda message: message.name)
@pytest.mark.parametrize("name", CASES)
def test_faults_are_named(name: str, message: Message) -> None:
    case = CASES[name]
    tags = sorted(case.tags(message))

    @settings(max_examples=6, database=None)
    @given(data=st.data())
    def check(data: st.DataObject) -> None:
        tag = data.draw(st.sampled_from(tags))
        body = case.spoil(message, data.draw(bodies(message, including=tag)), tag)
        check_fault(message, body, Fault(case.reason, tag))

    if tags:
        check()


def test_each_case_is_met_in_many_messages() -> None:
    counts = {name: sum(bool(list(case.tags(m))) for m in _TYPES) for name, case in CASES.items()}
    assert min(counts.values()) >= 10, counts


def check_fault(message: Message, body: Pairs, fault: Fault) -> None:
    """Have the fault found, and a session reject the message with all that it refers to."""
    raw = raw_of(message, body)
    assert MessageReader().read(raw).fault == fault
    if message.msg_type in (LOGON, LOGOUT):
        return
    session = logged_on()
    session.receive_data(raw, now_ns=NOW_NS)
    rejected = [e for e in session.events_received() if isinstance(e, RejectedMessage)]
    assert [(e.reason, e.ref_tag) for e in rejected] == [(fault.reason, fault.ref_tag)]
    sent = [dict(split_fields(outbound.data)) for outbound in session.data_to_send()]
    assert len(sent) == 1
    expected = {b"35": b"3", b"45": b"2", b"371": fault.ref_tag, b"372": message.msg_type}
    expected[b"373"] = b"%d" % fault.reason
    assert {tag: sent[0].get(tag) for tag in expected} == expected
