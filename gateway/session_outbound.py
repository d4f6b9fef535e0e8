"""The outbound half of a FIX session: numbers, their lease, and the session's own messages. Pure.

Numbers are leased in blocks (design: a successor after a crash starts behind the lease), so a
number beyond ``limit`` must never reach the wire. Application messages are refused there; the
session's own are held, in order and without a number, until the lease is extended.

All messages leave through one list, in the order of their numbers: whoever drains it must write in
that order, and store before writing where ``Outbound.stored`` says so.
"""

from __future__ import annotations

from engine.limits import CL_ORD_ID_LENGTH_MAX
from gateway.errors import LocalFixError
from gateway.fix_message import (
    Body,
    Fault,
    FixMessage,
    as_poss_dup,
    encode_fields,
    frame,
    frame_shared,
)
from gateway.fix_tags import (
    BUSINESS_MESSAGE_REJECT,
    HEARTBEAT,
    LOGON,
    LOGOUT,
    REJECT,
    RESEND_REQUEST,
    SEQUENCE_RESET,
    SESSION_REJECT_TEXTS,
    TAG_CL_ORD_ID,
    TAG_ORIG_CL_ORD_ID,
    TEST_REQUEST,
    SessionRejectReason,
)
from gateway.fix_time import UtcTimestampWriter
from gateway.session_events import Outbound

HELD_MESSAGES_MAX = 64
"""Session messages held for want of a number; with so many no further message is read, so that
those which still come are the answers to what had been read."""

_IDS = (TAG_CL_ORD_ID, TAG_ORIG_CL_ORD_ID)
"""Any printable text is a value of these, if it is not too long."""

_ROUTING = (
    *((b"115", b"128"), (b"116", b"129"), (b"144", b"145")),
    *((b"128", b"115"), (b"129", b"116"), (b"145", b"144")),
)
"""OnBehalfOf and DeliverTo: CompID, SubID and LocationID."""


