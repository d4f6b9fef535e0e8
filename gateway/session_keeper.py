"""The FIX sessions of a gateway in Redis: logon, renewal, numbers, resends, release.

A session is *active* from its accepted Logon until it closes. While it is, its lease is renewed a
few times per TTL; whoever loses it (to another gateway, or an operator) is dropped. A session that
closes is released when all that it said has been admitted and all that was numbered has been
stored, so that the next logon, anywhere, goes on exactly there.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Protocol

from gateway.auth import Authenticator, Caller, Denied
from gateway.connection import Connection
from gateway.contest import Contests
from gateway.resends import resend_stored
from gateway.session_events import LogonRequested, NeedOutLimit, ResendRequested, SessionRules
from router.errors import Fenced, OutOfMemory, RedisUnavailable
from router.redis_client import RedisLink, retry_while_away
from router.sessions import Disabled, OnDisconnect, Opened, Outcome, RestoredSince, Sessions
from router.user_settings import read_settings
from router.users import read_user

_LOST = "The exchange has lost a part of this session: log on again"
_DISABLED = "User disabled"
_RESTORED = (
    "The exchange was restored from a backup: what came after it is void, and its numbers are given"
    " again; begin anew with ResetSeqNumFlag (141=Y)"
)
_ON_DISCONNECT = {None: OnDisconnect.AS_SET, True: OnDisconnect.CANCEL, False: OnDisconnect.KEEP}

logger = logging.getLogger("gateway")


class Stages(Protocol):
    """What the keeper needs of the stages around it."""

    async def admitted(self) -> None:
        """Wait until what was handed to admission so far is answered."""

    async def stored(self, connection: Connection, up_to: int) -> None:
        """Wait until no message of the connection up to a MsgSeqNum is being stored."""

    def mark(self, account: int) -> None:
        """Have the account's outbox read."""

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run a task that stops the gateway if it fails."""


class SessionKeeper:
    """See the head of this file.

    Args:
        sessions: the sessions in Redis, on a link of their own.
        link: accounts database, for reading users.
        authenticator: decides who may log on.
        stages: what a session may have to wait for.
        rules: of every session.
        max_sessions: see ``GatewaySettings``.
        now_ns: the clock.

    Attributes:
        active: account → connection of every session that is logged on here.
        contests: logons for sessions that are taken.
    """

    def __init__(
        self,
        sessions: Sessions,
        link: RedisLink,
        authenticator: Authenticator,
        stages: Stages,
        *,
        rules: SessionRules,
        max_sessions: int,
        now_ns: Callable[[], int],
    ) -> None:
        self._sessions = sessions
        self._link = link
        self._authenticator = authenticator
        self._stages = stages
        self._rules = rules
        self._max_sessions = max_sessions
        self._now_ns = now_ns
        self._opening = 0
        self._leasing: set[Connection] = set()
        self._closing: set[asyncio.Task[None]] = set()
        self.active: dict[int, Connection] = {}
        self.contests = Contests(sessions, self.active, spawn=stages.spawn, now_ns=now_ns)

    # ------------------------------------------------------------ logon

    def logon(self, connection: Connection, logon: LogonRequested) -> None:
        """Decide about a Logon whose turn has come."""
        self._stages.spawn(self._logon(connection, logon))

    async def _logon(self, connection: Connection, logon: LogonRequested) -> None:
        decide = self._reset if logon.in_session else self._open
        number = 1
        try:
            decision = await decide(connection, logon)
            if not isinstance(decision, Opened) and decision.text is not None and not logon.reset:
                number = await self._take_number(logon.sender_comp_id)
        except (RedisUnavailable, OutOfMemory) as error:
            # Without a word: a Logout would need a number, and a client that expects 1 (after a
            # reset) would count that one, and find the number of its next Logon's answer too low.
            logger.warning("%d: logon refused: %s", logon.sender_comp_id, error)
            decision = Denied(None)
        session = connection.session
        if isinstance(decision, Opened):
            await self._accept(connection, logon, decision)
        elif session.awaits_decision:
            session.refuse_logon(decision.text, msg_seq_num=number, now_ns=self._now_ns())
            connection.settle()

    async def _take_number(self, account: int) -> int:
        """Return the MsgSeqNum for a Logout that refuses a Logon: the session's next, now taken.

        1 where the session is not to be had: somebody is logged on, or the user is disabled. The
        number of the refused Logon stays open. Nobody has proved who sent it, and a stranger could
        else put the user's next Logon below what is expected; a number that is left open is filled
        by the resend that the next Logon brings about. What waits for a client that is gone goes on
        waiting, too.

        Raises:
            RedisUnavailable: no reply.
            OutOfMemory: no number was taken.
        """
        opened = await self._sessions.logon(
            account, reset=False, on_disconnect=OnDisconnect.UNCHANGED
        )
        if not isinstance(opened, Opened):
            return 1
        await self._release(
            account,
            opened.epoch,
            dealt=opened.next_in - 1,
            next_out=opened.next_out + 1,
            is_gone=False,
        )
        return opened.next_out

    async def _open(self, connection: Connection, logon: LogonRequested) -> Opened | Denied:
        account = logon.sender_comp_id
        caller = Caller(connection.address, connection.certificate_name)
        denied = await self._authenticator.check(logon, caller)
        if denied is not None:
            return denied
        if len(self.active) + self._opening >= self._max_sessions:
            return Denied(f"Gateway full: {self._max_sessions} sessions are logged on")
        self._opening += 1
        try:
            return _opened_or_denied(
                await self.contests.take(
                    account,
                    connection,
                    reset=logon.reset,
                    on_disconnect=_ON_DISCONNECT[logon.cancel_on_disconnect],
                )
            )
        finally:
            self._opening -= 1

    async def _reset(self, connection: Connection, logon: LogonRequested) -> Opened | Denied:
        """Begin a new incarnation within the session, when all of the old one is done."""
        account, epoch, session = connection.account, connection.epoch, connection.session
        await self._stages.admitted()
        await self._stages.stored(connection, sys.maxsize)
        try:
            await self._sessions.release(
                account,
                epoch,
                dealt=session.next_in - 1,
                next_out=session.next_out,
                is_gone=False,
            )
        except Fenced:
            return Denied(None)
        connection.epoch = 0
        on_disconnect = _ON_DISCONNECT[logon.cancel_on_disconnect]
        return _opened_or_denied(
            await self._sessions.logon(account, reset=True, on_disconnect=on_disconnect)
        )

    async def _accept(self, connection: Connection, logon: LogonRequested, opened: Opened) -> None:
        account, session = logon.sender_comp_id, connection.session
        if not session.awaits_decision:
            await self._release(
                account, opened.epoch, dealt=opened.next_in - 1, next_out=opened.next_out
            )
            return
        connection.account = account
        connection.journal_key = str(account)
        connection.epoch = opened.epoch
        connection.number = opened.number
        connection.cursor = opened.cursor
        connection.unanswered_from = 0
        connection.open_orders, connection.counted_to = opened.open_orders, opened.counted_to
        connection.settle_in(opened.settings)
        session.accept_logon(
            next_in=opened.next_in,
            next_out=opened.next_out,
            out_limit=opened.out_limit,
            now_ns=self._now_ns(),
        )
        if session.can_send:
            before = self.active.get(account)
            if before is not None and before is not connection:
                self.fenced(before)
            self.active[account] = connection
            logger.info(
                "%d: logged on from %s, next in %d, next out %d",
                account,
                connection.address,
                opened.next_in,
                opened.next_out,
            )
        connection.go_on()
        self._stages.mark(account)

    # ------------------------------------------------------------ the end of a session

    def closed(self, connection: Connection) -> None:
        """Release a session whose last message has been dealt with."""
        if self.active.get(connection.account) is connection:
            del self.active[connection.account]
        if connection.epoch:
            closing = self._stages.spawn(self._close(connection))
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    async def all_released(self) -> None:
        """Wait until every session that has closed so far is released."""
        if self._closing:
            await asyncio.wait(list(self._closing))

    async def _close(self, connection: Connection) -> None:
        await self._stages.admitted()
        await self._stages.stored(connection, sys.maxsize)
        session = connection.session
        await self._release(
            connection.account,
            connection.epoch,
            dealt=(connection.unanswered_from or session.next_in) - 1,
            next_out=session.next_out,
        )

    async def _release(
        self, account: int, epoch: int, *, dealt: int, next_out: int, is_gone: bool = True
    ) -> None:
        try:
            await retry_while_away(
                lambda: self._sessions.release(
                    account, epoch, dealt=dealt, next_out=next_out, is_gone=is_gone
                ),
                what=f"release of session {account}",
                out_of_memory_too=True,
            )
        except Fenced as error:
            logger.warning("%s", error)
        else:
            logger.info("%d: session released, next in %d, out %d", account, dealt + 1, next_out)

    def fenced(self, connection: Connection) -> None:
        """Part with a connection that does not own its session any more; say why if we may."""
        if not connection.epoch:
            return
        connection.epoch = 0
        if self.active.get(connection.account) is connection:
            del self.active[connection.account]
        self._stages.spawn(self._part(connection))

    async def _part(self, connection: Connection) -> None:
        account = connection.account
        try:
            user = await read_user(self._link, account)
        except RedisUnavailable:
            user = None
        if user is not None and user.disabled:
            self._log_out(connection, _DISABLED)
        else:
            logger.warning("%d: the session belongs to another gateway now", account)
            connection.drop()

    def lost(self, connection: Connection) -> None:
        """Log out a session of which Redis has lost a part.

        Our numbers go on, so that the client can; but what Redis has not dealt with is asked for
        again at the next logon, and answered then.
        """
        logger.warning("%d: Redis has lost a part of the session", connection.account)
        connection.unanswered_from = 1
        self._log_out(connection, _LOST)

    def disabled(self, account: int) -> None:
        """Log out a user that an operator has disabled."""
        connection = self.active.get(account)
        if connection is not None:
            self._log_out(connection, _DISABLED)

    def settings_changed(self, account: int) -> None:
        """Read the settings of a user again that an operator has changed."""
        connection = self.active.get(account)
        if connection is not None:
            self._stages.spawn(self._read_settings(connection))

    async def _read_settings(self, connection: Connection) -> None:
        account = connection.account
        settings = await retry_while_away(
            lambda: read_settings(self._link, account), what=f"settings of {account}"
        )
        connection.settle_in(settings)

    def _log_out(self, connection: Connection, text: str) -> None:
        connection.session.logout(text, now_ns=self._now_ns())
        connection.settle()

    # ------------------------------------------------------------ while it is active

    async def run_renewals(self, interval_s: float) -> None:
        """Say that the sessions are alive, until cancelled."""
        failing = False
        while True:
            await asyncio.sleep(interval_s)
            epochs = {account: one.epoch for account, one in self.active.items() if one.epoch}
            try:
                lost = await self._sessions.renew(epochs)
            except (RedisUnavailable, OutOfMemory) as error:
                if not failing:
                    logger.warning("Sessions cannot be renewed, trying again: %s", error)
                failing = True
                continue
            if failing:
                logger.warning("Sessions are renewed again")
            failing = False
            for account in lost:
                connection = self.active.get(account)
                if connection is not None and connection.epoch == epochs[account]:
                    self.fenced(connection)

    def serve(self, connection: Connection, request: ResendRequested | NeedOutLimit) -> None:
        """Give a session what it asks for: old messages, or numbers."""
        if isinstance(request, ResendRequested):
            work = resend_stored(
                connection,
                self._sessions,
                stored=self._stages.stored,
                begin=request.begin,
                end=request.end,
                now_ns=self._now_ns,
            )
            self._stages.spawn(work)
        else:
            self.lease_numbers(connection)

    def lease_numbers(self, connection: Connection) -> None:
        """Lease more MsgSeqNums for a connection, unless that is under way."""
        if connection not in self._leasing:
            self._leasing.add(connection)
            self._stages.spawn(self._lease_numbers(connection))

    async def _lease_numbers(self, connection: Connection) -> None:
        session, epoch = connection.session, connection.epoch
        wanted = max(self._rules.out_low_water, connection.numbers_wanted)
        try:
            while connection.epoch == epoch and session.can_send and session.out_remaining < wanted:
                out_limit = session.next_out - 1 + session.out_remaining
                new_limit = await self._raise_limit(connection.account, epoch, out_limit)
                if connection.epoch == epoch:
                    session.extend_out_limit(new_limit, now_ns=self._now_ns())
        except Fenced:
            self.fenced(connection)
            return
        finally:
            self._leasing.discard(connection)
        connection.numbers_wanted = 0
        connection.go_on()
        self._stages.mark(connection.account)

    def _raise_limit(self, account: int, epoch: int, out_limit: int) -> Awaitable[int]:
        return retry_while_away(
            lambda: self._sessions.raise_limit(account, epoch, out_limit=out_limit),
            what=f"numbers of session {account}",
            out_of_memory_too=True,
        )


def _opened_or_denied(outcome: Outcome) -> Opened | Denied:
    if isinstance(outcome, Opened):
        return outcome
    if isinstance(outcome, RestoredSince):
        return Denied(_RESTORED)
    # The first connection is alive: the second one is dropped without a word (case 1b).
    return Denied(_DISABLED if isinstance(outcome, Disabled) else None)
