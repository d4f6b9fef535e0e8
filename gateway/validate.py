"""Read a framed message and find what the session layer must reject in it. Pure.

There are three ways through. The *general* one takes the fields one by one and names the first
fault (373 and 371; FIX 4.4 volume 2, "Reject"). The others are for what clients send over and over:
the same tags in the same order, with the same numbers of entries in the groups. Such a layout is
*known* once a message of it has passed the general way: its tags, their order and its counts are
right for good, and only the other values are judged. Once it was seen ``LAYOUT_SIGHTINGS`` times it
is compiled into one regular expression, the *short* way: a match proves all that, and yields the
values. What fails on these two goes the general way, so that they never decide that something is
wrong. Measured on a NewOrderSingle: tests/bench/bench_session.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import call, itemgetter

from gateway.fix_dictionary import (
    CLIENT_RULES,
    FIX44_MSG_TYPES,
    HEADER_PLAIN,
    HEADER_TAGS,
    TRAILER_TAGS,
    GroupRule,
    MessageRule,
    is_defined,
)
from gateway.fix_fields import FIELDS, IsValid
from gateway.fix_message import (
    DATA_TAG_OF_LENGTH,
    TRAILER_BYTES,
    Fault,
    FixMessage,
    body_start,
    split_fields,
)
from gateway.fix_tags import SOH, TAG_MSG_TYPE, SessionRejectReason

LAYOUT_SIGHTINGS = 3
"""Times that a layout is seen before it is compiled (about a millisecond)."""
COMPILED_MAX = 16
"""Layouts compiled for one session, ever, so that a client cannot keep us compiling."""
LAYOUTS_MAX = 128
"""Layouts known of one session; then one of ``REPLACED_EVERY`` new ones takes the place of the
oldest that is not compiled."""
REPLACED_EVERY = 8
"""Because learning costs as much as checking, and whoever never repeats himself gains nothing."""
LAYOUT_FIELDS_MAX = 100
"""Fields of a layout, so that all those of a session take some 250 kB at most; a longer message
always goes the general way."""

_Field = tuple[bytes, bytes | None]
_Match = Callable[[bytes], "re.Match[bytes] | None"]
_Key = tuple[bytes, tuple[bytes, ...]]
"""MsgType, and the tags from it on."""
_Size = tuple[bytes, int]
"""MsgType, and the number of all fields."""


class _Layout:
    """What a message without a fault looks like.

    Attributes:
        tags: from MsgType to the last field before CheckSum.
        template: writes them with their values.
        lengths: places of those that say how long the data behind them is.
        judged: picks from their values those that not every text is good for.
        checks: what tells the good values of these; of a group's count that is the one it had.
        is_for_expression: whether it can be compiled: data of a given length is no matter for a
            regular expression.
        sightings: messages that had it, until it is compiled.
        match: the expression for all of it, once it is compiled.
    """

    __slots__ = (
        "checks",
        "is_for_expression",
        "judged",
        "lengths",
        "match",
        "sightings",
        "tags",
        "template",
    )

    def __init__(self, pairs: Sequence[tuple[bytes, bytes]]) -> None:
        self.tags = tuple([FIELDS[tag].tag for tag, _ in pairs])
        self.template = b"".join([b"%b=%%b\x01" % tag for tag in self.tags])
        following = zip(self.tags, self.tags[1:], strict=False)
        self.lengths = [
            place
            for place, (tag, data) in enumerate(following)
            if DATA_TAG_OF_LENGTH.get(tag) == data
        ]
        places = [place for place, (tag, _) in enumerate(pairs) if not FIELDS[tag].is_any_text]
        # At least MsgSeqNum and SendingTime, so this returns a tuple.
        self.judged: Callable[[Sequence[bytes]], Sequence[bytes]] = itemgetter(*places)
        judged = [pairs[place] for place in places]
        self.checks = tuple(
            [value.__eq__ if _is_fixed(tag) else FIELDS[tag].is_valid for tag, value in judged]
        )
        self.is_for_expression = not any(
            FIELDS[tag].type in ("DATA", "LENGTH") for tag in self.tags
        )
        self.sightings = 1
        self.match: _Match | None = None

    def suits(self, values: Sequence[bytes]) -> bool:
        """Tell whether these are good values, none of them empty."""
        return all(map(call, self.checks, self.judged(values)))

    def compile(self, values: Iterable[bytes]) -> None:
        """Make the expression; what it cannot know, it fixes: how many entries a group has."""
        fields = [
            b"%b=(%b)\x01" % (tag, re.escape(value) if _is_fixed(tag) else FIELDS[tag].valid)
            for tag, value in zip(self.tags, values, strict=True)
        ]
        self.match = re.compile(
            rb"8=[^\x01]+\x019=[0-9]+\x01" + b"".join(fields) + rb"10=[0-9]{3}\x01\Z"
        ).match


def _is_fixed(tag: bytes) -> bool:
    return tag == TAG_MSG_TYPE or FIELDS[tag].type == "NUMINGROUP"


class MessageReader:
    """Read the messages of one session; it remembers their layouts."""

    __slots__ = ("_compiled", "_layouts", "_likely", "_unknown")

    def __init__(self) -> None:
        self._layouts: dict[_Key, _Layout] = {}
        # Compiled, the one to try for a message of that size: more tries would cost too much.
        self._likely: dict[_Size, _Layout] = {}
        self._compiled = 0
        self._unknown = 0

    def read(self, raw: bytes) -> FixMessage:
        """Return the message, with its first fault if it has one; never raises on any bytes.

        Args:
            raw: a message as ``FixFramer`` returns it. BeginString is not judged.
        """
        type_start = raw.index(b"\x0135=") + 4
        msg_type = raw[type_start : raw.index(SOH, type_start)]
        size = (msg_type, raw.count(SOH))
        likely = self._likely.get(size)
        if likely is not None and likely.match is not None:
            match = likely.match(raw)
            if match is not None:
                return FixMessage(
                    raw, msg_type, dict(zip(likely.tags, match.groups(), strict=True))
                )
            # Clients that take turns with layouts of one size shall not pay for it every time.
            del self._likely[size]
        found = self._find_quickly(raw, msg_type)
        if found is None:
            pairs = split_fields(raw)
            tags, values = zip(*pairs, strict=True)
            layout = self._layouts.get((msg_type, tags))
            if layout is None or not all(values) or not layout.suits(values):
                return self._read_general(raw, msg_type, pairs)
        else:
            layout, values = found
        if likely is None:
            self._expect(layout, size, values)
        return FixMessage(raw, msg_type, dict(zip(layout.tags, values, strict=True)))

    def _find_quickly(
        self, raw: bytes, msg_type: bytes
    ) -> tuple[_Layout, tuple[bytes, ...]] | None:
        """Return layout and values of a message whose layout is known, and its values good.

        None also where a value contains ``=``, or data an SOH: then it takes a closer look.
        """
        content = raw[body_start(raw) : -TRAILER_BYTES]
        parts = content.replace(SOH, b"=").split(b"=")
        layout = self._layouts.get((msg_type, tuple(parts[:-1:2])))
        if layout is None:
            return None
        values = tuple(parts[1::2])
        # A piece without "=" and one with two look the same in the parts, but not written out.
        if layout.template % values != content or not all(values) or not layout.suits(values):
            return None
        for place in layout.lengths:
            if int(values[place]) != len(values[place + 1]):
                return None
        return layout, values

    def _expect(self, layout: _Layout, size: _Size, values: Sequence[bytes]) -> None:
        """Try a layout at the next message of the size, if it is compiled, or is to be now."""
        layout.sightings += 1
        if (
            layout.match is None
            and layout.is_for_expression
            and layout.sightings >= LAYOUT_SIGHTINGS
            and self._compiled < COMPILED_MAX
        ):
            layout.compile(values)
            self._compiled += 1
        if layout.match is not None:
            self._likely[size] = layout

    def _read_general(self, raw: bytes, msg_type: bytes, pairs: Sequence[_Field]) -> FixMessage:
        whole = [(tag, value) for tag, value in pairs if value is not None]
        rule = CLIENT_RULES.get(msg_type)
        if rule is None:
            return FixMessage(raw, msg_type, dict(whole), _fault_of_type(msg_type))
        fault = _Check(rule, pairs).find_fault()
        if fault is None and len(pairs) <= LAYOUT_FIELDS_MAX:
            self._remember(msg_type, whole)
        return FixMessage(raw, msg_type, dict(whole), fault)

    def _remember(self, msg_type: bytes, pairs: Sequence[tuple[bytes, bytes]]) -> None:
        if len(self._layouts) >= LAYOUTS_MAX:
            self._unknown += 1
            if self._unknown % REPLACED_EVERY:
                return
            # Those that are compiled stay: they are few, and cannot be compiled again.
            oldest = next(key for key, one in self._layouts.items() if one.match is None)
            del self._layouts[oldest]
        layout = _Layout(pairs)
        # Where the tags are known, a count was written in another way (02): the first one stays.
        self._layouts.setdefault((msg_type, layout.tags), layout)


class _Check:
    """One message on the general way."""

    def __init__(self, rule: MessageRule, pairs: Sequence[_Field]) -> None:
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


def _fault_of_type(msg_type: bytes) -> Fault | None:
    """Judge a MsgType (35) that clients may not send."""
    if not msg_type:
        return Fault(SessionRejectReason.TAG_WITHOUT_VALUE, TAG_MSG_TYPE)
    if msg_type not in FIX44_MSG_TYPES:
        return Fault(SessionRejectReason.INVALID_MSG_TYPE, TAG_MSG_TYPE)
    return None


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
