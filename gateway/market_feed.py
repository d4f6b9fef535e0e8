"""MarketFeeds: the books that a gateway's clients want, kept from ``events:{symbol}``.

A feed is one task per symbol: it begins with the displayed orders that market data writes on
demand, catches up with the outputs behind them, notes what follows, and begins anew where one is
missing, where Redis is another server, or where outputs do not continue the book. Another task
applies what was noted and sends, in rounds, in small steps, so that orders of clients go in
between. A third one listens to the trading phases.

A feed that nobody wants for ``LINGER_S`` ends.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final

from engine.errors import DecodeError
from engine.events import decode_output_events
from gateway.market_book import MarketBook
from gateway.market_desk import MarketDesk
from router import keys
from router.dense_ids import last_entry, last_number
from router.errors import RedisUnavailable, StreamGap
from router.homes import Home
from router.market_state import PhaseStatus, decode_orders_snapshot, decode_phase
from router.redis_client import RedisLink, retry_while_away
from router.streams import StreamReader
from router.subscriber import Subscriber

LINGER_S: Final = 30.0
"""How long a feed is kept that nobody wants: clients come back."""

NOTED_MAX: Final = 20_000
"""Outputs that wait to be applied; with more, events are not read on."""

_READ_BLOCK_MS: Final = 1_000
_POLL_S: Final = 0.05
"""Between two looks for the orders that market data was asked for."""
_POLLS_PER_REQUEST: Final = 20
_REJOIN_DELAY_S: Final = 1.0
_APPLIED_AT_ONCE: Final = 64
"""Outputs applied, or decoded, before others get a turn: half a millisecond."""
_SLICE_S: Final = 0.001
"""Time after which sending lets others have a turn."""
_NOT_CONTINUED: Final = "its events do not continue it"
_IDLE_PER_BUSY: Final = 4
"""Rounds come so seldom that sending takes a fifth of the time at most, whatever is subscribed."""

logger = logging.getLogger("gateway")


class _BeginAnew(Exception):
    """The book cannot be continued."""


class MarketFeeds:
    """See the head of this file.

    Args:
        link: accounts database, for reading.
        homes: of every symbol.
        desk: is given the books and phases, and sends.
        timeout_ms: longest wait for a reply of Redis.
        interval_ms: from one round to the next.
        spawn: runs a coroutine as a task that stops the gateway if it fails.
    """

    def __init__(
        self,
        link: RedisLink,
        homes: Mapping[str, Home],
        desk: MarketDesk,
        *,
        timeout_ms: int,
        interval_ms: int,
        spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
    ) -> None:
        self._link = link
        self._homes = homes
        self._desk = desk
        self._subscriber = Subscriber(
            link.url,
            [*map(keys.md_status, homes)],
            name=f"{link.name}-phases",
            timeout_ms=timeout_ms,
        )
        self._interval_ms = interval_ms
        self._spawn = spawn
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._wanted_at_s: dict[str, float] = {}

    def follow(self, symbol: str) -> None:
        """Have the book of a symbol, if it is not there already."""
        self._wanted_at_s[symbol] = asyncio.get_running_loop().time()
        if symbol not in self._tasks:
            self._tasks[symbol] = self._spawn(self._run(symbol))

    def close(self) -> None:
        """End the subscription; the tasks are ended by whoever runs them."""
        self._subscriber.close()

    # ------------------------------------------------------------ rounds

    async def run_rounds(self) -> None:
        """Send what is new, round after round, until cancelled."""
        loop, busy_s = asyncio.get_running_loop(), 0.0
        while True:
            await asyncio.sleep(max(self._interval_ms / 1_000, busy_s * _IDLE_PER_BUSY))
            busy_s = 0.0
            for book in list(self._desk.books.values()):
                if not await self._apply(book):
                    self._desk.drop_book(book.symbol)
            begun_s = loop.time()
            for client in self._desk.clients():
                self._desk.flush(client)
                if (took_s := loop.time() - begun_s) > _SLICE_S:
                    busy_s += took_s
                    await asyncio.sleep(0)
                    begun_s = loop.time()
            self._drop_unwanted(loop.time())

    async def _apply(self, book: MarketBook) -> bool:
        """Apply what was noted; return False where it does not continue the book."""
        try:
            for _ in range(0, book.noted, _APPLIED_AT_ONCE):
                book.apply(_APPLIED_AT_ONCE)
                await asyncio.sleep(0)
        except (AssertionError, KeyError):
            # Orders go on: what is wrong is this book alone, and it can be made anew.
            logger.exception("%s: events do not continue the book before %d", book.symbol, book.seq)
            return False
        return True

    def _drop_unwanted(self, now_s: float) -> None:
        for symbol in self._desk.wanted():
            self._wanted_at_s[symbol] = now_s
        for symbol, wanted_at_s in list(self._wanted_at_s.items()):
            if now_s - wanted_at_s > LINGER_S:
                del self._wanted_at_s[symbol]
                self._tasks.pop(symbol).cancel()
                self._desk.drop_book(symbol)

    # ------------------------------------------------------------ one symbol

    async def _run(self, symbol: str) -> None:
        name = f"{self._link.name}-{symbol}"
        async with self._link.sibling(self._homes[symbol].db, name=name) as link:
            while True:
                try:
                    await self._follow(link, await self._join(link, symbol))
                except (StreamGap, _BeginAnew, DecodeError) as error:
                    logger.warning("%s: the book is made anew: %s", symbol, error)
                await asyncio.sleep(_REJOIN_DELAY_S)

    async def _join(self, link: RedisLink, symbol: str) -> MarketBook:
        """Return the book as market data has it; waits until there is one.

        Raises:
            DecodeError: market data is of another build.
        """
        polls = 0
        while True:
            # Redis may have become another server since the last look, and that one's counts.
            await retry_while_away(lambda: link.call("PING"), what=f"market data of {symbol}")
            value = await retry_while_away(
                lambda: self._link.call("GET", keys.md_orders(symbol)),
                what=f"orders of {symbol}",
            )
            snapshot = None if value is None else decode_orders_snapshot(value)
            if snapshot is not None and snapshot.run_id == link.run_id:
                return MarketBook(snapshot)
            if not polls % _POLLS_PER_REQUEST:
                await retry_while_away(
                    lambda: self._link.call("PUBLISH", keys.MD_CONTROL_CHANNEL, symbol),
                    what=f"orders of {symbol}",
                )
            polls += 1
            await asyncio.sleep(_POLL_S)

    async def _follow(self, link: RedisLink, book: MarketBook) -> None:
        """Note what happens behind a book.

        Raises:
            StreamGap: an output is missing.
            _BeginAnew: Redis is another server, or the book was dropped.
        """
        symbol = book.symbol
        reader = StreamReader(
            link,
            {symbol: keys.events(symbol)},
            {symbol: book.seq},
            interval_ms=self._interval_ms // 2,
        )

        async def read_on(server: str = link.run_id) -> None:
            entries = await reader.read(block_ms=_READ_BLOCK_MS)
            if link.run_id != server:
                raise _BeginAnew("Redis is another server")
            for start in range(0, len(entries), _APPLIED_AT_ONCE):
                part = entries[start : start + _APPLIED_AT_ONCE]
                book.note([decode_output_events(values[0]) for _, _, values in part])
                await asyncio.sleep(0)

        await self._catch_up(link, book, read_on)
        self._desk.take_book(book)
        while True:
            if book.noted > NOTED_MAX:
                # The rounds are late: let one go by.
                await asyncio.sleep(self._interval_ms / 1_000)
            else:
                await read_on()
            if self._desk.books.get(symbol) is not book:
                raise _BeginAnew(_NOT_CONTINUED)

    async def _catch_up(
        self, link: RedisLink, book: MarketBook, read_on: Callable[[], Coroutine[Any, Any, None]]
    ) -> None:
        """Bring a book to where its events end now.

        The snapshot may be older than what clients know from the book before: they would be told
        the past, and trades a second time.
        """
        symbol = book.symbol
        found = await retry_while_away(
            lambda: link.call(*last_entry(keys.events(symbol))), what=f"events of {symbol}"
        )
        while book.seq < last_number(found):
            await read_on()
            if not await self._apply(book):
                raise _BeginAnew(_NOT_CONTINUED)

    # ------------------------------------------------------------ phases

    async def run_phases(self) -> None:
        """Listen to the trading phases until cancelled; read them again whenever that is lost."""
        while True:
            try:
                await retry_while_away(self._join_phases, what="trading phases")
                while True:
                    for _, message in await self._subscriber.messages():
                        await self._hear_phase(decode_phase(message))
            except (RedisUnavailable, DecodeError) as error:
                logger.warning("Trading phases lost, subscribing again: %s", error)
                await asyncio.sleep(_REJOIN_DELAY_S)

    async def _join_phases(self) -> None:
        """Subscribe, and read the phases as they are; a server that loads takes only the first.

        Raises:
            RedisUnavailable: no answer.
            DecodeError: market data is of another build.
        """
        await self._subscriber.open()
        for symbol in self._homes:
            await self._read_phase(symbol, None)

    async def _hear_phase(self, status: PhaseStatus) -> None:
        """Take a change; where a heartbeat names another one than the last known, read it."""
        if status.phase:
            self._desk.take_phase(status)
        elif status.seq != self._desk.phase_seq(status.symbol):
            await self._read_phase(status.symbol, status.seq)

    async def _read_phase(self, symbol: str, seq: int | None) -> None:
        """Read a phase, if it is the one that a heartbeat named: the key may be behind a little."""
        value = await self._link.call("GET", keys.md_phase(symbol))
        if value is not None:
            status = decode_phase(value)
            if seq is None:
                self._desk.take_phase(status)
            elif seq == status.changed_seq:
                self._desk.reset_phase(status)
