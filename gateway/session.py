"""The acceptor's side of a FIX 4.4 session: bytes and time in, values out. Pure.

Contract: after *each* call drain both ``events_received()`` (what the peer did) and
``data_to_send()`` (to be written in the order given, storing first what says so). Then look at
``close_expected()`` and arm one timer for ``next_timer_ns()``. Nothing is awaited inside; a call
runs to completion. What is done with each message while logged on: ``session_messages.py``.
"""

from __future__ import annotations

from gateway.errors import LocalFixError, RemoteFixError
from gateway.fix_framer import FixFramer
from gateway.fix_message import Body, FixMessage, without_secrets
from gateway.fix_tags import LOGON, LOGOUT, TAG_POSS_DUP_FLAG, TAG_SENDER_COMP_ID
from gateway.fix_time import NS_PER_SECOND
from gateway.session_events import (
    Closed,
    Event,
    IgnoredMessage,
    LogonRequested,
    NeedOutLimit,
    Outbound,
    SessionRules,
)
from gateway.session_inbound import InboundSide
from gateway.session_logon import (
    answer_logon,
    check_opening,
    judge_first,
    judge_in_session,
    opening_fault,
)
from gateway.session_messages import Ending, MessageFlow
from gateway.session_outbound import OutboundSide
from gateway.session_resends import Resends
from gateway.session_state import CONNECTION, Connection, ConnectionTrigger, Gap, step
from gateway.session_timers import ActiveTimers, Due
from gateway.validate import MessageReader

_READING = frozenset({Connection.AWAITING_LOGON, Connection.ACTIVE, Connection.LOGOUT_SENT})


