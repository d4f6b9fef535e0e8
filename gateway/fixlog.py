"""Read a gateway's raw journal as lines for people: what ``shardex fixlog`` prints.

Every framed inbound message and every outbound one is a record: key = the session's SenderCompID
(empty before a Logon said it), seq = MsgSeqNum, flags = direction, payload = the message, passwords
blanked. May run beside the gateway.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from engine.journal import Record
from engine.journal_reader import JournalReader
from gateway.fix_time import NS_PER_SECOND

JOURNAL_KIND = "fix"
INBOUND = 0
OUTBOUND = 1

_MSG_TYPE = re.compile(rb"\x0135=([^\x01]*)\x01").search
_UNPRINTABLE = re.compile(r"[^ -~]")
_NAMES = {
    "0": "Heartbeat",
    "1": "TestRequest",
    "2": "ResendRequest",
    "3": "Reject",
    "4": "SequenceReset",
    "5": "Logout",
    "8": "ExecutionReport",
    "9": "OrderCancelReject",
    "A": "Logon",
    "D": "NewOrderSingle",
    "F": "OrderCancelRequest",
    "G": "OrderCancelReplaceRequest",
    "H": "OrderStatusRequest",
    "j": "BusinessMessageReject",
}


class FixLogFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which messages to show; None shows all.

    Args:
        session: SenderCompID of the client.
        msg_types: values of MsgType (35).
        from_ns, until_ns: time of the record, since 1970; from is included, until is not.
    """

    session: int | None = None
    msg_types: frozenset[str] | None = None
    from_ns: int | None = None
    until_ns: int | None = None

    def matches(self, line: FixLogLine) -> bool:
        """Tell whether a message is to be shown."""
        return (
            (self.session is None or line.session == str(self.session))
            and (self.msg_types is None or line.msg_type in self.msg_types)
            and (self.from_ns is None or line.ts_ns >= self.from_ns)
            and (self.until_ns is None or line.ts_ns < self.until_ns)
        )


class FixLogLine(msgspec.Struct, frozen=True):
    """One message of the journal.

    Args:
        ts_ns: when it was received or written, since 1970.
        session: SenderCompID of the client; empty before its Logon.
        direction: ``<`` from the client, ``>`` to it.
        msg_type: MsgType (35).
        name: of the message type; empty for one that this gateway does not know.
        text: the message with ``|`` for the field delimiter.
    """

    ts_ns: int
    session: str
    direction: str
    msg_type: str
    name: str
    text: str

    def format(self) -> str:
        """Return the line as it is printed: UTC time, session, direction, name, message."""
        second, rest_ns = divmod(self.ts_ns, NS_PER_SECOND)
        moment = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%d %H:%M:%S")
        name = self.name or self.msg_type
        return (
            f"{moment}.{rest_ns // 1_000:06d} {self.session or '-':>8} {self.direction}"
            f" {name:<25} {self.text}"
        )


def read_fixlog(directory: Path, show: FixLogFilter) -> Iterator[FixLogLine]:
    """Yield the messages of a gateway's journal that match, oldest first.

    Args:
        directory: the gateway's journal.
        show: which messages.

    Raises:
        JournalCorrupt: a segment is damaged, or missing between others; all before it was yielded.
        JournalMismatch: a segment has another format version.
    """
    for record in JournalReader(directory).remaining():
        line = line_of(record)
        if show.matches(line):
            yield line


def line_of(record: Record) -> FixLogLine:
    """Return a record of the raw journal as a line."""
    match = _MSG_TYPE(record.payload)
    msg_type = match[1].decode("latin-1") if match else ""
    text = record.payload.decode("latin-1").replace("\x01", "|")
    return FixLogLine(
        ts_ns=record.ts_ns,
        session=record.key,
        direction="<" if record.flags == INBOUND else ">",
        msg_type=msg_type,
        name=_NAMES.get(msg_type, ""),
        text=_UNPRINTABLE.sub("?", text),
    )
