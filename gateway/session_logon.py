"""What a Logon (35=A) asks for, and why it is refused before anybody is asked. Pure."""

from __future__ import annotations

import msgspec

from gateway.errors import LocalFixError
from gateway.fix_message import FixMessage, without_secrets
from gateway.fix_tags import (
    BEGIN_STRING,
    LOGON,
    SESSION_REJECT_TEXTS,
    TAG_CANCEL_ON_DISCONNECT,
    TAG_ENCRYPT_METHOD,
    TAG_HEART_BT_INT,
    TAG_MSG_SEQ_NUM,
    TAG_NEXT_EXPECTED_MSG_SEQ_NUM,
    TAG_PASSWORD,
    TAG_RESET_SEQ_NUM_FLAG,
    TAG_SENDER_COMP_ID,
    TAG_TARGET_COMP_ID,
    TAG_TEST_MESSAGE_INDICATOR,
    TAG_USERNAME,
)
from gateway.logon_signature import signature_of
from gateway.session_events import LogonRequested, SessionRules
from gateway.session_inbound import InboundSide
from gateway.session_outbound import OutboundSide

BEGIN = b"8=" + BEGIN_STRING + b"\x01"
_ACCOUNT_DIGITS_MAX = 18
_CANCEL_ON_DISCONNECT = {b"Y": True, b"N": False}


class LogonRefusal(msgspec.Struct, frozen=True, gc=False):
    """A Logon, or another first message, that cannot be accepted whoever sends it.

    Args:
        reason: why, for our side.
        text: Text (58) of the Logout, or None to close without a word.
    """

    reason: str
    text: str | None


def judge_first(
    message: FixMessage, rules: SessionRules, *, on_time: bool
) -> LogonRequested | LogonRefusal:
    """Judge the first message of a connection."""
    silence = _reason_for_silence(message, rules, on_time=on_time)
    if silence is not None:
        return LogonRefusal(silence, None)
    text = _refusal_text(message, rules)
    if text is not None:
        return LogonRefusal(text, text)
    return _request(message, in_session=False)


def judge_in_session(
    message: FixMessage, rules: SessionRules, *, peer: bytes, on_time: bool
) -> LogonRequested | LogonRefusal:
    """Judge a Logon inside a session: a reset of both numbers (141=Y), or a mistake."""
    text = _reason_for_silence(message, rules, on_time=on_time) or _refusal_text(message, rules)
    if text is None and message.fields[TAG_SENDER_COMP_ID] != peer:
        text = "CompID problem"
    if text is None and message.fields.get(TAG_RESET_SEQ_NUM_FLAG) != b"Y":
        text = "Already logged on"
    if text is not None:
        return LogonRefusal(text, text)
    return _request(message, in_session=True)


def check_opening(logon: LogonRequested, *, next_in: int, next_out: int, out_limit: int) -> None:
    """Check the numbers that our own side gives; LocalFixError where they contradict the Logon."""
    if not 1 <= next_out <= out_limit or next_in < 1:
        raise LocalFixError(f"impossible numbers: {next_in=} {next_out=} {out_limit=}")
    if logon.reset and (next_in, next_out) != (1, 1):
        raise LocalFixError("a reset starts at 1 both ways")


def opening_fault(logon: LogonRequested, next_in: int, next_out: int) -> str | None:
    """Return the Logout text for a Logon whose numbers contradict ours, or None."""
    if logon.msg_seq_num < next_in:
        return f"MsgSeqNum too low, expecting {next_in} but received {logon.msg_seq_num}"
    wanted = logon.next_expected_seq_num
    if wanted is not None and not 1 <= wanted <= next_out:
        return f"NextExpectedMsgSeqNum out of range, expecting {next_out} but received {wanted}"
    return None


