"""What goes into a FIX session as plain values, and what comes out of it. Pure.

Every message that was framed comes out as exactly one of ``LogonRequested``, ``AppMessage``,
``AdminMessage``, ``RejectedMessage`` and ``IgnoredMessage``, with its bytes in ``raw`` for the raw
journal. A message that is queued behind a gap comes out when its turn has come, or when the session
closes. The bytes of a Logon have their secrets blanked.
"""

from __future__ import annotations

import msgspec

from gateway.fix_message import FixMessage
from gateway.fix_tags import SessionRejectReason
from gateway.logon_signature import LogonSignature


class SessionRules(msgspec.Struct, frozen=True, kw_only=True):
    """The limits and names of a session; every wait and buffer has one.

    Args:
        comp_id: our CompID: TargetCompID (56) of what comes, SenderCompID (49) of what goes.
        heart_bt_int_min_s, heart_bt_int_max_s: HeartBtInt (108) outside is refused by a Logout. 0,
            which FIX reads as "no heartbeats", is never allowed: a dead peer would not be noticed.
        test_messages: whether a Logon with TestMessageIndicator (464) = Y is taken.
        sending_time_tolerance_s: SendingTime (52) further away from our clock gets 373=10 and a
            Logout; at Logon, silence and a close.
        logon_timeout_s: from the connection to an accepted Logon; then closed silently.
        logout_timeout_s: from our Logout to the peer's; then closed.
        resend_timeout_s: a gap that has not moved for so long ends in a Logout.
        max_message_bytes: a longer message ends in a Logout.
        max_garbled_bytes: more bytes without a whole message between them end in a Logout.
        max_held_bytes: what a peer may send ahead while its Logon is decided; more closes.
        max_queued_bytes: messages kept behind a gap; further ones are dropped, and come again with
            the resend or a new ResendRequest.
        out_low_water: with fewer numbers left, ``NeedOutLimit`` asks for more.
    """

    comp_id: bytes
    heart_bt_int_min_s: int = 1
    heart_bt_int_max_s: int = 60
    test_messages: bool = False
    sending_time_tolerance_s: int = 120
    logon_timeout_s: int = 10
    logout_timeout_s: int = 5
    resend_timeout_s: int = 30
    max_message_bytes: int = 8_192
    max_garbled_bytes: int = 65_536
    max_held_bytes: int = 65_536
    max_queued_bytes: int = 262_144
    out_low_water: int = 300


class Outbound(msgspec.Struct, frozen=True, gc=False):
    """One message to write.

    Args:
        msg_seq_num: MsgSeqNum (34); in a resend that of the first time.
        msg_type: MsgType (35).
        data: the whole message.
        stored: it must be in the store of sent messages before it is written. False for session
            messages and resends, which are never stored.
    """

    msg_seq_num: int
    msg_type: bytes
    data: bytes
    stored: bool


class LogonRequested(msgspec.Struct, frozen=True, gc=False):
    """A well-formed Logon; answer with ``accept_logon`` or ``refuse_logon``.

    Args:
        raw: the message, secrets blanked.
        sender_comp_id: SenderCompID (49), a positive integer in its only spelling.
        username: Username (553), or None.
        password: Password (554) as it came, or None.
        heart_bt_int_s: HeartBtInt (108), within the limits.
        reset: ResetSeqNumFlag (141) = Y.
        msg_seq_num: MsgSeqNum (34).
        next_expected_seq_num: NextExpectedMsgSeqNum (789), or None.
        in_session: a reset inside a session that is logged on. Reports must wait for the decision:
            ``can_send`` is False until then.
        signature: what RawData (96) says, or None.
        cancel_on_disconnect: tag 8013: whether its orders are to be canceled when it is gone; None:
            as the user's settings say.
        test: TestMessageIndicator (464) = Y.
    """

    raw: bytes
    sender_comp_id: int
    username: str | None
    password: bytes | None
    heart_bt_int_s: int
    reset: bool
    msg_seq_num: int
    next_expected_seq_num: int | None
    in_session: bool
    signature: LogonSignature | None = None
    cancel_on_disconnect: bool | None = None
    test: bool = False


class AppMessage(msgspec.Struct, frozen=True, gc=False):
    """An application message in sequence without a session-level fault.

    Args:
        raw: the message.
        message: the same, parsed.
        msg_seq_num: MsgSeqNum (34).
        poss_dup: PossDupFlag (43) = Y.
        poss_resend: PossResend (97) = Y.
        orig_sending_time_ns: OrigSendingTime (122) where ``poss_dup``, else None.
    """

    raw: bytes
    message: FixMessage
    msg_seq_num: int
    poss_dup: bool
    poss_resend: bool
    orig_sending_time_ns: int | None


class AdminMessage(msgspec.Struct, frozen=True, gc=False):
    """A message that the session has dealt with by itself."""

    raw: bytes
    msg_type: bytes
    msg_seq_num: int


class RejectedMessage(msgspec.Struct, frozen=True, gc=False):
    """A message answered by a Reject (35=3), or by 35=j where ``reason`` is None."""

    raw: bytes
    msg_type: bytes
    msg_seq_num: int
    reason: SessionRejectReason | None
    ref_tag: bytes | None


class IgnoredMessage(msgspec.Struct, frozen=True, gc=False):
    """A message without effect: a duplicate, one dropped behind a gap, one that ends the session.

    Its number was not consumed.
    """

    raw: bytes
    cause: str


class ResendRequested(msgspec.Struct, frozen=True, gc=False):
    """The peer lacks our messages ``begin`` to ``end``, both included; answer with ``resend``."""

    begin: int
    end: int


class NeedOutLimit(msgspec.Struct, frozen=True, gc=False):
    """Few numbers are left; lease more and call ``extend_out_limit``. Said once per lease."""

    remaining: int


class Closed(msgspec.Struct, frozen=True, gc=False):
    """The session is over; write what ``data_to_send`` gives, then close the connection.

    Args:
        reason: why, for the log: also what our Logout said, where one came before.
    """

    reason: str


Event = (
    LogonRequested
    | AppMessage
    | AdminMessage
    | RejectedMessage
    | IgnoredMessage
    | ResendRequested
    | NeedOutLimit
    | Closed
)
