"""The inbound half of a FIX session: the expected number, the gap, the queue behind it. Pure."""

from __future__ import annotations

from gateway.fix_message import FixMessage
from gateway.session_state import GAP, Gap, GapTrigger, step

_ENTRY_BYTES = 100
"""What an entry of the queue is counted as beside its message, so that the limit bounds those that
are only a number too."""


class InboundSide:
    """Know which number comes next, and keep what came too early.

    Args:
        max_queued_bytes: see ``SessionRules``.
    """

    __slots__ = (
        "_gap_end",
        "_max_queued_bytes",
        "_queue",
        "_queued_bytes",
        "expected",
        "gap",
        "moved_ns",
    )

    def __init__(self, *, max_queued_bytes: int) -> None:
        self._max_queued_bytes = max_queued_bytes
        self._queue: dict[int, FixMessage | None] = {}
        self._queued_bytes = 0
        self._gap_end = 0
        self.gap = Gap.IN_SEQUENCE
        self.expected = 1
        self.moved_ns = 0
        """When the gap was found, or the expected number last moved."""

    def open(self, expected: int) -> None:
        """Start at a number, in sequence."""
        assert not self._queue, "Invariant: a queue is dropped before numbers start anew"
        self.expected = expected
        self.gap = Gap.IN_SEQUENCE

    def advance(self, expected: int, *, now_ns: int) -> list[FixMessage]:
        """Expect another number; return what was queued below it and is now void."""
        self.expected = expected
        if self.gap is Gap.IN_SEQUENCE:
            return []
        self.moved_ns = now_ns
        void = [self._take(number) for number in sorted(self._queue) if number < expected]
        if expected > self._gap_end:
            self.gap = step(GAP, self.gap, GapTrigger.FILLED)
        return [message for message in void if message is not None]

    def take_too_high(
        self, msg_seq_num: int, message: FixMessage | None, *, now_ns: int
    ) -> tuple[bool, bool]:
        """Queue a message whose number is too high.

        Args:
            msg_seq_num: its MsgSeqNum.
            message: the message, or None where it is dealt with and only its number is kept.
            now_ns: the time.

        Returns:
            Whether it was queued (no: the queue is full, or has this number), and whether a
            ResendRequest must go out.
        """
        asks = self.gap is Gap.IN_SEQUENCE
        self.gap = step(GAP, self.gap, GapTrigger.TOO_HIGH)
        if asks:
            self._gap_end = msg_seq_num - 1
            self.moved_ns = now_ns
        size = _queued_size(message)
        if msg_seq_num in self._queue or self._queued_bytes + size > self._max_queued_bytes:
            return False, asks
        self._queue[msg_seq_num] = message
        self._queued_bytes += size
        return True, asks

    @property
    def has_expected(self) -> bool:
        """Whether the message with the expected number is queued."""
        return self.expected in self._queue

    def take_expected(self) -> FixMessage | None:
        """Return the queued message with the expected number; None where it is dealt with."""
        return self._take(self.expected)

    def drop_queue(self) -> list[FixMessage]:
        """Forget the queue and return its messages."""
        void = [self._take(number) for number in sorted(self._queue)]
        return [message for message in void if message is not None]

    def _take(self, number: int) -> FixMessage | None:
        message = self._queue.pop(number)
        self._queued_bytes -= _queued_size(message)
        return message


def _queued_size(message: FixMessage | None) -> int:
    return _ENTRY_BYTES + (0 if message is None else len(message.raw))
