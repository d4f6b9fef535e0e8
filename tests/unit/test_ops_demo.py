"""A participant of the demo, with a venue that refuses all it sends."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from gateway.fix_message import encode_fields, frame, split_fields
from gateway.fix_time import UtcTimestampWriter
from ops.demo import WAITING_MAX, Participant
from ops.endpoints import Endpoints, FixEndpoint, endpoints_path, write_endpoints
from ops.fix_initiator import Identity
from ops.settings import load_settings
from tests.helpers import eventually_async

CONFIG = Path(__file__).resolve().parents[2] / "exchange.toml"


class RefusingVenue(asyncio.Protocol):
    """Takes every Logon, and has no engine for anybody's order (380=4)."""

    def __init__(self) -> None:
        self._out = 0
        self._times = UtcTimestampWriter()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        for part in data.split(b"8=FIX.4.4\x01")[1:]:
            fields = dict(split_fields(b"8=FIX.4.4\x01" + part))
            kind = fields[b"35"]
            if kind == b"A":
                self._say(b"A", b"98=0\x01108=30\x01141=Y\x01")
            elif kind == b"D":
                body = b"45=%b\x01372=D\x01379=%b\x01380=4\x01"
                self._say(b"j", body % (fields[b"34"] or b"", fields[b"11"] or b""))
            elif kind == b"5":
                self._say(b"5", b"")

    def _say(self, kind: bytes, body: bytes) -> None:
        self._out += 1
        stamp = self._times.write(time.time_ns())
        head = [(b"35", kind), (b"49", b"SHARDEX"), (b"56", b"7"), (b"34", b"%d" % self._out)]
        self._transport.write(frame(encode_fields([*head, (b"52", stamp)]) + body))


async def test_orders_that_no_engine_could_take_do_not_count_as_under_way(tmp_path: Path) -> None:
    connections: list[RefusingVenue] = []

    def accept() -> RefusingVenue:
        connections.append(RefusingVenue())
        return connections[-1]

    server = await asyncio.get_running_loop().create_server(accept, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    settings = load_settings(CONFIG, {"SHARDEX_VAR_DIR": str(tmp_path)})
    write_endpoints(
        endpoints_path(tmp_path),
        Endpoints([FixEndpoint("127.0.0.1", port)], "SHARDEX", [], [], "", ""),
    )
    participant = Participant(0, Identity("7", "SHARDEX", "7", "secret"), settings, {})
    running = asyncio.create_task(participant.run())
    try:
        await eventually_async(lambda: participant.can_send)
        before = len(connections)
        for number in range(WAITING_MAX):
            name = b"r-%d" % number
            participant.send(name, (b"D", b"11=%b\x01" % name))
        assert not participant.can_send
        # A new connection would begin with nothing under way, too.
        await eventually_async(lambda: participant.can_send or len(connections) > before)
        assert len(connections) == before
    finally:
        running.cancel()
        await asyncio.wait((running,))
        server.close()
