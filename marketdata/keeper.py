"""Keeper: the ring's consumer that keeps each symbol's board, and writes the boards to Redis.

It stands behind the publisher in the ring, so nothing is saved as done that was not published.
Its handler only changes memory; writing is a task of its own, so a slow save holds up no message.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from marketdata.board import Board
from marketdata.settings import MarketDataSettings
from marketdata.store import SAVED_SYMBOLS_MAX, MarketStore
from marketdata.updates import Update
from router.errors import OutOfMemory, RedisUnavailable

ORDERS_PER_INTERVAL: Final = 20_000
"""Displayed orders, some 400 kB of state, that are written every interval; twice as many every
second one, and so on."""

logger = logging.getLogger("marketdata")


class Keeper:
    """Keeps and saves boards; a handler for `engine.ring_loop.run_consumer`.

    Args:
        store: where they go.
        boards: by symbol, at the positions that the store was loaded at.
        settings: how often they are written.
        now_us: the clock, µs since 1970 UTC.
    """

    def __init__(
        self,
        store: MarketStore,
        boards: Mapping[str, Board],
        settings: MarketDataSettings,
        now_us: Callable[[], int],
    ) -> None:
        self._store = store
        self._boards = boards
        self._interval_s = settings.snapshot_interval_ms / 1_000
        self._refresh_s = settings.heartbeat_interval_ms / 1_000
        self._now_us = now_us
        self._saved = {symbol: board.seq for symbol, board in boards.items()}
        self._save_at_s = dict.fromkeys(boards, 0.0)
        self._refresh_at_s = dict.fromkeys(boards, 0.0)
        self._wanted: set[str] = set()
        self._wake = asyncio.Event()

    def __call__(self, entries: list[Update], /, *, end_of_batch: bool) -> None:
        """Take a batch into the boards."""
        boards = self._boards
        for update in entries:
            boards[update.symbol].apply(update)

    def want_orders(self, symbol: str) -> None:
        """Write a symbol's displayed orders with the next save, which is made soon for it."""
        if symbol in self._boards:
            self._wanted.add(symbol)
            self._wake.set()

    async def run_saves(self) -> None:
        """Write what is due, until cancelled. While Redis is away or full, nothing is due twice.

        Raises:
            PositionMoved: somebody else writes this market data.
        """
        failing = False
        while True:
            await self._wait()
            due = self._due(asyncio.get_running_loop().time())
            if not due:
                continue
            try:
                for first in range(0, len(due), SAVED_SYMBOLS_MAX):
                    await self._save(due[first : first + SAVED_SYMBOLS_MAX])
            except (RedisUnavailable, OutOfMemory) as error:
                if not failing:
                    logger.warning("snapshots cannot be written, trying again: %s", error)
                failing = True
                continue
            if failing:
                logger.warning("snapshots are written again")
            failing = False

    async def _wait(self) -> None:
        """Wait until a save is due, or somebody wants something now."""
        self._wake.clear()
        try:
            async with asyncio.timeout(self._interval_s):
                await self._wake.wait()
        except TimeoutError:
            return

    def saved(self) -> dict[str, int]:
        """Return the last saved input of each symbol."""
        return dict(self._saved)

    def _due(self, now_s: float) -> list[Board]:
        # What would be due before half of the next interval is over is due now: later is too late.
        soon_s = now_s + self._interval_s / 2
        due = []
        for symbol, board in self._boards.items():
            changed = board.seq != self._saved[symbol]
            at_s = self._save_at_s[symbol] if changed else self._refresh_at_s[symbol]
            if at_s <= soon_s or symbol in self._wanted:
                due.append(board)
                # A state has every order: those of a large book are written less often.
                pace = 1 + board.order_count // ORDERS_PER_INTERVAL
                self._save_at_s[symbol] = now_s + pace * self._interval_s
                self._refresh_at_s[symbol] = now_s + max(pace * self._interval_s, self._refresh_s)
        return due

    async def _save(self, boards: Sequence[Board]) -> None:
        seqs = {board.symbol: board.seq for board in boards}
        wanted = self._wanted.intersection(seqs)
        await self._store.save(boards, now_us=self._now_us(), with_orders=wanted)
        self._wanted -= wanted
        self._saved.update(seqs)
