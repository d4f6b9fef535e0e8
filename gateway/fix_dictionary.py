"""The part of the FIX 4.4 dictionary for messages that clients may send us. Pure.

Per message type: which tags it may carry, which it must, and which values each tag may have. It
follows the FIX 4.4 specification (volumes 2 to 4 and 6), with these decisions of the venue:

- Symbol (55) is required in D, F, G and H; FIX only requires the Instrument block.
- What is required only under a condition (Price of a limit order) is a business matter and not
  checked here.
- ClOrdID and OrigClOrdID are printable ASCII of at most ``CL_ORD_ID_LENGTH_MAX`` characters.
- The one user-defined tag is 7928, the order's self-trade prevention, in D and G.
- A tag up to 956, the last of FIX 4.4, that a message may not carry is "not defined for this
  message" (373=2); every other is an "invalid tag number" (373=0).
"""

from __future__ import annotations

import re
from collections.abc import Callable

import msgspec

from engine.limits import CL_ORD_ID_LENGTH_MAX
from gateway.fix_tags import (
    BUSINESS_MESSAGE_REJECT,
    HEARTBEAT,
    LOGON,
    LOGOUT,
    MARKET_DATA_REQUEST,
    NEW_ORDER_SINGLE,
    ORDER_CANCEL_REPLACE_REQUEST,
    ORDER_CANCEL_REQUEST,
    ORDER_MASS_CANCEL_REQUEST,
    ORDER_MASS_STATUS_REQUEST,
    ORDER_STATUS_REQUEST,
    REJECT,
    RESEND_REQUEST,
    SECURITY_LIST_REQUEST,
    SECURITY_STATUS_REQUEST,
    SEQUENCE_RESET,
    TEST_REQUEST,
    TRADING_SESSION_STATUS_REQUEST,
)

LAST_FIX44_TAG = 956

FIX44_MSG_TYPES = frozenset(
    b"0 1 2 3 4 5 6 7 8 9 A B C D E F G H J K L M N P Q R S T V W X Y Z a b c d e f g h i j k l m n"
    b" o p q r s t u v w x y z AA AB AC AD AE AF AG AH AI AJ AK AL AM AN AO AP AQ AR AS AT AU AV AW"
    b" AX AY AZ BA BB BC BD BE BF BG BH".split()
)
"""Every MsgType of FIX 4.4: one that is not here is invalid, not just unsupported."""


class MessageRule(msgspec.Struct, frozen=True):
    """What one message type may carry behind its header: tags outside groups, and required ones."""

    allowed: frozenset[bytes]
    required: tuple[bytes, ...]


class FieldRule(msgspec.Struct, frozen=True):
    """What a value may be.

    Args:
        valid: the regular expression of good values; it has no capturing group.
        has_format: whether a value has the tag's format, though it may be out of range.
    """

    valid: bytes
    has_format: Callable[[bytes], object]


# ---------------------------------------------------------------- values

_STRING = rb"[^\x01]+"
_PRINTABLE = rb"[ -~]+"
_CHAR = rb"[^\x01]"
_BOOLEAN = rb"[YN]"
_INT = rb"-?[0-9]{1,18}"
_NUMBER = rb"[0-9]{1,9}"
_DECIMAL = rb"-?(?:[0-9]{1,20}(?:\.[0-9]{0,20})?|\.[0-9]{1,20})"
_DATE = rb"[0-9]{4}(?:0[1-9]|1[0-2])(?:0[1-9]|[12][0-9]|3[01])"
_TIMESTAMP = (
    _DATE
    + rb"-(?:[01][0-9]|2[0-3]):[0-5][0-9]:(?:[0-5][0-9]|60)(?:\.(?:[0-9]{3}|[0-9]{6}|[0-9]{9}))?"
)