def _reason_for_silence(message: FixMessage, rules: SessionRules, *, on_time: bool) -> str | None:
    """Return why a first message gets no answer at all, or None (cases 1c to 1e).

    Whoever does not know our names learns nothing from us.
    """
    if message.msg_type != LOGON:
        return "the first message is no Logon"
    if not message.raw.startswith(BEGIN):
        return "wrong BeginString at Logon"
    if message.fields.get(TAG_TARGET_COMP_ID) != rules.comp_id:
        return "wrong TargetCompID at Logon"
    if account_of(message.fields.get(TAG_SENDER_COMP_ID, b"")) is None:
        return "SenderCompID at Logon is no integer"
    if not on_time:
        return "bad SendingTime at Logon"
    return None


def account_of(comp_id: bytes) -> int | None:
    """Return a SenderCompID as an integer, or None when it is no positive one in plain form."""
    if not comp_id.isdigit() or comp_id.startswith(b"0") or len(comp_id) > _ACCOUNT_DIGITS_MAX:
        return None
    return int(comp_id)


def _refusal_text(message: FixMessage, rules: SessionRules) -> str | None:
    """Return the Logout text for a Logon that cannot be accepted whoever sends it, or None."""
    fault = message.fault
    if fault is not None:
        tag = "" if fault.ref_tag is None else f" (tag {fault.ref_tag.decode('ascii')})"
        return SESSION_REJECT_TEXTS[fault.reason] + tag
    if message.fields[TAG_ENCRYPT_METHOD] != b"0":
        return "EncryptMethod must be 0 (none)"
    if message.fields.get(TAG_TEST_MESSAGE_INDICATOR) == b"Y" and not rules.test_messages:
        return "TestMessageIndicator must not be Y: this is no test venue"
    heart_bt_int_s = int(message.fields[TAG_HEART_BT_INT])
    if not rules.heart_bt_int_min_s <= heart_bt_int_s <= rules.heart_bt_int_max_s:
        return (
            f"HeartBtInt must be from {rules.heart_bt_int_min_s} to {rules.heart_bt_int_max_s},"
            f" received {heart_bt_int_s}"
        )
    return None


def _request(message: FixMessage, *, in_session: bool) -> LogonRequested:
    """Return what a faultless Logon asks for."""
    fields = message.fields
    account = account_of(fields[TAG_SENDER_COMP_ID])
    assert account is not None, "Invariant: a Logon with another SenderCompID was dropped before"
    username = fields.get(TAG_USERNAME)
    next_expected = fields.get(TAG_NEXT_EXPECTED_MSG_SEQ_NUM)
    return LogonRequested(
        raw=without_secrets(message.raw),
        sender_comp_id=account,
        username=None if username is None else username.decode("ascii"),
        password=fields.get(TAG_PASSWORD),
        heart_bt_int_s=int(fields[TAG_HEART_BT_INT]),
        reset=fields.get(TAG_RESET_SEQ_NUM_FLAG) == b"Y",
        msg_seq_num=int(fields[TAG_MSG_SEQ_NUM]),
        next_expected_seq_num=None if next_expected is None else int(next_expected),
        test=fields.get(TAG_TEST_MESSAGE_INDICATOR) == b"Y",
        in_session=in_session,
        signature=signature_of(message),
        cancel_on_disconnect=_CANCEL_ON_DISCONNECT.get(fields.get(TAG_CANCEL_ON_DISCONNECT, b"")),
    )


def answer_logon(
    logon: LogonRequested, outbound: OutboundSide, inbound: InboundSide, *, now_ns: int
) -> None:
    """Send our Logon, and ask for what came before the peer's where its number is too high.

    With NextExpectedMsgSeqNum (789) in both Logons no ResendRequest is needed: each side resends by
    itself what the other does not expect any more.
    """
    in_sequence = logon.msg_seq_num == inbound.expected
    if in_sequence:
        inbound.advance(logon.msg_seq_num + 1, now_ns=now_ns)
    by_789 = logon.next_expected_seq_num is not None
    outbound.send_logon(
        logon.heart_bt_int_s,
        reset=logon.reset,
        test=logon.test,
        next_expected_seq_num=inbound.expected if by_789 else None,
        now_ns=now_ns,
    )
    if not in_sequence:
        inbound.take_too_high(logon.msg_seq_num, None, now_ns=now_ns)
        if not by_789:
            outbound.send_resend_request(inbound.expected, now_ns=now_ns)
