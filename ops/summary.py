"""The live summary of `up`: orders and trades per second, best prices, the lag of each consumer.

"Orders" are all commands that were admitted: orders, replaces and cancels.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import msgspec

from engine.instrument import DecimalGrid
from ops.engine_roles import LeaderReader, engine_roles, lags
from ops.progress import Progress, ProgressReader
from ops.settings import Settings
from ops.terminal import Terminal, table
from ops.wiring import shard_map
from router import keys
from router.errors import RedisUnavailable
from router.process_registry import read_processes
from router.redis_client import RedisLink

TERMINAL_INTERVAL_S = 1
LINE_INTERVAL_S = 5
"""Between two redraws on a terminal, and between two lines elsewhere."""


class Ticker(msgspec.Struct, frozen=True):
    """What the summary takes from a symbol's ticker."""

    last: str | None
    trades: int


_TICKERS = msgspec.json.Decoder(Ticker)


class Sample(msgspec.Struct, frozen=True):
    """What one reading says."""

    at_s: float
    progress: Progress
    lags: Mapping[str, int]
    tickers: Mapping[str, Ticker]

    @property
    def orders(self) -> int:
        """Commands admitted since the beginning."""
        return sum(one.admitted for one in self.progress.symbols.values())

    @property
    def trades(self) -> int:
        """Trades of the last 24 h."""
        return sum(one.trades for one in self.tickers.values())


class Summary:
    """Reads and shows the summary.

    Args:
        settings: of the venue.
        link: accounts database.
        terminal: where to show it.
    """

    def __init__(self, settings: Settings, link: RedisLink, terminal: Terminal) -> None:
        self._link = link
        self._terminal = terminal
        shards = shard_map(settings, link.url).shards
        self._reader = ProgressReader(link, shards)
        self._leaders = LeaderReader(link, shards)
        self._engines = [name for shard in shards for name in keys.engine_names(shard.id)]
        self._grids = {one.name: DecimalGrid(one.tick_size) for one in settings.symbols}

    async def run(self) -> None:
        """Show the summary again and again until cancelled."""
        interval_s = TERMINAL_INTERVAL_S if self._terminal.interactive else LINE_INTERVAL_S
        last: Sample | None = None
        try:
            while True:
                try:
                    sample = await self._sample()
                except RedisUnavailable:
                    self._terminal.show(["Redis is away"])
                else:
                    self._show(sample, last or sample)
                    last = sample
                await asyncio.sleep(interval_s)
        finally:
            self._terminal.show([])
            await self._reader.close()
            await self._leaders.close()

    async def _sample(self) -> Sample:
        processes = await read_processes(self._link, self._engines)
        leaders, progress = await self._leaders.read(), await self._reader.read()
        engines = engine_roles(processes, leaders, progress)
        symbols = list(progress.symbols)
        found = await self._link.call("MGET", *map(keys.md_ticker, symbols)) if symbols else []
        tickers = {}
        for symbol, body in zip(symbols, found, strict=True):
            tickers[symbol] = _TICKERS.decode(body) if body else Ticker(None, 0)
        now_s = asyncio.get_running_loop().time()
        return Sample(now_s, progress, lags(progress, engines), tickers)

    def _show(self, sample: Sample, last: Sample) -> None:
        elapsed_s = max(sample.at_s - last.at_s, 0.001)
        orders_per_s = round((sample.orders - last.orders) / elapsed_s)
        # Trades leave the window of 24 h, too.
        trades_per_s = max(0, round((sample.trades - last.trades) / elapsed_s))
        behind = "  ".join(f"{name} {lag:,}" for name, lag in sample.lags.items())
        if not self._terminal.interactive:
            quotes = "  ".join(
                f"{symbol} {bid}/{ask}" for symbol, bid, ask, *_ in self._rows(sample)
            )
            self._terminal.say(
                f"{orders_per_s:,} orders/s  {trades_per_s:,} trades/s | {quotes} | lag {behind}"
            )
            return
        header = ("symbol", "best bid", "best ask", "last", "trades 24 h", "admitted")
        self._terminal.show(
            [
                "",
                f"{orders_per_s:,} orders/s   {trades_per_s:,} trades/s   lag: {behind}",
                *table(header, self._rows(sample)),
            ]
        )

    def _rows(self, sample: Sample) -> list[tuple[str, ...]]:
        rows: list[tuple[str, ...]] = []
        for symbol, one in sample.progress.symbols.items():
            price = self._grids[symbol].format
            ticker = sample.tickers[symbol]
            rows.append(
                (
                    symbol,
                    price(one.best_bid_ticks) if one.best_bid_ticks else "-",
                    price(one.best_ask_ticks) if one.best_ask_ticks else "-",
                    ticker.last or "-",
                    f"{ticker.trades:,}",
                    f"{one.admitted:,}",
                )
            )
        return rows
