"""The three machines of a FIX session: every pair of state and trigger, allowed or refused."""

from __future__ import annotations

from itertools import product

import pytest

from gateway.errors import LocalFixError
from gateway.session_state import (
    CONNECTION,
    GAP,
    LIVENESS,
    Connection,
    ConnectionTrigger,
    Gap,
    GapTrigger,
    Liveness,
    LivenessTrigger,
    step,
)


@pytest.mark.parametrize(("state", "trigger"), [*product(Connection, ConnectionTrigger)])
def test_connection_moves_only_as_its_table_says(
    state: Connection, trigger: ConnectionTrigger
) -> None:
    allowed = {
        Connection.AWAITING_LOGON: {"LOGON_RECEIVED": "LOGON_PENDING", "CLOSED": "CLOSED"},
        Connection.LOGON_PENDING: {"LOGON_ACCEPTED": "ACTIVE", "CLOSED": "CLOSED"},
        Connection.ACTIVE: {
            "LOGON_RECEIVED": "LOGON_PENDING",
            "LOGOUT_SENT": "LOGOUT_SENT",
            "CLOSED": "CLOSED",
        },
        Connection.LOGOUT_SENT: {"CLOSED": "CLOSED"},
        Connection.CLOSED: {},
    }[state]
    if trigger.name in allowed:
        assert step(CONNECTION, state, trigger).name == allowed[trigger.name]
    else:
        with pytest.raises(LocalFixError):
            step(CONNECTION, state, trigger)


def test_every_connection_can_close_but_the_closed_one() -> None:
    for state in Connection:
        assert ((state, ConnectionTrigger.CLOSED) in CONNECTION) == (state is not Connection.CLOSED)


def test_gap_opens_once_and_closes_when_filled() -> None:
    assert step(GAP, Gap.IN_SEQUENCE, GapTrigger.TOO_HIGH) is Gap.AWAITING_RESEND
    assert step(GAP, Gap.AWAITING_RESEND, GapTrigger.TOO_HIGH) is Gap.AWAITING_RESEND
    assert step(GAP, Gap.AWAITING_RESEND, GapTrigger.FILLED) is Gap.IN_SEQUENCE
    with pytest.raises(LocalFixError):
        step(GAP, Gap.IN_SEQUENCE, GapTrigger.FILLED)


def test_liveness_asks_before_it_gives_up() -> None:
    asked = step(LIVENESS, Liveness.ALIVE, LivenessTrigger.SILENT)
    assert asked is Liveness.TEST_REQUESTED
    assert step(LIVENESS, asked, LivenessTrigger.RECEIVED) is Liveness.ALIVE
    assert step(LIVENESS, asked, LivenessTrigger.TOO_SILENT) is Liveness.DEAD
    with pytest.raises(LocalFixError):
        step(LIVENESS, Liveness.ALIVE, LivenessTrigger.TOO_SILENT)
