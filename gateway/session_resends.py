"""Which of our messages a peer wants again: one fetch at a time. Pure."""

from __future__ import annotations

from gateway.fix_message import FixMessage
from gateway.fix_tags import TAG_BEGIN_SEQ_NO, TAG_END_SEQ_NO
from gateway.session_events import AdminMessage, Event, ResendRequested
from gateway.session_outbound import OutboundSide


class Resends:
    """Turn ResendRequests into ``ResendRequested`` events, and what was fetched into messages.

    While one range is fetched, all further ones become a single range that covers them, so a peer
    that keeps asking causes one fetch after the other and no queue.

    Args:
        outbound: sends.
        events: where events are appended.
    """

    __slots__ = ("_events", "_following", "_open", "_outbound")

    def __init__(self, outbound: OutboundSide, events: list[Event]) -> None:
        self._outbound = outbound
        self._events = events
        self._open: tuple[int, int] | None = None
        self._following: tuple[int, int] | None = None

    def forget(self) -> None:
        """Drop what was asked for under other numbers."""
        self._open = None
        self._following = None

    def wrong_range(self, message: FixMessage) -> bytes | None:
        """Return the tag that makes the range one which we cannot have sent, or None."""
        begin = int(message.fields[TAG_BEGIN_SEQ_NO])
        end = int(message.fields[TAG_END_SEQ_NO])
        if not 1 <= begin < self._outbound.next_num:
            return TAG_BEGIN_SEQ_NO
        return TAG_END_SEQ_NO if end and end < begin else None

    def serve(self, message: FixMessage, msg_seq_num: int) -> None:
        """Have what a faultless ResendRequest asks for fetched."""
        begin = int(message.fields[TAG_BEGIN_SEQ_NO])
        end = int(message.fields[TAG_END_SEQ_NO])
        last = self._outbound.next_num - 1
        self._events.append(AdminMessage(message.raw, message.msg_type, msg_seq_num))
        self.request(begin, min(end or last, last))

    def request(self, begin: int, end: int) -> None:
        """Have messages fetched, now or when the fetch that goes on is done."""
        if self._open is None:
            self._open = (begin, end)
            self._events.append(ResendRequested(begin, end))
        elif self._following is None:
            self._following = (begin, end)
        else:
            first, last = self._following
            self._following = (min(begin, first), max(end, last))

    def send(self, stored: list[tuple[int, bytes]], begin: int, end: int, *, now_ns: int) -> None:
        """Send what was fetched; see ``FixSession.resend``."""
        if self._open is None or begin != self._open[0] or end > self._open[1]:
            return
        self._outbound.resend(stored, begin, end, now_ns=now_ns)
        last = self._open[1]
        self._open = (end + 1, last) if end < last else None
        if self._open is None and self._following is not None:
            following, self._following = self._following, None
            self.request(*following)