_TAGS_BY_FORMAT = {
    _PRINTABLE: "1 37 55 112 262 320 324 335 553 584 790",
    _CHAR: "206 317 525",
    _BOOLEAN: "43 97 114 266 121 123 141 377 464",
    _INT: "226 244 315 371 373 380 462 538 661 663 698 805",
    _NUMBER: "7 16 34 36 45 369 383 453 454 539 78 232 386 384 627 630 711 802 804 457 864 887 789"
    " 146 267 812 264 90 93 95 108 212 348 350 354 362 364",
    _DECIMAL: "12 38 44 80 99 110 111 140 152 192 202 210 211 218 223 227 228 231 236 245 246 316"
    " 389 435 436 469 516 640 662 697 810 849 867 879 882 883 884 885 886 898",
    _DATE: "64 75 193 224 225 229 240 241 242 247 432 541 542 696 701 866 873 874 915 916 917",
    _TIMESTAMP: "52 60 122 126 168 586 629",
}

_LIST = rb"[^\x01 ](?: [^\x01 ])*"
_ID_VALUES = rb"[ -~]{1,%d}" % CL_ORD_ID_LENGTH_MAX
_ENUMERATIONS = {
    # format: tag → values as a regular expression
    _PRINTABLE: {b"11": _ID_VALUES, b"41": _ID_VALUES},
    _LIST: {b"18": rb"[0-9A-Za-e](?: [0-9A-Za-e])*", b"529": rb"[1-9A](?: [1-9A])*"},
    _CHAR: {
        b"263": rb"[0-2]",
        b"269": rb"[0-9A-C]",
        b"530": rb"[1-7]",
        b"13": rb"[1-6]",
        b"21": rb"[1-3]",
        b"40": rb"[1-46-9DEGI-MP]",
        b"54": rb"[1-9A-G]",
        b"59": rb"[0-7]",
        b"63": rb"[0-9]",
        b"77": rb"[CFOR]",
        b"81": rb"[0-6]",
        b"385": rb"[RS]",
        b"388": rb"[0-6]",
        b"447": rb"[1-9A-I]",
        b"468": rb"[0-2]",
        b"480": rb"[MNOY]",
        b"481": rb"[1-3NY]",
        b"497": rb"[NY]",
        b"528": rb"[AGIPRW]",
        b"544": rb"[1-3]",
        b"589": rb"[0-2]",
        b"590": rb"[0-2]",
        b"591": rb"[01]",
    },
    _NUMBER: {b"98": rb"[0-6]", b"7928": rb"[0-3]"},
    _INT: {
        b"201": rb"[01]",
        b"203": rb"[01]",
        b"423": rb"[1-9]|1[01]",
        b"427": rb"[0-2]",
        b"452": rb"[1-9]|1[0-9]|2[0-24-9]|3[0-8]",
        b"460": rb"[1-9]|1[0-3]",
        b"581": rb"[1-46-8]",
        b"582": rb"[1-4]",
        b"660": rb"[1-5]|99",
        b"775": rb"[0-2]",
        b"788": rb"[1-4]",
        b"803": rb"[1-9]|1[0-9]|2[0-6]",
        b"835": rb"[01]",
        b"836": rb"[0-3]",
        b"837": rb"[0-2]",
        b"838": rb"[12]",
        b"840": rb"[1-4]",
        b"841": rb"[01]",
        b"842": rb"[0-3]",
        b"843": rb"[0-2]",
        b"844": rb"[12]",
        b"846": rb"[1-4]",
        b"847": rb"[1-3]|[0-9]{4,9}",
        b"854": rb"[01]",
        b"865": rb"[1-4]|99",
        b"875": rb"[12]|99",
        b"919": rb"[0-3]",
        b"265": rb"[01]",
        b"338": rb"[1-3]",
        b"339": rb"[1-3]",
        b"559": rb"[0-4]",
        b"585": rb"[1-8]",
        b"815": rb"[0-3]",
    },
    _STRING: {
        b"22": rb"[1-9A-J]",
        b"167": rb"EUSUPRA|FAC|FADN|PEF|SUPRA|CORP|CPP|CB|DUAL|EUCORP|XLINKD|STRUCT|YANK|FOR|CS|PS"
        rb"|BRADY|EUSOV|TBOND|TINT|TIPS|TCAL|TPRN|UST|USTB|TNOTE|TBILL|REPO|FORWARD|BUYSELL|SECLOAN"
        rb"|SECPLEDGE|TERM|RVLV|RVLVTRM|BRIDGE|LOFC|SWING|DINP|DEFLTED|WITHDRN|REPLACD|MATURED"
        rb"|AMENDED|RETIRED|BA|BN|BOX|CD|CL|CP|DN|EUCD|EUCP|LQN|MTN|ONITE|PN|PZFJ|STN|TD|XCN|YCD"
        rb"|ABS|CMBS|CMO|IET|MBS|MIO|MPO|MPP|MPT|PFAND|TBA|AN|COFO|COFP|GO|MT|RAN|REV|SPCLA|SPCLO"
        rb"|SPCLT|TAN|TAXA|TECP|TRAN|VRDN|WAR|MF|MLEG|NONE|FUT|OPT",
        b"235": rb"AFTERTAX|ANNUAL|ATISSUE|AVGMATURITY|BOOK|CALL|CHANGE|CLOSE|COMPOUND|CURRENT"
        rb"|GROSS|GOVTEQUIV|INFLATION|INVERSEFLOATER|LASTCLOSE|LASTMONTH|LASTQUARTER|LASTYEAR"
        rb"|LONGAVGLIFE|MARK|MATURITY|NEXTREFUND|OPENAVG|PUT|PREVCLOSE|PROCEEDS|SEMIANNUAL"
        rb"|SHORTAVGLIFE|SIMPLE|TAXEQUIV|TENDER|TRUE|VALUE1/32|WORST",
        b"347": rb"ISO-2022-JP|EUC-JP|Shift_JIS|UTF-8",
        b"635": rb"[1-59BCEFHILM]",
    },
}
"""Not here: reasons in a Reject (373, 380), which nobody answers, and StipulationType (233), whose
values may be agreed on."""


