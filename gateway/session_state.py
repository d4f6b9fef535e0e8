"""The state tables of a FIX session, and nothing else. Pure.

What looks like one machine is three small ones that meet in few places:

*Connection*: may messages flow? ::

    AWAITING_LOGON ──Logon──▶ LOGON_PENDING ──accepted──▶ ACTIVE ──Logout sent──▶ LOGOUT_SENT
          │                        │  ▲                     │ │                        │
          │                        │  └─Logon with 141=Y────┘ │                        │
          └────────────────────────┴───────── CLOSED ◀────────┴────────────────────────┘

A Logon is decided outside (password, ownership of the session), so there is a state in which the
session waits for its own side: no message is read in LOGON_PENDING, bytes are held. In LOGOUT_SENT
only the peer's Logout counts, and a ResendRequest is served; other messages are not taken, so their
numbers are still open and the peer can send them again in its next connection. CLOSED is final; a
session object serves one connection.

*Inbound gap*: which number is next? IN_SEQUENCE until a number is too high; then one
ResendRequest goes out and AWAITING_RESEND holds until the numbers up to the one that showed the gap
have come. Further numbers that are too high change nothing (no second request), they only queue.

*Liveness*: is the peer there? After 1.2 heartbeat intervals without a message it is asked by a
TestRequest, after 2.4 it is given up. Any message answers.

A pair that a table lacks is a bug of ours, never the peer's doing: what the peer did wrong has been
sorted out before a trigger is drawn.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto
from typing import Final, TypeVar

from gateway.errors import LocalFixError


class Connection(Enum):
    """May messages flow?"""

    AWAITING_LOGON = auto()
    LOGON_PENDING = auto()
    ACTIVE = auto()
    LOGOUT_SENT = auto()
    CLOSED = auto()


class ConnectionTrigger(Enum):
    """What moves the connection."""

    LOGON_RECEIVED = auto()
    """A first Logon, or one with ResetSeqNumFlag=Y inside the session."""
    LOGON_ACCEPTED = auto()
    LOGOUT_SENT = auto()
    """We asked first and wait for the peer's Logout."""
    CLOSED = auto()
    """End of file, time-out, refusal, or both Logouts exchanged."""


CONNECTION: Final[dict[tuple[Connection, ConnectionTrigger], Connection]] = {
    (Connection.AWAITING_LOGON, ConnectionTrigger.LOGON_RECEIVED): Connection.LOGON_PENDING,
    (Connection.AWAITING_LOGON, ConnectionTrigger.CLOSED): Connection.CLOSED,
    (Connection.LOGON_PENDING, ConnectionTrigger.LOGON_ACCEPTED): Connection.ACTIVE,
    (Connection.LOGON_PENDING, ConnectionTrigger.CLOSED): Connection.CLOSED,
    (Connection.ACTIVE, ConnectionTrigger.LOGON_RECEIVED): Connection.LOGON_PENDING,
    (Connection.ACTIVE, ConnectionTrigger.LOGOUT_SENT): Connection.LOGOUT_SENT,
    (Connection.ACTIVE, ConnectionTrigger.CLOSED): Connection.CLOSED,
    (Connection.LOGOUT_SENT, ConnectionTrigger.CLOSED): Connection.CLOSED,
}


class Gap(Enum):
    """Which inbound number is next?"""

    IN_SEQUENCE = auto()
    AWAITING_RESEND = auto()


class GapTrigger(Enum):
    """What moves the inbound gap."""

    TOO_HIGH = auto()
    FILLED = auto()
    """The expected number has passed the one before the first that was too high."""


GAP: Final[dict[tuple[Gap, GapTrigger], Gap]] = {
    (Gap.IN_SEQUENCE, GapTrigger.TOO_HIGH): Gap.AWAITING_RESEND,
    (Gap.AWAITING_RESEND, GapTrigger.TOO_HIGH): Gap.AWAITING_RESEND,
    (Gap.AWAITING_RESEND, GapTrigger.FILLED): Gap.IN_SEQUENCE,
}


class Liveness(Enum):
    """Is the peer there?"""

    ALIVE = auto()
    TEST_REQUESTED = auto()
    DEAD = auto()


class LivenessTrigger(Enum):
    """What moves the liveness."""

    RECEIVED = auto()
    SILENT = auto()
    """1.2 heartbeat intervals without a message."""
    TOO_SILENT = auto()
    """2.4 heartbeat intervals without a message."""


LIVENESS: Final[dict[tuple[Liveness, LivenessTrigger], Liveness]] = {
    (Liveness.ALIVE, LivenessTrigger.RECEIVED): Liveness.ALIVE,
    (Liveness.ALIVE, LivenessTrigger.SILENT): Liveness.TEST_REQUESTED,
    (Liveness.TEST_REQUESTED, LivenessTrigger.RECEIVED): Liveness.ALIVE,
    (Liveness.TEST_REQUESTED, LivenessTrigger.TOO_SILENT): Liveness.DEAD,
}


_State = TypeVar("_State", Connection, Gap, Liveness)
_Trigger = TypeVar("_Trigger", ConnectionTrigger, GapTrigger, LivenessTrigger)


def step(
    table: Mapping[tuple[_State, _Trigger], _State], state: _State, trigger: _Trigger
) -> _State:
    """Return the state that follows.

    Raises:
        LocalFixError: the table lacks the pair.
    """
    following = table.get((state, trigger))
    if following is None:
        raise LocalFixError(f"{trigger} is not possible while {state}")
    return following
