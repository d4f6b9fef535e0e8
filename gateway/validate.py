"""Read a framed message and find what the session layer must reject in it. Pure.

There are two ways through. The *general* way takes the fields one by one and names the first fault
(373 and 371; FIX 4.4 volume 2, "Reject"). The *short* way is for what a busy client sends: the
same tags in the same order, with the same numbers of entries in its groups, over and over. Once
such a layout has passed the general way ``LAYOUT_SIGHTINGS`` times, the dictionary is compiled into
one regular expression for it: a match proves structure, order, required tags, formats and
enumerations, and yields the values. A message that does not match goes the general way, so the
short way never decides that something is wrong. Measured on a NewOrderSingle of 172 bytes:
tests/bench/bench_session.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from gateway.fix_dictionary import (
    CLIENT_RULES,
    FIX44_MSG_TYPES,
    HEADER_PLAIN,
    HEADER_TAGS,
    TRAILER_TAGS,
    GroupRule,
    IsValid,
    MessageRule,
    is_defined,
)
from gateway.fix_fields import FIELDS
from gateway.fix_message import Fault, FixMessage, split_fields
from gateway.fix_tags import SOH, TAG_MSG_TYPE, SessionRejectReason

LAYOUT_SIGHTINGS = 3
"""Times that a layout is seen before it is compiled (about a millisecond)."""
LAYOUTS_MAX = 16
"""Compiled layouts of one session; further ones stay on the general way, so that a client cannot
keep us compiling."""
CANDIDATES_MAX = 64
"""Layouts seen but not compiled; when there are more, all are forgotten."""

_Field = tuple[bytes, bytes | None]
_Layout = tuple[tuple[bytes, bytes | None], ...]
_Match = Callable[[bytes], "re.Match[bytes] | None"]


class MessageReader:
    """Read the messages of one session; it remembers their layouts."""

    __slots__ = ("_candidates", "_layouts", "_layouts_count")

    def __init__(self) -> None:
        self._layouts: dict[bytes, list[tuple[tuple[bytes, ...], _Match]]] = {}
        self._layouts_count = 0
        self._candidates: dict[_Layout, int] = {}

    def read(self, raw: bytes) -> FixMessage:
        """Return the message, with its first fault if it has one; never raises on any bytes.

        Args:
            raw: a message as ``FixFramer`` returns it. BeginString is not judged.
        """
        type_start = raw.index(b"\x0135=") + 4
        msg_type = raw[type_start : raw.index(SOH, type_start)]
        layouts = self._layouts.get(msg_type, ())
        for index, (tags, match_layout) in enumerate(layouts):
            match = match_layout(raw)
            if match is not None:
                if index:
                    self._layouts[msg_type].insert(0, self._layouts[msg_type].pop(index))
                return FixMessage(raw, msg_type, dict(zip(tags, match.groups(), strict=True)))
        return self._read_general(raw, msg_type)

    def _read_general(self, raw: bytes, msg_type: bytes) -> FixMessage:
        pairs = split_fields(raw)
        fields = {tag: value for tag, value in pairs if value is not None}
        rule = CLIENT_RULES.get(msg_type)
        if rule is None:
            known = msg_type in FIX44_MSG_TYPES
            reason = SessionRejectReason.INVALID_MSG_TYPE
            return FixMessage(raw, msg_type, fields, None if known else Fault(reason, TAG_MSG_TYPE))
        fault = _Check(rule, pairs).find_fault()
        if fault is None:
            self._remember(msg_type, pairs)
        return FixMessage(raw, msg_type, fields, fault)

    def _remember(self, msg_type: bytes, pairs: list[_Field]) -> None:
        if self._layouts_count >= LAYOUTS_MAX:
            return
        # What a regular expression cannot know, a layout fixes: how many entries a group has.
        layout = tuple((tag, value if _is_fixed(tag) else None) for tag, value in pairs)
        if any(FIELDS[tag].type in _NOT_FOR_LAYOUTS for tag, _ in layout):
            return
        sightings = self._candidates.get(layout, 0) + 1
        if sightings < LAYOUT_SIGHTINGS:
            if len(self._candidates) >= CANDIDATES_MAX:
                self._candidates.clear()
            self._candidates[layout] = sightings
            return
        self._candidates.pop(layout, None)
        self._layouts_count += 1
        tags = tuple(tag for tag, _ in layout)
        self._layouts.setdefault(msg_type, []).insert(0, (tags, _compile(layout)))


_NOT_FOR_LAYOUTS = ("DATA", "LENGTH")
"""Data of a given length is no matter for a regular expression."""


def _is_fixed(tag: bytes) -> bool:
    return tag == TAG_MSG_TYPE or FIELDS[tag].type == "NUMINGROUP"


def _compile(layout: _Layout) -> _Match:
    fields = [
        b"%b=(%b)\x01" % (tag, FIELDS[tag].valid if fixed is None else fixed)
        for tag, fixed in layout
    ]
    return re.compile(
        rb"8=[^\x01]+\x019=[0-9]+\x01" + b"".join(fields) + rb"10=[0-9]{3}\x01\Z"
    ).match


class _Check:
    """One message on the general way."""

    def __init__(self, rule: MessageRule, pairs: list[_Field]) -> None:
        self._rule = rule
        self._pairs = pairs
        self._seen: set[bytes] = set()
        self._in_body = False
        self._in_trailer = False

    def find_fault(self) -> Fault | None:
        """Return the first fault in the order of the fields; a missing tag comes last."""
        index = self._skip_plain(0, HEADER_PLAIN)
        while index < len(self._pairs):
            if not self._in_trailer:
                start, index = index, self._skip_plain(index, self._rule.plain)
                self._in_body = self._in_body or index > start
                if index == len(self._pairs):
                    break
            tag, value = self._pairs[index]
            fault = (
                self._fault_of_pair(index)
                or self._fault_of_place(tag)
                or _fault_of_value(tag, value or b"")
            )
            if fault is not None:
                return fault
            index += 1
            group = self._rule.groups.get(tag)
            if group is not None:
                index, fault = self._walk_group(index, group, tag, int(value or b"0"))
                if fault is not None:
                    return fault
        return _fault_of_missing(self._rule.required, self._seen)

    def _skip_plain(self, index: int, plain: Mapping[bytes, IsValid]) -> int:
        """Step over fields that are right where they stand; return the index of the first other."""
        pairs, seen = self._pairs, self._seen
        while index < len(pairs):
            tag, value = pairs[index]
            is_valid = plain.get(tag)
            if is_valid is None or not value or tag in seen or not is_valid(value):
                break
            seen.add(tag)
            index += 1
        return index

    def _fault_of_pair(self, index: int) -> Fault | None:
        """Check that the piece is a number, ``=`` and a value."""
        tag, value = self._pairs[index]
        if value is None:
            before = self._pairs[index - 1][0] if index else None
            return Fault(SessionRejectReason.FIELD_DELIMITER_IN_VALUE, before)
        if not tag.isdigit() or len(tag) > 9 or tag.startswith(b"0"):
            # RefTagID is an integer, so a tag that is none cannot be named.
            named = tag if tag.isdigit() and len(tag) <= 9 else None
            return Fault(SessionRejectReason.INVALID_TAG_NUMBER, named)
        if not value:
            return Fault(SessionRejectReason.TAG_WITHOUT_VALUE, tag)
        return None

    def _fault_of_place(self, tag: bytes) -> Fault | None:
        """Check that the tag may stand in this message, once, and here."""
        in_header = tag in HEADER_TAGS
        in_trailer = tag in TRAILER_TAGS
        if not in_header and not in_trailer and tag not in self._rule.allowed:
            return _fault_of_unknown(tag)
        if tag in self._seen:
            return Fault(SessionRejectReason.TAG_APPEARS_MORE_THAN_ONCE, tag)
        self._seen.add(tag)
        if (in_header and self._in_body) or (self._in_trailer and not in_trailer):
            return Fault(SessionRejectReason.TAG_OUT_OF_ORDER, tag)
        self._in_body = self._in_body or not in_header
        self._in_trailer = in_trailer
        return None

    def _walk_group(
        self, index: int, group: GroupRule, count_tag: bytes, count: int
    ) -> tuple[int, Fault | None]:
        """Step over a group's entries; return the index behind them and the first fault."""
        entries = 0
        place = -1
        seen: set[bytes] = set()
        while index < len(self._pairs) and self._pairs[index][0] in group.places:
            tag, value = self._pairs[index]
            fault = None
            if tag == group.first:
                fault = _fault_of_missing(group.required, seen) if entries else None
                entries += 1
                seen.clear()
                place = -1
            elif tag in seen:
                fault = Fault(SessionRejectReason.TAG_APPEARS_MORE_THAN_ONCE, tag)
            elif not entries or group.places[tag] < place:
                fault = Fault(SessionRejectReason.GROUP_FIELDS_OUT_OF_ORDER, tag)
            seen.add(tag)
            place = group.places[tag]
            fault = fault or self._fault_of_pair(index) or _fault_of_value(tag, value or b"")
            index += 1
            if fault is None and tag in group.groups:
                inner = group.groups[tag]
                index, fault = self._walk_group(index, inner, tag, int(value or b"0"))
            if fault is not None:
                return index, fault
        if entries != count:
            return index, Fault(SessionRejectReason.INCORRECT_NUM_IN_GROUP, count_tag)
        return index, _fault_of_missing(group.required, seen) if entries else None


