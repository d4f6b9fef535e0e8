"""A client that trades at random, comes back whatever happens, and remembers all that it was told.

It leaves of its own accord too: cuts the connection, logs out, or turns away from a socket that it
leaves open, as a client does whose machine or network has gone; then it goes on at either gateway.
Now and then it begins its MsgSeqNums at 1 again. By FIX a reset gives up whatever was under way, so
it does that only when nothing is: all answered, and logged out in order.
"""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from gateway.fix_message import FixMessage
from ops.endpoints import Credentials
from ops.errors import FixClientFailed
from ops.fix_client import FixClient
from ops.fix_initiator import Identity, Initiator, Phase
from ops.torture_record import Record, Sent
from ops.torture_requests import BURST_MAX, RandomRequests

UNANSWERED_MAX = 150
HEART_BT_INT_S = 5
LOGON_TIMEOUT_S = 6.0
RETRY_MIN_S = 0.15
RETRY_MAX_S = 1.5
"""Between two tries to log on: doubled, since a gateway limits the attempts of an account."""

STAY_MIN_S = 4.0
STAY_MAX_S = 30.0
"""How long it stays before it leaves of its own accord."""

PATIENCE_S = 2.5
"""Without an answer for so long it may take its gateway for dead, and turns to the other."""

_IDLE_S = 0.02
_EXEC_ID = re.compile(rb"\x0117=([^\x01]+)\x01")


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

    def close(self) -> None:
        """Close the socket of an abandoned line."""
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Note what comes after all (asyncio.Protocol)."""
        if self.abandoned:
            self.heard += data
        else:
            super().data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """Note the end (asyncio.Protocol)."""
        self.is_gone = True
        if self.abandoned:
            self._transport = None
        else:
            super().connection_lost(exc)


class Trader:
    """See the head of this file.

    Args:
        user: who logs on.
        target: TargetCompID.
        symbols: what is traded.
        seed: decides what is sent, and when it leaves.
        ports: tells where gateways listen now.
        gateway: which of them is tried first.
        pause_s: between two bursts of messages.
        roams: whether it leaves of its own accord.

    Attributes:
        record: what it was told.
        gateway: which gateway it tries next.
        avoided: port of a gateway that it does not try.
        trading: whether new messages are sent.
        departures: kind → how often it left, or began again at 1 ("reset").
        refused: why the last logon was refused; empty since the last that was not.
    """

    def __init__(
        self,
        user: Credentials,
        target: str,
        symbols: Sequence[str],
        *,
        seed: str,
        ports: Callable[[], list[int]],
        gateway: int,
        pause_s: float,
        roams: bool,
    ) -> None:
        self.account = int(user.sender_comp_id)
        self.initiator = Initiator(
            Identity(user.sender_comp_id, target, user.username, user.password),
            heart_bt_int_s=HEART_BT_INT_S,
        )
        self.record = Record()
        self.gateway = gateway
        self.avoided = 0
        self.trading = False
        self.departures: dict[str, int] = {}
        self.refused = ""
        self.line: Line | None = None
        self._ports = ports
        self._pause_s = pause_s
        self._roams = roams
        self._choose = random.Random(seed)
        self._requests = RandomRequests(self._choose, symbols)
        self._abandoned: list[Line] = []
        self._sent = 0
        self._retry_s = RETRY_MIN_S
        self._leave_at_s = 0.0
        self._answered_at_s = 0.0
        self._wants_reset = False
        self._reset_is_unsure = False
        self._is_finished = False
        self._news = asyncio.Event()

    @property
    def is_active(self) -> bool:
        """Whether it is logged on."""
        return self.initiator.phase is Phase.ACTIVE

    @property
    def port(self) -> int:
        """Where it connected last; 0 before."""
        return self.line.port if self.line is not None else 0

    # ------------------------------------------------------------ its life

    async def run(self) -> None:
        """Log on, trade, log on again wherever somebody answers, until cancelled or finished."""
        self._is_finished = False
        self._news = asyncio.Event()
        loop = asyncio.get_running_loop()
        next_s = loop.time()
        try:
            while not self._is_finished:
                if not self.is_active:
                    await self._log_on()
                    continue
                now_s = loop.time()
                if self.trading and now_s >= next_s and not self._wants_reset:
                    self.say()
                    next_s = now_s + self._pause_s * self._choose.uniform(0.5, 1.5)
                if self._roams and self.trading:
                    await self._think_of_leaving(now_s)
                await self._news_within(min(self._pause_s, _IDLE_S))
        finally:
            # Who finishes logs out over the line that is open.
            lines = list(self._abandoned)
            if self.line is not None and not self._is_finished:
                lines.append(self.line)
            for line in lines:
                line.close()

    async def finish(self) -> None:
        """End `run`, logging out in order: nothing that was sent before is still on its way then.

        Raises:
            FixClientFailed: the venue did not answer; the session is not logged out in order.
        """
        self._is_finished = True
        await self._log_out()

    async def _log_out(self) -> None:
        """Log out.

        Raises:
            FixClientFailed: the venue did not answer.
        """
        line = self.line
        assert line is not None and self.is_active, "a trader is logged on before it finishes"
        await line.logout()
        if not self.initiator.reason.startswith("logged out"):
            raise FixClientFailed(f"no answer to the Logout: {self.initiator.reason}")

    def leave(self, kind: str) -> None:
        """End the connection: ``abandon`` the open socket, or ``cut`` it."""
        line = self.line
        assert line is not None, "a trader that leaves was logged on"
        self.departures[kind] = self.departures.get(kind, 0) + 1
        if kind == "abandon":
            line.abandon()
            self._abandoned.append(line)
        else:
            line.abort("cut off")

    def unheard(self) -> set[str]:
        """Return ExecIDs that came over abandoned lines, but never over the session after all."""
        heard = {one.decode() for line in self._abandoned for one in _EXEC_ID.findall(line.heard)}
        return heard - self.record.exec_ids

    async def _think_of_leaving(self, now_s: float) -> None:
        if self._wants_reset and not self.record.unanswered:
            await self._reset()
        elif self.record.unanswered and now_s - self._answered_at_s > PATIENCE_S:
            self._answered_at_s = now_s
            self.gateway += 1
            self.leave("abandon")
        elif now_s >= self._leave_at_s:
            self._set_out(now_s)
            self.gateway += self._choose.randint(0, 1)
            draw = self._choose.random()
            if draw < 0.15:
                self._wants_reset = True
            elif draw < 0.3:
                self.leave("abandon")
            elif draw < 0.6:
                self.departures["logout"] = self.departures.get("logout", 0) + 1
                assert self.line is not None, "a trader that leaves was logged on"
                await self.line.logout()
            else:
                self.leave("cut")

    async def _reset(self) -> None:
        """Log out in order and begin at 1; without an answer to the Logout there is no reset."""
        self._wants_reset = False
        with suppress(FixClientFailed):
            await self._log_out()
            self._reset_is_unsure = True
            await self._connect(reset=True)
            self._reset_is_unsure = False
            self.departures["reset"] = self.departures.get("reset", 0) + 1

    async def _log_on(self) -> None:
        try:
            await self._connect(reset=False)
        except FixClientFailed as error:
            self.refused = str(error)
            if "MsgSeqNum too low" in self.refused:
                await self._numbers_refused()
            self.gateway += 1
            await self._news_within(self._retry_s)
            self._retry_s = min(2 * self._retry_s, RETRY_MAX_S)
        else:
            self._reset_is_unsure = False

    async def _numbers_refused(self) -> None:
        """Begin at 1 if the venue has not, where we have; otherwise it has forgotten numbers."""
        if not self._reset_is_unsure:
            self.record.complain(self.refused)
        with suppress(FixClientFailed):
            await self._connect(reset=True)
            self._reset_is_unsure = False

    async def _connect(self, *, reset: bool) -> None:
        line = self.line = Line(self.initiator, on_messages=self._on_messages)
        ports = [port for port in self._ports() if port != self.avoided]
        port = ports[self.gateway % len(ports)]
        if reset:
            self.record.note_reset()
        try:
            async with asyncio.timeout(LOGON_TIMEOUT_S):
                await line.connect("127.0.0.1", port, reset=reset)
        except TimeoutError:
            line.abort("no logon")
            raise FixClientFailed(f"no answer to the Logon within {LOGON_TIMEOUT_S:g} s") from None
        except FixClientFailed:
            line.abort("no logon")
            raise
        self.refused = ""
        self._retry_s = RETRY_MIN_S
        self._set_out(asyncio.get_running_loop().time())

    def _set_out(self, now_s: float) -> None:
        self._answered_at_s = now_s
        self._leave_at_s = now_s + self._choose.uniform(STAY_MIN_S, STAY_MAX_S)

    async def _news_within(self, seconds: float) -> None:
        self._news.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._news.wait()

    # ------------------------------------------------------------ what it says and hears

    def say(self) -> None:
        """Send some messages, unless too many are unanswered."""
        line = self.line
        assert line is not None, "a trader is logged on first"
        now_ns = time.time_ns()
        for _ in range(self._choose.randint(1, BURST_MAX)):
            if len(self.record.unanswered) >= UNANSWERED_MAX:
                break
            self._sent += 1
            name = f"{self._sent}"
            request = self._requests.draw(name, self.record.open, now_ns=now_ns)
            number = line.send(*request.message)
            sent = Sent(request.kind, request.symbol, time.monotonic())
            self.record.note_sent(name, number, sent)
        line.flush()

    def _on_messages(self, messages: list[FixMessage]) -> None:
        for message in messages:
            self.record.note(message.msg_type, message.fields)
        self._answered_at_s = asyncio.get_running_loop().time()
        self._news.set()
