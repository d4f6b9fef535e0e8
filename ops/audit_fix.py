"""One account's messages in the raw FIX journals, each with its command, refusal or neither. Pure.

The theory stands in ``ops/audit.py``.
"""

from __future__ import annotations

from collections.abc import Iterator

from engine.journal import Record
from gateway.fix_tags import (
    BUSINESS_MESSAGE_REJECT,
    EXECUTION_REPORT,
    LOGON,
    NEW_ORDER_SINGLE,
    ORDER_CANCEL_REJECT,
    ORDER_CANCEL_REPLACE_REQUEST,
    ORDER_CANCEL_REQUEST,
    ORDER_MASS_CANCEL_REPORT,
    ORDER_MASS_CANCEL_REQUEST,
    ORDER_STATUS_REQUEST,
    REJECT,
    SEQUENCE_RESET,
    TAG_CL_ORD_ID,
    TAG_GAP_FILL_FLAG,
    TAG_NEW_SEQ_NO,
    TAG_ORDER_ID,
    TAG_RESET_SEQ_NUM_FLAG,
    TAG_SYMBOL,
)
from ops.audit import CommandIndex, Finding
from ops.audit_terms import MESSAGE_TYPES, Fields, fields_of, text_of

RECENT_MESSAGES_MAX = 10_000
"""Messages of an account whose ClOrdID is remembered, to know what an answer is about; an answer to
an older one proves nothing about those before it."""

WAITING_MESSAGES_MAX = 10_000
"""Messages of an account without a command whose answer may still come; the oldest is judged
then."""

EARLY_REJECTS_MAX = 1_000
"""Rejects of an account that stand in the journal before the message that they are about."""

_REQUESTS = frozenset(MESSAGE_TYPES.values())
_ORDER_REFUSED = (NEW_ORDER_SINGLE,)
_CANCEL_REFUSED = (ORDER_CANCEL_REQUEST, ORDER_CANCEL_REPLACE_REQUEST)
_MASS_CANCEL_ANSWERED = (ORDER_MASS_CANCEL_REQUEST,)
_ANSWERS = (
    *(EXECUTION_REPORT, ORDER_CANCEL_REJECT, ORDER_MASS_CANCEL_REPORT),
    *(BUSINESS_MESSAGE_REJECT, REJECT),
)
_TAG_REF_SEQ_NUM = b"45"
_TAG_EXEC_TYPE = b"150"
_TAG_BUSINESS_REJECT_REASON = b"380"
_NOT_AVAILABLE = b"4"
_ACCEPTED, _REJECTED = b"0", b"8"


class _Waiting:
    """A message that has no command.

    Attributes:
        is_open: its connection may still be the one that it came on.
        is_current: its number has not begun anew since.
        overtaken: something behind it was answered on its connection.
        accepted: an engine's acceptance of it is on record.
        differs: how the command of its number differs from it, and where that command is.
    """

    __slots__ = (
        *("accepted", "cl_ord_id", "differs", "gateway", "is_current", "is_open", "msg_type"),
        *("overtaken", "place", "seq", "symbol", "ts_ns"),
    )

    def __init__(self, gateway: str, record: Record, msg_type: bytes, fields: Fields) -> None:
        self.gateway = gateway
        self.seq = record.seq
        self.ts_ns = record.ts_ns
        self.msg_type = msg_type
        self.cl_ord_id = text_of(fields, TAG_CL_ORD_ID)
        self.symbol = text_of(fields, TAG_SYMBOL)
        self.is_open = self.is_current = True
        self.overtaken = self.accepted = False
        self.differs: str | None = None
        self.place = -1