def _fault_of_missing(required: tuple[bytes, ...], seen: set[bytes]) -> Fault | None:
    if seen.issuperset(required):
        return None
    missing = next(tag for tag in required if tag not in seen)
    return Fault(SessionRejectReason.REQUIRED_TAG_MISSING, missing)


def _fault_of_unknown(tag: bytes) -> Fault:
    if is_defined(tag):
        return Fault(SessionRejectReason.TAG_NOT_DEFINED_FOR_MESSAGE, tag)
    return Fault(SessionRejectReason.INVALID_TAG_NUMBER, tag)


def _fault_of_value(tag: bytes, value: bytes) -> Fault | None:
    field = FIELDS[tag]
    if field.is_valid(value):
        return None
    if field.has_format(value):
        return Fault(SessionRejectReason.VALUE_INCORRECT, tag)
    return Fault(SessionRejectReason.INCORRECT_DATA_FORMAT, tag)


def fault_of(raw: bytes, rule: MessageRule) -> Fault | None:
    """Return the first fault of a framed message by a rule, the general way."""
    return _Check(rule, split_fields(raw)).find_fault()


def group_entries(message: FixMessage, count_tag: bytes) -> list[dict[bytes, bytes]]:
    """Return the entries of a repeating group of a faultless message, value by tag.

    Args:
        message: without a fault.
        count_tag: of a group that stands in the message itself; the groups nested in its entries
            are left out, but for their counts.

    Returns:
        No entries where the message does not have the group.
    """
    places = CLIENT_RULES[message.msg_type].groups[count_tag].places
    first = next(iter(places))
    entries: list[dict[bytes, bytes]] = []
    inside = False
    for tag, value in split_fields(message.raw):
        if tag == count_tag:
            inside = True
        elif inside and tag == first:
            entries.append({})
        if inside and entries and tag in places:
            entries[-1][tag] = value or b""
    return entries
