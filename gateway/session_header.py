"""What a session judges of every header: CompIDs, SendingTime, OrigSendingTime. Pure."""

from __future__ import annotations

from gateway.fix_message import Fault, FixMessage
from gateway.fix_tags import (
    TAG_ORIG_SENDING_TIME,
    TAG_SENDER_COMP_ID,
    TAG_SENDING_TIME,
    TAG_TARGET_COMP_ID,
    SessionRejectReason,
)
from gateway.fix_time import NS_PER_SECOND, UtcTimestampReader
from gateway.session_events import SessionRules

_SEQ_NUM_DIGITS_MAX = 18


class HeaderChecks:
    """Judge headers by the rules of a session.

    Args:
        rules: names and tolerance.
    """

    __slots__ = ("_comp_id", "_timestamps", "_tolerance_ns")

    def __init__(self, rules: SessionRules) -> None:
        self._comp_id = rules.comp_id
        self._tolerance_ns = rules.sending_time_tolerance_s * NS_PER_SECOND
        self._timestamps = UtcTimestampReader()

    def is_on_time(self, message: FixMessage, now_ns: int) -> bool:
        """Whether SendingTime (52) is there, well-formed, and close enough to our clock."""
        try:
            sent_ns = self._timestamps.read_ns(message.fields.get(TAG_SENDING_TIME, b""))
        except ValueError:
            return False
        return -self._tolerance_ns <= now_ns - sent_ns <= self._tolerance_ns

    def find_fault(self, message: FixMessage, peer: bytes, *, now_ns: int) -> Fault | None:
        """Find a wrong CompID or SendingTime; what is missing is a matter of content.

        Args:
            message: any.
            peer: the SenderCompID (49) of the session.
            now_ns: our clock.
        """
        for tag, expected in (
            (TAG_SENDER_COMP_ID, peer),
            (TAG_TARGET_COMP_ID, self._comp_id),
        ):
            if message.fields.get(tag, expected) != expected:
                return Fault(SessionRejectReason.COMP_ID_PROBLEM, tag)
        time = message.fields.get(TAG_SENDING_TIME)
        if time is None or self.is_on_time(message, now_ns):
            return None
        try:
            self._timestamps.read_ns(time)
        except ValueError:
            return Fault(SessionRejectReason.INCORRECT_DATA_FORMAT, TAG_SENDING_TIME)
        return Fault(SessionRejectReason.SENDING_TIME_ACCURACY, TAG_SENDING_TIME)

    def read_orig_sending_time(self, message: FixMessage) -> tuple[int | None, Fault | None]:
        """Read OrigSendingTime of a duplicate: required, and not behind SendingTime (2f, 2g)."""
        tag = TAG_ORIG_SENDING_TIME
        text = message.fields.get(tag)
        if text is None:
            return None, Fault(SessionRejectReason.REQUIRED_TAG_MISSING, tag)
        try:
            orig_ns = self._timestamps.read_ns(text)
            sent_ns = self._timestamps.read_ns(message.fields.get(TAG_SENDING_TIME, b""))
        except ValueError:
            return None, Fault(SessionRejectReason.INCORRECT_DATA_FORMAT, tag)
        if orig_ns > sent_ns:
            return None, Fault(SessionRejectReason.SENDING_TIME_ACCURACY, tag)
        return orig_ns, None


def is_seq_num(text: bytes) -> bool:
    """Tell whether a MsgSeqNum (34) is a number of a size that can be."""
    return text.isdigit() and len(text) <= _SEQ_NUM_DIGITS_MAX