def _field_rules() -> dict[bytes, FieldRule]:
    rules = {}
    for pattern, tags in _TAGS_BY_FORMAT.items():
        has_format = re.compile(pattern).fullmatch
        for tag in tags.encode().split():
            rules[tag] = FieldRule(pattern, has_format)
    for pattern, values_by_tag in _ENUMERATIONS.items():
        has_format = re.compile(pattern).fullmatch
        for tag, values in values_by_tag.items():
            rules[tag] = FieldRule(b"(?:%b)" % values, has_format)
    return rules


FIELD_RULES = _field_rules()
"""Rules of the tags that are more than text; ``TEXT_RULE`` holds for all others."""

TEXT_RULE = FieldRule(_STRING, re.compile(_STRING).fullmatch)

# ---------------------------------------------------------------- groups

_INSTRUMENT = (
    "55 65 48 22 454 460 461 167 762 200 541 224 225 239 226 227 228 255 543 470 471 472 240 202"
    " 947 201 206 231 223 207 106 348 349 107 350 351 691 667 875 876 864 873 874"
    " 913 914 915 918 788 916 917 919 898 711"
)

GROUPS = {
    count_tag: tuple(members.split())
    for count_tag, members in {
        b"146": _INSTRUMENT.encode(),
        b"267": b"269",
        b"78": b"79 661 736 467 539 80",
        b"232": b"233 234",
        b"384": b"372 385",
        b"386": b"336 625",
        b"453": b"448 447 452 802",
        b"454": b"455 456",
        b"457": b"458 459",
        b"539": b"524 525 538 804",
        b"627": b"628 629 630",
        b"711": b"311 312 309 305 457 462 463 310 763 313 542 241 242 243 244 245 246 256 595 592"
        b" 593 594 247 315 316 941 317 436 435 308 306 362 363 307 364 365 877 878 318 879 810 882"
        b" 883 884 885 886 887",
        b"802": b"523 803",
        b"804": b"545 805",
        b"864": b"865 866 867 868",
        b"887": b"888 889",
    }.items()
}
"""Repeating groups: the count's tag, then the members, the first of which starts an entry."""

