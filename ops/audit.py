"""The gateways' raw FIX journals against the engines' commands, both ways. Pure.

Theory. A command names its message: account, number of the session's incarnation, MsgSeqNum. The
raw journal has MsgSeqNums, and Logons: each one with ResetSeqNumFlag may have begun an incarnation.
Whether it did, the Logon that answered it says, if its record survived the gateway; so a message
may belong to one of several incarnations, and the commands decide which.

A message of type D, F, G or H that was taken (a number in the record; 0 = ignored, a duplicate) has

- a command: *matched*; a duplicate that another gateway took has it too;
- or a refusal on record: Reject or BusinessMessageReject by RefSeqNum, ExecutionReport without an
  OrderID or OrderCancelReject by ClOrdID: *refused*;
- or its number was taken again later, by its resend, a gap fill or another message: *resent*;
- or none of these, and nothing behind it in its connection was answered either, because the gateway
  died or is still at it: *unanswered*; listed, no difference. A gateway that is killed may take the
  record of its last answers with it, so a later command alone proves nothing.
- Otherwise it is lost: a difference. Something sent after it was answered on the same connection,
  and answers go in the order of the messages. It is one as well when an engine accepted it.

Every command has its message, and only one command has that message.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from engine.commands import DefineSymbol, MassCancel, decode_command
from engine.enums import MassCancelRequestType
from engine.journal import Record
from ops.audit_terms import FixCommand, Grids, difference_of

_CommandKey = tuple[int, int, int]
"""Account, number of the incarnation, MsgSeqNum."""

_MATCHED, _DIFFERS = 1, 2


class Finding(msgspec.Struct, frozen=True):
    """A message or a command that is not as it must be, or of which nothing is known.

    Attributes:
        kind: ``no message``, ``no command``, ``terms``, ``twice`` or ``unanswered``.
        account, msg_seq_num, cl_ord_id, symbol: of the message.
        text: what was expected and found.
    """

    kind: str
    account: int
    msg_seq_num: int
    cl_ord_id: str
    symbol: str
    text: str

    def __str__(self) -> str:
        """Return it as one line."""
        return (
            f"{self.kind}: account {self.account} MsgSeqNum {self.msg_seq_num}"
            f" ClOrdID {self.cl_ord_id} {self.symbol}: {self.text}"
        )


class CommandIndex:
    """The commands of some accounts that came by FIX, to be found by what names their message.

    Attributes:
        differences: two commands of one message.
        last_ts_ns: symbol → stamp of its last command.
    """

    def __init__(self) -> None:
        self._places: dict[_CommandKey, int] = {}
        self._records: list[tuple[str, int, int, bytes]] = []
        self._matched = bytearray()
        self._grids: dict[str, dict[int, Grids]] = {}
        self.differences: list[Finding] = []
        self.last_ts_ns: dict[str, int] = {}

    def __len__(self) -> int:
        """Return how many commands there are."""
        return len(self._records)

    @property
    def matched(self) -> int:
        """Return how many of them have their message."""
        return self._matched.count(_MATCHED)

    def add(self, record: Record, *, part: int, parts: int) -> None:
        """Take a command's record.

        Args:
            part, parts: only accounts whose number, divided by ``parts``, leaves ``part``.

        Raises:
            DecodeError: it is no command.
        """
        symbol = record.key
        self.last_ts_ns[symbol] = record.ts_ns
        command = decode_command(record.payload)
        if isinstance(command, DefineSymbol):
            self._grids.setdefault(symbol, {})[command.rules.version] = Grids(command.rules)
            return
        if isinstance(command, FixCommand) and command.account % parts == part:
            self._add(record, command)

    def _add(self, record: Record, command: FixCommand) -> None:
        key = (command.account, command.session, command.msg_seq_num)
        place = len(self._records)
        if (first := self._places.setdefault(key, place)) != place:
            before = self._records[first]
            if _is_for_all(command) and before[3] == record.payload:
                return
            self.differences.append(
                _finding(
                    "twice",
                    record.key,
                    command,
                    f"it is command {before[0]} {before[1]} and command {record.key} {record.seq}",
                )
            )
            return
        self._records.append((record.key, record.seq, record.ts_ns, record.payload))
        self._matched.append(0)

    def find(self, key: _CommandKey, fields: Mapping[bytes, bytes]) -> tuple[int, str | None]:
        """Return the place of the command of a message, -1 for none, and how the two differ."""
        place = self._places.get(key)
        if place is None:
            return -1, None
        command = self._command(place)
        symbol = self._records[place][0]
        return place, difference_of(command, symbol, self._grids.get(symbol, {}), fields)

    def mark(self, place: int) -> None:
        """Note that a command has its message."""
        self._matched[place] = _MATCHED

    def mark_differing(self, place: int) -> None:
        """Note that what names a command's message names one that says something else."""
        self._matched[place] = _DIFFERS

    def is_marked(self, place: int) -> bool:
        """Tell whether a command has its message, or one that differs."""
        return bool(self._matched[place])

    def where(self, place: int) -> str:
        """Return symbol and seq of a command."""
        symbol, seq, _, _ = self._records[place]
        return f"{symbol} {seq}"

    def unmatched(self, *, until_ns: int) -> Iterator[Finding]:
        """Yield the commands without a message, but for those stamped later than ``until_ns``."""
        for place, (symbol, seq, ts_ns, _) in enumerate(self._records):
            if not self._matched[place] and ts_ns <= until_ns:
                command = self._command(place)
                text = f"command {symbol} {seq} of session {command.session} has no FIX message"
                yield _finding("no message", symbol, command, text)

    def later(self, *, after_ns: int) -> int:
        """Return how many commands have no message because both came after a moment."""
        return sum(
            not self._matched[place] and ts_ns > after_ns
            for place, (_, _, ts_ns, _) in enumerate(self._records)
        )

    def _command(self, place: int) -> FixCommand:
        command = decode_command(self._records[place][3])
        assert isinstance(command, FixCommand), "Invariant: only such commands are kept"
        return command


def _is_for_all(command: FixCommand) -> bool:
    """Whether one message has a command in the stream of every symbol; the first stands for it."""
    return isinstance(command, MassCancel) and command.request_type is MassCancelRequestType.ALL


def _finding(kind: str, symbol: str, command: FixCommand, text: str) -> Finding:
    return Finding(kind, command.account, command.msg_seq_num, command.cl_ord_id, symbol, text)
