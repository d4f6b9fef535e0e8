"""The timers of a FIX session that is logged on: our heartbeats, the peer's silence, a gap. Pure.

While the shell does not read the socket (back-pressure), a peer cannot be heard: what waits for the
peer stands still then, and goes on where it was. Our heartbeats go on. A peer always has time to
answer a TestRequest, also one that we send late because we stood still.
"""

from __future__ import annotations

from enum import Enum, auto

from gateway.fix_time import NS_PER_SECOND
from gateway.session_state import LIVENESS, Liveness, LivenessTrigger, step


class Due(Enum):
    """What is to be done now."""

    TEST_REQUEST = auto()
    CLOSE = auto()
    """The peer did not answer the TestRequest."""
    GIVE_UP_GAP = auto()
    HEARTBEAT = auto()


class ActiveTimers:
    """Measure silence both ways in heartbeat intervals.

    Args:
        resend_timeout_s: see ``SessionRules``.
    """

    __slots__ = (
        "_asked_ns",
        "_heard_ns",
        "_interval_ns",
        "_paused_ns",
        "_resend_timeout_ns",
        "_silent_ns",
        "_state",
    )

    def __init__(self, *, resend_timeout_s: int) -> None:
        self._resend_timeout_ns = resend_timeout_s * NS_PER_SECOND
        self._state = Liveness.ALIVE
        self._interval_ns = 0
        self._silent_ns = 0
        self._heard_ns = 0
        self._asked_ns = 0
        self._paused_ns: int | None = None

    def start(self, heart_bt_int_s: int, *, now_ns: int) -> None:
        """Begin to measure anew; 1.2 intervals, and as many more, are what QuickFIX uses."""
        self._interval_ns = heart_bt_int_s * NS_PER_SECOND
        self._silent_ns = self._interval_ns * 12 // 10
        # An initiator logs on again with what was dead.
        self._state = Liveness.ALIVE
        self.received(now_ns)

    def received(self, now_ns: int) -> None:
        """Note that a whole message came."""
        self._heard_ns = now_ns
        if self._paused_ns is not None:
            self._paused_ns = now_ns
        if self._state is not Liveness.ALIVE:
            self._state = step(LIVENESS, self._state, LivenessTrigger.RECEIVED)

    def heard_since(self, since_ns: int) -> bool:
        """Tell whether a message came after that time; while nobody reads, one may have."""
        return self._paused_ns is not None or self._heard_ns > since_ns

    def pause(self, now_ns: int) -> None:
        """Let what waits for the peer stand still from now on."""
        if self._paused_ns is None:
            self._paused_ns = now_ns

    def resume(self, now_ns: int) -> int:
        """Go on; return how long it stood still, in ns."""
        if self._paused_ns is None:
            return 0
        stood_ns = now_ns - self._paused_ns
        self._paused_ns = None
        self._heard_ns += stood_ns
        self._asked_ns += stood_ns
        return stood_ns

    def next_ns(self, *, sent_ns: int, gap_ns: int | None) -> int:
        """Return when something is due next.

        Args:
            sent_ns: when we last sent a message.
            gap_ns: when the inbound gap last moved, or None where there is none.
        """
        heartbeat_ns = sent_ns + self._interval_ns
        if self._paused_ns is not None:
            return heartbeat_ns
        silence_ns = self._silent_ns
        silence_ns += self._heard_ns if self._state is Liveness.ALIVE else self._asked_ns
        if gap_ns is not None:
            silence_ns = min(silence_ns, gap_ns + self._resend_timeout_ns)
        return min(heartbeat_ns, silence_ns)

    def take_due(self, *, now_ns: int, sent_ns: int, gap_ns: int | None) -> Due | None:
        """Return the most urgent thing that is due, and count it as done; the rest comes next."""
        if self._paused_ns is None:
            if self._state is Liveness.ALIVE and now_ns >= self._heard_ns + self._silent_ns:
                self._state = step(LIVENESS, self._state, LivenessTrigger.SILENT)
                self._asked_ns = now_ns
                return Due.TEST_REQUEST
            asked = self._state is Liveness.TEST_REQUESTED
            if asked and now_ns >= self._asked_ns + self._silent_ns:
                self._state = step(LIVENESS, self._state, LivenessTrigger.TOO_SILENT)
                return Due.CLOSE
            if gap_ns is not None and now_ns >= gap_ns + self._resend_timeout_ns:
                return Due.GIVE_UP_GAP
        return Due.HEARTBEAT if now_ns >= sent_ns + self._interval_ns else None
