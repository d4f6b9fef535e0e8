"""Outboxes to clients: numbered once, stored before they are written, late ones as resends."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from engine.commands import CancelOrder, Command, NewOrder, QueryOrder, ReplaceOrder, encode_command
from engine.enums import (
    BusinessRejectReason,
    CancelReason,
    OrdRejReason,
    OrdType,
    SelfTradePrevention,
    Side,
    TimeInForce,
)
from engine.events import (
    BusinessRejected,
    OrderAccepted,
    OrderCanceled,
    OrderRejected,
    Output,
    Skipped,
    encode_output,
)
from engine.limits import READ_BATCH_MAX
from gateway.connection import Connection
from gateway.mass_requests import encode_query
from gateway.refusals import MassStatusQuery
from gateway.reporter import Reporter
from gateway.reservations import settled_as
from gateway.symbol_texts import SymbolTable
from router.errors import RedisUnavailable, ServerChanged
from router.open_orders import OpenOrder
from router.sessions import Store
from tests.helpers import eventually_async
from tests.unit.test_gateway_connection import World as Client
from tests.unit.test_gateway_connection import message
from tests.unit.test_gateway_orders_in import rules_of


class Outbox:
    """The outbox of account 7, and the store of what was sent, in memory."""

    def __init__(self) -> None:
        self.entries: list[list[bytes]] = []
        self.reads = 0
        self.stores: list[Store] = []
        self.is_ours = True
        self.failures = 0
        self.run_id = "first"
        self.session = (5, 0)
        self.gate = asyncio.Event()
        self.gate.set()

    async def call(self, *args: Any) -> Any:
        assert args[0] == "XREAD" and args[4] == "outbox:7"
        self.reads += 1
        cursor = int(args[5].removesuffix("-0"))
        rest = self.entries[cursor : cursor + args[2]]
        found = [[b"%d-0" % number, fields] for number, fields in enumerate(rest, cursor + 1)]
        return [[b"outbox:7", found]] if found else None

    async def pipeline(self, commands: Sequence[tuple[Any, ...]]) -> list[None]:
        return [None for _ in commands]

    async def read(self, accounts: Sequence[int]) -> dict[int, tuple[int, int]]:
        return dict.fromkeys(accounts, self.session)

    async def store(self, stores: Sequence[Store], *, server: str) -> list[bool]:
        if self.failures:
            self.failures -= 1
            raise RedisUnavailable("away")
        await self.gate.wait()
        if server != self.run_id:
            raise ServerChanged("another server")
        self.stores += stores
        return [self.is_ours] * len(stores)


class World:
    """A reporter between that outbox and a client who is logged on as account 7."""

    def __init__(self) -> None:
        self.client = Client()
        self.outbox = Outbox()
        self.connection = self.client.log_on()
        self.connection.account, self.connection.epoch = 7, 5
        self.fenced: list[Connection] = []
        self.lost: list[Connection] = []
        self.wants_numbers: list[int] = []
        self.active = {7: self.connection}
        self.reporter = Reporter(
            self.outbox,
            self.outbox,
            SymbolTable([rules_of()]),
            self.active,
            spawn=asyncio.ensure_future,
            now_ns=lambda: self.client.now_ns,
            on_numbers=lambda connection: self.wants_numbers.append(connection.numbers_wanted),
            on_fenced=self.fenced.append,
            on_lost=self.lost.append,
        )
        self.running = asyncio.create_task(self.reporter.run())

    def tell(self, text: str) -> None:
        event = BusinessRejected(0, 7, 9, "D", "a1", BusinessRejectReason.OTHER, text)
        self.outbox.entries.append([b"e", encode_output(Output("BTC-USD", 0, 1, [event], []))])

    def written(self, *tags: bytes) -> list[tuple[str, ...]]:
        """Return these tags of each message that the client got after its Logon."""
        found = b"".join(self.client.transport.written).split(b"8=FIX.4.4\x01")[2:]
        return [tuple(_value(one, tag) for tag in tags) for one in found]

    def fly(self, *cl_ord_ids: str) -> None:
        """Have these be in flight, and nothing else."""
        known = settled_as(OpenOrder(0, Side.BUY, 2_001, 150, 0, 0, 0))
        self.connection.in_flight = {("BTC-USD", one): known for one in cl_ord_ids}

    def in_flight(self) -> set[str]:
        """Return the ClOrdIDs that nobody has answered yet."""
        return {cl_ord_id for _, cl_ord_id in self.connection.in_flight}

    async def reported(self, count: int) -> None:
        await eventually_async(lambda: len(self.written()) >= count)
        assert len(self.written()) == count


def _value(data: bytes, tag: bytes) -> str:
    match = re.search(b"\x01" + tag + b"=([^\x01]*)", b"\x01" + data)
    return match.group(1).decode() if match else ""


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    yield made
    made.running.cancel()
    await asyncio.gather(made.running, return_exceptions=True)
    made.client.connection.connection_lost(None)


async def test_news_are_numbered_stored_and_written(world: World) -> None:
    world.tell("one")
    world.tell("two")
    world.reporter.mark(7)
    await world.reported(2)
    assert world.written(b"34", b"58", b"43") == [("2", "one", ""), ("3", "two", "")]
    (store,) = world.outbox.stores
    assert (store.account, store.epoch, store.first, store.last, store.cursor) == (7, 5, 2, 3, 2)
    assert store.messages == world.client.transport.written[-1]
    assert (world.connection.cursor, world.reporter.reports) == (2, 2)


async def test_answers_take_orders_out_of_flight(world: World) -> None:
    state = (Side.BUY, OrdType.LIMIT, TimeInForce.DAY, 2_000, 100, 100, 0, 0)
    event = OrderAccepted(0, 7, 5, "a1", *state, False, SelfTradePrevention.CANCEL_NEWEST)
    world.outbox.entries.append([b"e", encode_output(Output("BTC-USD", 5, 1, [event], []))])
    world.fly("a1", "a2")
    world.reporter.mark(7)
    await world.reported(1)
    assert world.in_flight() == {"a2"}


async def test_a_copy_that_is_told_to_nobody_only_moves_the_cursor(world: World) -> None:
    event = BusinessRejected(0, 8, 9, "D", "a1", BusinessRejectReason.OTHER, "no")
    output = encode_output(Output("BTC-USD", 0, 1, [event], []))
    world.outbox.entries.append([b"a", b"8", b"i", b"3", b"e", output])
    world.fly("a1")
    world.reporter.mark(7)
    await eventually_async(lambda: world.connection.cursor == 1)
    await eventually_async(lambda: bool(world.outbox.stores))
    (store,) = world.outbox.stores
    assert (store.first, store.last, store.cursor, store.messages) == (2, 1, 1, b"")
    assert world.written() == [] and world.in_flight() == {"a1"}
    world.tell("next")
    world.reporter.mark(7)
    await world.reported(1)
    assert world.written(b"34", b"58") == [("2", "next")]


async def test_open_orders_are_counted_behind_what_was_counted_at_logon(world: World) -> None:
    open_state = (Side.BUY, OrdType.LIMIT, TimeInForce.DAY, 2_000, 100, 100, 0, 0)
    done_state = (Side.BUY, OrdType.LIMIT, TimeInForce.DAY, 2_000, 100, 0, 0, 0)
    stp = SelfTradePrevention.CANCEL_NEWEST
    accepted = OrderAccepted(0, 7, 5, "a1", *open_state, False, stp)
    canceled = OrderCanceled(0, 7, 5, "a2", *done_state, CancelReason.REQUESTED, "a1", 100)
    world.connection.open_orders, world.connection.counted_to = 1, 1
    for event in (accepted, accepted, accepted, canceled):
        world.outbox.entries.append([b"e", encode_output(Output("BTC-USD", 5, 1, [event], []))])
    world.reporter.mark(7)
    await world.reported(4)
    assert world.connection.open_orders == 2


async def test_a_skipped_order_is_not_in_flight_any_more(world: World) -> None:
    state = (Side.BUY, OrdType.LIMIT, TimeInForce.DAY, 2_000, 100, 0, 0, 0)
    answer = OrderRejected(0, 7, 5, "a1", *state, OrdRejReason.OTHER, "Skipped by an operator: why")
    event = Skipped(0, 7, "a1", "why", answer)
    world.outbox.entries.append([b"e", encode_output(Output("BTC-USD", 5, 1, [event], []))])
    world.fly("a1", "a2")
    world.reporter.mark(7)
    await world.reported(1)
    assert world.written(b"35", b"150", b"11", b"58") == [
        ("8", "8", "a1", "Skipped by an operator: why")
    ]
    assert world.in_flight() == {"a2"}


NEW_ORDER = NewOrder(
    7,
    1,
    2,
    "a1",
    Side.BUY,
    OrdType.LIMIT,
    TimeInForce.DAY,
    False,
    SelfTradePrevention.CANCEL_NEWEST,
    2_001,
    150,
    3,
    1_501_126,
)
REPLACE = ReplaceOrder(
    7, 1, 2, "a1", "a0", 0, Side.BUY, OrdType.LIMIT, TimeInForce.DAY, False, 2_001, 150, 3, 1
)
CANCEL = CancelOrder(7, 1, 2, "a1", "a0", 0)
QUERY = QueryOrder(7, 1, 2, "a1", 0, Side.BUY, "")
NO_FUNDS = "Insufficient funds: 150.1126 USD needed"
AWAY = "The order stream of this symbol is not open yet; try again"
BACKLOG = "Too many orders of this symbol wait for its engine; try again"


@pytest.mark.parametrize(
    ("command", "why", "expected"),
    [
        (NEW_ORDER, b"funds", {"35": "8", "150": "8", "103": "3", "58": NO_FUNDS}),
        (NEW_ORDER, b"backlog", {"35": "8", "150": "8", "103": "99", "58": BACKLOG}),
        (REPLACE, b"backlog", {"35": "9", "434": "2", "102": "99", "58": BACKLOG}),
        (NEW_ORDER, b"away", {"35": "j", "372": "D", "380": "4", "58": AWAY}),
        (REPLACE, b"away", {"35": "j", "372": "G", "380": "4", "58": AWAY}),
        (CANCEL, b"away", {"35": "j", "372": "F", "380": "4", "58": AWAY}),
        (QUERY, b"away", {"35": "j", "372": "H", "380": "4", "58": AWAY}),
    ],
)
async def test_command_that_was_not_published_is_answered_in_words(
    world: World, command: Command, why: bytes, expected: dict[str, str]
) -> None:
    fields = [b"c", encode_command(command), b"s", b"BTC-USD", b"w", why, b"t", b"1"]
    world.outbox.entries.append(fields)
    world.fly("a1", "a2")
    world.reporter.mark(7)
    await world.reported(1)
    tags = [tag.encode() for tag in expected]
    assert world.written(*tags) == [tuple(expected.values())]
    if expected["35"] == "j":
        assert world.written(b"45", b"379") == [("2", "a1")]
    is_counted = isinstance(command, NewOrder | ReplaceOrder)
    assert world.in_flight() == ({"a2"} if is_counted else {"a1", "a2"})


async def test_more_than_a_read_holds_comes_with_the_next(world: World) -> None:
    count = READ_BATCH_MAX + 5
    for number in range(count):
        world.tell(str(number))
    world.reporter.mark(7)
    await world.reported(count)
    assert [text for (text,) in world.written(b"58")] == [str(n) for n in range(count)]


async def test_list_for_a_client_who_does_not_read_waits_without_work(world: World) -> None:
    world.tell("one")
    world.reporter.mark(7)
    await world.reported(1)
    met = world.outbox.reads
    request = encode_query(MassStatusQuery("s1", "", None))
    listed = [b"q", request, b"m", b"2", b"f", b"0", b"n", b"0", b"o", b"\x90", b"t", b"1"]
    world.outbox.entries.append(listed)
    world.connection.pause_writing()
    before = len(asyncio.all_tasks())
    for _ in range(5):
        reads = world.outbox.reads
        world.reporter.mark(7)
        await eventually_async(lambda reads=reads: world.outbox.reads > reads)
    for _ in range(20):
        await asyncio.sleep(0)
    assert world.outbox.reads == met + 5 and len(asyncio.all_tasks()) == before + 1
    assert len(world.written()) == 1
    world.connection.resume_writing()
    await world.reported(2)
    assert world.written(b"35", b"584", b"911")[1:] == [("8", "s1", "0")]


async def test_nothing_is_numbered_beyond_the_lease(world: World) -> None:
    session = world.connection.session
    for _ in range(session.out_remaining - 1):
        session.send_application(b"8", b"37=x\x01", now_ns=world.client.now_ns)
    world.connection.settle()
    before = len(world.written())
    world.tell("fits")
    world.tell("waits")
    world.reporter.mark(7)
    await world.reported(before + 1)
    assert world.wants_numbers == [1] and world.connection.cursor == 1
    session.extend_out_limit(2_000, now_ns=world.client.now_ns)
    world.reporter.mark(7)
    await world.reported(before + 2)
    assert world.written(b"34", b"58")[-2:] == [("1000", "fits"), ("1001", "waits")]


async def test_batch_that_redis_did_not_take_at_once_follows_as_resend(world: World) -> None:
    world.outbox.failures = 1
    world.outbox.gate.clear()
    world.tell("late")
    world.reporter.mark(7)
    await eventually_async(lambda: world.connection.storing_from and not world.outbox.failures)
    await eventually_async(lambda: not world.connection.output_held)
    world.connection.data_received(message(2, b"1", (b"112", b"x")))
    assert world.written(b"35", b"34") == [("0", "3")]
    waiting = asyncio.create_task(world.reporter.stored(world.connection, 2))
    await asyncio.sleep(0)
    assert not waiting.done()
    world.outbox.gate.set()
    await waiting
    await world.reported(2)
    late = world.written(b"35", b"34", b"43", b"58")[-1]
    assert late == ("j", "2", "Y", "late")
    assert b"43=Y" not in world.outbox.stores[0].messages


async def test_session_that_is_lost_writes_nothing_of_the_batch(world: World) -> None:
    world.outbox.is_ours = False
    world.tell("never")
    world.reporter.mark(7)
    await eventually_async(lambda: world.fenced)
    assert world.fenced == [world.connection]
    assert world.written() == [] and not world.connection.output_held


async def test_only_sessions_that_are_logged_on_are_read(world: World) -> None:
    world.reporter.mark(8)
    world.connection.session.logout("bye", now_ns=world.client.now_ns)
    world.reporter.mark(7)
    await asyncio.sleep(0)
    world.tell("unread")
    world.reporter.mark_all()
    await asyncio.sleep(0)
    assert world.outbox.reads == 0 and world.connection.cursor == 0


async def test_sweeps_find_what_no_wake_up_named(world: World) -> None:
    sweeping = asyncio.create_task(world.reporter.run_sweeps(0.001))
    world.tell("found")
    await world.reported(1)
    sweeping.cancel()
    await asyncio.gather(sweeping, return_exceptions=True)


@pytest.mark.parametrize(("session", "is_lost"), [((5, 1), False), ((5, 0), True), ((4, 1), True)])
async def test_a_session_is_parted_with_where_another_server_knows_less_of_it(
    world: World, session: tuple[int, int], is_lost: bool
) -> None:
    world.tell("one")
    world.reporter.mark(7)
    await world.reported(1)

    world.outbox.run_id, world.outbox.session = "second", session
    reads = world.outbox.reads
    world.reporter.mark(7)

    await eventually_async(lambda: world.outbox.reads > reads)
    await eventually_async(lambda: world.lost == ([world.connection] if is_lost else []))


@pytest.mark.parametrize("is_kept", [True, False])
async def test_a_batch_on_its_way_is_stored_where_its_outbox_is_the_same(
    world: World, is_kept: bool
) -> None:
    world.outbox.gate.clear()
    world.tell("one")
    world.reporter.mark(7)
    await eventually_async(lambda: world.connection.storing_from)
    world.outbox.run_id = "second"
    if not is_kept:
        world.outbox.entries.clear()
        world.tell("another")
    world.outbox.gate.set()

    await eventually_async(lambda: not world.connection.storing_from)
    assert world.lost == ([] if is_kept else [world.connection])
    assert len(world.outbox.stores) == is_kept
    assert world.written(b"58") == ([("one",)] if is_kept else [])
