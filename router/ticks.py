"""The leader's clock: where something is due in a symbol and no input comes, a Tick is appended.

An engine knows no time but the stamps of its inputs. So what is due in a quiet market (orders whose
time has come, the rest of an auction) waits for the next input, and the engine that leads makes
one. Whether it leads, and whether nothing has come meanwhile, is decided by the script that
appends; a Tick too many would be harmless: it does what is due, and nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from engine.commands import Tick, encode_command
from router.errors import Fenced, HomeMismatch, Uncleared
from router.homes import Home
from router.lease import Lease
from router.redis_client import RedisLink, retry_while_away
from router.scripts import Script, pack
from router.standby import Leadership

LOOK_INTERVAL_S = 0.05
"""Between two looks whether something is due: so late, at most, an order expires in a quiet
market."""

BUSY_INTERVAL_S = 0.002
"""The same after a Tick: an auction goes on as soon as its last part has been applied."""

_TICK = Script("tick", before=("cleared",))
_COMMAND = encode_command(Tick())


class DueSymbols(Protocol):
    """The symbols of an engine: engine.shard.Shard."""

    def due_us(self, symbol: str) -> int:
        """Return when something is due, in µs since 1970 UTC; 0: never, 1: at once."""

    def position(self, symbol: str) -> int:
        """Return the seq of the last applied input."""


class Ticker:
    """Appends the Ticks of a shard while its engine leads.

    Args:
        link: accounts database, for nothing else.
        lease: the engine's.
        leadership: whether it leads.
        homes: of the shard's symbols.
        symbols: the engine's state.
        now_ns: the clock, ns since 1970 UTC. It only decides when to ask; the server's counts.

    Attributes:
        appended: Ticks since the start.
    """

    def __init__(
        self,
        link: RedisLink,
        lease: Lease,
        leadership: Leadership,
        homes: Mapping[str, Home],
        symbols: DueSymbols,
        *,
        now_ns: Callable[[], int],
    ) -> None:
        self._link = link
        self._lease = lease
        self._leadership = leadership
        self._homes = homes
        self._symbols = symbols
        self._now_ns = now_ns
        self.appended = 0

    async def run(self) -> None:
        """Look again and again, from when the engine leads on; returns never.

        Waits while Redis is away, out of memory, or not cleared.

        Raises:
            Fenced: another engine leads the shard.
            HomeMismatch: the databases are not those that this engine started on.
        """
        await self._leadership.wait_until_leading()
        while True:
            ticked = await self.look()
            await asyncio.sleep(BUSY_INTERVAL_S if ticked else LOOK_INTERVAL_S)

    async def look(self) -> int:
        """Append a Tick to each symbol in which something is due; return how many.

        Raises:
            Fenced, HomeMismatch: see ``run``.
        """
        due = self._due()
        if not due:
            return 0
        reply = await retry_while_away(
            lambda: self._append(due), what="ticks", out_of_memory_too=True
        )
        self.appended += reply
        return reply

    def _due(self) -> list[str | int]:
        """Return the flat list of the script."""
        now_us = self._now_ns() // 1_000
        due: list[str | int] = []
        for symbol, home in self._homes.items():
            seq = self._symbols.position(symbol)
            due_us = self._symbols.due_us(symbol) if seq else 0
            if 0 < due_us <= now_us:
                due += (symbol, home.incarnation, seq, due_us)
        return due

    async def _append(self, due: list[str | int]) -> int:
        lease = self._lease
        head = pack([next(iter(self._homes.values())).db, lease.owner, lease.epoch])
        reply: list[Any] = await _TICK.run(self._link, head, pack(due), _COMMAND)
        code = reply[0]
        if code == b"UNCLEARED":
            raise Uncleared(reply[1])
        if code == b"LEASE":
            raise Fenced(f"{lease.owner} does not lead its shard (epoch {lease.epoch})")
        if code == b"HOME":
            symbol = reply[1].decode()
            raise HomeMismatch(f"{symbol}: its home is not {self._homes[symbol].incarnation}")
        return int(reply[1])