class FixSession:
    """One connection's FIX session, acceptor side.

    Args:
        rules: names and limits.
        now_ns: the time, in ns since 1970, which every other method takes too. Only timers depend
            on its going forward.
    """

    __slots__ = (
        *("_deadline_ns", "_ended_by", "_events", "_flow", "_framer", "_inbound", "_logon"),
        *("_outbound", "_reader", "_resends", "_rules", "_stopped_early", "_timers", "state"),
    )

    def __init__(self, rules: SessionRules, *, now_ns: int) -> None:
        self._rules = rules
        self.state = Connection.AWAITING_LOGON
        self._deadline_ns = now_ns + rules.logon_timeout_s * NS_PER_SECOND
        self._events: list[Event] = []
        self._framer = FixFramer(
            max_message_bytes=rules.max_message_bytes, max_garbled_bytes=rules.max_garbled_bytes
        )
        self._reader = MessageReader()
        self._outbound = OutboundSide(rules.comp_id, now_ns=now_ns)
        self._inbound = InboundSide(max_queued_bytes=rules.max_queued_bytes)
        self._resends = Resends(self._outbound, self._events)
        self._flow = MessageFlow(rules, self._outbound, self._inbound, self._resends, self._events)
        self._timers = ActiveTimers(resend_timeout_s=rules.resend_timeout_s)
        self._logon: LogonRequested | None = None
        self._stopped_early = False
        self._ended_by = ""

    # ------------------------------------------------------------ what the shell looks at

    def events_received(self) -> list[Event]:
        """Return what has happened since the last call, in order."""
        if self.can_send and self._outbound.takes_need(self._rules.out_low_water):
            self._events.append(NeedOutLimit(max(0, self._outbound.remaining)))
        events = self._events[:]
        self._events.clear()
        return events

    def data_to_send(self) -> list[Outbound]:
        """Return the messages to write, in the order in which they must be written."""
        return self._outbound.drain()

    def close_expected(self) -> bool:
        """Whether the connection must be closed once all data is written."""
        return self.state is Connection.CLOSED

    @property
    def can_send(self) -> bool:
        """Whether ``send_application`` is possible, but for the lease."""
        return self.state is Connection.ACTIVE

    @property
    def can_resend(self) -> bool:
        """Whether ``resend`` is of use: also after our Logout."""
        return self.state in (Connection.ACTIVE, Connection.LOGOUT_SENT)

    @property
    def awaits_decision(self) -> bool:
        """Whether a Logon waits for ``accept_logon`` or ``refuse_logon``."""
        return self.state is Connection.LOGON_PENDING

    @property
    def has_unprocessed(self) -> bool:
        """Whether ``receive_data(b"")`` may find more messages in what has been received."""
        return self._stopped_early and self.state in _READING

    @property
    def out_remaining(self) -> int:
        """Numbers that ``send_application`` can still take from the lease."""
        return self._outbound.remaining

    @property
    def next_out(self) -> int:
        """The number that the next message will have."""
        return self._outbound.next_num

    @property
    def next_in(self) -> int:
        """The number that is expected next from the peer."""
        return self._inbound.expected

    def next_timer_ns(self) -> int | None:
        """Return when ``handle_timer`` must be called, or None."""
        if self.state is Connection.CLOSED:
            return None
        if self.state is not Connection.ACTIVE:
            return self._deadline_ns
        return self._timers.next_ns(sent_ns=self._outbound.last_sent_ns, gap_ns=self._gap_ns())

    def _gap_ns(self) -> int | None:
        return self._inbound.moved_ns if self._inbound.gap is Gap.AWAITING_RESEND else None

    # ------------------------------------------------------------ bytes in

    def receive_data(self, data: bytes, *, now_ns: int, max_messages: int | None = None) -> None:
        """Take bytes and deal with the whole messages in them.

        Args:
            data: what the socket gave; ``b""`` to go on with what is buffered.
            max_messages: stop after so many messages; ``has_unprocessed`` says that some are left.
        """
        if self.state is Connection.CLOSED:
            return
        if data:
            self._framer.receive_data(data)
        try:
            self._read_messages(-1 if max_messages is None else max_messages, now_ns)
        except RemoteFixError as error:
            self._end(Ending(error.text, error.text, waits=False), now_ns)

    def _read_messages(self, left: int, now_ns: int) -> None:
        while left != 0 and self.state in _READING and not self._outbound.is_held_up:
            raw = self._framer.next_message()
            if raw is None:
                self._stopped_early = False
                return
            left -= 1
            self._timers.received(now_ns)
            self._on_message(self._reader.read(raw), now_ns)
        held_bytes = self._framer.buffered_bytes
        self._stopped_early = held_bytes > 0
        if self.awaits_decision and held_bytes > self._rules.max_held_bytes:
            self._close("too many bytes before the Logon was answered")

    def _on_message(self, message: FixMessage, now_ns: int) -> None:
        if self.state is Connection.ACTIVE:
            if message.msg_type == LOGON and message.fields.get(TAG_POSS_DUP_FLAG) != b"Y":
                self._on_logon_in_session(message, now_ns)
                return
            ending = self._flow.receive(message, now_ns=now_ns)
            if ending is not None:
                self._end(ending, now_ns)
        elif self.state is Connection.AWAITING_LOGON:
            self._on_first_message(message, now_ns)
        elif message.msg_type == LOGOUT:
            self._flow.take_logout(message, now_ns)
            self._close("logged out")
        elif not self._flow.serve_after_logout(message, now_ns):
            self._ignore(message, "not taken after our Logout")

    def _on_first_message(self, message: FixMessage, now_ns: int) -> None:
        on_time = self._flow.header.is_on_time(message, now_ns)
        verdict = judge_first(message, self._rules, on_time=on_time)
        if isinstance(verdict, LogonRequested):
            self._request_logon(verdict)
            return
        self._ignore(message, verdict.reason)
        if verdict.text is not None:
            peer = message.fields[TAG_SENDER_COMP_ID]
            self._outbound.send_refusal(peer, verdict.text, msg_seq_num=1, now_ns=now_ns)
        self._close(verdict.reason)

    def _on_logon_in_session(self, message: FixMessage, now_ns: int) -> None:
        on_time = self._flow.header.is_on_time(message, now_ns)
        verdict = judge_in_session(message, self._rules, peer=self._flow.peer, on_time=on_time)
        if isinstance(verdict, LogonRequested):
            self._deadline_ns = now_ns + self._rules.logon_timeout_s * NS_PER_SECOND
            self._request_logon(verdict)
        else:
            self._ignore(message, verdict.reason)
            self._end(Ending(verdict.reason, verdict.text, waits=False), now_ns)

    def _request_logon(self, logon: LogonRequested) -> None:
        self._step(ConnectionTrigger.LOGON_RECEIVED)
        self._logon = logon
        self._events.append(logon)

    # ------------------------------------------------------------ the decision about a Logon

    def accept_logon(self, *, next_in: int, next_out: int, out_limit: int, now_ns: int) -> None:
        """Answer the Logon and open the session, or end it where its number is too low.

        Look at ``awaits_decision`` first: the peer may be gone. Afterwards go on with
        ``receive_data(b"")``: messages sent behind the Logon may be held.

        Args:
            next_in: MsgSeqNum expected of the Logon; 1 where it asks for a reset.
            next_out: MsgSeqNum of our answer; 1 where it asks for a reset.
            out_limit: the last number of the lease.

        Raises:
            LocalFixError: no Logon is pending, or the numbers contradict it.
        """
        logon = self._pending_logon()
        check_opening(logon, next_in=next_in, next_out=next_out, out_limit=out_limit)
        self._logon = None
        self._drop_queue("the sequence was reset")
        self._step(ConnectionTrigger.LOGON_ACCEPTED)
        self._flow.peer = peer = b"%d" % logon.sender_comp_id
        self._resends.forget()
        self._outbound.open(peer, next_num=next_out, limit=out_limit)
        self._inbound.open(next_in)
        self._timers.start(logon.heart_bt_int_s, now_ns=now_ns)
        if (text := opening_fault(logon, next_in, next_out)) is not None:
            self._end(Ending(text, text, waits=False), now_ns)
            return
        answer_logon(logon, self._outbound, self._inbound, now_ns=now_ns)
        wanted = logon.next_expected_seq_num
        if wanted is not None and wanted < next_out:
            self._resends.request(wanted, next_out - 1)

    def refuse_logon(self, text: str | None, *, msg_seq_num: int, now_ns: int) -> None:
        """Refuse the pending Logon and close.

        Args:
            text: Text (58) of the Logout; None to close without a word (unknown CompID, or a
                session that is logged on elsewhere).
            msg_seq_num: of that Logout, where the session is not logged on: peers that keep their
                numbers count it. 1 where the session's own is not to be had.

        Raises:
            LocalFixError: no Logon is pending.
        """
        logon = self._pending_logon()
        if text is not None and logon.in_session:
            self._outbound.send_logout(text, now_ns=now_ns)
        elif text is not None:
            peer = b"%d" % logon.sender_comp_id
            self._outbound.send_refusal(peer, text, msg_seq_num=msg_seq_num, now_ns=now_ns)
        self._close(f"Logon of {logon.sender_comp_id} refused: {text or 'without a word'}")

    def _pending_logon(self) -> LogonRequested:
        if self._logon is None:
            raise LocalFixError("no Logon is pending")
        return self._logon

    # ------------------------------------------------------------ messages out

    def send_application(
        self, msg_type: bytes, body: Body, *, now_ns: int, stored: bool = True
    ) -> Outbound:
        """Number an application message and queue it for ``data_to_send``.

        Args:
            msg_type: MsgType (35).
            body: the fields behind the header, each ended by SOH.
            now_ns: SendingTime.
            stored: False for what is not worth storing (35=j with 380=4): gap-filled on a resend.

        Returns:
            The message, which ``data_to_send`` will give too.

        Raises:
            LocalFixError: not ``can_send``, or no ``out_remaining``; no number was taken.
        """
        if self.state is not Connection.ACTIVE:
            raise LocalFixError(f"no application message can be sent while {self.state}")
        return self._outbound.send(msg_type, body, now_ns=now_ns, stored=stored)

    def extend_out_limit(self, out_limit: int, *, now_ns: int) -> None:
        """Take a longer lease, send the session messages that were held; then go on reading."""
        self._outbound.extend(out_limit, now_ns=now_ns)

    def resend(self, stored: list[tuple[int, bytes]], begin: int, end: int, *, now_ns: int) -> None:
        """Send fetched messages again, with gap fills for every number between them.

        A long range may be given in parts, from the front. What no longer fits the open request is
        ignored; a fetch from before a sequence reset must be dropped by the caller.

        Args:
            stored: (MsgSeqNum, message as first sent), ascending.
            begin: the first number of this part.
            end: its last number.
        """
        if self.can_resend:
            self._resends.send(stored, begin, end, now_ns=now_ns)

    def logout(self, text: str | None, *, now_ns: int) -> None:
        """End the session from our side: Logout, the peer's Logout or a time-out, close."""
        if self.state is Connection.ACTIVE:
            self._end(Ending(text or "logged out by the venue", text, waits=True), now_ns)
        elif self.state is Connection.LOGON_PENDING:
            # Before the first Logon is decided no number is known to say it with.
            self.refuse_logon(text if self._flow.peer else None, msg_seq_num=1, now_ns=now_ns)
        elif self.state is Connection.AWAITING_LOGON:
            self._close(text or "closed by the venue")

    # ------------------------------------------------------------ time and the end

    def pause_reading(self, now_ns: int) -> None:
        """The socket is not read from now on: the peer's silence does not count."""
        self._timers.pause(now_ns)

    def probe(self, *, now_ns: int) -> None:
        """Ask the peer for a sign of life; ``heard_since`` tells whether there was one."""
        if self.state is Connection.ACTIVE:
            self._outbound.send_test_request(now_ns=now_ns)

    def heard_since(self, since_ns: int) -> bool:
        """Tell whether a message came after that time, or might have: the socket is not read."""
        return self._timers.heard_since(since_ns)

    def resume_reading(self, now_ns: int) -> None:
        """The socket is read again; the silence timer goes on where it stood."""
        self._inbound.moved_ns += self._timers.resume(now_ns)

    def handle_timer(self, *, now_ns: int) -> None:
        """Do what is due; harmless when nothing is."""
        if self.state is Connection.ACTIVE:
            self._handle_active_timer(now_ns)
        elif self.state is not Connection.CLOSED and now_ns >= self._deadline_ns:
            logout = self.state is Connection.LOGOUT_SENT
            self._close("Logout timed out" if logout else "Logon timed out")

    def _handle_active_timer(self, now_ns: int) -> None:
        while self.state is Connection.ACTIVE:
            sent_ns, gap_ns = self._outbound.last_sent_ns, self._gap_ns()
            due = self._timers.take_due(now_ns=now_ns, sent_ns=sent_ns, gap_ns=gap_ns)
            if due is Due.TEST_REQUEST:
                self._outbound.send_test_request(now_ns=now_ns)
            elif due is Due.CLOSE:
                self._close("no answer to a TestRequest")
            elif due is Due.GIVE_UP_GAP:
                text = f"No answer to the ResendRequest from {self._inbound.expected}"
                self._end(Ending(text, text, waits=False), now_ns)
            elif due is Due.HEARTBEAT:
                self._outbound.send_heartbeat(None, now_ns=now_ns)
            else:
                return

    def receive_eof(self, *, now_ns: int) -> None:
        """The peer has closed, or the connection is lost."""
        self._close("connection closed by the peer")

    def _end(self, ending: Ending, now_ns: int) -> None:
        """Send a Logout where one can be sent; then wait for the peer's, or close."""
        if self.state is Connection.ACTIVE:
            if self._outbound.remaining > 0 or ending.waits:
                self._outbound.send_logout(ending.text, now_ns=now_ns)
            if ending.waits:
                self._step(ConnectionTrigger.LOGOUT_SENT)
                self._ended_by = f"{ending.reason}; then "
                self._deadline_ns = now_ns + self._rules.logout_timeout_s * NS_PER_SECOND
                return
        self._close(ending.reason)

    def _close(self, reason: str) -> None:
        if self.state is Connection.CLOSED:
            return
        self._drop_queue("the session closed")
        self._logon = None
        self._step(ConnectionTrigger.CLOSED)
        self._events.append(Closed(self._ended_by + reason))

    def _drop_queue(self, cause: str) -> None:
        for message in self._inbound.drop_queue():
            self._ignore(message, cause)

    def _ignore(self, message: FixMessage, cause: str) -> None:
        raw = without_secrets(message.raw) if message.msg_type == LOGON else message.raw
        self._events.append(IgnoredMessage(raw, cause))

    def _step(self, trigger: ConnectionTrigger) -> None:
        self.state = step(CONNECTION, self.state, trigger)
