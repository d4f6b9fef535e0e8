"""Every message that clients may send and every one that we send, field by field, as data. Pure.

A message is written as the tags behind its header, in the order of FIX 4.4 (volumes 2 to 4):

    55      a field that may stand there; for clients: checked and, else, ignored
    55+     one that means something here, or that we send
    55*     one that must stand there (and means something)
    @Name   the fields of a component, which stand between those of the message
    78(…)   a repeating group: the tag that counts its entries, then the fields of an entry in their
            order; the first one begins each entry

Clients may send every field that FIX 4.4 has in the messages that they send; of our own messages
only what we send is here. Decisions of the venue beside FIX 4.4: Symbol (55) is required in D, F,
G, H and e; tags 7928 (self-trade prevention, in D and G) and 8013 (cancel on disconnect, in A) are
user-defined. What is required only under a condition (Price of a limit order) is no matter of the
session and not said here.
"""

from __future__ import annotations

import re
from enum import Enum

import msgspec


class Direction(Enum):
    """Who sends a message."""

    CLIENT = "client"
    VENUE = "venue"
    BOTH = "both"


class Member(msgspec.Struct, frozen=True):
    """A field in its place.

    Args:
        tag: of the field; of a group, that of its count.
        required: whether the message, or the entry of the group, must have it.
        used: whether it means something here, or is sent.
        members: of a group: the fields of an entry.
    """

    tag: bytes
    required: bool
    used: bool
    members: tuple[Member, ...]


class Message(msgspec.Struct, frozen=True):
    """A message: the fields between header and trailer, in order."""

    msg_type: bytes
    name: str
    direction: Direction
    members: tuple[Member, ...]

    @property
    def is_admin(self) -> bool:
        """Whether it belongs to the session."""
        return self.msg_type in (b"0", b"1", b"2", b"3", b"4", b"5", b"A")


_COMPONENTS = {
    "Parties": "453(448 447 452 802(523 803))",
    "NestedParties": "539(524 525 538 804(545 805))",
    "Instrument": (
        "55+ 65 48 22 454(455 456) 460 461 167 762 200 541 201 224 225 239 226 227 228 255 543 470"
        " 471 472 240 202 947 206 231 223 207 106 348 349 107 350 351 691 667 875 876"
        " 864(865 866 867 868) 873 874"
    ),
    "Underlying": (
        "311 312 309 305 457(458 459) 462 463 310 763 313 542 315 241 242 243 244 245 246 256 595"
        " 592 593 594 247 316 941 317 436 435 308 306 362 363 307 364 365 877 878 318 879 810 882"
        " 883 884 885 886 887(888 889)"
    ),
    "Leg": (
        "600 601 602 603 604(605 606) 607 608 609 764 610 611 248 249 250 251 252 253 257 599 596"
        " 597 598 254 612 942 613 614 615 616 617 618 619 620 621 622 623 624 556 740 739 955 956"
    ),
    "Extension": "668 869 870(871 872)",
    "Financing": "913 914 915 918 788 916 917 919 898",
    "Underlyings": "711(@Underlying)",
    "Legs": "555(@Leg)",
    "Stipulations": "232(233 234)",
    "OrderQty": "38+ 152+ 516 468 469",
    "Session": "386(336 625)",
    "Text": "58 354 355",
    "Spread": "218 220 221 222 662 663 699 761",
    "Yield": "235 236 701 696 697 698",
    "Commission": "12 13 479 497",
    "Peg": "211 835 836 837 838 840",
    "Discretion": "388 389 841 842 843 844 846",
    "Allocations": "70 78(79 661 736 467 @NestedParties 80)",
}

_HEADER = (
    "35* 49* 56* 115 128 90 91 34* 50 142 57 143 116 144 129 145 43+ 97+ 52* 122+ 212 213 347 369"
    " 627(628 629 630)"
)
_TRAILER = "93 89"

