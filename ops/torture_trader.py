"""A client that trades at random, and remembers all that it was told."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from gateway.fix_message import FixMessage
from ops.endpoints import Credentials
from ops.torture_client import Client
from ops.torture_record import Record, Sent
from ops.torture_requests import BURST_MAX, RandomRequests, Request

UNANSWERED_MAX = 150

_CANCEL_ON_DISCONNECT = (b"8013", b"Y")


class Trader(Client):
    """One of them; how it lives: ``Client``.

    Args:
        user: who logs on.
        target: TargetCompID.
        symbols: what is traded.
        seed: decides what is sent, and when it leaves.
        ports: tells where gateways listen now.
        gateway: which of them is tried first.
        pause_s: between two bursts of messages.
        roams: whether it leaves of its own accord.
        says_cancel: whether its Logons ask for cancel on disconnect (8013).

    Attributes:
        record: what it was told.
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
        says_cancel: bool = False,
    ) -> None:
        self.record = Record()
        super().__init__(
            user,
            target,
            self.record,
            seed=seed,
            ports=ports,
            gateway=gateway,
            roams=roams,
            logon_fields=[_CANCEL_ON_DISCONNECT] if says_cancel else [],
        )
        self._pause_s = pause_s
        self._requests = RandomRequests(self._choose, symbols)
        self._sent = 0
        self._next_s = 0.0

    @property
    def waits(self) -> bool:
        """Whether messages are unanswered."""
        return bool(self.record.unanswered)

    def act(self, now_s: float) -> None:
        """Send a burst of messages when it is time."""
        if self.trading and now_s >= self._next_s and not self._wants_reset:
            self.say()
            self._next_s = now_s + self._pause_s * self._choose.uniform(0.5, 1.5)

    def say(self) -> None:
        """Send some messages, unless too many are unanswered."""
        for _ in range(self._choose.randint(1, BURST_MAX)):
            if len(self.record.unanswered) >= UNANSWERED_MAX:
                break
            resting, now_ns = self.record.open, time.time_ns()
            self._send(self._requests.draw(self._next_name(), resting, now_ns=now_ns))
        self._open_line().flush()

    def list_all(self) -> None:
        """Ask for all open orders."""
        self._send(self._requests.list_of("", self._next_name()))
        self._open_line().flush()

    def hear(self, message: FixMessage) -> None:
        """Take note of it."""
        self.record.note(message.msg_type, message.fields)

    def forget_numbers(self) -> None:
        """Take note that MsgSeqNums begin at 1 again."""
        self.record.note_reset()

    def unheard(self) -> set[str]:
        """Return ExecIDs that came over abandoned lines, but never over the session after all."""
        return self.heard_on_dead_lines() - self.record.exec_ids - self.record.lists.exec_ids

    def _next_name(self) -> str:
        return f"{self._sent + 1}"

    def _send(self, request: Request) -> None:
        name = self._next_name()
        self._sent += 1
        number = self._open_line().send(*request.message)
        sent = Sent(request.kind, request.symbol, time.monotonic())
        self.record.note_sent(name, number, sent)
