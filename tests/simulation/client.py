"""A FIX client that trades at random, comes back whatever happens, and remembers what it was told.

Each message has one answer, each report comes once, and what reports say about an order fits
together; what does not is noted in ``wrong``.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from engine.enums import OrdType, Side
from gateway.errors import RemoteFixError
from gateway.fix_message import FixMessage
from ops.fix_initiator import Identity, Initiator, Phase
from tests.simulation.clock import VirtualLoop
from tests.simulation.requests import Open, RandomRequests

HEART_BT_INT_S = 1
LOGON_TIMEOUT_S = 2.0
LOGON_RETRY_S = 0.2
TICK_S = 0.5
"""How often heartbeats are looked after."""

_FINAL = ("2", "4", "C", "8")


@dataclass
class MassCancel:
    """One mass cancel, and what was said about it.

    Attributes:
        msg_seq_num: of the request; what was sent before it is concerned.
        of_all: whether it is of all symbols (530=7).
        response: MassCancelResponse (531); empty: none yet.
        affected: how many orders it cancels (533), if that was said.
        canceled: how many were canceled by it.
    """

    msg_seq_num: int
    of_all: bool
    response: str = ""
    affected: int | None = None
    canceled: int = 0


class Line:
    """One connection of a client, as a protocol. Abandoned, it is deaf; its socket stays open."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.transport: Any = None
        self.abandoned = False

    def connection_made(self, transport: Any) -> None:
        """Keep the transport (asyncio.Protocol)."""
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Hand bytes to the client (asyncio.Protocol)."""
        if not self.abandoned:
            self._client.receive(data)

    def connection_lost(self, error: Exception | None) -> None:
        """Tell the client (asyncio.Protocol)."""
        self.transport = None
        if not self.abandoned:
            self._client.disconnected("lost")


class Client:
    """One trader.

    Args:
        loop: the world's.
        identity: who logs on.
        symbols: what it trades.
        choose: decides what it does.
        ports: of the gateways; it tries one after the other.
        messages: how many it sends before it rests.
        pause_s: longest time between two bursts.

    Attributes:
        sent: how many messages it has sent.
        unanswered: ClOrdID or status id → kind.
        unavailable: ids that were answered with 380=4.
        exec_ids: of all reports, in order.
        cancel_rejects: how many 35=9 came.
        orders: OrderID → (status, cum, leaves) as told last.
        open: OrderID → those of them that are open.
        mass_cancels: ClOrdID → what became of it.
        wrong: what must not have come.
    """

    def __init__(
        self,
        loop: VirtualLoop,
        identity: Identity,
        symbols: Sequence[str],
        choose: random.Random,
        *,
        ports: Sequence[int],
        messages: int,
        pause_s: float,
    ) -> None:
        self.account = int(identity.sender_comp_id)
        self.initiator = Initiator(identity, heart_bt_int_s=HEART_BT_INT_S)
        self.sent = 0
        self.unanswered: dict[str, str] = {}
        self.unavailable: dict[str, None] = {}
        self.exec_ids: list[str] = []
        self.cancel_rejects = 0
        self.orders: dict[str, tuple[str, int, int]] = {}
        self.open: dict[str, Open] = {}
        self.mass_cancels: dict[str, MassCancel] = {}
        self.wrong: list[str] = []
        self._loop = loop
        self._choose = choose
        self._ports = ports
        self._gateway = choose.randrange(len(ports))
        self._messages = messages
        self._pause_s = pause_s
        self._line: Line | None = None
        self._was_refused = False
        self._back_s = 0.0
        self._news = asyncio.Event()
        self._requests = RandomRequests(choose, symbols)
        self._names: dict[int, str] = {}
        self._listed: dict[str, int] = {}

    @property
    def is_done(self) -> bool:
        """Whether it has said all it had to say, and was answered."""
        return (
            self.sent >= self._messages
            and not self.unanswered
            and self.initiator.phase is Phase.ACTIVE
        )

    # ------------------------------------------------------------ its life

    async def run(self) -> None:
        """Log on, trade, log on again wherever somebody answers, until cancelled."""
        next_s = self._loop.time()
        while True:
            if self.initiator.phase is not Phase.ACTIVE:
                away_s = self._back_s - self._loop.time()
                await (self._news_within(away_s) if away_s > 0 else self._log_on())
                continue
            if self.sent < self._messages and self._loop.time() >= next_s:
                self._say()
                next_s = self._loop.time() + self._choose.random() * self._pause_s
            self._tick()
            waits_s = next_s - self._loop.time() if self.sent < self._messages else TICK_S
            await self._news_within(min(max(waits_s, 0.001), TICK_S))

    def abandon(self) -> None:
        """Forget the connection without ending it, and come back over another one."""
        if self._line is not None:
            self._line.abandoned = True
        self._gateway += 1
        self.disconnected("abandoned")

    def cut(self) -> None:
        """Drop the connection."""
        if self._line is not None and self._line.transport is not None:
            self._line.transport.abort()

    def leave(self, for_s: float) -> None:
        """Drop the connection, and stay away for a while."""
        self._back_s = self._loop.time() + for_s
        self.cut()

    def disconnected(self, reason: str) -> None:
        """Note that the connection is gone."""
        self.initiator.disconnect(reason)
        self._news.set()

    async def _log_on(self) -> None:
        if self._line is not None:
            # What still comes over the old connection is nobody's any more.
            self._line.abandoned = True
        line = self._line = Line(self)
        port = self._ports[self._gateway % len(self._ports)]
        try:
            async with asyncio.timeout(LOGON_TIMEOUT_S):
                await self._loop.create_connection(lambda: line, "", port)
                self.initiator.connect(reset=False, now_ns=self._loop.time_ns())
                self._flush()
                while self.initiator.phase is Phase.LOGON_SENT:
                    self._news.clear()
                    await self._news.wait()
        except (OSError, TimeoutError):
            self.initiator.disconnect("no logon")
        refused = self.initiator.reason.startswith("logged out")
        if self.initiator.phase is not Phase.ACTIVE:
            # The number of the Logout that refuses a Logon may be taken once more.
            self._was_refused = self._was_refused or refused
            line.abandoned = True
            if line.transport is not None:
                line.transport.abort()
            self._gateway += 1
            await self._news_within(LOGON_RETRY_S)

    async def _news_within(self, seconds: float) -> None:
        self._news.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._news.wait()

    def _tick(self) -> None:
        self.initiator.handle_timer(now_ns=self._loop.time_ns())
        self._flush()
        self._cut_if_offline()

    def _cut_if_offline(self) -> None:
        if self.initiator.phase is Phase.OFFLINE:
            self.cut()

    def _flush(self) -> None:
        data = self.initiator.data_to_send()
        if data and self._line is not None and self._line.transport is not None:
            self._line.transport.write(data)

    # ------------------------------------------------------------ what it says

    def _say(self) -> None:
        for _ in range(min(self._choose.randint(1, 5), self._messages - self.sent)):
            self.sent += 1
            name = f"{self.sent}"
            now_ns = self._loop.time_ns()
            kind, (msg_type, body) = self._requests.draw(name, self.open, now_ns=now_ns)
            self.unanswered[name] = kind
            number = self.initiator.send(msg_type, body, now_ns=now_ns)
            if kind in ("q", "Q"):
                self.mass_cancels[name] = MassCancel(number, kind == "Q")
            self._names[number] = name
        self._flush()

    # ------------------------------------------------------------ what it is told

    def receive(self, data: bytes) -> None:
        """Take bytes from a gateway."""
        if self.initiator.phase is Phase.OFFLINE:
            return
        is_logon = self.initiator.phase is Phase.LOGON_SENT
        try:
            messages = self.initiator.receive_data(data, now_ns=self._loop.time_ns())
        except RemoteFixError as error:
            if not (self._was_refused and is_logon):
                self.wrong.append(f"not FIX: {error}")
            self.cut()
            return
        for message in messages:
            self._take(message)
        self._flush()
        self._cut_if_offline()
        self._news.set()

    def _take(self, message: FixMessage) -> None:
        fields = {tag.decode(): value.decode() for tag, value in message.fields.items()}
        if message.msg_type == b"8":
            self._take_report(fields)
        elif message.msg_type == b"9":
            self.cancel_rejects += 1
            self._answered(fields["11"], fields, "F", "G")
        elif message.msg_type == b"r":
            self._take_mass_cancel(fields)
        elif message.msg_type == b"j" and fields["380"] == "4":
            name = self._names.get(int(fields["45"]), "?")
            if name not in self.unavailable:
                # Said again after a logon: the venue could not know that it had been read.
                self._answered(name, fields)
                self.unavailable[name] = None
        else:
            self.wrong.append(f"unexpected: {fields}")

    def _take_mass_cancel(self, fields: dict[str, str]) -> None:
        name = fields["11"]
        if fields["530"] == "7" and "55" in fields:
            # Said besides the answer, by a halted symbol that keeps orders.
            return
        self._answered(name, fields, "q", "Q")
        if name in self.mass_cancels:
            self.mass_cancels[name].response = fields["531"]
            if "533" in fields:
                self.mass_cancels[name].affected = int(fields["533"])

    def _take_report(self, fields: dict[str, str]) -> None:
        exec_type = fields["150"]
        self.exec_ids.append(fields["17"])
        if exec_type == "I":
            self._take_status(fields)
            return
        if exec_type in ("0", "8"):
            self._answered(fields["11"], fields, "D")
        elif exec_type == "5":
            self._answered(fields["11"], fields, "G")
        elif exec_type == "4" and "41" in fields:
            if fields["11"] in self.mass_cancels:
                self.mass_cancels[fields["11"]].canceled += 1
            else:
                self._answered(fields["11"], fields, "F")
        if fields["37"] != "NONE":
            self._take_state(fields)

    def _take_status(self, fields: dict[str, str]) -> None:
        """Take the answer to a status request, or one order of a list that answers one."""
        if "584" not in fields:
            self._answered(fields["790"], fields, "H")
            return
        name = fields["584"]
        self._listed[name] = self._listed.get(name, 0) + (fields["37"] != "NONE")
        if fields["912"] == "Y":
            self._answered(name, fields, "AF")
            if self._listed[name] != int(fields["911"]):
                self.wrong.append(f"a list of {self._listed[name]} orders: {fields}")

    def _take_state(self, fields: dict[str, str]) -> None:
        exec_type, order_id = fields["150"], fields["37"]
        status, cum, leaves = fields["39"], int(fields["14"]), int(fields["151"])
        before = self.orders.get(order_id)
        if (before is None) != (exec_type in ("0", "8")) or (
            before is not None and (before[0] in _FINAL or before[1] > cum)
        ):
            self.wrong.append(f"out of order, after {before}: {fields}")
        self.orders[order_id] = status, cum, leaves
        if status in _FINAL:
            self.open.pop(order_id, None)
        elif exec_type != "4":
            side, ord_type = Side(int(fields["54"])), OrdType(int(fields["40"]))
            self.open[order_id] = Open(fields["55"], fields["11"], side, cum, ord_type)

    def _answered(self, name: str, fields: dict[str, str], *kinds: str) -> None:
        kind = self.unanswered.pop(name, None)
        if kind is None or (kinds and kind not in kinds):
            self.wrong.append(f"not a first answer (to {kind}): {fields}")
