"""The gateway's ring: every framed message of every client, refused ones too, passes through it.

    connections ──▶ ring ─┬─▶ journal ─┐
                          └─▶ encode ──┴─▶ forward

*journal* appends the raw messages, one write per batch; *encode* makes commands and refusals of
them; *forward* waits for both, so that nothing is admitted that is not in the journal. A full ring
stops reading sockets, and nothing is dropped: connections that found no room wait in a list, and
go on in turns as slots get free.

While the disk refuses the journal, messages pass unrecorded, and forward refuses what they ask for
(380=4). Their records wait in memory, up to JOURNAL_PENDING_RECORDS_MAX, and are written as soon as
there is room.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence

from engine.errors import JournalSyncFailed, JournalWriteFailed
from engine.journal import Record
from engine.journal_writer import JournalWriter
from engine.limits import ADMISSION_BATCH_MAX, RING_SLOTS
from engine.ring import RingBuffer
from engine.ring_loop import BatchHandler, run_consumer, wait_for_capacity
from gateway.connection import Connection
from gateway.fix_message import without_secrets
from gateway.fix_tags import MARKET_DATA_INCREMENTAL_REFRESH, MARKET_DATA_SNAPSHOT
from gateway.fixlog import INBOUND, OUTBOUND
from gateway.refusals import Request
from gateway.session_events import (
    Closed,
    Event,
    IgnoredMessage,
    LogonRequested,
    NeedOutLimit,
    Outbound,
    RejectedMessage,
    ResendRequested,
)
from router.admission import AdmissionItem

_JOURNAL_BATCH_MAX = 1_024
_DISK_RETRY_S = 0.2
"""Between two tries while too much waits for a slow disk; the ring fills, and reading stops."""

_REQUESTS = (ResendRequested, NeedOutLimit)
_NOT_MESSAGES = (Closed, *_REQUESTS)

_NOT_JOURNALLED = (MARKET_DATA_SNAPSHOT, MARKET_DATA_INCREMENTAL_REFRESH)
"""Public, the same for everybody, and many times what the rest is."""

logger = logging.getLogger("gateway")


class Inbound:
    """One slot: a session's event, and what the stages make of it.

    Attributes:
        connection: whose it is.
        event: a framed message, or the end of the session.
        received_ns: when it came.
        request: what an application message asks for; set by encode.
        item: the same, ready for admission; None where something must be looked up first.
        recorded: whether the journal has it; False: the disk refused it.
    """

    __slots__ = ("connection", "event", "item", "received_ns", "recorded", "request")

    def __init__(self, connection: Connection, event: Event, received_ns: int) -> None:
        self.connection = connection
        self.event = event
        self.received_ns = received_ns
        self.request: Request | None = None
        self.item: AdmissionItem | None = None
        self.recorded = True


class Pipeline:
    """The ring and what surrounds it; the ``Host`` of every connection.

    Args:
        journal: of raw messages, both directions.
        encode: handles batches of the encode stage.
        forward: handles batches of the forward stage.
        on_request: told what a session needs besides the ring: resends and numbers.
        connections_max: see ``GatewaySettings``.

    Attributes:
        connections: all that have a socket.
        messages_in, messages_out: framed messages so far.
        journal_lost: messages that the disk refused for so long that the journal lacks them.
    """

    def __init__(
        self,
        journal: JournalWriter,
        *,
        encode: BatchHandler[Inbound],
        forward: BatchHandler[Inbound],
        on_request: Callable[[Connection, ResendRequested | NeedOutLimit], None],
        connections_max: int,
    ) -> None:
        self._journal = journal
        self._encode = encode
        self._forward = forward
        self._on_request = on_request
        self._connections_max = connections_max
        self._ring: RingBuffer[Inbound] = RingBuffer(RING_SLOTS)
        self._journal_stage = self._ring.add_consumer("journal")
        self._encode_stage = self._ring.add_consumer("encode")
        self._forward_stage = self._ring.add_consumer(
            "forward", after=(self._journal_stage, self._encode_stage)
        )
        # What a session said beyond the room that it was given: when a gap is filled or a session
        # ends, one message sets many free. Bounded by the sessions' own queues, because nobody
        # reads while something is in here.
        self._overflow: deque[Inbound] = deque()
        self._waiting: deque[Connection] = deque()
        self._freed = asyncio.Event()
        self._ring.subscribe_freed(self._freed.set)
        self._gone = asyncio.Event()
        self.connections: dict[Connection, None] = {}
        self.messages_in = 0
        self.messages_out = 0
        self.journal_lost = 0

    # ------------------------------------------------------------ Host

    def room(self) -> int:
        """Return how many messages may be read now (Host)."""
        return 0 if self._overflow else self._ring.remaining_capacity()

    def take_events(self, connection: Connection, events: Sequence[Event], now_ns: int) -> None:
        """Put messages and endings into the ring, in order (Host)."""
        entries = []
        for event in events:
            if isinstance(event, _REQUESTS):
                self._on_request(connection, event)
            else:
                entries.append(Inbound(connection, event, now_ns))
        self.messages_in += len(entries)
        if self._overflow or len(entries) > self._ring.remaining_capacity():
            self._overflow.extend(entries)
            self._publish_overflow()
        elif entries:
            self._ring.publish_many(entries)

    def wait_for_room(self, connection: Connection) -> None:
        """Let the connection go on, in its turn, when slots have got free (Host)."""
        self._waiting.append(connection)

    def note_output(
        self, connection: Connection, messages: Sequence[Outbound], now_ns: int
    ) -> None:
        """Put messages that are being written into the journal; wait for nothing (Host)."""
        key = connection.journal_key
        self.messages_out += len(messages)
        self._keep(
            [
                Record(key, one.msg_seq_num, now_ns, OUTBOUND, one.data)
                for one in messages
                if one.msg_type not in _NOT_JOURNALLED
            ]
        )

    def connected(self, connection: Connection) -> bool:
        """Keep the connection, unless there are too many (Host)."""
        if len(self.connections) >= self._connections_max:
            logger.warning("%s: connection refused, there are too many", connection.address)
            return False
        self.connections[connection] = None
        return True

    def disconnected(self, connection: Connection) -> None:
        """Forget the connection (Host)."""
        self.connections.pop(connection, None)
        self._gone.set()

    # ------------------------------------------------------------ the tasks

    async def run_journal(self) -> None:
        """Run the journal stage until cancelled."""
        handler = self._write_journal
        await run_consumer(self._journal_stage, handler, batch_max=_JOURNAL_BATCH_MAX)

    async def run_encode(self) -> None:
        """Run the encode stage until cancelled."""
        await run_consumer(self._encode_stage, self._encode, batch_max=ADMISSION_BATCH_MAX)

    async def run_forward(self) -> None:
        """Run the forward stage until cancelled."""
        await run_consumer(self._forward_stage, self._forward, batch_max=ADMISSION_BATCH_MAX)

    async def run_waiting(self) -> None:
        """Let connections that found no room go on, in turns, until cancelled."""
        while True:
            self._freed.clear()
            await self._freed.wait()
            self._publish_overflow()
            for _ in range(len(self._waiting)):
                if not self.room():
                    break
                self._waiting.popleft().go_on()

    @property
    def used(self) -> int:
        """Return how many slots of the ring are in use."""
        return self._ring.capacity - self._ring.remaining_capacity()

    async def all_disconnected(self) -> None:
        """Wait until no connection has a socket."""
        while self.connections:
            self._gone.clear()
            await self._gone.wait()

    async def drained(self) -> None:
        """Wait until every stage has finished with all that was read."""
        while self._overflow or not self._ring.is_drained():
            await wait_for_capacity(self._ring, self._ring.capacity)
            self._publish_overflow()

    def _publish_overflow(self) -> None:
        count = min(len(self._overflow), self._ring.remaining_capacity())
        if count:
            self._ring.publish_many([self._overflow.popleft() for _ in range(count)])

    def _keep(self, records: list[Record]) -> None:
        """Put records into the journal, now or when the disk takes them; wait for nothing."""
        try:
            self._journal.add(records)
        except (JournalWriteFailed, JournalSyncFailed):
            # The journal says so in the log, and stops the journal stage if it is broken; holding
            # messages back would help nobody.
            self.journal_lost += len(records)

    async def _write_journal(self, entries: list[Inbound], *, end_of_batch: bool) -> None:
        records = [_record(entry) for entry in entries if type(entry.event) is not Closed]
        while records and not isinstance(self._journal.failure, JournalWriteFailed):
            try:
                await self._journal.append(records)
                return
            except JournalWriteFailed as error:
                if self._journal.failure is None:
                    logger.warning("The raw journal waits for the disk: %s", error)
                    await asyncio.sleep(_DISK_RETRY_S)
        for entry in entries:
            entry.recorded = not records
        if records:
            self._keep(records)


def _record(entry: Inbound) -> Record:
    event = entry.event
    assert not isinstance(event, _NOT_MESSAGES), "Invariant: only messages are journalled"
    key = entry.connection.journal_key
    if isinstance(event, LogonRequested):
        key = str(event.sender_comp_id)
    seq = 0 if isinstance(event, IgnoredMessage) else event.msg_seq_num
    raw = event.raw
    if isinstance(event, RejectedMessage | IgnoredMessage):
        # What is refused may have a password where none belongs.
        raw = without_secrets(raw)
    return Record(key, seq, entry.received_ns, INBOUND, raw)
