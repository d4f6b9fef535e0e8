"""The life of one FIX session of the torture: it comes back whatever happens.

It leaves of its own accord too: cuts the connection, logs out, or turns away from a socket that it
leaves open, as a client does whose machine or network has gone; then it goes on at either gateway.
Now and then it begins its MsgSeqNums at 1 again. By FIX a reset gives up whatever was under way, so
it does that only when nothing is: all answered, nothing missing, and logged out in order. Some
Logons say which number is expected next (789).

From time to time it asks for old messages again (35=2), and has the venue prove that it is there
(35=1). What is sent again must be what was sent first, and all of it.
"""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from gateway.fix_message import FixMessage
from gateway.fix_tags import (
    EXECUTION_REPORT,
    HEARTBEAT,
    ORDER_CANCEL_REJECT,
    RESEND_REQUEST,
    SEQUENCE_RESET,
    TEST_REQUEST,
)
from gateway.fix_time import UtcTimestampWriter
from ops.endpoints import Credentials
from ops.errors import FixClientFailed
from ops.fix_initiator import Identity, Initiator, Phase
from ops.torture_line import Line
from ops.torture_record import Complaints, digest_of

HEART_BT_INT_S = 5
LOGON_TIMEOUT_S = 6.0
RETRY_MIN_S = 0.15
RETRY_MAX_S = 1.5
"""Between two tries to log on: doubled, since a gateway limits the attempts of an account."""

STAY_MIN_S = 4.0
STAY_MAX_S = 30.0
"""How long it stays before it leaves of its own accord."""

ASK_MIN_S = 3.0
ASK_MAX_S = 12.0
"""From one demand for old messages to the next."""

ASKED_MAX = 200
"""MsgSeqNums that it asks for again at once."""

HEARD_MAX = 2_000
"""Messages that it remembers for comparing them with what is sent again."""

PATIENCE_S = 2.5
"""Without an answer for so long it may take its gateway for dead, and turns to the other."""

_IDLE_S = 0.02
_BY_789_SHARE = 0.3
_EXEC_ID = re.compile(rb"\x0117=([^\x01]+)\x01")
_SENT_AGAIN = (EXECUTION_REPORT, ORDER_CANCEL_REJECT)


