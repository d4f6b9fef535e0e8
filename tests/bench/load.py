"""Load: orders of which half cross, sent by a few sessions as fast as a window allows.

Every symbol has one price. For each symbol half of the sessions buy and half sell, with the same
quantities in the same order; so each trade meets one order that rests and one that comes, no order
trades with its own account, and in the end every order is filled whole. Reports are counted in the
bytes as they come, not parsed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from engine.enums import Side, TimeInForce
from gateway.fix_message import FixMessage
from gateway.fix_tags import NEW_ORDER_SINGLE
from gateway.fix_time import UtcTimestampWriter
from ops.endpoints import Credentials, Endpoints
from ops.fix_client import FixClient
from ops.fix_initiator import Identity, Initiator, Phase
from ops.fix_orders import OrderBodies

PRICE_TICKS = 5_000
QUANTITIES = (10, 10, 20, 10, 10, 10, 20, 10)
"""Lots of a session's successive orders in one symbol; unequal, so that some fills are partial."""

WINDOW_ORDERS = 512
"""Orders of a session that are not acknowledged yet."""

BATCH_ORDERS = 64
STALL_TIMEOUT_S = 30.0

_TRAILER = b"\x0110="
_TRAILER_BYTES = 8
_CL_ORD_ID_MARK = b"11=?\x01"

Session = TypeVar("Session", bound="LoadSession")
Bodies = list[list[bytes]]
"""By symbol, the bodies of a session's successive orders without their ClOrdID."""


@dataclass(slots=True)
class Tally:
    """What came back. ``others``: reports that a good run has none of."""

    reports: int = 0
    acks: int = 0
    fills: int = 0
    filled: int = 0
    others: int = 0

    def add(self, data: bytes, reports: int) -> None:
        """Count whole messages, all of them ExecutionReports."""
        acks, fills = data.count(b"\x01150=0\x01"), data.count(b"\x01150=F\x01")
        self.reports += reports
        self.acks += acks
        self.fills += fills
        self.filled += data.count(b"\x0139=2\x01")
        self.others += reports - acks - fills


class LoadSession(FixClient):
    """A client that counts what it gets.

    Args:
        user: who logs on.
        target_comp_id: of the venue.
    """

    def __init__(self, user: Credentials, target_comp_id: str) -> None:
        identity = Identity(user.sender_comp_id, target_comp_id, user.username, user.password)
        super().__init__(Initiator(identity), on_messages=self._on_messages)
        self.tally = Tally()
        self.sent = 0
        self._rest = b""
        self._news = asyncio.Event()

    def receive(self, data: bytes) -> list[FixMessage]:
        """Count reports; give anything else to the session."""
        if self.initiator.phase is not Phase.ACTIVE:
            return super().receive(data)
        data = self._rest + data
        end = data.rfind(_TRAILER, 0, len(data) - (_TRAILER_BYTES - len(_TRAILER))) + _TRAILER_BYTES
        if end < _TRAILER_BYTES:
            self._rest = data
            return []
        whole, self._rest = data[:end], data[end:]
        reports = whole.count(b"\x0135=8\x01")
        if reports != whole.count(_TRAILER):
            return super().receive(whole)
        self.tally.add(whole, reports)
        start = whole.rfind(b"\x0134=") + 4
        last = int(whole[start : whole.index(b"\x01", start)])
        self.initiator.note_counted(reports, last, now_ns=time.time_ns())
        self._news.set()
        return []

    def _on_messages(self, messages: list[FixMessage]) -> None:
        """Count what came beside session messages, and so was parsed."""
        for message in messages:
            if message.msg_type == b"8":
                self.tally.add(message.raw, 1)
            else:
                self.tally.others += 1
        self._news.set()

    async def run(self, bodies: Sequence[Sequence[bytes]], *, until_s: float, most: int) -> None:
        """Send orders until a time, at most so many in all.

        Args:
            bodies: by symbol, the bodies of its successive orders without their ClOrdID.
            until_s: on the loop's clock.
            most: limit of ``sent``, also where the time has passed and fewer are sent.
        """
        loop = asyncio.get_running_loop()
        while self.sent < most and loop.time() < until_s:
            room = min(
                WINDOW_ORDERS - (self.sent - self.tally.acks), BATCH_ORDERS, most - self.sent
            )
            if room <= 0:
                await self.hear()
                continue
            send, now_ns = self.initiator.send, time.time_ns()
            for number in range(self.sent, self.sent + room):
                turn, symbol = divmod(number, len(bodies))
                of_symbol = bodies[symbol]
                body = b"11=%d\x01%b" % (number, of_symbol[turn % len(of_symbol)])
                send(NEW_ORDER_SINGLE, body, now_ns=now_ns)
            self.sent += room
            self.flush()
            await self.drained()
            await asyncio.sleep(0)

    async def hear(self) -> None:
        """Wait until something comes."""
        self._news.clear()
        async with asyncio.timeout(STALL_TIMEOUT_S):
            await self._news.wait()
        assert self.initiator.phase is not Phase.OFFLINE, self.initiator.reason


