"""A FIX client that trades at random, comes back whatever happens, and remembers what it was told.

Each message has one answer, each report comes once, and what reports say about an order fits
together; what does not is noted in ``wrong``.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from engine.enums import Side, TimeInForce
from gateway.errors import RemoteFixError
from gateway.fix_message import FixMessage
from gateway.fix_tags import NEW_ORDER_SINGLE
from gateway.fix_time import UtcTimestampWriter
from ops.fix_initiator import Identity, Initiator, Phase
from ops.fix_orders import Message, OrderBodies
from tests.simulation.clock import VirtualLoop

HEART_BT_INT_S = 1
LOGON_TIMEOUT_S = 2.0
LOGON_RETRY_S = 0.2
TICK_S = 0.5
"""How often heartbeats are looked after."""

MID_TICKS = 5_000
SPREAD_TICKS = 6
UNAFFORDABLE_TICKS = 10**9

_FINAL = ("2", "4", "C", "8")
_TIMES_IN_FORCE = (*(TimeInForce.GTC,) * 6, TimeInForce.IOC, TimeInForce.IOC, TimeInForce.FOK)


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
        self.wrong: list[str] = []
        self._loop = loop
        self._choose = choose
        self._ports = ports
        self._gateway = choose.randrange(len(ports))
        self._messages = messages
        self._pause_s = pause_s
        self._line: Line | None = None
        self._was_refused = False
        self._news = asyncio.Event()
        self._times = UtcTimestampWriter()
        self._names: dict[int, str] = {}
        self._open: dict[str, tuple[str, str, Side, int]] = {}
        self._bodies = {
            symbol: OrderBodies(symbol, tick_size="0.01", lot_size="1", stp=None)
            for symbol in symbols
        }

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
                await self._log_on()
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
            kind, (msg_type, body) = self._message(name)
            self.unanswered[name] = kind
            number = self.initiator.send(msg_type, body, now_ns=self._loop.time_ns())
            self._names[number] = name
        self._flush()

    def _message(self, name: str) -> tuple[str, Message]:
        choose, now = self._choose, self._times.write(self._loop.time_ns())
        draw = choose.random()
        if self._open and draw < 0.35:
            symbol, cl_ord_id, side, cum = choose.choice(list(self._open.values()))
            bodies, orig = self._bodies[symbol], cl_ord_id.encode()
            if draw < 0.18:
                return "G", bodies.replace(
                    name.encode(),
                    orig,
                    side,
                    price_ticks=self._price(),
                    total_lots=cum + choose.randint(1, 20),
                    time=now,
                )
            if draw < 0.22:
                msg_type, body = bodies.status(orig, side)
                return "H", (msg_type, b"%b790=%b\x01" % (body, name.encode()))
            return "F", bodies.cancel(name.encode(), orig, side, time=now)
        symbol, side = choose.choice(list(self._bodies)), choose.choice((Side.BUY, Side.SELL))
        bodies, lots = self._bodies[symbol], choose.randint(1, 20)
        if draw < 0.40:
            body = b"11=%b\x0138=%d\x0140=1\x0154=%d\x0155=%b\x0160=%b\x01"
            return "D", (NEW_ORDER_SINGLE, body % (name.encode(), lots, side, symbol.encode(), now))
        price, time_in_force = self._price(), choose.choice(_TIMES_IN_FORCE)
        if draw < 0.44:
            price, lots, side = UNAFFORDABLE_TICKS, 100_000, Side.BUY
        return "D", bodies.new(
            name.encode(),
            side,
            price_ticks=price,
            qty_lots=lots,
            time_in_force=time_in_force,
            time=now,
        )

    def _price(self) -> int:
        return MID_TICKS + self._choose.randint(-SPREAD_TICKS, SPREAD_TICKS)

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
            self._answered(fields["11"], fields, "FG")
        elif message.msg_type == b"j" and fields["380"] == "4":
            name = self._names.get(int(fields["45"]), "?")
            if name not in self.unavailable:
                # Said again after a logon: the venue could not know that it had been read.
                self._answered(name, fields, "")
                self.unavailable[name] = None
        else:
            self.wrong.append(f"unexpected: {fields}")

    def _take_report(self, fields: dict[str, str]) -> None:
        exec_type = fields["150"]
        self.exec_ids.append(fields["17"])
        if exec_type == "I":
            self._answered(fields["790"], fields, "H")
            return
        if exec_type in ("0", "8"):
            self._answered(fields["11"], fields, "D")
        elif exec_type == "5":
            self._answered(fields["11"], fields, "G")
        elif exec_type == "4" and "41" in fields:
            self._answered(fields["11"], fields, "F")
        order_id = fields["37"]
        if order_id == "NONE":
            return
        status, cum, leaves = fields["39"], int(fields["14"]), int(fields["151"])
        before = self.orders.get(order_id)
        if (before is None) != (exec_type in ("0", "8")) or (
            before is not None and (before[0] in _FINAL or before[1] > cum)
        ):
            self.wrong.append(f"out of order, after {before}: {fields}")
        self.orders[order_id] = status, cum, leaves
        if status in _FINAL:
            self._open.pop(order_id, None)
        elif exec_type != "4":
            side = Side(int(fields["54"]))
            self._open[order_id] = fields["55"], fields["11"], side, cum

    def _answered(self, name: str, fields: dict[str, str], kinds: str) -> None:
        kind = self.unanswered.pop(name, None)
        if kind is None or (kinds and kind not in kinds):
            self.wrong.append(f"not a first answer (to {kind}): {fields}")