class OutboundSide:
    """Number and render messages.

    Args:
        comp_id: our CompID (49).
        now_ns: when the connection was made.
    """

    __slots__ = (
        "_asked_for_more",
        "_comp_id",
        "_held",
        "_out",
        "_peer",
        "_prefixes",
        "_timestamps",
        "last_sent_ns",
        "limit",
        "next_num",
    )

    def __init__(self, comp_id: bytes, *, now_ns: int) -> None:
        self._comp_id = comp_id
        self._peer = b""
        self._asked_for_more = False
        self._prefixes: dict[bytes, bytes] = {}
        self._timestamps = UtcTimestampWriter()
        self._held: list[tuple[bytes, bytes]] = []
        self._out: list[Outbound] = []
        self.next_num = 1
        self.limit = 0
        self.last_sent_ns = now_ns

    @property
    def remaining(self) -> int:
        """Numbers left in the lease."""
        return self.limit - self.next_num + 1

    def open(self, peer: bytes, *, next_num: int, limit: int) -> None:
        """Start numbering for a peer's CompID; what was held under other numbers is dropped."""
        self._peer = peer
        self._prefixes.clear()
        self._held.clear()
        self.next_num = next_num
        self.limit = limit
        self._asked_for_more = False

    def drain(self) -> list[Outbound]:
        """Return what must be written, in order, and forget it."""
        out, self._out = self._out, []
        return out

    def send(self, msg_type: bytes, body: Body, *, now_ns: int, stored: bool) -> Outbound:
        """Number, frame and queue a message.

        Args:
            msg_type: MsgType (35).
            body: the fields behind the header, each ended by SOH.
            now_ns: SendingTime (52).
            stored: see ``Outbound``.

        Raises:
            LocalFixError: the lease is used up.
        """
        number = self.next_num
        if number > self.limit:
            raise LocalFixError(f"the lease of sequence numbers ends at {self.limit}")
        outbound = Outbound(number, msg_type, self._render(msg_type, number, body, now_ns), stored)
        self.next_num = number + 1
        self.last_sent_ns = now_ns
        self._out.append(outbound)
        return outbound

    def _render(self, msg_type: bytes, number: int, body: Body, now_ns: int) -> bytes:
        prefix = self._prefixes.get(msg_type)
        if prefix is None:
            prefix = b"35=%b\x0149=%b\x0156=%b\x0134=" % (msg_type, self._comp_id, self._peer)
            self._prefixes[msg_type] = prefix
        time = self._timestamps.write(now_ns)
        if isinstance(body, bytes):
            return frame(b"%b%d\x0152=%b\x01%b" % (prefix, number, time, body))
        own, shared = body
        return frame_shared(b"%b%d\x0152=%b\x01%b" % (prefix, number, time, own), shared)

    # ------------------------------------------------------------ the lease

    def takes_need(self, low_water: int) -> bool:
        """Whether more numbers must be leased now; True once per lease."""
        if self._asked_for_more or self.remaining >= low_water:
            return False
        self._asked_for_more = True
        return True

    def extend(self, limit: int, *, now_ns: int) -> None:
        """Take a longer lease and send what was held."""
        if limit < self.limit:
            raise LocalFixError(f"a lease to {limit} is shorter than the one to {self.limit}")
        self.limit = limit
        self._asked_for_more = False
        while self._held and self.remaining:
            msg_type, body = self._held.pop(0)
            self.send(msg_type, body, now_ns=now_ns, stored=False)

    @property
    def is_held_up(self) -> bool:
        """Whether so many messages wait for numbers that nothing more should be read."""
        return len(self._held) >= HELD_MESSAGES_MAX

    def _send_session(
        self, msg_type: bytes, fields: list[tuple[bytes, bytes]], *, now_ns: int
    ) -> None:
        body = encode_fields(fields)
        if self.remaining > 0:
            self.send(msg_type, body, now_ns=now_ns, stored=False)
        else:
            self._held.append((msg_type, body))

    # ------------------------------------------------------------ session messages

    def send_logon(
        self,
        heart_bt_int_s: int,
        *,
        reset: bool,
        test: bool,
        next_expected_seq_num: int | None,
        now_ns: int,
    ) -> None:
        """Answer a Logon (35=A)."""
        fields = [(b"98", b"0"), (b"108", b"%d" % heart_bt_int_s)]
        if reset:
            fields.append((b"141", b"Y"))
        if next_expected_seq_num is not None:
            fields.append((b"789", b"%d" % next_expected_seq_num))
        if test:
            fields.append((b"464", b"Y"))
        self._send_session(LOGON, fields, now_ns=now_ns)

    def send_logout(self, text: str | None, *, now_ns: int) -> None:
        """Send a Logout (35=5), with Text (58) where there is one."""
        self._send_session(LOGOUT, _text_fields(text), now_ns=now_ns)

    def send_refusal(self, peer: bytes, text: str, *, msg_seq_num: int, now_ns: int) -> None:
        """Refuse a Logon: a Logout before the session is open, under a number from outside."""
        self._peer = peer
        data = self._render(LOGOUT, msg_seq_num, encode_fields(_text_fields(text)), now_ns)
        self._out.append(Outbound(msg_seq_num, LOGOUT, data, False))

    def send_heartbeat(self, test_req_id: bytes | None, *, now_ns: int) -> None:
        """Send a Heartbeat (35=0); without a TestReqID it is not worth holding."""
        self.last_sent_ns = now_ns
        if test_req_id is not None:
            self._send_session(HEARTBEAT, [(b"112", test_req_id)], now_ns=now_ns)
        elif self.remaining > 0:
            self.send(HEARTBEAT, b"", now_ns=now_ns, stored=False)

    def send_test_request(self, *, now_ns: int) -> None:
        """Send a TestRequest (35=1); its id is the time."""
        text = self._timestamps.write(now_ns)
        self._send_session(TEST_REQUEST, [(b"112", text)], now_ns=now_ns)

    def send_resend_request(self, begin: int, *, now_ns: int) -> None:
        """Ask for everything from ``begin`` on (35=2, 16=0)."""
        fields = [(b"7", b"%d" % begin), (b"16", b"0")]
        self._send_session(RESEND_REQUEST, fields, now_ns=now_ns)

    def send_reject(
        self, message: FixMessage, msg_seq_num: int, fault: Fault, *, now_ns: int
    ) -> None:
        """Send a Reject (35=3)."""
        fields = [*_way_back(message), (b"45", b"%d" % msg_seq_num)]
        if fault.ref_tag is not None:
            fields.append((b"371", fault.ref_tag))
        if message.msg_type:
            fields.append((b"372", message.msg_type))
        fields.append((b"373", b"%d" % fault.reason))
        text = SESSION_REJECT_TEXTS[fault.reason]
        if fault.reason is SessionRejectReason.VALUE_INCORRECT and fault.ref_tag in _IDS:
            text = f"{text}: at most {CL_ORD_ID_LENGTH_MAX} characters"
        fields += _text_fields(text)
        self._send_session(REJECT, fields, now_ns=now_ns)

    def send_business_reject(
        self, message: FixMessage, msg_seq_num: int, reason: int, text: str, *, now_ns: int
    ) -> None:
        """Send a BusinessMessageReject (35=j)."""
        fields = [
            *_way_back(message),
            (b"45", b"%d" % msg_seq_num),
            (b"372", message.msg_type),
            (b"380", b"%d" % reason),
            *_text_fields(text),
        ]
        self._send_session(BUSINESS_MESSAGE_REJECT, fields, now_ns=now_ns)

    # ------------------------------------------------------------ resends

    def resend(self, stored: list[tuple[int, bytes]], begin: int, end: int, *, now_ns: int) -> None:
        """Send old messages again, and gap fills for the numbers between them."""
        for number, raw in stored:
            if not begin <= number <= end:
                continue
            if begin < number:
                self._gap_fill(begin, number, now_ns=now_ns)
            data = as_poss_dup(raw, self._timestamps.write(now_ns))
            self._out.append(Outbound(number, _msg_type(raw), data, False))
            begin = number + 1
        if begin <= end:
            self._gap_fill(begin, end + 1, now_ns=now_ns)
        self.last_sent_ns = now_ns

    def _gap_fill(self, number: int, new_seq_no: int, *, now_ns: int) -> None:
        time = self._timestamps.write(now_ns)
        header = [(b"43", b"Y"), (b"122", time)]
        body = encode_fields([*header, (b"123", b"Y"), (b"36", b"%d" % new_seq_no)])
        data = self._render(SEQUENCE_RESET, number, body, now_ns)
        self._out.append(Outbound(number, SEQUENCE_RESET, data, False))


def _way_back(message: FixMessage) -> list[tuple[bytes, bytes]]:
    """Return the routing fields of an answer: whoever a message is on behalf of gets it, and back.

    Source: FIX 4.4 volume 1, "FIX message routing".
    """
    fields = message.fields
    return [(back, fields[tag]) for tag, back in _ROUTING if fields.get(tag)]


def _text_fields(text: str | None) -> list[tuple[bytes, bytes]]:
    return [] if text is None else [(b"58", text.encode("ascii", "replace"))]


def _msg_type(raw: bytes) -> bytes:
    start = raw.index(b"\x0135=") + 4
    return raw[start : raw.index(b"\x01", start)]
