"""A connection over a transport and a host that only record: flow control, order, the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from gateway.connection import Connection, ConnectionLimits
from gateway.fix_message import encode_fields, frame
from gateway.fix_time import NS_PER_SECOND
from gateway.session_events import AppMessage, Closed, Event, Outbound, SessionRules

NOW_NS = 1_767_323_045 * NS_PER_SECOND
TIME = b"20260102-03:04:05"


class RecordingTransport(asyncio.Transport):
    """Keeps what is written; the test says how much of it waits to be read."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.waiting_bytes = 0
        self.reading = True
        self.closed = self.aborted = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written.append(bytes(data))

    def get_write_buffer_size(self) -> int:
        return self.waiting_bytes

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def is_closing(self) -> bool:
        return self.closed or self.aborted

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.aborted = True

    def sent_types(self) -> list[str]:
        """Return the MsgType of each message written."""
        pieces = b"".join(self.written).split(b"\x01")
        return [piece[3:].decode() for piece in pieces if piece.startswith(b"35=")]


class RecordingHost:
    """Has as much room as the test says, and keeps what it is told."""

    def __init__(self) -> None:
        self.room_left = 100
        self.events: list[Event] = []
        self.waiting: list[Connection] = []
        self.noted: list[Outbound] = []
        self.takes = True
        self.gone = False

    def room(self) -> int:
        return self.room_left

    def take_events(self, connection: Connection, events: Sequence[Event], now_ns: int) -> None:
        self.events += events

    def wait_for_room(self, connection: Connection) -> None:
        self.waiting.append(connection)

    def note_output(
        self, connection: Connection, messages: Sequence[Outbound], now_ns: int
    ) -> None:
        self.noted += messages

    def connected(self, connection: Connection) -> bool:
        return self.takes

    def disconnected(self, connection: Connection) -> None:
        self.gone = True

    def app_messages(self) -> list[int]:
        return [event.msg_seq_num for event in self.events if isinstance(event, AppMessage)]


class World:
    """A connection between a recording host and a recording transport, with a clock."""

    def __init__(
        self, *, write_buffer_bytes_max: int = 1_000, requests_per_s_max: int = 100
    ) -> None:
        self.now_ns = NOW_NS
        self.host = RecordingHost()
        self.transport = RecordingTransport()
        limits = ConnectionLimits(
            SessionRules(comp_id=b"SHARDEX"),
            write_buffer_bytes_max=write_buffer_bytes_max,
            orders_per_s_max=10,
            requests_per_s_max=requests_per_s_max,
            now_ns=lambda: self.now_ns,
        )
        self.connection = Connection(self.host, limits)

    def log_on(self) -> Connection:
        self.connection.connection_made(self.transport)
        self.connection.data_received(
            message(1, b"A", (b"98", b"0"), (b"108", b"30"), (b"553", b"u"), (b"554", b"p"))
        )
        session = self.connection.session
        session.accept_logon(next_in=1, next_out=1, out_limit=1_000, now_ns=self.now_ns)
        self.connection.go_on()
        return self.connection


def message(number: int, msg_type: bytes, *fields: tuple[bytes, bytes]) -> bytes:
    header = [(b"35", msg_type), (b"49", b"7"), (b"56", b"SHARDEX"), (b"34", b"%d" % number)]
    return frame(encode_fields([*header, (b"52", TIME), *fields]))


def cancel(number: int) -> bytes:
    ids = [(b"41", b"a"), (b"11", b"c%d" % number), (b"55", b"BTC-USD"), (b"54", b"1")]
    return message(number, b"F", *ids, (b"60", TIME))


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    yield made
    made.connection.connection_lost(None)


async def test_events_and_answers_pass_through(world: World) -> None:
    connection = world.log_on()
    connection.data_received(cancel(2) + message(3, b"1", (b"112", b"x")) + cancel(4))
    assert world.host.app_messages() == [2, 4]
    assert world.transport.sent_types() == ["A", "0"]
    assert [one.msg_type for one in world.host.noted] == [b"A", b"0"]


async def test_no_room_stops_reading_and_room_goes_on_where_it_stopped(world: World) -> None:
    connection = world.log_on()
    world.host.room_left = 2
    connection.data_received(b"".join(cancel(number) for number in range(2, 7)))
    assert world.host.app_messages() == [2, 3]
    assert not world.transport.reading
    assert world.host.waiting == [connection]
    connection.go_on()
    assert world.host.app_messages() == [2, 3, 4, 5]
    assert not world.transport.reading and len(world.host.waiting) == 2
    connection.go_on()
    assert world.host.app_messages() == [2, 3, 4, 5, 6]
    assert world.transport.reading


async def test_silence_does_not_count_while_the_socket_is_not_read(world: World) -> None:
    connection = world.log_on()
    world.host.room_left = 0
    connection.data_received(cancel(2))
    world.now_ns += 600 * NS_PER_SECOND
    connection.session.handle_timer(now_ns=world.now_ns)
    connection.settle()
    assert "1" not in world.transport.sent_types() and not world.transport.closed
    world.host.room_left = 10
    connection.go_on()
    assert world.host.app_messages() == []
    assert world.transport.reading


async def test_output_waits_for_the_batch_that_is_being_stored(world: World) -> None:
    connection = world.log_on()
    connection.session.send_application(b"8", b"37=x\x01", now_ns=world.now_ns)
    held = connection.hold_output()
    assert [one.msg_seq_num for one in held] == [2]
    assert connection.storing_from == 2
    connection.data_received(message(2, b"1", (b"112", b"x")))
    assert world.transport.sent_types() == ["A"]
    connection.release_output(held)
    assert world.transport.sent_types() == ["A", "8", "0"]


async def test_a_batch_without_messages_counts_as_being_stored(world: World) -> None:
    connection = world.log_on()
    assert connection.hold_output() == []
    assert connection.storing_from == connection.session.next_out


async def test_slow_reader_is_logged_out_and_then_cut(world: World) -> None:
    connection = world.log_on()
    world.transport.waiting_bytes = 1_001
    connection.data_received(message(2, b"1", (b"112", b"x")))
    assert world.transport.sent_types() == ["A", "0", "5"]
    assert b"58=Slow reader: 1001 bytes are waiting to be read" in world.transport.written[-1]
    assert not connection.session.can_send
    world.now_ns += 6 * NS_PER_SECOND
    connection.session.handle_timer(now_ns=world.now_ns)
    connection.settle()
    assert world.transport.closed
    assert isinstance(world.host.events[-1], Closed)


async def test_end_of_the_socket_ends_the_session(world: World) -> None:
    connection = world.log_on()
    connection.connection_lost(None)
    assert isinstance(world.host.events[-1], Closed)
    assert world.host.gone and not connection.is_open
    connection.drop()
    connection.release_output([])
    assert world.transport.sent_types() == ["A"]


async def test_connection_too_many_is_closed_at_once(world: World) -> None:
    world.host.takes = False
    world.connection.connection_made(world.transport)
    assert world.transport.aborted


async def test_writable_waits_for_the_reader_or_its_end(world: World) -> None:
    connection = world.log_on()
    await connection.writable()
    connection.pause_writing()
    waiting = asyncio.create_task(connection.writable())
    await asyncio.sleep(0)
    assert not waiting.done()
    connection.resume_writing()
    await waiting
    connection.pause_writing()
    connection.connection_lost(None)
    await connection.writable()
