"""A client that trades at random, comes back whatever happens, and remembers all that it was told.

It sends every kind of request, and lets the venue's answers be checked: each message has one, each
report comes once, and what reports say about an order fits together.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NamedTuple

from engine.enums import Side, TimeInForce
from gateway.fix_message import FixMessage
from gateway.fix_tags import NEW_ORDER_SINGLE
from gateway.fix_time import UtcTimestampWriter
from ops.endpoints import Credentials
from ops.errors import FixClientFailed
from ops.fix_client import FixClient
from ops.fix_initiator import Identity, Initiator, Phase
from ops.fix_orders import Message, OrderBodies

MID_TICKS = 5_000
SPREAD_TICKS = 8
UNAFFORDABLE_TICKS = 10**9
UNANSWERED_MAX = 150
OPEN_MAX = 30
BURST_MAX = 6
PAUSE_S = 0.012
LOGON_TIMEOUT_S = 4.0
LOGON_RETRY_S = 0.15

_FINAL = (b"2", b"4", b"C", b"8")
_TIMES_IN_FORCE = (*(TimeInForce.GTC,) * 6, TimeInForce.IOC, TimeInForce.IOC, TimeInForce.FOK)


class Told(NamedTuple):
    """What the last report about an order said."""

    cl_ord_id: str
    status: bytes
    cum: int
    leaves: int
    symbol: str
    side: Side


class Fill(NamedTuple):
    """One side of a trade."""

    side: Side
    price: str
    quantity: int
    fee: str


class Line(FixClient):
    """One connection. Abandoned, it only notes what still comes, and leaves the session alone."""

    def __init__(
        self, initiator: Initiator, *, on_messages: Callable[[list[FixMessage]], None]
    ) -> None:
        super().__init__(initiator, on_messages=on_messages)
        self.port = 0
        self.abandoned = False
        self.is_gone = False
        self.heard = b""

    async def connect(self, host: str, port: int, *, reset: bool) -> None:
        """Connect, and remember where."""
        self.port = port
        await super().connect(host, port, reset=reset)

    def abandon(self) -> None:
        """Leave the socket open, so that the session can go on over another connection."""
        self.abandoned = True
        self.initiator.disconnect("abandoned")
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        """Note what comes after all (asyncio.Protocol)."""
        if self.abandoned:
            self.heard += data
        else:
            super().data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """Note the end (asyncio.Protocol)."""
        self.is_gone = True
        if not self.abandoned:
            super().connection_lost(exc)


class Trader:
    """See the head of this file.

    Args:
        user: who logs on.
        target: TargetCompID.
        symbols: what is traded.
        seed: decides what is sent.
        ports: tells where gateways listen now.
        gateway: which of them is tried first.

    Attributes:
        avoided: port of a gateway that it does not try.
        trading: whether new messages are sent.
        unanswered: id → kind of the messages sent that have no answer yet.
        wrong: what must not have come.
        exec_ids: of all reports.
        cancel_rejects: how many 35=9 came.
        orders: OrderID → what was told last.
        fills: trade id → our side of it.
        answers: how many messages of each kind were answered.
        unavailable: ids of those that were answered with 380=4.
    """

    def __init__(
        self,
        user: Credentials,
        target: str,
        symbols: Sequence[str],
        *,
        seed: int,
        ports: Callable[[], list[int]],
        gateway: int,
    ) -> None:
        self.account = int(user.sender_comp_id)
        self.initiator = Initiator(
            Identity(user.sender_comp_id, target, user.username, user.password), heart_bt_int_s=5
        )
        self.gateway = gateway
        self.avoided = 0
        self.trading = False
        self.unanswered: dict[str, str] = {}
        self.wrong: list[str] = []
        self.exec_ids: set[str] = set()
        self.cancel_rejects = 0
        self.orders: dict[str, Told] = {}
        self.fills: dict[str, Fill] = {}
        self.answers: dict[str, int] = {}
        self.unavailable: set[str] = set()
        self.line: Line | None = None
        self._ports = ports
        self._random = random.Random(seed)
        self._times = UtcTimestampWriter()
        self._open: dict[str, Told] = {}
        self._names: dict[int, str] = {}
        self._sent = 0
        self._news = asyncio.Event()
        self._bodies = {
            symbol: OrderBodies(symbol, tick_size="0.01", lot_size="1", stp=None)
            for symbol in symbols
        }

    # ------------------------------------------------------------ its life

    async def run(self) -> None:
        """Log on, trade, log on again wherever somebody answers, until cancelled."""
        self._news = asyncio.Event()
        loop = asyncio.get_running_loop()
        next_s = loop.time()
        try:
            while True:
                if self.initiator.phase is not Phase.ACTIVE:
                    await self._log_on()
                    continue
                if self.trading and loop.time() >= next_s:
                    self.say()
                    next_s = loop.time() + PAUSE_S
                await self._news_within(PAUSE_S)
        finally:
            if self.line is not None and not self.line.abandoned:
                await self.line.logout()

    async def _log_on(self) -> None:
        line = self.line = Line(self.initiator, on_messages=self._on_messages)
        ports = [port for port in self._ports() if port != self.avoided]
        port = ports[self.gateway % len(ports)]
        try:
            async with asyncio.timeout(LOGON_TIMEOUT_S):
                await line.connect("127.0.0.1", port, reset=False)
        except (FixClientFailed, TimeoutError):
            line.abort("no logon")
            self.gateway += 1
            await self._news_within(LOGON_RETRY_S)

    async def _news_within(self, seconds: float) -> None:
        self._news.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._news.wait()

    @property
    def is_active(self) -> bool:
        """Whether it is logged on."""
        return self.initiator.phase is Phase.ACTIVE

    # ------------------------------------------------------------ what it says

    def say(self) -> None:
        """Send some messages, unless too many are unanswered."""
        line = self.line
        assert line is not None, "a trader is logged on first"
        for _ in range(self._random.randint(1, BURST_MAX)):
            if len(self.unanswered) >= UNANSWERED_MAX:
                break
            self._sent += 1
            name = f"{self._sent}"
            kind, (msg_type, body) = self._message(name)
            self.unanswered[name] = kind
            self._names[line.send(msg_type, body)] = name
        line.flush()

    def _message(self, name: str) -> tuple[str, Message]:
        choose = self._random
        now = self._times.write(time.time_ns())
        draw = choose.random()
        if self._open and (draw < 0.2 or len(self._open) > OPEN_MAX):
            told = choose.choice(list(self._open.values()))
            bodies, orig = self._bodies[told.symbol], told.cl_ord_id.encode()
            if draw < 0.1:
                return "G", bodies.replace(
                    name.encode(),
                    orig,
                    told.side,
                    price_ticks=self._price(),
                    total_lots=told.cum + choose.randint(1, 20),
                    time=now,
                )
            if draw < 0.12:
                msg_type, body = bodies.status(orig, told.side)
                return "H", (msg_type, b"%b790=%b\x01" % (body, name.encode()))
            return "F", bodies.cancel(name.encode(), orig, told.side, time=now)
        symbol, side = choose.choice(list(self._bodies)), choose.choice((Side.BUY, Side.SELL))
        bodies, lots = self._bodies[symbol], choose.randint(1, 20)
        if draw < 0.25:
            body = b"11=%b\x0138=%d\x0140=1\x0154=%d\x0155=%b\x0160=%b\x01"
            return "market", (
                NEW_ORDER_SINGLE,
                body % (name.encode(), lots, side, symbol.encode(), now),
            )
        price, time_in_force = self._price(), choose.choice(_TIMES_IN_FORCE)
        if draw < 0.27:
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
        return MID_TICKS + self._random.randint(-SPREAD_TICKS, SPREAD_TICKS)

    # ------------------------------------------------------------ what it is told

    def _on_messages(self, messages: list[FixMessage]) -> None:
        for message in messages:
            fields = {tag.decode(): value.decode() for tag, value in message.fields.items()}
            if message.msg_type == b"8":
                self._on_report(fields)
            elif message.msg_type == b"9":
                self.cancel_rejects += 1
                self._answered(fields["11"], fields, "FG")
            elif message.msg_type == b"j" and fields["380"] == "4":
                name = self._names.get(int(fields["45"]), "?")
                if name in self.unavailable:
                    # Said again after a logon: the venue could not know that it had been read.
                    continue
                self._answered(name, fields, "")
                self.unavailable.add(name)
            else:
                self.wrong.append(f"unexpected: {fields}")
        self._news.set()

    def _on_report(self, fields: dict[str, str]) -> None:
        exec_id, exec_type = fields["17"], fields["150"]
        if exec_id in self.exec_ids:
            self.wrong.append(f"again: {fields}")
        self.exec_ids.add(exec_id)
        if exec_type == "I":
            self._answered(fields["790"], fields, "H")
            self._check_status(fields)
            return
        if exec_type in ("0", "8"):
            self._answered(fields["11"], fields, "Dmarket")
        elif exec_type == "5":
            self._answered(fields["11"], fields, "G")
        elif exec_type == "4" and "41" in fields:
            self._answered(fields["11"], fields, "F")
        if fields["37"] != "NONE":
            self._note_order(fields)

    def _note_order(self, fields: dict[str, str]) -> None:
        order_id, exec_type = fields["37"], fields["150"]
        told = Told(
            fields["11"],
            fields["39"].encode(),
            int(fields["14"]),
            int(fields["151"]),
            fields["55"],
            Side(int(fields["54"])),
        )
        before = self.orders.get(order_id)
        if (before is None) != (exec_type in ("0", "8")):
            self.wrong.append(f"out of order, after {before}: {fields}")
        if before is not None and (before.status in _FINAL or before.cum > told.cum):
            self.wrong.append(f"out of order, after {before}: {fields}")
        if exec_type == "4" and "41" in fields and before is not None:
            # The report is about the request; the order keeps its ClOrdID.
            told = told._replace(cl_ord_id=before.cl_ord_id)
        self.orders[order_id] = told
        if told.status in _FINAL:
            self._open.pop(order_id, None)
        else:
            self._open[order_id] = told
        if exec_type == "F":
            if fields["527"] in self.fills:
                self.wrong.append(f"filled again: {fields}")
            fill = Fill(told.side, fields["31"], int(fields["32"]), fields["137"])
            self.fills[fields["527"]] = fill
            if before is not None and told.cum != before.cum + fill.quantity:
                self.wrong.append(f"a fill is missing after {before}: {fields}")

    def _check_status(self, fields: dict[str, str]) -> None:
        told = self.orders.get(fields["37"])
        said = (fields["39"].encode(), int(fields["14"]), int(fields["151"]))
        if told is not None and said != (told.status, told.cum, told.leaves):
            self.wrong.append(f"{told}, but status says {fields}")

    def _answered(self, name: str, fields: dict[str, str], kinds: str) -> None:
        kind = self.unanswered.pop(name, None)
        if kind is None or (kinds and kind not in kinds):
            self.wrong.append(f"not a first answer (to {kind}): {fields}")
            return
        self.answers[kind] = self.answers.get(kind, 0) + 1
