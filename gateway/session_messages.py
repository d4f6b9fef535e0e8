"""What a FIX session does with each message while it is logged on: sequence, content, answer. Pure.

The connection around it (Logon, Logout, time) is ``gateway/session.py``; where a message ends the
session, ``MessageFlow`` says so with an ``Ending`` and leaves the doing to it.

Decisions, beside the cases of FIX 4.4 volume 2 that tests/fix_scripts show one by one:

- Order of checks: BeginString, MsgSeqNum, CompIDs, SendingTime, sequence, then the content. So a
  faulty message behind a gap is judged when its turn comes, once.
- A rejected message has consumed its number, a garbled or ignored one has not.
- While a resend is fetched, live messages go on with new numbers; the resend ends at the last
  number sent when it was asked for. A peer that meets a number too high meanwhile queues it.
- A ResendRequest is served even when its own number is too high: two peers that both miss
  something would wait for each other otherwise (case 20).
- A Logout ends the session whatever its number is.
"""

from __future__ import annotations

import msgspec

from engine.enums import BusinessRejectReason
from gateway.fix_message import Fault, FixMessage, without_secrets
from gateway.fix_tags import (
    BUSINESS_MESSAGE_REJECT,
    CLIENT_REQUESTS,
    HEARTBEAT,
    LOGON,
    LOGOUT,
    REJECT,
    RESEND_REQUEST,
    SEQUENCE_RESET,
    SESSION_REJECT_TEXTS,
    TAG_DELIVER_TO_COMP_ID,
    TAG_GAP_FILL_FLAG,
    TAG_MSG_SEQ_NUM,
    TAG_NEW_SEQ_NO,
    TAG_POSS_DUP_FLAG,
    TAG_POSS_RESEND,
    TAG_SENDER_COMP_ID,
    TAG_TARGET_COMP_ID,
    TAG_TEST_REQ_ID,
    TEST_REQUEST,
    SessionRejectReason,
)
from gateway.session_events import (
    AdminMessage,
    AppMessage,
    Event,
    IgnoredMessage,
    RejectedMessage,
    SessionRules,
)
from gateway.session_header import HeaderChecks, is_seq_num
from gateway.session_inbound import InboundSide
from gateway.session_logon import BEGIN
from gateway.session_outbound import OutboundSide
from gateway.session_resends import Resends

_NOTED = frozenset({HEARTBEAT, REJECT, BUSINESS_MESSAGE_REJECT, LOGON})
"""Need no answer: that they came is all. A Logon gets here only as a duplicate (43=Y)."""
_UNSUPPORTED = (BusinessRejectReason.UNSUPPORTED_MESSAGE_TYPE, "Unsupported message type")
_NOT_DELIVERED = (
    BusinessRejectReason.DELIVER_TO_FIRM_NOT_AVAILABLE,
    "DeliverToCompID (128): messages are not passed on to other firms",
)


class Ending(msgspec.Struct, frozen=True, gc=False):
    """The session must end.

    Args:
        reason: for the ``Closed`` event.
        text: Text (58) of our Logout, or None for a Logout without.
        waits: whether the peer's Logout is waited for before the connection closes.
    """

    reason: str
    text: str | None
    waits: bool