_MESSAGES = (
    ("0", "Heartbeat", "both", "112+"),
    ("1", "TestRequest", "both", "112*"),
    ("2", "ResendRequest", "both", "7* 16*"),
    ("3", "Reject", "both", "45* 371+ 372+ 373+ 58+ 354 355"),
    ("4", "SequenceReset", "both", "123+ 36*"),
    ("5", "Logout", "both", "58+ 354 355"),
    ("A", "Logon", "both", "98* 108* 95+ 96+ 141+ 789+ 383 384(372 385) 464+ 553+ 554+ 8013+"),
    ("j", "BusinessMessageReject", "both", "45+ 372* 379+ 380* 58+ 354 355"),
    (
        "D",
        "NewOrderSingle",
        "client",
        "11* 526 583 @Parties 229 75 1+ 660 581 589 590 591 @Allocations 63 64 544 635 21 18+ 110+"
        " 111+ 100 @Session 81 55* @Instrument @Financing @Underlyings 140 54* 114 60*"
        " @Stipulations 854 @OrderQty 40* 423 44+ 99+ @Spread @Yield 15+ 376 377 23 117 59+ 168"
        " 432+ 126+ 427 @Commission 528 529 582 121 120 775 @Text 193 192 640 77 203 210 @Peg"
        " @Discretion 847 848 849 480 481 513 494 7928+",
    ),
    (
        "F",
        "OrderCancelRequest",
        "client",
        "41* 37+ 11* 526 583 66 586 1+ 660 581 @Parties 55* @Instrument @Financing @Underlyings"
        " 54* 60* 38 152 @OrderQty 376 @Text",
    ),
    (
        "G",
        "OrderCancelReplaceRequest",
        "client",
        "37+ @Parties 229 75 41* 11* 526 583 66 586 1+ 660 581 589 590 591 @Allocations 63 64 544"
        " 635 21 18+ 110+ 111+ 100 @Session 55* @Instrument @Financing @Underlyings 54* 60* 854"
        " @OrderQty 40* 423 44+ 99+ @Spread @Yield @Peg @Discretion 847 848 849 376 377 15+ 59+ 168"
        " 432+ 126+ 427 @Commission 528 529 582 121 120 775 @Text 193 192 640 77 203 210 114 480"
        " 481 513 494 7928+",
    ),
    (
        "H",
        "OrderStatusRequest",
        "client",
        "37+ 11* 526 583 @Parties 790+ 1+ 660 55* @Instrument @Financing @Underlyings 54*",
    ),
    (
        "q",
        "OrderMassCancelRequest",
        "client",
        "11* 526 530* 336 625 @Instrument @Underlying 54+ 60* @Text",
    ),
    (
        "AF",
        "OrderMassStatusRequest",
        "client",
        "584* 585* @Parties 1+ 660 336 625 @Instrument @Underlying 54+",
    ),
    (
        "V",
        "MarketDataRequest",
        "client",
        "262* 263* 264* 265+ 266+ 286 546 547 267*(269*) 146*(55* @Instrument @Underlyings @Legs)"
        " @Session 815 812",
    ),
    (
        "x",
        "SecurityListRequest",
        "client",
        "320* 559* @Instrument @Extension @Financing @Underlyings @Legs 15 @Text 336 625 263+",
    ),
    (
        "e",
        "SecurityStatusRequest",
        "client",
        "324* 55* @Instrument @Extension @Underlyings @Legs 15 263* 336 625",
    ),
    ("g", "TradingSessionStatusRequest", "client", "335* 336+ 625 338 339 263*"),
    (
        "8",
        "ExecutionReport",
        "venue",
        "37* 527+ 11+ 41+ 790+ 584+ 911+ 912+ 17* 150* 39* 636+ 103+ 378+ 1+ 55* 54* 38+ 152+ 40+"
        " 44+ 99+ 59+ 126+ 18+ 32+ 31+ 151* 14* 6* 60+ 110+ 111+ 58+ 851+"
        " 136+(137+ 138+ 139+)",
    ),
    ("9", "OrderCancelReject", "venue", "37* 11* 41* 39* 1+ 60+ 434* 102+ 58+"),
    (
        "r",
        "OrderMassCancelReport",
        "venue",
        "11+ 37* 530* 531* 532+ 533+ 55+ 54+ 60+ 58+",
    ),
    (
        "W",
        "MarketDataSnapshotFullRefresh",
        "venue",
        "262+ 55* 268*(269* 270+ 271+ 272+ 273+ 277+ 37+ 299+ 346+ 58+)",
    ),
    (
        "X",
        "MarketDataIncrementalRefresh",
        "venue",
        "262+ 268*(279* 269+ 278+ 55+ 270+ 271+ 272+ 273+ 277+ 346+ 58+)",
    ),
    ("Y", "MarketDataRequestReject", "venue", "262* 281+ 58+"),
    ("f", "SecurityStatus", "venue", "324+ 55* 336+ 625+ 325+ 326+ 60+ 58+"),
    ("h", "TradingSessionStatus", "venue", "335+ 336* 625+ 325+ 340* 567+ 58+"),
    (
        "y",
        "SecurityList",
        "venue",
        "320* 322* 560* 393+ 893+ 146+(55+ 870+(871+ 872+) 15+ 561+ 562+ 336+ 625+)",
    ),
)

_TOKEN = re.compile(
    r"@(?P<component>\w+)"
    r"|(?P<tag>\d+)(?P<mark>[*+]?)(?P<opens>\()?|(?P<closes>\))"
)


def _members(text: str) -> tuple[Member, ...]:
    open_groups: list[list[Member]] = [[]]
    counts: list[Member] = []
    for token in _TOKEN.finditer(_inlined(text)):
        if token["closes"]:
            count, members = counts.pop(), open_groups.pop()
            whole = msgspec.structs.replace(count, members=_once(members))
            open_groups[-1].append(whole)
            continue
        mark = token["mark"]
        member = Member(token["tag"].encode(), mark == "*", mark != "", ())
        if token["opens"]:
            counts.append(member)
            open_groups.append([])
        else:
            open_groups[-1].append(member)
    return _once(open_groups[0])


def _inlined(text: str) -> str:
    while "@" in text:
        text = re.sub(r"@(\w+)", lambda found: _COMPONENTS[found[1]], text)
    return text


def _once(members: list[Member]) -> tuple[Member, ...]:
    """Keep the first of what a message says before its component says it again (Symbol)."""
    by_tag: dict[bytes, Member] = {}
    for member in members:
        by_tag.setdefault(member.tag, member)
    return tuple(by_tag.values())


HEADER = _members(_HEADER)
"""From MsgType on; the framer has dealt with BeginString and BodyLength."""
TRAILER = _members(_TRAILER)
"""Up to CheckSum, with which the framer has dealt."""

MESSAGES = {
    msg_type.encode(): Message(msg_type.encode(), name, Direction(direction), _members(text))
    for msg_type, name, direction, text in _MESSAGES
}
"""By MsgType (35)."""
