"""Who is there and who has gone, by what gateways say: when orders may be canceled for that.

A second opinion on ``router/scripts/session_*.lua``, from the calls that were carried out alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec

from tests.simulation.redis_store import Reply

CLOCK_MS = 2
"""Redis' clock has whole milliseconds."""


class Disconnects:
    """See the head of this file.

    Args:
        grace_s: account → seconds from when its client is gone until its orders are canceled.
        fail: told what must not be.

    Attributes:
        canceled: account → cancels that were put into streams.
        decisions: how often a client was found to be gone.
    """

    def __init__(self, grace_s: Mapping[int, int], fail: Callable[[str], None]) -> None:
        self.canceled: dict[int, int] = {}
        self.decisions = 0
        self._grace_s = grace_s
        self._fail = fail
        self._epochs: dict[int, int] = {}
        self._until_s: dict[int, float] = {}
        """Account → until when its client counts as there; none: decided, and not back."""

    def on_script(self, name: str, args: Sequence[bytes], reply: Reply, now_s: float) -> None:
        """Take note of a script that was carried out."""
        if name == "session_renew":
            sessions = msgspec.msgpack.decode(args[1])
            for account, epoch in zip(sessions[::2], sessions[1::2], strict=True):
                if epoch == self._epochs.get(account):
                    self._until_s[account] = now_s + int(args[0]) / 1_000
            return
        if name not in ("session_logon", "session_release", "session_disconnect"):
            return
        account = int(args[0])
        if name == "session_logon":
            if reply[0] == b"OPENED":
                self._epochs[account] = reply[1]
                self._until_s[account] = now_s + int(args[2]) / 1_000
        elif name == "session_release":
            is_first = reply == [b"OK"] and args[5] == b"1" and account in self._until_s
            if is_first and now_s < self._until_s[account]:
                self._until_s[account] = now_s
        elif reply[0] == b"OK":
            self._decide(account, reply[1], reply[2], now_s)

    def _decide(self, account: int, streams: int, missed: int, now_s: float) -> None:
        self.decisions += 1
        self.canceled[account] = self.canceled.get(account, 0) + streams
        self._epochs.pop(account, None)
        until_s = self._until_s.get(account)
        if until_s is None:
            self._fail(f"account {account}: found gone again, and was not back")
        elif now_s + CLOCK_MS / 1_000 < until_s + self._grace_s.get(account, 1 << 30):
            self._fail(f"account {account}: found gone, and was there until {until_s:.3f} s")
        if not missed:
            self._until_s.pop(account, None)
