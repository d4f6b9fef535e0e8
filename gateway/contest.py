"""Two connections for one FIX session: is the first one still there?

FIX lets the first connection live and drops the second without a word. But the first may be dead
and nobody knows: its gateway was killed, or its client vanished without closing the connection
(half-open), which silence alone shows only after 2.4 heartbeat intervals. So the second one, once
its password is checked, waits a moment:

    second's gateway                  first's gateway              first's client
    contested {account}  ──────────▶  TestRequest  ─────────────▶
                                                   ◀─────────────  whatever it says
    refused  ◀──────────────────────  alive {account}
    accepted ◀───── session released  connection dropped           says nothing in time

Where the first's gateway is dead, nobody answers, and its lease of the session runs out.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import suppress
from typing import Any

from gateway.connection import Connection
from router.errors import OutOfMemory, RedisUnavailable
from router.sessions import OnDisconnect, Outcome, Sessions, Taken

PROBE_TIMEOUT_S = 1.0
"""How long the first client may take to say something before it counts as gone."""

_SLACK_S = 0.5
"""For the release of a session behind its probe, or behind the end of its lease."""

_RETRY_S = 0.05
_LOOK_S = 0.02

logger = logging.getLogger("gateway")


class Contests:
    """Both sides of what the head of this file shows, for the sessions of one gateway.

    Args:
        sessions: the sessions in Redis.
        active: account → connection of every session that is logged on here.
        spawn: runs a coroutine as a task that stops the gateway if it fails.
        now_ns: the clock.
    """

    def __init__(
        self,
        sessions: Sessions,
        active: Mapping[int, Connection],
        *,
        spawn: Callable[[Coroutine[Any, Any, None]], object],
        now_ns: Callable[[], int],
    ) -> None:
        self._sessions = sessions
        self._active = active
        self._spawn = spawn
        self._now_ns = now_ns
        self._waiting: dict[int, asyncio.Event] = {}
        self._probed: set[Connection] = set()

    async def take(
        self,
        account: int,
        connection: Connection,
        *,
        reset: bool,
        on_disconnect: OnDisconnect,
    ) -> Outcome:
        """Take an account's session, if need be after whoever has it turned out to be gone.

        Args:
            account: authenticated; one connection per account and gateway waits, others are told
                at once that the session is taken.
            connection: which wants it; when it is gone nobody waits any more.
            reset, on_disconnect: see ``Sessions.logon``.

        Raises:
            RedisUnavailable: no reply.
        """

        def log_on() -> Awaitable[Outcome]:
            return self._sessions.logon(account, reset=reset, on_disconnect=on_disconnect)

        outcome = await log_on()
        if not isinstance(outcome, Taken) or account in self._waiting:
            return outcome
        alive = self._waiting[account] = asyncio.Event()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + max(PROBE_TIMEOUT_S, outcome.remaining_ms / 1_000) + _SLACK_S
        try:
            await self._sessions.contest(account)
            is_over = False
            while isinstance(outcome, Taken) and not is_over:
                with suppress(TimeoutError):
                    async with asyncio.timeout(_RETRY_S):
                        await alive.wait()
                if alive.is_set() or not connection.session.awaits_decision:
                    break
                # The last try is one after the deadline, also where this process stood still.
                is_over = loop.time() >= deadline
                outcome = await log_on()
        finally:
            del self._waiting[account]
        return outcome

    def alive(self, account: int) -> None:
        """Hear that the first connection of an account is alive: the second one waits in vain."""
        waiting = self._waiting.get(account)
        if waiting is not None:
            waiting.set()

    def contested(self, account: int) -> None:
        """Hear that somebody else logs on: find out whether our client is still there."""
        connection = self._active.get(account)
        if connection is not None and connection not in self._probed:
            self._probed.add(connection)
            self._spawn(self._probe(account, connection))

    async def _probe(self, account: int, connection: Connection) -> None:
        try:
            if await self._says_something(connection):
                # The other one waits for its time-out where this cannot be said.
                with suppress(RedisUnavailable, OutOfMemory):
                    await self._sessions.confirm(account)
            else:
                logger.warning("%d: logs on again and does not answer here: dropped", account)
                connection.drop()
        finally:
            self._probed.discard(connection)

    async def _says_something(self, connection: Connection) -> bool:
        """Ask a client, and tell whether anything came from it in time."""
        asked_ns = self._now_ns()
        connection.session.probe(now_ns=asked_ns)
        connection.settle()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + PROBE_TIMEOUT_S
        while loop.time() < deadline:
            await asyncio.sleep(_LOOK_S)
            if connection.session.heard_since(asked_ns):
                return True
        return False
