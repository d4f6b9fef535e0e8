"""From outboxes to clients: read, number, store, send; what an account is told, once and in order.

A wake-up on pub/sub names the accounts with news; a sweep asks for all of them now and then, so a
lost wake-up costs a moment. One read fetches what is new for all accounts at once, one call stores
what was made of it, and each session gets one write. Messages and the outbox cursor are stored in
the same step: whatever dies in between, an entry is numbered once per incarnation and none is lost.

While Redis is away the batch at hand is stored again and again. Its numbers are taken, so what else
the session has to say (380=4, heartbeats) goes out behind a gap meanwhile; the batch itself then
goes out as a resend (PossDupFlag=Y), which fits whether or not the client has asked for it.

Redis may come back as another server (its run id differs), which may lack what came last: then the
numbers of outbox entries stand for other reports. So before anything is read or stored there, each
session is compared with what the server knows of it; one that it knows less of is logged out, and
goes on at its next logon from where the server is.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

import msgspec

from engine.events import (
    BusinessRejected,
    CancelRejected,
    Event,
    OrderAccepted,
    OrderCanceled,
    OrderFilled,
    OrderRejected,
    OrderReplaced,
    OrderStatusReported,
    Output,
    Skipped,
)
from engine.limits import READ_BATCH_MAX
from gateway.connection import Connection
from gateway.fix_message import as_poss_dup
from gateway.fix_tags import NEW_ORDER_SINGLE, ORDER_CANCEL_REPLACE_REQUEST
from gateway.fix_time import UtcTimestampWriter
from gateway.outbox_reports import OutboxReports, Told
from gateway.session_events import Outbound
from gateway.symbol_texts import SymbolTable
from router.errors import RedisUnavailable, ServerChanged, StreamGap
from router.outbox import OrderList, OutboxEntry, read_outboxes
from router.redis_client import RedisLink, retry_while_away
from router.sessions import Sessions, Store

_ACCOUNTS_PER_READ_MAX = 256
"""Accounts that one read asks for; the others come next, so a batch is bounded."""

_ANSWERS = (OrderAccepted, OrderRejected, OrderReplaced, CancelRejected, Skipped)
"""Events that answer a D or G; their ClOrdID is not in flight any more."""

_LIMITED = (NEW_ORDER_SINGLE.decode(), ORDER_CANCEL_REPLACE_REQUEST.decode())
"""The messages whose ClOrdID is in flight until they are answered."""

logger = logging.getLogger("gateway")


class _Batch(msgspec.Struct):
    """One session's messages on their way through the store."""

    connection: Connection
    messages: list[Outbound]
    store: Store
    before: int
    """The cursor before its first entry."""
    entries: Sequence[OutboxEntry]


