"""The fields of messages as tables for docs/fix.md. Pure.

In the document, what stands between ``<!-- fields of: D F -->`` and ``<!-- end of fields -->`` is
replaced by the tables of these message types, and what stands between ``<!-- ignored fields -->``
and ``<!-- end of ignored fields -->`` by the table of what clients may send to no effect.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from engine.limits import CL_ORD_ID_LENGTH_MAX
from gateway.fix_fields import FIELDS, FORMATS, Field
from gateway.fix_messages import MESSAGES, Direction, Member, Message
from gateway.fix_tags import NEW_ORDER_SINGLE, ORDER_CANCEL_REPLACE_REQUEST
from gateway.order_conditions import ONLY_VALUES, UNSUPPORTED_TAGS

_BLOCK = re.compile(r"(<!-- fields of: ([^>]*) -->\n).*?(<!-- end of fields -->)", re.DOTALL)
_IGNORED = re.compile(r"(<!-- ignored fields -->\n).*?(<!-- end of ignored fields -->)", re.DOTALL)
_ORDERS = (NEW_ORDER_SINGLE, ORDER_CANCEL_REPLACE_REQUEST)
SENDERS = {
    Direction.CLIENT: "from clients",
    Direction.VENUE: "from the venue",
    Direction.BOTH: "both ways",
}
_FORMATS = {
    "STRING": "text",
    "CHAR": "one character",
    "BOOLEAN": "Y or N",
    "INT": "integer",
    "SEQNUM": "MsgSeqNum",
    "LENGTH": "bytes of the next field",
    "DATA": "any bytes",
    "NUMINGROUP": "count of entries",
    "QTY": "decimal",
    "PRICE": "decimal",
    "AMT": "decimal",
    "UTCTIMESTAMP": "YYYYMMDD-HH:MM:SS[.fraction], UTC",
    "UTCDATEONLY": "YYYYMMDD",
    "LOCALMKTDATE": "YYYYMMDD",
    "UTCTIMEONLY": "HH:MM:SS[.fraction], UTC",
    "CURRENCY": "asset",
    "EXCHANGE": "text",
    "MULTIPLEVALUESTRING": "values, separated by spaces",
}


def with_tables(document: str) -> str:
    """Return the document with its tables made anew."""
    document = _BLOCK.sub(
        lambda found: found[1] + "\n" + _tables(found[2].split()) + "\n" + found[3], document
    )
    ignored = "\n".join(_table_of_ignored())
    return _IGNORED.sub(lambda found: f"{found[1]}\n{ignored}\n\n{found[2]}", document)


def types_with_tables(document: str) -> list[str]:
    """Return the message types whose tables the document has, in order."""
    return [msg_type for found in _BLOCK.finditer(document) for msg_type in found[2].split()]


def _tables(msg_types: list[str]) -> str:
    return "\n".join(line for one in msg_types for line in _table(MESSAGES[one.encode()]))


def _table(message: Message) -> Iterator[str]:
    sender = SENDERS[message.direction]
    yield f"**{message.name}** (35={message.msg_type.decode()}), {sender}"
    yield ""
    used = [member for member in message.members if member.used]
    if used:
        yield "| tag | name | required | values |"
        yield "|---|---|---|---|"
        yield from _rows(tuple(used), "")
        yield ""
    if message.msg_type in _ORDERS:
        yield f"Refused where they are: {' '.join(tag.decode() for tag in UNSUPPORTED_TAGS)}"
        yield ""
        values = [f"{tag.decode()} other than {only}" for tag, (_, only) in ONLY_VALUES.items()]
        yield f"Refused: {', '.join(values)}, 15 other than the symbol's quote asset"
        yield ""


def _table_of_ignored() -> Iterator[str]:
    yield "| message | fields |"
    yield "|---|---|"
    for message in MESSAGES.values():
        refused = {*UNSUPPORTED_TAGS, *ONLY_VALUES} if message.msg_type in _ORDERS else set()
        unused = [member.tag for member in message.members if not member.used]
        ignored = [tag.decode() for tag in unused if tag not in refused]
        if ignored:
            yield f"| {message.name} ({message.msg_type.decode()}) | {' '.join(ignored)} |"


def _rows(members: tuple[Member, ...], indent: str) -> Iterator[str]:
    for member in members:
        if not member.used:
            continue
        field = FIELDS[member.tag]
        required = "yes" if member.required else ""
        yield f"| {indent}{field.tag.decode()} | {field.name} | {required} | {_values(field)} |"
        yield from _rows(member.members, f"{indent}– ")


def _values(field: Field) -> str:
    named = [
        f"{value} {meaning.lower().replace('_', ' ')}" for value, meaning in field.values if meaning
    ]
    if named:
        return ", ".join(named)
    if field.values:
        return " ".join(value for value, _ in field.values)
    if field.type == "STRING" and field.valid != FORMATS["STRING"]:
        longest = (
            "" if field.valid == FORMATS["ID"] else f", 1 to {CL_ORD_ID_LENGTH_MAX} characters"
        )
        return f"printable ASCII{longest}"
    return _FORMATS[field.type]
