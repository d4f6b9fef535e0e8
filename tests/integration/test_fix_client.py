"""FixClient over real sockets, against our acceptor core: logon, loss, reconnection, the end."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator

import pytest

from gateway.fix_message import FixMessage
from gateway.session import FixSession
from gateway.session_events import AppMessage, LogonRequested, ResendRequested, SessionRules
from ops import fix_client
from ops.errors import FixClientFailed
from ops.fix_client import FixClient
from ops.fix_initiator import Identity, Initiator, Phase
from tests.helpers import DEADLINE_S, eventually_async

HOST = "127.0.0.1"
REPORT = b"11=%b\x01150=0\x01"
PASSWORD = b"secret"


class Acceptor:
    """The gateway's session over a socket: it acknowledges each order, and remembers numbers."""

    def __init__(self) -> None:
        self.next_in, self.next_out = 1, 1
        self.stored: list[tuple[int, bytes]] = []
        self.orders: list[bytes] = []
        self.writers: list[asyncio.StreamWriter] = []
        self.server: asyncio.Server | None = None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        session = FixSession(SessionRules(comp_id=b"SHARDEX"), now_ns=time.time_ns())
        self.writers.append(writer)
        accepted = False
        while not session.close_expected():
            data = await reader.read(65_536)
            if not data:
                session.receive_eof(now_ns=time.time_ns())
                break
            session.receive_data(data, now_ns=time.time_ns())
            while events := session.events_received():
                for event in events:
                    accepted = self._on_event(session, event) or accepted
            sent = session.data_to_send()
            self.stored += [(one.msg_seq_num, one.data) for one in sent if one.stored]
            writer.write(b"".join([one.data for one in sent]))
        if accepted:
            self.next_in, self.next_out = session.next_in, session.next_out
        writer.close()

    def _on_event(self, session: FixSession, event: object) -> bool:
        now_ns = time.time_ns()
        if isinstance(event, LogonRequested):
            if event.password != PASSWORD:
                session.refuse_logon("wrong password", msg_seq_num=1, now_ns=now_ns)
                return False
            if event.reset:
                self.next_in, self.next_out, self.stored = 1, 1, []
            session.accept_logon(
                next_in=self.next_in, next_out=self.next_out, out_limit=1 << 30, now_ns=now_ns
            )
            session.receive_data(b"", now_ns=now_ns)
            return True
        if isinstance(event, AppMessage):
            cl_ord_id = event.message.fields[b"11"]
            self.orders.append(cl_ord_id)
            session.send_application(b"8", REPORT % cl_ord_id, now_ns=now_ns)
        elif isinstance(event, ResendRequested):
            found = [one for one in self.stored if event.begin <= one[0] <= event.end]
            session.resend(found, event.begin, event.end, now_ns=now_ns)
        return False

    @property
    def port(self) -> int:
        assert self.server is not None
        return int(self.server.sockets[0].getsockname()[1])


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for the venue's answers, however slow the machine is."""
    for name in ("CONNECT_TIMEOUT_S", "LOGOUT_TIMEOUT_S"):
        monkeypatch.setattr(fix_client, name, DEADLINE_S)


@pytest.fixture
async def acceptor() -> AsyncIterator[Acceptor]:
    one = Acceptor()
    one.server = await asyncio.start_server(one.serve, HOST, 0)
    yield one
    for writer in one.writers:
        writer.close()
    one.server.close()
    await one.server.wait_closed()


def client_of(password: str = "secret") -> tuple[FixClient, list[bytes]]:
    received: list[bytes] = []

    def on_messages(messages: list[FixMessage]) -> None:
        received.extend(message.fields[b"11"] for message in messages)

    identity = Identity("7", "SHARDEX", "7", password)
    return FixClient(Initiator(identity), on_messages=on_messages), received


def order(client: FixClient, cl_ord_id: bytes) -> None:
    body = b"11=%b\x0155=X\x0154=1\x0138=1\x0140=2\x0144=1\x0160=20240102-12:00:00\x01"
    client.send(b"D", body % cl_ord_id)


async def test_orders_go_out_in_one_piece_and_reports_come_back(acceptor: Acceptor) -> None:
    client, received = client_of()
    async with client:
        await client.connect(HOST, acceptor.port, reset=True)
        for number in range(50):
            order(client, b"%d" % number)
        assert acceptor.orders == []
        client.flush()
        await client.drained()
        await eventually_async(lambda: len(received) == 50)
    assert received == [b"%d" % number for number in range(50)]
    assert client.initiator.reason == "logged out"


async def test_a_session_goes_on_after_its_connection_was_cut(acceptor: Acceptor) -> None:
    client, received = client_of()
    await client.connect(HOST, acceptor.port, reset=True)
    order(client, b"a")
    client.flush()
    await eventually_async(lambda: received == [b"a"])
    # Numbered and kept, but never written: the venue asks for it when we are back.
    order(client, b"b")
    client.abort("cut")
    assert await client.wait_lost() == "cut"
    await eventually_async(lambda: acceptor.next_in == 3)
    await client.connect(HOST, acceptor.port, reset=False)
    await eventually_async(lambda: received == [b"a", b"b"])
    assert acceptor.orders == [b"a", b"b"]
    await client.logout()


async def test_the_venue_that_closes_is_noticed(acceptor: Acceptor) -> None:
    client, _ = client_of()
    await client.connect(HOST, acceptor.port, reset=True)
    acceptor.writers[0].close()
    assert await client.wait_lost() == "connection closed by the venue"
    assert client.initiator.phase is Phase.OFFLINE
    await client.logout()


async def test_a_refused_logon_says_why(acceptor: Acceptor) -> None:
    client, _ = client_of("guess")
    with pytest.raises(FixClientFailed, match="logged out: wrong password"):
        await client.connect(HOST, acceptor.port, reset=True)


async def test_nobody_there_is_an_error_that_says_so() -> None:
    client, _ = client_of()
    # It is ours, so nobody else takes it, and nobody listens at it.
    with socket.socket() as bound:
        bound.bind((HOST, 0))
        port = bound.getsockname()[1]
        with pytest.raises(FixClientFailed, match=f"cannot log on to {HOST}:{port}"):
            await client.connect(HOST, port, reset=True)
