"""The forward stage with an admission that answers what the test says: results, 380=4, marks."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from engine.events import BusinessRejected, decode_output
from gateway.dispatch import AWAY, FULL, LOW, UNRECORDED, Dispatcher
from gateway.encoder import Encoder
from gateway.pipeline import Inbound
from gateway.session_events import AppMessage, Closed, LogonRequested
from gateway.settings import GatewaySettings
from gateway.symbol_texts import SymbolTable
from router.admission import (
    FENCED,
    REFUSED,
    SKIPPED,
    AdmissionItem,
    PublishItem,
    RefuseItem,
)
from router.errors import OutOfMemory, RedisUnavailable, RulesChanged
from tests.helpers import eventually_async
from tests.unit.test_gateway_connection import World as Client
from tests.unit.test_gateway_orders_in import TIME, fix, order, rules_of

CANCEL = f"35=F|41=a0|11=c1|55=BTC-USD|54=1|60={TIME.decode()}"


class Admission:
    """Notes each call, and answers with what ``answers`` holds next: 1 for each item, else."""

    def __init__(self) -> None:
        self.available = True
        self.homes: dict[str, Any] = {}
        self.calls: list[list[AdmissionItem]] = []
        self.answers: list[list[int] | Exception] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def admit(self, items: Sequence[AdmissionItem]) -> list[int]:
        self.calls.append(list(items))
        await self.gate.wait()
        if not self.answers:
            return [REFUSED if isinstance(item, RefuseItem) else 1 for item in items]
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


class World:
    """A dispatcher between a client that is logged on and that admission."""

    def __init__(self) -> None:
        self.client = Client()
        self.connection = self.client.log_on()
        self.connection.account, self.connection.epoch = 1001, 5
        self.admission = Admission()
        self.symbols = SymbolTable([rules_of()])
        self.encoder = Encoder(self.symbols, GatewaySettings())
        self.look: Exception | None = None
        self.told: list[str] = []
        self.dispatcher = Dispatcher(
            self.admission,
            self.symbols,
            self.encoder,
            self,
            now_ns=lambda: self.client.now_ns,
            read_homes=self._read_homes,
            spawn=asyncio.create_task,
            on_logon=lambda connection, logon: self.told.append("logon"),
            on_closed=lambda connection: self.told.append("closed"),
            on_refused=lambda connection: self.told.append("refused"),
            on_fenced=lambda connection: self.told.append("fenced"),
            on_market=lambda connection, event: self.told.append(event.message.msg_type.decode()),
        )
        self._number = 1

    async def complete(self, entries: Sequence[Inbound]) -> None:
        """Stand in for the look at Redis."""
        if self.look is not None:
            raise self.look

    async def _read_homes(self) -> dict[str, Any]:
        self.told.append("homes")
        return {}

    def entry(self, text: str = "") -> Inbound:
        self._number += 1
        message = fix(text) if text else order(t11=f"a{self._number}")
        event = AppMessage(message.raw, message, self._number, False, False, None)
        entry = Inbound(self.connection, event, self.client.now_ns)
        self.encoder.encode([entry], end_of_batch=True)
        return entry

    async def forward(self, *entries: Inbound) -> None:
        await self.dispatcher.forward(list(entries), end_of_batch=True)

    async def done(self) -> None:
        await self.dispatcher.idle()

    def in_flight(self) -> set[str]:
        """Return the ClOrdIDs that nobody has answered yet."""
        return {cl_ord_id for _, cl_ord_id in self.connection.in_flight}

    def texts(self) -> list[str]:
        """Return Text (58) of each message that the client got."""
        found = re.findall(rb"\x0158=([^\x01]+)", b"".join(self.client.transport.written))
        return [text.decode() for text in found]


def event_of(item: AdmissionItem) -> BusinessRejected:
    """Return the refusal that an item puts into the outbox."""
    assert isinstance(item, RefuseItem)
    (event,) = decode_output(item.output).events
    assert isinstance(event, BusinessRejected)
    return event


def refusals_of(calls: Sequence[Sequence[AdmissionItem]]) -> list[list[tuple[int, str]]]:
    """Return the RefSeqNum (45) and text of all refusals of calls that consist of them."""
    events = [[event_of(item) for item in call] for call in calls]
    return [[(event.ref_seq_num, event.text) for event in call] for call in events]


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    yield made
    made.client.connection.connection_lost(None)


async def test_each_result_goes_where_it_belongs(world: World) -> None:
    entries = [world.entry() for _ in range(4)]
    world.admission.answers = [[7, REFUSED, SKIPPED, FENCED]]
    await world.forward(*entries)
    await world.done()
    assert world.told == ["refused", "fenced"]
    assert (world.dispatcher.admitted, world.dispatcher.refused) == (1, 1)
    assert world.in_flight() == {"a2", "a3", "a5"}, "the skipped one was answered before"
    assert world.texts() == []


async def test_what_comes_during_a_call_is_the_next_batch(world: World) -> None:
    world.admission.gate.clear()
    await world.forward(world.entry())
    second = asyncio.create_task(world.forward(world.entry(), world.entry()))
    await eventually_async(lambda: world.admission.calls)
    assert not second.done()
    world.admission.gate.set()
    await second
    await world.done()
    assert [len(call) for call in world.admission.calls] == [1, 2]


async def test_logons_and_endings_wait_for_what_was_said_before(world: World) -> None:
    logon = LogonRequested(b"", 1001, None, None, 30, True, 9, None, True)
    ends = Inbound(world.connection, Closed("over"), 0)
    world.admission.gate.clear()
    await world.forward(world.entry(), Inbound(world.connection, logon, 0), ends)
    await eventually_async(lambda: world.admission.calls)
    assert world.told == []
    world.admission.gate.set()
    await world.done()
    assert world.told == ["logon", "closed"]


async def test_end_of_a_session_is_logged_with_its_reason(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.connection.journal_key = "1001"
    with caplog.at_level("INFO", logger="gateway"):
        await world.forward(Inbound(world.connection, Closed("because"), 0))
    assert [record.args for record in caplog.records] == [("1001", "because")]


async def test_without_redis_new_messages_are_answered_and_put_on_record_later(
    world: World,
) -> None:
    world.admission.gate.clear()
    await world.forward(world.entry())
    await eventually_async(lambda: world.admission.calls)
    world.admission.available = False
    await world.forward(world.entry(), world.entry(CANCEL))
    assert world.texts() == [AWAY, AWAY]
    assert world.in_flight() == {"a2"}
    world.admission.gate.set()
    await world.done()
    assert refusals_of(world.admission.calls[1:]) == [[(3, AWAY), (4, AWAY)]]


async def test_refusal_is_kept_for_the_next_logon_where_its_session_ended_before_the_mark(
    world: World,
) -> None:
    world.admission.gate.clear()
    await world.forward(world.entry())
    await eventually_async(lambda: world.admission.calls)
    world.admission.available = False
    await world.forward(world.entry(), world.entry(CANCEL))
    assert world.texts() == [AWAY, AWAY]
    world.connection.connection_lost(None)
    world.admission.gate.set()
    await world.done()
    (kept,) = world.admission.calls[1:]
    assert [(item.account, item.epoch, item.msg_seq_num) for item in kept] == [
        (1001, 5, 3),
        (1001, 5, 4),
    ]
    rejected = [event_of(item) for item in kept]
    assert [(one.ref_seq_num, one.ref_id, one.text) for one in rejected] == [
        (3, "a3", AWAY),
        (4, "c1", AWAY),
    ]


async def test_a_look_that_fails_admits_nothing(world: World) -> None:
    world.look = RedisUnavailable("away")
    await world.forward(world.entry())
    await world.done()
    assert world.texts() == [AWAY]
    assert refusals_of(world.admission.calls) == [[(2, AWAY)]]


async def test_out_of_memory_is_said_and_put_on_record_when_there_is_some(world: World) -> None:
    world.admission.answers = [OutOfMemory("no"), OutOfMemory("no")]
    await world.forward(world.entry(), world.entry(CANCEL))
    await world.done()
    assert world.texts() == [FULL, FULL]
    await world.forward(world.entry())
    await world.done()
    assert type(world.admission.calls[2][0]) is PublishItem
    assert refusals_of(world.admission.calls[3:]) == [[(2, FULL), (3, FULL)]]
    await world.forward(world.entry())
    await world.done()
    assert len(world.admission.calls) == 5, "what is on record is not put there again"


async def test_a_batch_that_the_journal_lacks_is_refused_on_record_before_the_next(
    world: World,
) -> None:
    entries = [world.entry(), world.entry(CANCEL)]
    entries[1].recorded = False
    world.admission.answers = [[REFUSED, REFUSED]]
    await world.forward(*entries)
    await world.forward(world.entry())
    await world.done()
    assert world.texts() == [] and world.dispatcher.refused == 2
    recorded, admitted = world.admission.calls
    assert refusals_of([recorded]) == [[(2, UNRECORDED), (3, UNRECORDED)]]
    assert [type(item) for item in admitted] == [PublishItem]


async def test_low_memory_keeps_orders_out_and_lets_cancels_in(world: World) -> None:
    world.dispatcher.memory_low = True
    world.admission.answers = [[REFUSED, 7]]
    await world.forward(world.entry(), world.entry(CANCEL))
    await world.done()
    ((kept_out, let_in),) = world.admission.calls
    assert event_of(kept_out).text == LOW and isinstance(let_in, PublishItem)
    assert world.texts() == [], "it is told from the outbox"
    assert world.in_flight() == set() and world.connection.unanswered_from == 0


async def test_changed_rules_are_read_and_the_batch_is_translated_again(world: World) -> None:
    world.admission.answers = [RulesChanged("BTC-USD", 4)]
    await world.forward(world.entry())
    await world.done()
    assert world.told == ["homes"]
    assert len(world.admission.calls) == 2 and world.dispatcher.admitted == 1


async def test_message_of_a_client_that_is_gone_is_asked_for_again(world: World) -> None:
    world.look = RedisUnavailable("away")
    entries = [world.entry(), world.entry()]
    world.connection.connection_lost(None)
    await world.forward(*entries)
    await world.done()
    world.look = None
    await world.forward(world.entry())
    await world.done()
    assert world.connection.unanswered_from == 2
    assert world.admission.calls == []


async def test_without_numbers_the_session_ends(world: World) -> None:
    session = world.connection.session
    for _ in range(session.out_remaining):
        session.send_application(b"8", b"37=x\x01", now_ns=world.client.now_ns)
    world.look = RedisUnavailable("away")
    await world.forward(world.entry())
    await world.done()
    assert not session.can_send and world.connection.unanswered_from == 2
