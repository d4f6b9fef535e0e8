"""What each message may carry, made of the data in ``fix_messages.py`` for quick checks. Pure.

A tag of FIX 4.4, or one of the venue's own, that a message may not carry is "not defined for this
message" (373=2); every other is an "invalid tag number" (373=0).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from gateway.fix_fields import FIELDS, IsValid
from gateway.fix_messages import HEADER, MESSAGES, TRAILER, Direction, Member, Message

LAST_FIX44_TAG = 956

FIX44_MSG_TYPES = frozenset(
    b"0 1 2 3 4 5 6 7 8 9 A B C D E F G H J K L M N P Q R S T V W X Y Z a b c d e f g h i j k l m n"
    b" o p q r s t u v w x y z AA AB AC AD AE AF AG AH AI AJ AK AL AM AN AO AP AQ AR AS AT AU AV AW"
    b" AX AY AZ BA BB BC BD BE BF BG BH".split()
)
"""Every MsgType of FIX 4.4: one that is not here is invalid, not just unsupported."""


class GroupRule(msgspec.Struct, frozen=True):
    """What one entry of a repeating group may carry.

    Args:
        places: tag → place in the entry; the first one begins each entry.
        first: that tag.
        required: tags that each entry must have.
        groups: the groups in an entry, by the tag of their count.
    """

    places: Mapping[bytes, int]
    first: bytes
    required: tuple[bytes, ...]
    groups: Mapping[bytes, GroupRule]


class MessageRule(msgspec.Struct, frozen=True):
    """What one message may carry from MsgType to the last field before CheckSum.

    Args:
        allowed: tags behind the header and before the trailer, outside groups.
        required: tags that it must have, header included.
        groups: its groups, by the tag of their count.
        plain: those of ``allowed`` that count no group, each with what tells its good values.
    """

    allowed: frozenset[bytes]
    required: tuple[bytes, ...]
    groups: Mapping[bytes, GroupRule]
    plain: Mapping[bytes, IsValid]


def rule_of(message: Message) -> MessageRule:
    """Return the rule for a message."""
    members = message.members
    return MessageRule(
        frozenset(member.tag for member in members),
        (*_required(HEADER), *_required(members)),
        {**_groups(HEADER), **_groups(members)},
        _plain(members),
    )


def _plain(members: tuple[Member, ...]) -> dict[bytes, IsValid]:
    return {member.tag: FIELDS[member.tag].is_valid for member in members if not member.members}


def _required(members: tuple[Member, ...]) -> Iterator[bytes]:
    return (member.tag for member in members if member.required and member.tag != b"35")


def _groups(members: tuple[Member, ...]) -> dict[bytes, GroupRule]:
    return {
        member.tag: GroupRule(
            {inner.tag: place for place, inner in enumerate(member.members)},
            member.members[0].tag,
            tuple(_required(member.members)),
            _groups(member.members),
        )
        for member in members
        if member.members
    }


HEADER_PLAIN = _plain(HEADER)
HEADER_TAGS = frozenset(member.tag for member in HEADER)
TRAILER_TAGS = frozenset(member.tag for member in TRAILER)

CLIENT_RULES = {
    msg_type: rule_of(message)
    for msg_type, message in MESSAGES.items()
    if message.direction is not Direction.VENUE
}
"""Messages that clients may send; any other of FIX 4.4 is answered with 35=j, 380=3."""


def is_defined(tag: bytes) -> bool:
    """Tell whether FIX 4.4, or the venue, defines a tag.

    Args:
        tag: digits.
    """
    return int(tag) <= LAST_FIX44_TAG or tag in FIELDS