class MessageFlow:
    """Take the messages of a session that is logged on, one after the other.

    Args:
        rules: the session's limits.
        outbound: where answers go.
        inbound: the expected number and the queue.
        resends: where ResendRequests go.
        events: where events are appended.
    """

    __slots__ = (
        "_comp_id",
        "_events",
        "_inbound",
        "_outbound",
        "_resends",
        "header",
        "peer",
    )
    header: HeaderChecks
    """Judges headers."""
    peer: bytes
    """SenderCompID (49) of the peer, from its Logon on."""

    def __init__(
        self,
        rules: SessionRules,
        outbound: OutboundSide,
        inbound: InboundSide,
        resends: Resends,
        events: list[Event],
    ) -> None:
        self._comp_id = rules.comp_id
        self.header = HeaderChecks(rules)
        self._outbound = outbound
        self._inbound = inbound
        self._resends = resends
        self._events = events
        self.peer = b""

    # ------------------------------------------------------------ header and sequence

    def receive(self, message: FixMessage, *, now_ns: int) -> Ending | None:
        """Deal with a message and what it sets free; return how the session ends, if it does."""
        fields = message.fields
        number = fields.get(TAG_MSG_SEQ_NUM, b"")
        if (
            fields.get(TAG_SENDER_COMP_ID) != self.peer
            or fields.get(TAG_TARGET_COMP_ID) != self._comp_id
            or not message.raw.startswith(BEGIN)
            or not self.header.is_on_time(message, now_ns)
            or not is_seq_num(number)
        ):
            return self._receive_odd_header(message, now_ns)
        return self._receive_numbered(message, int(number), now_ns)

    def _receive_odd_header(self, message: FixMessage, now_ns: int) -> Ending | None:
        """Find what is wrong with the header; a missing or malformed field is a fault of content.

        Source: FIX 4.4 volume 2, cases 2c, 2i, 2k, 2o.
        """
        if not message.raw.startswith(BEGIN):
            return self._ignore_and_end(message, "Incorrect BeginString", waits=True)
        number = message.fields.get(TAG_MSG_SEQ_NUM, b"")
        if not is_seq_num(number):
            return self._ignore_and_end(message, "MsgSeqNum missing or malformed", waits=False)
        msg_seq_num = int(number)
        fault = self.header.find_fault(message, self.peer, now_ns=now_ns)
        if fault is None:
            return self._receive_numbered(message, msg_seq_num, now_ns)
        if fault.reason is SessionRejectReason.INCORRECT_DATA_FORMAT:
            judged = msgspec.structs.replace(message, fault=message.fault or fault)
            return self._receive_numbered(judged, msg_seq_num, now_ns)
        if msg_seq_num == self._inbound.expected:
            self._inbound.advance(msg_seq_num + 1, now_ns=now_ns)
        return self._reject(message, msg_seq_num, fault, now_ns)

    def _receive_numbered(
        self, message: FixMessage, msg_seq_num: int, now_ns: int
    ) -> Ending | None:
        inbound = self._inbound
        if message.msg_type == LOGOUT:
            self.take_logout(message, now_ns)
            return Ending("the peer logged out", None, waits=False)
        if _is_reset(message) and (message.fault is None or msg_seq_num != inbound.expected):
            return self._on_reset(message, msg_seq_num, now_ns)
        if msg_seq_num > inbound.expected:
            return self._on_too_high(message, msg_seq_num, now_ns)
        if msg_seq_num < inbound.expected:
            return self._on_too_low(message, msg_seq_num, now_ns)
        inbound.advance(msg_seq_num + 1, now_ns=now_ns)
        ending = self._process(message, msg_seq_num, now_ns)
        if ending is None and inbound.has_expected:
            ending = self._drain_queue(now_ns)
        return ending

    def _drain_queue(self, now_ns: int) -> Ending | None:
        ending = None
        while ending is None and self._inbound.has_expected:
            msg_seq_num = self._inbound.expected
            message = self._inbound.take_expected()
            self._inbound.advance(msg_seq_num + 1, now_ns=now_ns)
            if message is not None:
                ending = self._process(message, msg_seq_num, now_ns)
        return ending

    def _on_too_high(self, message: FixMessage, msg_seq_num: int, now_ns: int) -> Ending | None:
        """Queue, and ask for what is missing, once (cases 2b, 20)."""
        ending = None
        served = message.msg_type == RESEND_REQUEST
        if served:
            ending = self._process(message, msg_seq_num, now_ns)
        queued, asks = self._inbound.take_too_high(
            msg_seq_num, None if served else message, now_ns=now_ns
        )
        if asks:
            self._outbound.send_resend_request(self._inbound.expected, now_ns=now_ns)
        if not queued and not served:
            self._ignore(message, "MsgSeqNum too high, and the queue is full or has it")
        return ending

    def _on_too_low(self, message: FixMessage, msg_seq_num: int, now_ns: int) -> Ending | None:
        """Ignore a duplicate; anything else ends the session (cases 2c, 2e to 2g, 10)."""
        if message.fields.get(TAG_POSS_DUP_FLAG) != b"Y":
            expected = self._inbound.expected
            return self._ignore_and_end(
                message,
                f"MsgSeqNum too low, expecting {expected} but received {msg_seq_num}",
                waits=False,
            )
        _, fault = self.header.read_orig_sending_time(message)
        if fault is not None:
            return self._reject(message, msg_seq_num, fault, now_ns)
        self._ignore(message, "duplicate of a message dealt with")
        return None

    # ------------------------------------------------------------ content

    def _process(self, message: FixMessage, msg_seq_num: int, now_ns: int) -> Ending | None:
        """Deal with a message whose turn it is; its number is consumed already."""
        fields = message.fields
        msg_type = message.msg_type
        fault = message.fault
        poss_dup = fields.get(TAG_POSS_DUP_FLAG) == b"Y"
        orig_ns = None
        # A gap fill without 122 is let pass: it carries nothing that could be done twice, and a
        # gap that cannot be filled would end the session.
        if poss_dup and msg_type != SEQUENCE_RESET:
            orig_ns, dup_fault = self.header.read_orig_sending_time(message)
            fault = fault or dup_fault
        if fault is not None:
            return self._reject(message, msg_seq_num, fault, now_ns)
        if msg_type in CLIENT_REQUESTS and TAG_DELIVER_TO_COMP_ID in fields:
            self._refuse(message, msg_seq_num, _NOT_DELIVERED, now_ns)
        elif msg_type in CLIENT_REQUESTS:
            resend = fields.get(TAG_POSS_RESEND) == b"Y"
            self._events.append(
                AppMessage(message.raw, message, msg_seq_num, poss_dup, resend, orig_ns)
            )
        elif msg_type == TEST_REQUEST:
            self._outbound.send_heartbeat(fields[TAG_TEST_REQ_ID], now_ns=now_ns)
            self._note(message, msg_seq_num)
        elif msg_type == RESEND_REQUEST:
            return self._on_resend_request(message, msg_seq_num, now_ns)
        elif msg_type == SEQUENCE_RESET:
            return self._on_gap_fill(message, msg_seq_num, now_ns)
        elif msg_type in _NOTED:
            self._note(message, msg_seq_num)
        else:
            self._refuse(message, msg_seq_num, _UNSUPPORTED, now_ns)
        return None

    def _refuse(
        self,
        message: FixMessage,
        msg_seq_num: int,
        problem: tuple[BusinessRejectReason, str],
        now_ns: int,
    ) -> None:
        reason, text = problem
        self._outbound.send_business_reject(message, msg_seq_num, reason, text, now_ns=now_ns)
        self._events.append(RejectedMessage(message.raw, message.msg_type, msg_seq_num, None, None))

    def take_logout(self, message: FixMessage, now_ns: int) -> None:
        """Note the peer's Logout; its number counts where it is the next one."""
        number = message.fields.get(TAG_MSG_SEQ_NUM, b"")
        msg_seq_num = int(number) if is_seq_num(number) else 0
        if msg_seq_num == self._inbound.expected:
            self._inbound.advance(msg_seq_num + 1, now_ns=now_ns)
        self._note(message, msg_seq_num)

    def _on_reset(self, message: FixMessage, msg_seq_num: int, now_ns: int) -> Ending | None:
        """SequenceReset without GapFill: its own number does not matter (cases 11a to 11c).

        A faulty one that has the expected number is rejected, and consumes it, like any message.
        """
        if message.fault is not None:
            return self._reject(message, msg_seq_num, message.fault, now_ns)
        new_seq_no = int(message.fields[TAG_NEW_SEQ_NO])
        if new_seq_no < self._inbound.expected:
            fault = Fault(SessionRejectReason.VALUE_INCORRECT, TAG_NEW_SEQ_NO)
            return self._reject(message, msg_seq_num, fault, now_ns)
        self._note(message, msg_seq_num)
        return self._skip_to(new_seq_no, now_ns)

    def _on_gap_fill(self, message: FixMessage, msg_seq_num: int, now_ns: int) -> Ending | None:
        new_seq_no = int(message.fields[TAG_NEW_SEQ_NO])
        if new_seq_no <= msg_seq_num:
            fault = Fault(SessionRejectReason.VALUE_INCORRECT, TAG_NEW_SEQ_NO)
            return self._reject(message, msg_seq_num, fault, now_ns)
        self._note(message, msg_seq_num)
        return self._skip_to(new_seq_no, now_ns)

    def _skip_to(self, new_seq_no: int, now_ns: int) -> Ending | None:
        for void in self._inbound.advance(new_seq_no, now_ns=now_ns):
            self._ignore(void, "skipped by a SequenceReset")
        return self._drain_queue(now_ns)

    # ------------------------------------------------------------ resends

    def serve_after_logout(self, message: FixMessage, now_ns: int) -> bool:
        """Serve a faultless ResendRequest, all that is taken after our Logout; tell whether it was.

        So that the peer can fill its gap before it answers the Logout; the number stays open.
        Source: FIX 4.4 volume 2, "Logout".
        """
        fields = message.fields
        number = fields.get(TAG_MSG_SEQ_NUM, b"")
        if (
            message.msg_type != RESEND_REQUEST
            or message.fault is not None
            or not message.raw.startswith(BEGIN)
            or self.header.find_fault(message, self.peer, now_ns=now_ns) is not None
            or self._resends.wrong_range(message) is not None
            or not is_seq_num(number)
        ):
            return False
        self._resends.serve(message, int(number))
        return True

    def _on_resend_request(
        self, message: FixMessage, msg_seq_num: int, now_ns: int
    ) -> Ending | None:
        tag = self._resends.wrong_range(message)
        if tag is not None:
            fault = Fault(SessionRejectReason.VALUE_INCORRECT, tag)
            return self._reject(message, msg_seq_num, fault, now_ns)
        self._resends.serve(message, msg_seq_num)
        return None

    # ------------------------------------------------------------ how a message ends

    def _note(self, message: FixMessage, msg_seq_num: int) -> None:
        raw = message.raw
        if message.msg_type == LOGON or message.fault is not None:
            # A duplicate of a Logon, or a Logout with what does not belong into it.
            raw = without_secrets(raw)
        self._events.append(AdminMessage(raw, message.msg_type, msg_seq_num))

    def _ignore(self, message: FixMessage, cause: str) -> None:
        self._events.append(IgnoredMessage(message.raw, cause))

    def _ignore_and_end(self, message: FixMessage, text: str, *, waits: bool) -> Ending:
        self._ignore(message, text)
        return Ending(text, text, waits)

    def _reject(
        self, message: FixMessage, msg_seq_num: int, fault: Fault, now_ns: int
    ) -> Ending | None:
        """Send a Reject; a wrong CompID or SendingTime ends the session too (2g, 2k, 2o)."""
        self._outbound.send_reject(message, msg_seq_num, fault, now_ns=now_ns)
        self._events.append(
            RejectedMessage(message.raw, message.msg_type, msg_seq_num, fault.reason, fault.ref_tag)
        )
        if fault.reason in (
            SessionRejectReason.COMP_ID_PROBLEM,
            SessionRejectReason.SENDING_TIME_ACCURACY,
        ):
            text = SESSION_REJECT_TEXTS[fault.reason]
            return Ending(text, text, waits=True)
        return None


def _is_reset(message: FixMessage) -> bool:
    is_gap_fill = message.fields.get(TAG_GAP_FILL_FLAG) == b"Y"
    return message.msg_type == SEQUENCE_RESET and not is_gap_fill
