"""The daily reset: whoever is logged on when it comes is logged out, and begins at 1 again.

The next logon does the resetting (router/scripts/session_logon.lua), by the time at which the
present numbers began; so it does not matter which gateway runs when the time comes, or none.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping

from gateway.connection import Connection
from router.errors import RedisUnavailable
from router.sessions import Sessions

TEXT = "Daily reset of sequence numbers: log on again with MsgSeqNum 1"
_LOOK_S = 1.0

logger = logging.getLogger("gateway")


async def run_daily_resets(
    sessions: Sessions, active: Mapping[int, Connection], now_ns: Callable[[], int]
) -> None:
    """Log out the sessions whose numbers are of the day before, until cancelled.

    Args:
        sessions: which know the time of the reset.
        active: account → connection of every session that is logged on here.
        now_ns: the clock.
    """
    while True:
        await asyncio.sleep(_LOOK_S)
        connections = dict(active)
        try:
            overdue = await sessions.overdue(connections)
        except RedisUnavailable:
            continue  # those who are logged on stay so, until it can be asked again
        for account in overdue:
            logger.info("%d: logged out for the daily reset", account)
            connections[account].session.logout(TEXT, now_ns=now_ns())
            connections[account].settle()
