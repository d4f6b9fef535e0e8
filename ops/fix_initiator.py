"""The client's half of a FIX session: bytes and time in, messages and bytes out. Pure.

It stands on the gateway's codec: the same framer, the same outbound and inbound halves, the same
timers. What differs is who logs on, and that a client trusts its venue: what comes is framed and
sequenced, but not checked field by field.

One object is one session over any number of connections. Its numbers and the messages it sent live
in memory, so a connection that is lost goes on with ``connect(reset=False)``: what the venue lacks
is sent again when it asks (43=Y), what we lack is asked for. What the venue has refused because it
was not available (35=j, 380=4) is not sent again, although a venue whose gateway has died since may
ask for it: it has been answered. A new object must begin with ``reset=True``, or be told where the
session stands.

In bulk, parsing every report costs more than the venue takes to make it. A load generator therefore
counts reports itself and tells ``note_counted`` how far it has read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum, auto

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.errors import LocalFixError, RemoteFixError
from gateway.fix_message import FixMessage, encode_fields
from gateway.fix_tags import (
    BUSINESS_MESSAGE_REJECT,
    HEARTBEAT,
    LOGON,
    LOGOUT,
    RESEND_REQUEST,
    SEQUENCE_RESET,
    TAG_BEGIN_SEQ_NO,
    TAG_END_SEQ_NO,
    TAG_GAP_FILL_FLAG,
    TAG_MSG_SEQ_NUM,
    TAG_MSG_TYPE,
    TAG_NEW_SEQ_NO,
    TAG_POSS_DUP_FLAG,
    TAG_TEST_REQ_ID,
    TEST_REQUEST,
)
from gateway.session_inbound import InboundSide
from gateway.session_outbound import OutboundSide
from gateway.session_state import Gap
from gateway.session_timers import ActiveTimers, Due
from ops.fix_sent import SentMessages
from ops.fix_wire import fields_of, new_framer, signature_fields

QUEUED_BYTES_MAX = 64 << 20
"""Messages kept behind a gap; more are dropped and asked for again."""

RESEND_TIMEOUT_S = 30
"""A gap that has not moved for so long ends the connection."""

_NUMBERS_END = 1 << 60
"""Clients do not lease numbers: theirs live and die with the object."""
_TAG_TEXT = b"58"
_TAG_NEXT_EXPECTED = b"789"


class Identity(msgspec.Struct, frozen=True):
    """Who logs on where: CompIDs (49, 56), Username (553) and Password (554).

    With a private key the Logon is signed (95, 96); an empty password is left out.
    """

    sender_comp_id: str
    target_comp_id: str
    username: str
    password: str
    private_key: Ed25519PrivateKey | None = None


class Phase(Enum):
    """How far the present connection is."""

    OFFLINE = auto()
    LOGON_SENT = auto()
    ACTIVE = auto()
    LOGOUT_SENT = auto()


class Initiator:
    """One client session.

    Args:
        identity: names and password.
        heart_bt_int_s: HeartBtInt (108).
        on_aside: called with what came and is not returned as news: Heartbeats, and messages that
            came before (43=Y).

    Attributes:
        phase: how far the connection is.
        reason: why the last connection ended; empty while one is open.
    """

    __slots__ = (
        *("_framer", "_heart_bt_int_s", "_identity", "_inbound", "_on_aside", "_outbound", "_peer"),
        *("_says_expected", "_sent", "_timers", "phase", "reason"),
    )

    def __init__(
        self,
        identity: Identity,
        *,
        heart_bt_int_s: int = 30,
        on_aside: Callable[[FixMessage], None] = lambda message: None,
    ) -> None:
        self._identity = identity
        self._on_aside = on_aside
        self._says_expected = False
        self._peer = identity.target_comp_id.encode("ascii")
        self._heart_bt_int_s = heart_bt_int_s
        self._outbound = OutboundSide(identity.sender_comp_id.encode("ascii"), now_ns=0)
        self._inbound = InboundSide(max_queued_bytes=QUEUED_BYTES_MAX)
        self._timers = ActiveTimers(resend_timeout_s=RESEND_TIMEOUT_S)
        self._framer = new_framer()
        self._sent = SentMessages()
        self.phase = Phase.OFFLINE
        self.reason = ""
        self.set_numbers(next_in=1, next_out=1)

    @property
    def next_in(self) -> int:
        """MsgSeqNum of the next message to come."""
        return self._inbound.expected

    @property
    def next_out(self) -> int:
        """MsgSeqNum of the next message to go."""
        return self._outbound.next_num

    @property
    def has_gap(self) -> bool:
        """Whether messages are known to be missing, or were when the last connection ended."""
        return self._inbound.gap is not Gap.IN_SEQUENCE

    def set_numbers(self, *, next_in: int, next_out: int) -> None:
        """Begin at other numbers; nothing that was sent before can be sent again.

        Raises:
            LocalFixError: a connection is open.
        """
        self._expect(Phase.OFFLINE)
        self._inbound.drop_queue()
        self._inbound.open(next_in)
        self._outbound.open(self._peer, next_num=next_out, limit=_NUMBERS_END)
        self._sent.clear()

    # ------------------------------------------------------------ a connection's life

    def connect(
        self,
        *,
        reset: bool,
        now_ns: int,
        says_expected: bool = False,
        more: Sequence[tuple[bytes, bytes]] = (),
    ) -> None:
        """Log on over a connection that has just been made.

        Args:
            reset: begin at 1 both ways (141=Y).
            now_ns: the time.
            says_expected: say which number is expected next (789): what is missing on either side
                is sent then without a ResendRequest.
            more: further fields of the Logon.

        Raises:
            LocalFixError: a connection is open.
        """
        self._expect(Phase.OFFLINE)
        self._framer = new_framer()
        self._outbound.drain()
        if reset:
            self.set_numbers(next_in=1, next_out=1)
        self._inbound.drop_queue()
        self._inbound.open(self._inbound.expected)
        self.phase = Phase.LOGON_SENT
        self.reason = ""
        fields = [(b"98", b"0"), (b"108", b"%d" % self._heart_bt_int_s)]
        if reset:
            fields.append((b"141", b"Y"))
        self._says_expected = says_expected
        if says_expected:
            fields.append((_TAG_NEXT_EXPECTED, b"%d" % self.next_in))
        fields.append((b"553", self._identity.username.encode("ascii")))
        fields += [*self._proofs(now_ns), *more]
        self._outbound.send(LOGON, encode_fields(fields), now_ns=now_ns, stored=False)
        self._timers.start(self._heart_bt_int_s, now_ns=now_ns)

    def _proofs(self, now_ns: int) -> list[tuple[bytes, bytes]]:
        """Return what shows who sends the Logon that goes out now."""
        identity, proofs = self._identity, []
        if identity.password:
            proofs.append((b"554", identity.password.encode("ascii")))
        if identity.private_key is not None:
            sender, number = identity.sender_comp_id.encode("ascii"), self.next_out
            proofs += signature_fields(
                identity.private_key, sender, self._peer, msg_seq_num=number, now_ns=now_ns
            )
        return proofs

    def logout(self, *, now_ns: int) -> None:
        """Begin to end the session; the venue answers with its Logout."""
        self._expect(Phase.ACTIVE)
        self._outbound.send_logout(None, now_ns=now_ns)
        self.phase = Phase.LOGOUT_SENT

    def disconnect(self, reason: str) -> None:
        """Note that the connection is gone. Numbers and sent messages stay."""
        if self.phase is not Phase.OFFLINE:
            self.phase = Phase.OFFLINE
            self.reason = reason

    # ------------------------------------------------------------ out

    def send(self, msg_type: bytes, body: bytes, *, now_ns: int) -> int:
        """Number an application message, keep it for resends, and queue it.

        Returns:
            Its MsgSeqNum.

        Raises:
            LocalFixError: not logged on.
        """
        self._expect(Phase.ACTIVE)
        outbound = self._outbound.send(msg_type, body, now_ns=now_ns, stored=True)
        self._sent.add(outbound.msg_seq_num, outbound.data)
        return outbound.msg_seq_num

    def ask(self, msg_type: bytes, body: bytes, *, now_ns: int) -> None:
        """Queue a message that is not sent again, because it is about this connection alone.

        Raises:
            LocalFixError: not logged on.
        """
        self._expect(Phase.ACTIVE)
        self._outbound.send(msg_type, body, now_ns=now_ns, stored=False)

    def data_to_send(self) -> bytes:
        """Return the bytes to write now, and forget them."""
        return b"".join([outbound.data for outbound in self._outbound.drain()])

    # ------------------------------------------------------------ in

    def receive_data(self, data: bytes, *, now_ns: int) -> list[FixMessage]:
        """Take bytes from the venue.

        Returns:
            Application messages and Rejects (35=3), in sequence, each once.

        Raises:
            RemoteFixError: the bytes, or their numbers, are not FIX; the connection must end.
        """
        delivered: list[FixMessage] = []
        self._framer.receive_data(data)
        while self.phase is not Phase.OFFLINE and (raw := self._framer.next_message()) is not None:
            fields = fields_of(raw)
            self._receive(FixMessage(raw, fields[TAG_MSG_TYPE], fields), delivered, now_ns)
        if data:
            self._timers.received(now_ns)
        return delivered

    def note_counted(self, messages: int, last_seq_num: int, *, now_ns: int) -> None:
        """Take note of application messages that were read elsewhere.

        Args:
            messages: how many.
            last_seq_num: MsgSeqNum of the last.
            now_ns: the time.

        Raises:
            RemoteFixError: their number does not fit: something is missing or came twice.
        """
        expected = self._inbound.expected + messages
        if last_seq_num != expected - 1:
            raise RemoteFixError(f"MsgSeqNum: expected {expected - 1}, received {last_seq_num}")
        self._inbound.advance(expected, now_ns=now_ns)
        self._timers.received(now_ns)

    def _receive(self, message: FixMessage, delivered: list[FixMessage], now_ns: int) -> None:
        number = int(message.fields[TAG_MSG_SEQ_NUM])
        if self.phase is Phase.LOGON_SENT and message.msg_type not in (LOGON, LOGOUT):
            raise RemoteFixError(f"expected a Logon, received MsgType {message.msg_type!r}")
        if message.msg_type == LOGON and self.phase is Phase.LOGON_SENT:
            self.phase = Phase.ACTIVE
            self._send_expected(message, now_ns)
        if message.msg_type == LOGOUT:
            # Also where its number is too high: there is no connection left to ask over.
            if number == self._inbound.expected:
                self._inbound.advance(number + 1, now_ns=now_ns)
            elif number > self._inbound.expected:
                self._inbound.take_too_high(number, None, now_ns=now_ns)
            self._on_logout(message, now_ns)
            return
        if message.msg_type == SEQUENCE_RESET and message.fields.get(TAG_GAP_FILL_FLAG) != b"Y":
            self._inbound.advance(int(message.fields[TAG_NEW_SEQ_NO]), now_ns=now_ns)
        elif number > self._inbound.expected:
            self._on_too_high(message, number, now_ns)
        elif number == self._inbound.expected:
            self._take(message, number, delivered, now_ns)
        elif message.fields.get(TAG_POSS_DUP_FLAG) != b"Y":
            raise RemoteFixError(
                f"MsgSeqNum too low: expected {self._inbound.expected}, received {number}"
            )
        else:
            self._on_aside(message)
        self._take_queued(delivered, now_ns)

    def _take_queued(self, delivered: list[FixMessage], now_ns: int) -> None:
        while self._inbound.has_expected:
            queued = self._inbound.expected
            following = self._inbound.take_expected()
            if following is None:
                self._inbound.advance(queued + 1, now_ns=now_ns)
            else:
                self._take(following, queued, delivered, now_ns)

    def _take(
        self, message: FixMessage, number: int, delivered: list[FixMessage], now_ns: int
    ) -> None:
        if message.msg_type == SEQUENCE_RESET:
            self._inbound.advance(int(message.fields[TAG_NEW_SEQ_NO]), now_ns=now_ns)
            return
        self._inbound.advance(number + 1, now_ns=now_ns)
        if message.msg_type == TEST_REQUEST:
            self._outbound.send_heartbeat(message.fields[TAG_TEST_REQ_ID], now_ns=now_ns)
        elif message.msg_type == RESEND_REQUEST:
            self._on_resend_request(message, now_ns)
        elif message.msg_type == HEARTBEAT:
            self._on_aside(message)
        elif message.msg_type != LOGON:
            if message.msg_type == BUSINESS_MESSAGE_REJECT:
                self._sent.note_refusal(message.fields)
            delivered.append(message)

    def _on_too_high(self, message: FixMessage, number: int, now_ns: int) -> None:
        if message.msg_type == RESEND_REQUEST:
            # Both sides may lack something: whoever waited for the other first would wait for ever.
            self._on_resend_request(message, now_ns)
        handled = message.msg_type in (LOGON, RESEND_REQUEST)
        _, asks = self._inbound.take_too_high(number, None if handled else message, now_ns=now_ns)
        if asks and not (message.msg_type == LOGON and self._says_expected):
            self._outbound.send_resend_request(self._inbound.expected, now_ns=now_ns)

    def _send_expected(self, logon: FixMessage, now_ns: int) -> None:
        """Send again what the venue's Logon does not expect any more (789), as it does for us."""
        expected = int(logon.fields.get(_TAG_NEXT_EXPECTED, self.next_out))
        self._resend(expected, self.next_out - 1, now_ns)

    def _on_resend_request(self, message: FixMessage, now_ns: int) -> None:
        last = self._outbound.next_num - 1
        end = min(int(message.fields[TAG_END_SEQ_NO]) or last, last)
        self._resend(int(message.fields[TAG_BEGIN_SEQ_NO]), end, now_ns)

    def _resend(self, begin: int, end: int, now_ns: int) -> None:
        self._outbound.resend(self._sent.between(begin, end), begin, end, now_ns=now_ns)

    def _on_logout(self, message: FixMessage, now_ns: int) -> None:
        text = message.fields.get(_TAG_TEXT, b"").decode("ascii", "replace")
        if self.phase is Phase.ACTIVE:
            self._outbound.send_logout(None, now_ns=now_ns)
        self.disconnect(f"logged out: {text}" if text else "logged out")

    # ------------------------------------------------------------ time

    def next_timer_ns(self) -> int | None:
        """When ``handle_timer`` has something to do; None while offline."""
        if self.phase is Phase.OFFLINE:
            return None
        return self._timers.next_ns(sent_ns=self._outbound.last_sent_ns, gap_ns=self._gap_ns())

    def handle_timer(self, *, now_ns: int) -> None:
        """Do what is due; the phase is OFFLINE afterwards where the venue has fallen silent."""
        if self.phase is Phase.OFFLINE:
            return
        due = self._timers.take_due(
            now_ns=now_ns, sent_ns=self._outbound.last_sent_ns, gap_ns=self._gap_ns()
        )
        if due is Due.HEARTBEAT:
            self._outbound.send_heartbeat(None, now_ns=now_ns)
        elif due is Due.TEST_REQUEST:
            self._outbound.send_test_request(now_ns=now_ns)
        elif due is Due.CLOSE:
            self.disconnect("no answer to a TestRequest")
        elif due is Due.GIVE_UP_GAP:
            self.disconnect(f"no answer to the ResendRequest from {self._inbound.expected}")

    def _gap_ns(self) -> int | None:
        return self._inbound.moved_ns if self._inbound.gap is Gap.AWAITING_RESEND else None

    def _expect(self, phase: Phase) -> None:
        if self.phase is not phase:
            raise LocalFixError(f"expected the session to be {phase.name}, it is {self.phase.name}")
