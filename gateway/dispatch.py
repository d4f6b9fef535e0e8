"""The forward stage of the ring: requests into Redis, one admission call in flight.

While a call is under way the next batch gathers in the ring. While Redis is away, that call is
repeated until it is answered, and new messages get 380=4 directly, within the numbers that the
session has leased.

    Redis                          D, G                       F, H
    away                           380=4                      380=4
    memory beyond the limit        380=4 through the outbox   admitted
    out of memory                  380=4                      380=4

380=4 through the outbox also gets a batch of which the raw journal lacks something, because its
disk is full.

A message that got 380=4 directly is put on record as a refusal as soon as that can be written: a
resend after a crash of this gateway does not bring it to life, and a client whom the first answer
did not reach is told. Where the connection is gone already, and so nobody can be told, it counts as
never received: the next logon asks for it again.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from itertools import islice
from typing import Any

from engine.commands import NewOrder, ReplaceOrder
from engine.events import BusinessRejected
from engine.limits import ADMISSION_BATCH_MAX
from gateway.connection import Connection
from gateway.encoder import Encoder
from gateway.fix_tags import (
    BUSINESS_MESSAGE_REJECT,
    NEW_ORDER_SINGLE,
    ORDER_CANCEL_REPLACE_REQUEST,
)
from gateway.lookups import Lookups
from gateway.pipeline import Inbound
from gateway.refusals import Origin, Request, not_available
from gateway.reports_out import business_reject_body
from gateway.session_events import AppMessage, Closed, LogonRequested
from gateway.symbol_texts import SymbolTable
from router.admission import ANSWERED, FENCED, REFUSED, SKIPPED, Admission, AdmissionItem
from router.errors import OutOfMemory, RedisUnavailable, RulesChanged
from router.homes import Home

_LOOK_S = 0.05
"""How often a call that takes long is looked at: is Redis slow, or away?"""

AWAY = "The exchange cannot reach its order streams; try again"
LOW = "The exchange is short of memory; only cancels are taken"
FULL = "The exchange is out of memory; try again"
UNRECORDED = "The gateway cannot write its journal; try again"

logger = logging.getLogger("gateway")

_ORDERS = (NEW_ORDER_SINGLE, ORDER_CANCEL_REPLACE_REQUEST)


class Dispatcher:
    """Forward what the ring holds; see the head of this file.

    Args:
        admission: the way into Redis.
        symbols: rules and texts of every symbol; updated when rules change.
        encoder: of the encode stage.
        lookups: complete what encode could not.
        now_ns: the clock.
        read_homes: reads the homes of all symbols again.
        spawn: runs a coroutine as a task that stops the gateway if it fails.
        on_logon: told when a Logon's turn has come.
        on_closed: told when all that a closed session said has been dealt with.
        on_refused: told that an answer stands in a connection's outbox.
        on_fenced: told that a connection does not own its session any more.
        on_market: told when the turn of a request for market data has come.

    Attributes:
        memory_low: Redis' memory is beyond the limit: only F and H are admitted.
        admitted, refused, unavailable: commands published, refused through the outbox, and
            messages answered by 380=4, so far.
    """

    def __init__(
        self,
        admission: Admission,
        symbols: SymbolTable,
        encoder: Encoder,
        lookups: Lookups,
        *,
        now_ns: Callable[[], int],
        read_homes: Callable[[], Awaitable[Mapping[str, Home]]],
        spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
        on_logon: Callable[[Connection, LogonRequested], None],
        on_closed: Callable[[Connection], None],
        on_refused: Callable[[Connection], None],
        on_fenced: Callable[[Connection], None],
        on_market: Callable[[Connection, AppMessage], None],
    ) -> None:
        self._admission = admission
        self._symbols = symbols
        self._encoder = encoder
        self._lookups = lookups
        self._now_ns = now_ns
        self._read_homes = read_homes
        self._spawn = spawn
        self._on_logon = on_logon
        self._on_closed = on_closed
        self._on_refused = on_refused
        self._on_fenced = on_fenced
        self._on_market = on_market
        self._call: asyncio.Task[None] | None = None
        # What got 380=4 and is not on record yet; at most the MsgSeqNums that are leased.
        self._unrecorded: deque[tuple[Connection, AdmissionItem]] = deque()
        self.memory_low = False
        self.admitted = 0
        self.refused = 0
        self.unavailable = 0

    async def forward(self, entries: list[Inbound], *, end_of_batch: bool) -> None:
        """Handle a batch of the forward stage, once the call before it is answered."""
        call = self._call
        while call is not None and not call.done() and self._admission.available:
            await asyncio.wait((call,), timeout=_LOOK_S)
        requests = [
            entry
            for entry in entries
            if entry.request is not None and not entry.connection.unanswered_from
        ]
        if call is not None and not call.done():
            self._answer(requests, AWAY)
            self._pass_on(entries)
        elif requests:
            self._call = self._spawn(self._forward(requests, entries))
        else:
            self._pass_on(entries)

    async def idle(self) -> None:
        """Wait until what has been handed to admission so far is answered."""
        call = self._call
        if call is not None and not call.done():
            await asyncio.wait((call,))

    # ------------------------------------------------------------ one batch

    async def _forward(self, requests: list[Inbound], entries: list[Inbound]) -> None:
        try:
            if all(entry.recorded for entry in requests):
                await self._admit(requests)
            else:
                await self._refuse(requests, UNRECORDED)
        except RedisUnavailable:
            self._answer(requests, AWAY)
        except OutOfMemory:
            self._answer(requests, FULL)
        self._pass_on(entries)
        await self._put_on_record()

    async def _refuse(self, requests: list[Inbound], text: str) -> None:
        """Refuse a batch through the outboxes: Redis is there, so one answer is enough.

        Raises:
            OutOfMemory: nothing was refused.
        """
        items = []
        for entry in requests:
            event = entry.event
            assert isinstance(event, AppMessage), "Invariant: only such messages become requests"
            items.append(self._refusal(entry, event, text))
        self._settle(requests, await self._admission.admit(items))

    async def _put_on_record(self) -> None:
        """Put what got 380=4 on record; for want of memory, after the next batch.

        As refusals, which are said once more: what was sent is not stored, so a client that it did
        not reach, or that dropped it behind a gap, would never hear of it, nor be asked again.
        """
        while self._unrecorded:
            batch = list(islice(self._unrecorded, ADMISSION_BATCH_MAX))
            try:
                await self._admission.admit([refusal for _, refusal in batch])
            except OutOfMemory:
                return
            for connection, _ in batch:
                self._unrecorded.popleft()
                self._on_refused(connection)

    async def _admit(self, requests: list[Inbound]) -> None:
        """Admit a batch; under newer rules, if they have changed meanwhile.

        Raises:
            RedisUnavailable: something could not be looked up; nothing was admitted.
            OutOfMemory: nothing was admitted.
        """
        while True:
            self._encoder.refresh(requests)
            await self._lookups.complete(requests)
            kept_out = self.memory_low
            items = [self._item(entry, kept_out) for entry in requests]
            try:
                results = await self._admission.admit(items)
            except RulesChanged as change:
                logger.warning("Rules have changed, translating again: %s", change)
                self._admission.homes = await self._read_homes()
                self._symbols.update(home.rules for home in self._admission.homes.values())
                continue
            self._settle(requests, results)
            return

    def _item(self, entry: Inbound, kept_out: bool) -> AdmissionItem:
        event = entry.event
        assert isinstance(event, AppMessage), "Invariant: only messages with a request are admitted"
        if kept_out and event.message.msg_type in _ORDERS:
            _forget_in_flight(entry)
            return self._refusal(entry, event, LOW)
        assert entry.item is not None, "Invariant: what was looked up has an item"
        return entry.item

    def _settle(self, requests: Sequence[Inbound], results: Sequence[int]) -> None:
        for entry, result in zip(requests, results, strict=True):
            if result > 0:
                self.admitted += 1
            elif result in (ANSWERED, REFUSED):
                self.admitted += result == ANSWERED
                self.refused += result == REFUSED
                self._on_refused(entry.connection)
            elif result == SKIPPED:
                _forget_in_flight(entry)
            else:
                assert result == FENCED, "Invariant: a known result of admission"
                self._on_fenced(entry.connection)

    def _pass_on(self, entries: Sequence[Inbound]) -> None:
        for entry in entries:
            event = entry.event
            if type(event) is LogonRequested:
                self._on_logon(entry.connection, event)
            elif type(event) is AppMessage and entry.request is None:
                self._on_market(entry.connection, event)
            elif type(event) is Closed:
                connection = entry.connection
                who = connection.journal_key or connection.address
                logger.info("%s: session ended: %s", who, event.reason)
                self._on_closed(connection)

    # ------------------------------------------------------------ 380=4

    def _answer(self, entries: Sequence[Inbound], text: str) -> None:
        """Send 380=4 for each, and note up to where each session has been answered."""
        connections: dict[Connection, None] = {}
        for entry in entries:
            self.unavailable += 1
            _forget_in_flight(entry)
            connection, event = entry.connection, entry.event
            assert isinstance(event, AppMessage), "Invariant: only such messages become requests"
            connections[connection] = None
            if not self._send_unavailable(connection, event, text):
                connection.unanswered_from = connection.unanswered_from or event.msg_seq_num
            else:
                self._unrecorded.append((connection, self._refusal(entry, event, text)))
        for connection in connections:
            connection.settle()

    def _send_unavailable(self, connection: Connection, event: AppMessage, text: str) -> bool:
        """Send 380=4, without storing it; return False where nothing can be sent any more."""
        session = connection.session
        if session.can_send and session.out_remaining < 1:
            session.logout("Out of sequence numbers", now_ns=self._now_ns())
        if not session.can_send:
            return False
        body = business_reject_body(_not_available(connection, event, text))
        session.send_application(BUSINESS_MESSAGE_REJECT, body, now_ns=self._now_ns(), stored=False)
        return True

    def _refusal(self, entry: Inbound, event: AppMessage, text: str) -> AdmissionItem:
        """Return what puts 380=4 into the account's outbox."""
        assert entry.request is not None, "Invariant: only requests are answered here"
        rejected = _not_available(entry.connection, event, text)
        return self._encoder.make_item(entry, Request(entry.request.symbol, rejected))


def _not_available(connection: Connection, event: AppMessage, text: str) -> BusinessRejected:
    origin = Origin(connection.account, connection.number, event.msg_seq_num, False)
    return not_available(event.message, origin, text)


def _forget_in_flight(entry: Inbound) -> None:
    request = entry.request
    if request is not None and isinstance(request.content, NewOrder | ReplaceOrder):
        entry.connection.answered(request.symbol, request.content.cl_ord_id)