def render(symbols: Sequence[str], *, first_half: bool) -> Bodies:
    """Return the bodies of a session's orders, without ClOrdIDs, for each symbol.

    Args:
        symbols: all of the venue.
        first_half: such a session buys the first half of the symbols and sells the others.
    """
    now = UtcTimestampWriter().write(time.time_ns())
    bodies = []
    for index, symbol in enumerate(symbols):
        buys = (index < len(symbols) // 2) == first_half
        make = OrderBodies(symbol, tick_size="0.01", lot_size="1", stp=None)
        rendered = [
            make.new(
                b"?",
                Side.BUY if buys else Side.SELL,
                price_ticks=PRICE_TICKS,
                qty_lots=quantity,
                time_in_force=TimeInForce.GTC,
                time=now,
            )[1]
            for quantity in QUANTITIES
        ]
        bodies.append([body.removeprefix(_CL_ORD_ID_MARK) for body in rendered])
    return bodies


async def connect_all(endpoints: Endpoints, kind: type[Session]) -> list[Session]:
    """Log every user on, one after the other, over the gateways in turns."""
    sessions = []
    for number, user in enumerate(endpoints.users):
        session = kind(user, endpoints.target_comp_id)
        gateway = endpoints.fix[number % len(endpoints.fix)]
        await session.connect(gateway.host, gateway.port, reset=True)
        sessions.append(session)
    return sessions


async def drive(
    sessions: Sequence[LoadSession], symbols: Sequence[str], *, seconds: float
) -> float:
    """Send for so long, then fill the books' rest; return the time until the last ack, in s."""
    loop = asyncio.get_running_loop()
    start_s = loop.time()
    pairs = with_bodies(sessions, symbols)
    async with asyncio.TaskGroup() as tasks:
        for session, own in pairs:
            tasks.create_task(session.run(own, until_s=start_s + seconds, most=1 << 60))
    await finish(pairs)
    return loop.time() - start_s


def with_bodies(
    sessions: Sequence[Session], symbols: Sequence[str]
) -> list[tuple[Session, Bodies]]:
    """Return each session with its orders."""
    return [
        (session, render(symbols, first_half=number < len(sessions) // 2))
        for number, session in enumerate(sessions)
    ]


async def finish(pairs: Sequence[tuple[LoadSession, Bodies]]) -> None:
    """Send what fills the rest of the books, and wait for the last acknowledgement."""
    sessions, symbols = [session for session, _ in pairs], pairs[0][1]
    # All have sent as much as the busiest, and whole rounds over the symbols: books end empty.
    most = -(-max(session.sent for session in sessions) // len(symbols)) * len(symbols)
    async with asyncio.TaskGroup() as tasks:
        for session, own in pairs:
            tasks.create_task(session.run(own, until_s=float("inf"), most=most))
    for session in sessions:
        while session.tally.acks < session.sent:
            await session.hear()