# ---------------------------------------------------------------- messages

HEADER_TAGS = frozenset(
    b"35 49 56 115 128 90 91 34 50 142 57 143 116 144 129 145 43 97 52 122 212 213 347 369"
    b" 627".split()
)
"""The header from MsgType on; the framer has dealt with BeginString and BodyLength."""
HEADER_REQUIRED = (b"49", b"56", b"34", b"52")
TRAILER_TAGS = frozenset({b"93", b"89"})
"""The trailer up to CheckSum, with which the framer has dealt."""

_TEXT = "58 354 355"
_ORDER_QTY = "38 152 516 468 469"
_ACCOUNT = "1 660 453"
_ORDER = (
    f"{_INSTRUMENT} {_ORDER_QTY} {_ACCOUNT} {_TEXT}"
    " 11 526 583 229 75 581 589 590 591 70 78 63 64 544 635 21 18 110 111 100 386 54 114 60 854 40"
    " 423 44 99 218 220 221 222 662 663 699 761 235 236 701 696 697 698 15 376 377 59 168 432 126"
    " 427 12 13 479 497 528 529 582 121 120 775 193 192 640 77 203 210 211 835 836 837 838 840 388"
    " 389 841 842 843 844 846 847 848 849 480 481 513 494 7928"
)


def _rule(required: str, optional: str = "") -> MessageRule:
    names = required.encode().split()
    return MessageRule(frozenset(names + optional.encode().split()), tuple(names))


MESSAGES = {
    HEARTBEAT: _rule("", "112"),
    TEST_REQUEST: _rule("112"),
    RESEND_REQUEST: _rule("7 16"),
    REJECT: _rule("45", f"371 372 373 {_TEXT}"),
    SEQUENCE_RESET: _rule("36", "123"),
    LOGOUT: _rule("", _TEXT),
    LOGON: _rule("98 108", "95 96 141 789 383 384 464 553 554"),
    BUSINESS_MESSAGE_REJECT: _rule("372 380", f"45 379 {_TEXT}"),
    NEW_ORDER_SINGLE: _rule("11 55 54 60 40", f"{_ORDER} 81 140 232 23 117"),
    ORDER_CANCEL_REQUEST: _rule(
        "41 11 55 54 60",
        f"{_INSTRUMENT} {_ORDER_QTY} {_ACCOUNT} {_TEXT} 37 526 583 66 586 581 376",
    ),
    ORDER_CANCEL_REPLACE_REQUEST: _rule("41 11 55 54 60 40", f"{_ORDER} 37 66 586"),
    ORDER_STATUS_REQUEST: _rule("11 55 54", f"{_INSTRUMENT} {_ACCOUNT} 37 526 583 790"),
    ORDER_MASS_CANCEL_REQUEST: _rule("11 530 60", f"{_INSTRUMENT} {_TEXT} 526 336 625 54"),
    ORDER_MASS_STATUS_REQUEST: _rule("584 585", f"{_INSTRUMENT} {_ACCOUNT} 336 625 54"),
    MARKET_DATA_REQUEST: _rule("262 263 264 267 146", "265 266 286 546 547 386 815 812"),
    SECURITY_LIST_REQUEST: _rule("320 559", f"{_INSTRUMENT} {_TEXT} 15 336 625 263"),
    SECURITY_STATUS_REQUEST: _rule("324 55 263", f"{_INSTRUMENT} 15 336 625"),
    TRADING_SESSION_STATUS_REQUEST: _rule("335 263", "336 625 338 339"),
}
"""Message types that this gateway takes; any other of FIX 4.4 is answered with 35=j, 380=3."""