class Reporter:
    """See the head of this file.

    Args:
        link: accounts database, for reading.
        sessions: stores what is sent.
        symbols: rules and texts of every symbol.
        active: account → connection of every session that is logged on here.
        spawn: runs a coroutine as a task that stops the gateway if it fails.
        now_ns: the clock.
        on_numbers: told that a connection needs ``numbers_wanted`` MsgSeqNums.
        on_fenced: told that a connection does not own its session any more.
        on_lost: told that Redis has lost a part of a connection's session.

    Attributes:
        reports: messages sent so far.
    """

    def __init__(
        self,
        link: RedisLink,
        sessions: Sessions,
        symbols: SymbolTable,
        active: Mapping[int, Connection],
        *,
        spawn: Callable[[Coroutine[Any, Any, None]], object],
        now_ns: Callable[[], int],
        on_numbers: Callable[[Connection], None],
        on_fenced: Callable[[Connection], None],
        on_lost: Callable[[Connection], None],
    ) -> None:
        self._link = link
        self._sessions = sessions
        self._symbols = symbols
        self._reports = OutboxReports(link, symbols)
        self._active = active
        self._spawn = spawn
        self._now_ns = now_ns
        self._on_numbers = on_numbers
        self._on_fenced = on_fenced
        self._on_lost = on_lost
        # The server that knows all cursors; empty before the first read.
        self._server = ""
        self._times = UtcTimestampWriter()
        self._dirty: dict[int, None] = {}
        # Those who do not read while open orders are listed; each is waited for once.
        self._awaited: set[Connection] = set()
        self._wake = asyncio.Event()
        self._stored = asyncio.Event()
        self.reports = 0

    def mark(self, account: int) -> None:
        """Read the outbox of an account soon; one that is not logged on here is left alone."""
        if account in self._active:
            self._dirty[account] = None
            self._wake.set()

    def mark_all(self) -> None:
        """Read the outboxes of all accounts soon."""
        self._dirty.update(dict.fromkeys(self._active))
        self._wake.set()

    async def stored(self, connection: Connection, up_to: int) -> None:
        """Wait until no message of a connection up to MsgSeqNum ``up_to`` is being stored."""
        while 0 < connection.storing_from <= up_to:
            self._stored.clear()
            await self._stored.wait()

    async def run(self) -> None:
        """Report until cancelled."""
        while True:
            if not self._dirty:
                self._wake.clear()
                await self._wake.wait()
            await self._report(self._take_dirty())

    async def run_sweeps(self, interval_s: float) -> None:
        """Read all outboxes now and then, until cancelled."""
        while True:
            await asyncio.sleep(interval_s)
            self.mark_all()

    def _take_dirty(self) -> dict[int, Connection]:
        """Return accounts with news whose sessions can be told."""
        taken: dict[int, Connection] = {}
        for account in list(self._dirty)[:_ACCOUNTS_PER_READ_MAX]:
            del self._dirty[account]
            connection = self._active.get(account)
            if connection is not None and connection.session.can_send:
                taken[account] = connection
        return taken

    async def _report(self, connections: Mapping[int, Connection]) -> None:
        if not connections:
            return
        found = await retry_while_away(
            lambda: self._read(connections), what="outboxes", out_of_memory_too=True
        )
        batches = []
        for account, entries in found.items():
            told = [await self._reports.told(account, entry) for entry in entries]
            batch = self._number(connections[account], entries, told)
            if batch is not None:
                batches.append(batch)
            is_cut = len(entries) == READ_BATCH_MAX or isinstance(entries[-1], OrderList)
            if is_cut and connections[account].cursor == entries[-1].number:
                self.mark(account)
        if batches:
            await self._store(batches)

    async def _read(self, connections: Mapping[int, Connection]) -> dict[int, list[OutboxEntry]]:
        """Read what is new; part with sessions that others have gone on with meanwhile.

        Raises:
            StreamGap: an outbox of ours lacks entries.
        """
        cursors = {account: connection.cursor for account, connection in connections.items()}
        while True:
            try:
                found = await read_outboxes(self._link, cursors, count=READ_BATCH_MAX)
                if self._link.run_id == self._server:
                    return found
                for connection in await self._meet_server(()):
                    cursors.pop(connection.account, None)
            except StreamGap:
                # Where a session goes on elsewhere, its outbox is trimmed beyond our cursor.
                lost = await self._sessions.renew({one: connections[one].epoch for one in cursors})
                if not lost:
                    raise
                for account in lost:
                    del cursors[account]
                    self._on_fenced(connections[account])

    def _number(
        self, connection: Connection, entries: Sequence[OutboxEntry], told: Sequence[Told]
    ) -> _Batch | None:
        """Give numbers to as much as the lease allows; hold the connection's output from there."""
        session = connection.session
        if not session.can_send:
            return None
        now_ns = self._now_ns()
        first, before = session.next_out, connection.cursor
        send = session.send_application
        for entry, one in zip(entries, told, strict=True):
            if type(one) is OrderList and not connection.is_writable:
                self._wait_for(connection)
                break
            bodies = self._reports.bodies(connection.account, entry, one)
            if len(bodies) > session.out_remaining:
                connection.numbers_wanted = len(bodies)
                self._on_numbers(connection)
                break
            for msg_type, body in bodies:
                send(msg_type, body, now_ns=now_ns)
            if type(one) is Output and not entry.copy_of:
                is_counted = entry.number <= connection.counted_to
                for event in one.events:
                    _note(connection, one.symbol, event, is_counted=is_counted)
            connection.cursor = entry.number
        if connection.cursor == before:
            return None
        messages = connection.hold_output()
        store = Store(
            account=connection.account,
            epoch=connection.epoch,
            first=first,
            last=session.next_out - 1,
            cursor=connection.cursor,
            messages=b"".join([message.data for message in messages if message.stored]),
        )
        numbered = entries[: connection.cursor - before]
        return _Batch(connection, messages, store, before, numbered)

    def _wait_for(self, connection: Connection) -> None:
        """Have the account read again when the client has read what it was sent so far."""
        if connection not in self._awaited:
            self._awaited.add(connection)
            self._spawn(self._mark_when_writable(connection))

    async def _mark_when_writable(self, connection: Connection) -> None:
        try:
            await connection.writable()
        finally:
            self._awaited.discard(connection)
        self.mark(connection.account)

    async def _store(self, batches: Sequence[_Batch]) -> None:
        late = False

        def on_change(available: bool) -> None:
            nonlocal late
            if not available and not late:
                late = True
                for batch in batches:
                    batch.connection.release_output([])

        stored = list(batches)
        kept = await retry_while_away(
            lambda: self._store_on_known(stored),
            what="sent messages",
            on_change=on_change,
            out_of_memory_too=True,
        )
        for batch, is_ours in zip(stored, kept, strict=True):
            connection = batch.connection
            connection.storing_from = 0
            if not is_ours:
                self._on_fenced(connection)
                connection.release_output([])
            elif late:
                connection.write_late(self._as_resends(batch.messages))
            else:
                connection.release_output(batch.messages)
            self.reports += len(batch.messages)
        self._stored.set()

    async def _store_on_known(self, batches: list[_Batch]) -> list[bool]:
        """Store batches on the server that knows their sessions; drop those that it knows less of.

        Raises:
            RedisUnavailable, OutOfMemory: what is left of the batches is to be stored again.
        """
        while batches:
            try:
                stores = [batch.store for batch in batches]
                return await self._sessions.store(stores, server=self._server)
            except ServerChanged:
                lost = await self._meet_server(batches)
            batches[:] = [batch for batch in batches if batch.connection not in lost]
        return []

    async def _meet_server(self, batches: Sequence[_Batch]) -> list[Connection]:
        """Part with sessions that another server knows less of, and return their connections.

        Args:
            batches: that are being stored: whether they are stored is not known.

        Raises:
            RedisUnavailable: no reply; nothing is decided.
        """
        server = self._link.run_id
        lost: list[Connection] = []
        if self._server:
            logger.warning("Redis is another server now: %s", server)
            storing = {batch.connection: batch for batch in batches}
            active = dict(self._active)
            known = await self._sessions.read(list(active))
            for account, connection in active.items():
                epoch, cursor = known[account]
                if connection.epoch not in (0, epoch) or (
                    cursor != connection.cursor
                    and not await self._is_as_read(storing.get(connection), cursor)
                ):
                    lost.append(connection)
        if self._link.run_id != server:
            raise RedisUnavailable("Redis was replaced while sessions were compared with it")
        self._server = server
        for connection in lost:
            if connection in storing:
                connection.storing_from = 0
                connection.release_output([])
            self._on_lost(connection)
        self._stored.set()
        return lost

    async def _is_as_read(self, batch: _Batch | None, cursor: int) -> bool:
        """Tell whether the outbox still has what a batch was made of, and nothing of it is lost."""
        if batch is None or cursor != batch.before:
            return False
        cursors = {batch.connection.account: cursor}
        try:
            found = await read_outboxes(self._link, cursors, count=len(batch.entries))
        except StreamGap:
            return False
        return found.get(batch.connection.account) == list(batch.entries)

    def _as_resends(self, messages: Sequence[Outbound]) -> list[Outbound]:
        time = self._times.write(self._now_ns())
        return [
            msgspec.structs.replace(message, data=as_poss_dup(message.data, time))
            for message in messages
        ]


def _note(connection: Connection, symbol: str, event: Event, *, is_counted: bool) -> None:
    """Keep count of what is in flight, and of open orders.

    Args:
        is_counted: the open orders that were counted at logon are as of this event, or later.
    """
    opened = 0
    if type(event) is OrderFilled:
        # Most are fills, and the events' metaclass makes a miss of isinstance slow.
        opened = 0 if event.leaves_lots else -1
    elif type(event) is OrderCanceled:
        opened = -1
    elif isinstance(event, _ANSWERS):
        connection.answered(symbol, event.cl_ord_id)
        opened = 1 if type(event) is OrderAccepted else 0
    elif type(event) is OrderStatusReported:
        # The answer to a D or G with PossResend=Y that came before.
        if event.order_seq:
            connection.answered(symbol, event.cl_ord_id)
    elif type(event) is BusinessRejected and event.ref_msg_type in _LIMITED:
        connection.answered(symbol, event.ref_id)
    if opened and not is_counted:
        connection.open_orders += opened
