"""The dictionary of what we speak, as XML in the form that QuickFIX and others load. Pure.

Made of ``gateway/fix_fields.py`` and ``gateway/fix_messages.py``: fields of FIX 4.4 and the two of
ours (7928, 8013), which only clients send. ``python -m ops.fix_documents`` writes it to
docs/FIX44-shardex.xml.
"""

from __future__ import annotations

from collections.abc import Iterator

from gateway.fix_fields import FIELDS
from gateway.fix_messages import HEADER, MESSAGES, TRAILER, Member, Message

_HEAD = """\
<?xml version="1.0" encoding="UTF-8"?>
<!-- Every message that shardex takes and sends. Made by python -m ops.fix_documents: edit
     gateway/fix_fields.py and gateway/fix_messages.py instead. What the fields mean: fix.md. -->
<fix type="FIX" major="4" minor="4" servicepack="0">"""
_FRAME = (
    ("8", "BeginString", "STRING"),
    ("9", "BodyLength", "LENGTH"),
    ("10", "CheckSum", "STRING"),
)
"""What the framer deals with, so that no message names it."""


def dictionary_xml() -> str:
    """Return the whole document."""
    lines = [_HEAD, " <header>"]
    lines += [_field_line(name, required=True, depth=2) for _, name, _ in _FRAME[:2]]
    lines += [*_members(HEADER, 2), " </header>", " <messages>"]
    for message in sorted(MESSAGES.values(), key=lambda one: (not one.is_admin, one.msg_type)):
        lines += _message(message)
    lines += [" </messages>", " <trailer>", *_members(TRAILER, 2)]
    lines += [_field_line(_FRAME[2][1], required=True, depth=2), " </trailer>"]
    lines += [" <components/>", " <fields>", *_fields(), " </fields>", "</fix>", ""]
    return "\n".join(lines)


def _message(message: Message) -> Iterator[str]:
    category = "admin" if message.is_admin else "app"
    yield (
        f'  <message name="{message.name}" msgtype="{message.msg_type.decode()}"'
        f' msgcat="{category}">'
    )
    yield from _members(message.members, 3)
    yield "  </message>"


def _members(members: tuple[Member, ...], depth: int) -> Iterator[str]:
    for member in members:
        name = FIELDS[member.tag].name
        if not member.members:
            yield _field_line(name, required=member.required, depth=depth)
            continue
        yield f'{" " * depth}<group name="{name}" required="{_yes_no(member.required)}">'
        yield from _members(member.members, depth + 1)
        yield f"{' ' * depth}</group>"


def _field_line(name: str, *, required: bool, depth: int) -> str:
    return f'{" " * depth}<field name="{name}" required="{_yes_no(required)}"/>'


def _yes_no(required: bool) -> str:
    return "Y" if required else "N"


def _fields() -> Iterator[str]:
    rows: list[tuple[int, str, str, tuple[tuple[str, str], ...]]] = [
        (int(field.tag), field.name, field.type, field.values) for field in FIELDS.values()
    ]
    rows += [(int(tag), name, fix_type, ()) for tag, name, fix_type in _FRAME]
    for tag, name, fix_type, values in sorted(rows):
        head = f'  <field number="{tag}" name="{name}" type="{fix_type}"'
        if not values:
            yield f"{head}/>"
            continue
        yield f"{head}>"
        for value, meaning in values:
            yield f'   <value enum="{value}" description="{meaning or f"VALUE_{value}"}"/>'
        yield "  </field>"