class AccountAudit:
    """Follows what one account said and was told, in the order of time.

    Args:
        account: the SenderCompID.
        commands: of this account among others; matched ones are marked.

    Attributes:
        messages: of type D, F, G, H or q that were taken.
        matched, refused, resent: what became of them, resent duplicates counted each.
        findings: differences and unanswered ones that are judged already.
    """

    def __init__(self, account: int, commands: CommandIndex) -> None:
        self.account = account
        self._commands = commands
        # The incarnation is from low to high; see the theory.
        self._low = self._high = 0
        self._waiting: list[_Waiting] = []
        self._recent: dict[str, int] = {}
        self._early_rejects: dict[int, None] = {}
        self._highest_matched = 0
        self.messages = self.matched = self.refused = self.resent = 0
        self.findings: list[Finding] = []

    def take(self, gateway: str, record: Record, *, is_inbound: bool) -> None:
        """Take the next record of the account's messages, of whatever gateway."""
        msg_type = msg_type_of(record.payload)
        if is_inbound:
            if record.seq:
                self._take_inbound(gateway, record, msg_type)
        elif msg_type == LOGON:
            self._take_logon_answer(fields_of(record.payload))
        elif msg_type in _ANSWERS:
            self._take_answer(gateway, msg_type, fields_of(record.payload))

    def finish(self) -> Iterator[Finding]:
        """Yield what was found, and judge what still waits."""
        self._judge(len(self._waiting))
        yield from self.findings

    # ------------------------------------------------------------ inbound

    def _take_inbound(self, gateway: str, record: Record, msg_type: bytes) -> None:
        seq = record.seq
        if msg_type == LOGON:
            self._take_logon(gateway, seq, fields_of(record.payload))
            return
        last = seq
        if msg_type == SEQUENCE_RESET:
            fields = fields_of(record.payload)
            new_seq_no = text_of(fields, TAG_NEW_SEQ_NO)
            if new_seq_no.isdigit():
                last = max(seq, int(new_seq_no) - 1)
            if fields.get(TAG_GAP_FILL_FLAG) != b"Y":
                seq = 0
        self._retake(seq, last)
        if msg_type in _REQUESTS:
            self._take_request(gateway, record, msg_type)

    def _take_logon(self, gateway: str, seq: int, fields: Fields) -> None:
        for one in self._waiting:
            if one.gateway == gateway:
                one.is_open = False
        if fields.get(TAG_RESET_SEQ_NUM_FLAG) == b"Y":
            self._high += 1
        else:
            self._high = max(self._high, 1)
            self._retake(seq, seq)

    def _retake(self, first: int, last: int) -> None:
        """Numbers are taken again: what they were before was never dealt with."""
        if self._waiting:
            again = [
                one
                for one in self._waiting
                if one.is_current and not one.overtaken and first <= one.seq <= last
            ]
            self.resent += len(again)
            self._waiting = [one for one in self._waiting if one not in again]

    def _take_request(self, gateway: str, record: Record, msg_type: bytes) -> None:
        self.messages += 1
        fields = fields_of(record.payload)
        one = _Waiting(gateway, record, msg_type, fields)
        # A status request names the ClOrdID of an order, not its own.
        if msg_type != ORDER_STATUS_REQUEST:
            self._recent.setdefault(one.cl_ord_id, one.seq)
            if len(self._recent) > RECENT_MESSAGES_MAX:
                del self._recent[next(iter(self._recent))]
        if self._match(one, fields):
            return
        if one.seq in self._early_rejects:
            del self._early_rejects[one.seq]
            self.refused += 1
            return
        self._waiting.append(one)
        if len(self._waiting) > WAITING_MESSAGES_MAX:
            self._judge(1)

    def _match(self, one: _Waiting, fields: Fields) -> bool:
        """Find the command of a message, and with it the incarnation."""
        for number in range(self._low, self._high + 1):
            place, differs = self._commands.find((self.account, number, one.seq), fields)
            if place < 0:
                continue
            if differs is None:
                if number > self._low:
                    self._begin(number)
                self._low = self._high = number
                self._highest_matched = max(self._highest_matched, one.seq)
                self._commands.mark(place)
                self.matched += 1
                return True
            one.differs, one.place = differs, place
        return False

    def _begin(self, number: int) -> None:
        """Go on in a later incarnation: the numbers of the old one say nothing any more."""
        if not self._low:
            self._low = number
            return
        for one in self._waiting:
            one.is_current = one.is_open = False
        self._recent.clear()
        self._early_rejects.clear()
        self._highest_matched = 0
        self._low = number

    # ------------------------------------------------------------ outbound

    def _take_logon_answer(self, fields: Fields) -> None:
        """The Logon was accepted, and its reset, where it asked for one, has taken place."""
        if fields.get(TAG_RESET_SEQ_NUM_FLAG) == b"Y":
            self._begin(self._low + 1)
        self._low = max(self._low, 1)
        self._high = max(self._high, self._low)

    def _take_answer(self, gateway: str, msg_type: bytes, fields: Fields) -> None:
        if msg_type in (REJECT, BUSINESS_MESSAGE_REJECT):
            number = int(text_of(fields, _TAG_REF_SEQ_NUM) or 0)
            self._refuse_number(number)
            is_direct = (
                msg_type == REJECT or fields.get(_TAG_BUSINESS_REJECT_REASON) == _NOT_AVAILABLE
            )
            if not is_direct:
                self._overtake(gateway, number)
            return
        cl_ord_id = text_of(fields, TAG_CL_ORD_ID)
        exec_type = fields.get(_TAG_EXEC_TYPE, b"")
        if msg_type == ORDER_CANCEL_REJECT:
            self._refuse_cl_ord_id(cl_ord_id, _CANCEL_REFUSED)
        elif msg_type == ORDER_MASS_CANCEL_REPORT:
            # Refused, or done where the account has nothing in any symbol: no command either way.
            self._refuse_cl_ord_id(cl_ord_id, _MASS_CANCEL_ANSWERED)
        elif exec_type == _REJECTED and text_of(fields, TAG_ORDER_ID) == "NONE":
            self._refuse_cl_ord_id(cl_ord_id, _ORDER_REFUSED)
        elif exec_type == _ACCEPTED:
            self._accept(cl_ord_id)
        elif exec_type != _REJECTED:
            # A later fill of an old order says nothing about what was sent meanwhile.
            return
        self._overtake(gateway, self._recent.get(cl_ord_id, 0))

    def _refuse_number(self, number: int) -> None:
        for one in self._waiting:
            if one.is_current and one.seq == number:
                self._waiting.remove(one)
                self.refused += 1
                return
        # The session layer answers at once; the message gets into the journal a moment later.
        self._early_rejects[number] = None
        if len(self._early_rejects) > EARLY_REJECTS_MAX:
            del self._early_rejects[next(iter(self._early_rejects))]

    def _refuse_cl_ord_id(self, cl_ord_id: str, msg_types: tuple[bytes, ...]) -> None:
        for one in self._waiting:
            if one.cl_ord_id == cl_ord_id and one.msg_type in msg_types:
                self._waiting.remove(one)
                self.refused += 1
                return

    def _accept(self, cl_ord_id: str) -> None:
        seq = self._recent.get(cl_ord_id)
        for one in self._waiting:
            if one.is_current and one.seq == seq and one.cl_ord_id == cl_ord_id:
                one.accepted = True

    def _overtake(self, gateway: str, number: int) -> None:
        for one in self._waiting:
            if one.is_open and one.gateway == gateway and one.seq < number:
                one.overtaken = True

    # ------------------------------------------------------------ judgement

    def _judge(self, count: int) -> None:
        """Judge the oldest that wait."""
        judged, self._waiting = self._waiting[:count], self._waiting[count:]
        for one in judged:
            self.findings.append(self._finding(one))

    def _finding(self, one: _Waiting) -> Finding:
        kind, text = "unanswered", "neither a command nor an answer is on record"
        if one.differs is not None and not self._commands.is_marked(one.place):
            self._commands.mark_differing(one.place)
            kind, text = "terms", f"command {self._commands.where(one.place)}: {one.differs}"
        elif one.accepted:
            kind, text = "no command", "an engine accepted it, and no journal has its command"
        elif one.overtaken and one.ts_ns < self._commands.last_ts_ns.get(one.symbol, one.ts_ns + 1):
            kind, text = "no command", "later messages of its connection were answered"
        elif one.is_current and one.seq < self._highest_matched:
            text = f"{text}; a later number, {self._highest_matched}, has a command"
        return Finding(
            kind, self.account, one.seq, one.cl_ord_id, one.symbol, f"{one.gateway}: {text}"
        )


def msg_type_of(raw: bytes) -> bytes:
    """Return MsgType (35) of a framed message: its third field."""
    start = raw.find(b"\x0135=") + 4
    return raw[start : raw.find(b"\x01", start)]