class Client:
    """See the head of this file. What it says and hears is its subclasses' business.

    Args:
        user: who logs on.
        target: TargetCompID.
        complaints: takes what must not be.
        seed: decides what it does, and when it leaves.
        ports: tells where gateways listen now.
        gateway: which of them is tried first.
        roams: whether it leaves, and asks for old messages, of its own accord.
        logon_fields: further fields of each Logon.

    Attributes:
        account: its SenderCompID.
        gateway: which gateway it tries next.
        avoided: port of a gateway that it does not try.
        trading: whether it does anything of its own accord.
        is_away: whether it stays logged out.
        is_leaving: whether it logs out for good: see ``run``.
        has_left: whether it has done so.
        departures: kind → how often it left, began again at 1 ("reset"), or asked ("asked again").
        refused: why the last logon was refused; empty since the last that was not.
        complaints: what must not have come.
    """

    def __init__(
        self,
        user: Credentials,
        target: str,
        complaints: Complaints,
        *,
        seed: str,
        ports: Callable[[], list[int]],
        gateway: int,
        roams: bool,
        logon_fields: Sequence[tuple[bytes, bytes]] = (),
    ) -> None:
        self.account = int(user.sender_comp_id)
        self.initiator = Initiator(
            Identity(user.sender_comp_id, target, user.username, user.password),
            heart_bt_int_s=HEART_BT_INT_S,
            on_aside=self._on_aside,
        )
        self.gateway = gateway
        self.avoided = 0
        self.trading = False
        self.is_away = False
        self.is_leaving = False
        self.has_left = False
        self.departures: dict[str, int] = {}
        self.refused = ""
        self.line: Line | None = None
        self.complaints = complaints
        self._ports = ports
        self._roams = roams
        self._logon_fields = tuple(logon_fields)
        self._choose = random.Random(seed)
        self._abandoned: list[Line] = []
        self._heard: dict[int, int] = {}
        self._asked: set[int] = set()
        self._tests: set[bytes] = set()
        self._retry_s = RETRY_MIN_S
        self._leave_at_s = 0.0
        self._ask_at_s = 0.0
        self._answered_at_s = 0.0
        self._wants_reset = False
        self._reset_is_unsure = False
        self._reset_at = self._known_until = b""
        self._news = asyncio.Event()

    @property
    def is_active(self) -> bool:
        """Whether it is logged on."""
        return self.initiator.phase is Phase.ACTIVE

    @property
    def port(self) -> int:
        """Where it connected last; 0 before."""
        return self.line.port if self.line is not None else 0

    @property
    def asked(self) -> int:
        """Return how many old messages, and proofs of life, it waits for."""
        return len(self._asked) + len(self._tests)

    # ------------------------------------------------------------ for subclasses

    @property
    def waits(self) -> bool:
        """Whether it waits for answers; then it does not begin at 1."""
        return False

    def act(self, now_s: float) -> None:
        """Say something, perhaps; called again and again while it is logged on."""

    def hear(self, message: FixMessage) -> None:
        """Take an application message or Reject, in sequence."""
        raise NotImplementedError

    def begin(self) -> None:
        """Do what is to be done after each logon."""

    def forget_numbers(self) -> None:
        """Take note that MsgSeqNums begin at 1 again."""

    # ------------------------------------------------------------ its life

    async def run(self) -> None:
        """Log on, act, log on again wherever somebody answers, until cancelled, or left for good.

        That is logged out in order: nothing that was sent before is still on its way then. Where
        the Logout is not answered, or something is missing, it logs on again for that.
        """
        self._news = asyncio.Event()
        loop = asyncio.get_running_loop()
        try:
            while not self.has_left:
                if self.is_away:
                    await self._stay_away()
                elif not self.is_active:
                    await self._log_on()
                elif self.is_leaving:
                    with suppress(FixClientFailed):
                        await self._log_out()
                        self.has_left = not self.initiator.has_gap
                else:
                    now_s = loop.time()
                    self.act(now_s)
                    if self._roams and self.trading:
                        await self._think_of_leaving(now_s)
                    await self._news_within(_IDLE_S)
        finally:
            for line in (*self._abandoned, *filter(None, [self.line])):
                line.close()

    def leave(self, kind: str) -> None:
        """End the connection: ``abandon`` the open socket, or ``cut`` it."""
        line = self._open_line()
        self._count(kind)
        if kind == "abandon":
            line.abandon()
            self._abandoned.append(line)
        else:
            line.abort("cut off")

    def ask_again(self) -> None:
        """Ask for the newest messages again, and for a proof of life."""
        last = self.initiator.next_in - 1
        first = max(1, last - self._choose.randint(0, ASKED_MAX - 1))
        if last < 1 or self.initiator.has_gap:
            return
        self._count("asked again")
        name = b"proof-%d" % self.departures["asked again"]
        self._asked = {number for number in self._heard if number >= first}
        self._tests = {name}
        self.ask(RESEND_REQUEST, b"7=%d\x0116=%d\x01" % (first, last))
        self.ask(TEST_REQUEST, b"112=%b\x01" % name)
        self._open_line().flush()

    def ask(self, msg_type: bytes, body: bytes) -> None:
        """Queue a message that is about this connection alone."""
        self.initiator.ask(msg_type, body, now_ns=time.time_ns())

    def heard_on_dead_lines(self) -> set[str]:
        """Return ExecIDs that came over abandoned lines."""
        return {one.decode() for line in self._abandoned for one in _EXEC_ID.findall(line.heard)}

    async def _stay_away(self) -> None:
        if self.is_active:
            self._count("logout")
            await self._open_line().logout()
        await self._news_within(_IDLE_S)

    async def _log_out(self) -> None:
        """Log out.

        Raises:
            FixClientFailed: the venue did not answer.
        """
        assert self.is_active, "a client is logged on before it logs out"
        await self._open_line().logout()
        if not self.initiator.reason.startswith("logged out"):
            raise FixClientFailed(f"no answer to the Logout: {self.initiator.reason}")

    async def _think_of_leaving(self, now_s: float) -> None:
        if self._wants_reset and not self.waits:
            await self._reset()
        elif self.waits and now_s - self._answered_at_s > PATIENCE_S:
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
                self._count("logout")
                await self._open_line().logout()
            else:
                self.leave("cut")
        elif now_s >= self._ask_at_s:
            self._ask_at_s = now_s + self._choose.uniform(ASK_MIN_S, ASK_MAX_S)
            if not self.asked:
                self.ask_again()

    async def _reset(self) -> None:
        """Log out in order and begin at 1; without an answer to the Logout there is no reset."""
        self._wants_reset = False
        with suppress(FixClientFailed):
            await self._log_out()
            if self.initiator.has_gap:
                # Something was on its way over the connection before this one.
                return
            self._reset_is_unsure = True
            self._reset_at = UtcTimestampWriter().write(time.time_ns())
            await self._connect(reset=True)
            self._reset_is_unsure, self._known_until = False, b""
            self._count("reset")

    async def _log_on(self) -> None:
        if self._reset_is_unsure:
            # If the venue has not begun at 1, it sends again what came before, all of it known.
            self._known_until = self._reset_at
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
            self.complaints.complain(self.refused)
        with suppress(FixClientFailed):
            await self._connect(reset=True)
            self._reset_is_unsure, self._known_until = False, b""

    async def _connect(self, *, reset: bool) -> None:
        line = self.line = Line(self.initiator, on_messages=self._on_messages)
        ports = [port for port in self._ports() if port != self.avoided]
        line.port = ports[self.gateway % len(ports)]
        self._asked.clear()
        self._tests.clear()
        if reset:
            self._heard.clear()
            self.forget_numbers()
        by_789 = self._roams and self._choose.random() < _BY_789_SHARE
        try:
            async with asyncio.timeout(LOGON_TIMEOUT_S):
                await line.connect(
                    "127.0.0.1",
                    line.port,
                    reset=reset,
                    says_expected=by_789,
                    more=self._logon_fields,
                )
        except TimeoutError:
            line.abort("no logon")
            raise FixClientFailed(f"no answer to the Logon within {LOGON_TIMEOUT_S:g} s") from None
        except FixClientFailed:
            line.abort("no logon")
            raise
        self.refused = ""
        self._retry_s = RETRY_MIN_S
        now_s = asyncio.get_running_loop().time()
        self._set_out(now_s)
        self._ask_at_s = now_s + self._choose.uniform(ASK_MIN_S, ASK_MAX_S)
        self.begin()

    def _set_out(self, now_s: float) -> None:
        self._answered_at_s = now_s
        self._leave_at_s = now_s + self._choose.uniform(STAY_MIN_S, STAY_MAX_S)

    def _count(self, kind: str) -> None:
        self.departures[kind] = self.departures.get(kind, 0) + 1

    def _open_line(self) -> Line:
        assert self.line is not None, "a client has been logged on"
        return self.line

    async def _news_within(self, seconds: float) -> None:
        self._news.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._news.wait()

    # ------------------------------------------------------------ what it hears

    def _on_messages(self, messages: list[FixMessage]) -> None:
        for message in messages:
            if message.msg_type in _SENT_AGAIN:
                self._heard[int(message.fields[b"34"])] = digest_of(message.fields)
                if len(self._heard) > HEARD_MAX:
                    del self._heard[next(iter(self._heard))]
            # 122: when it was sent first; in the millisecond of the Logout's answer, before that.
            if b"122" not in message.fields or message.fields[b"122"] > self._known_until:
                self.hear(message)
        self._answered_at_s = asyncio.get_running_loop().time()
        self._news.set()

    def _on_aside(self, message: FixMessage) -> None:
        """Take what is no news: what is sent again, and proofs of life."""
        number = int(message.fields[b"34"])
        if message.msg_type == HEARTBEAT:
            self._tests.discard(message.fields.get(b"112", b""))
        elif message.msg_type == SEQUENCE_RESET:
            filled = {one for one in self._asked if number <= one < int(message.fields[b"36"])}
            if filled:
                self.complaints.complain(f"not sent again, but filled: {sorted(filled)}")
            self._asked -= filled
        elif number in self._heard:
            self._asked.discard(number)
            if digest_of(message.fields) != self._heard[number]:
                self.complaints.complain(f"sent again as another message: {message.raw!r}")
