"""Candles of four intervals and the 24 h ticker, from trades. Pure.

An interval begins at a multiple of its length since 1970-01-01 00:00 UTC, and a trade belongs to
the interval of its command's stamp; stamps never go back within a symbol, so only the last candle
of an interval changes. Intervals without trades have no candle.

Amounts are integers on decimal grids of their own (`Places`), because a symbol may change its
tick size and a candle or a day may lie across the change. Places only grow; growing multiplies
what is kept, so nothing is ever rounded.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from engine.instrument import DecimalGrid, SymbolRules
from engine.trades import Trade

MINUTE_US: Final = 60_000_000

INTERVALS_US: Final[Mapping[str, int]] = {
    "1m": MINUTE_US,
    "5m": 5 * MINUTE_US,
    "1h": 60 * MINUTE_US,
    "1d": 1_440 * MINUTE_US,
}

CANDLES_KEPT: Final[Mapping[str, int]] = {"1m": 2_880, "5m": 2_016, "1h": 2_160, "1d": 1_826}
"""Candles kept per interval: at least 2 days, 7 days, 90 days and 5 years. Older ones go.

The ticker is rebuilt from the last 1,440 of 1m after a restart."""

TICKER_MINUTES: Final = 1_440
"""The ticker's window: the minute of its time and the 1,439 before it."""

assert CANDLES_KEPT["1m"] >= TICKER_MINUTES, "Invariant: the kept minutes cover the ticker"


class Places(NamedTuple):
    """Decimal places of the integers in candles: prices, base quantities, quote amounts."""

    price: int
    base: int
    quote: int


NO_PLACES: Final = Places(0, 0, 0)


class Candle:
    """One interval of one symbol's trades, as integers of `Places`.

    Attributes:
        open_us: begin of the interval, µs since 1970 UTC.
        seq: input of its last trade.
    """

    __slots__ = ("base", "close", "high", "low", "open", "open_us", "quote", "seq", "trades")

    def __init__(
        self,
        *,
        open_us: int,
        prices: tuple[int, int, int, int],
        base: int,
        quote: int,
        trades: int,
        seq: int,
    ) -> None:
        self.open_us = open_us
        self.open, self.high, self.low, self.close = prices
        self.base = base
        self.quote = quote
        self.trades = trades
        self.seq = seq

    def merge(self, later: Candle) -> None:
        """Add the trades of a part of the same interval that follows what is in it."""
        self.high = max(self.high, later.high)
        self.low = min(self.low, later.low)
        self.close = later.close
        self.base += later.base
        self.quote += later.quote
        self.trades += later.trades
        self.seq = later.seq

    def opening(self, open_us: int) -> Candle:
        """Return a candle of an interval whose only part so far is this one."""
        return Candle(
            open_us=open_us,
            prices=(self.open, self.high, self.low, self.close),
            base=self.base,
            quote=self.quote,
            trades=self.trades,
            seq=self.seq,
        )

    def grow(self, factors: Places) -> None:
        """Multiply everything, after the places have grown."""
        self.open *= factors.price
        self.high *= factors.price
        self.low *= factors.price
        self.close *= factors.price
        self.base *= factors.base
        self.quote *= factors.quote


class DayTicker(NamedTuple):
    """The last 24 h, as integers of `Places`. Without trades the volumes and prices are 0."""

    window_us: int
    open: int
    high: int
    low: int
    close: int
    base: int
    quote: int
    trades: int


class CandleBook:
    """The candles of one symbol that can still change, and the minutes of its last day.

    Args:
        kept: per interval the stored candles that matter, oldest first: the last one, and for 1m
            the last 1,440. All of them are integers of `places`.
        places: see the head of this file.
    """

    __slots__ = (
        *("_changed", "_current", "_factors", "_minutes", "_open_us", "_pending"),
        "places",
    )

    def __init__(
        self,
        kept: Mapping[str, Sequence[Candle]] | None = None,
        places: Places = NO_PLACES,
    ) -> None:
        kept = kept or {}
        self.places = places
        self._factors = Places(1, 1, 1)
        self._current: dict[str, Candle] = {name: row[-1] for name, row in kept.items() if row}
        self._minutes: deque[Candle] = deque(kept.get("1m", ()), maxlen=TICKER_MINUTES)
        self._changed: dict[tuple[str, int], Candle] = {}
        # Trades of one minute that are in no candle yet: taken in when the minute is over or
        # somebody looks, so that a trade costs one append.
        self._pending: list[Trade] = []
        self._open_us = 0

    def use_rules(self, rules: SymbolRules) -> None:
        """Take trades under these rules from now on; what is kept moves to finer places."""
        self._fold()
        old = self.places
        new = Places(
            max(old.price, _places(rules.tick_size)),
            max(old.base, rules.base_scale),
            max(old.quote, rules.quote_scale),
        )
        if new != old:
            growth = Places(
                *(10 ** (after - before) for before, after in zip(old, new, strict=True))
            )
            every = {id(candle): candle for candle in self._every_candle()}
            for candle in every.values():
                candle.grow(growth)
            self.places = new
        tick = DecimalGrid.of_scale(new.price).parse(rules.tick_size)
        assert tick is not None, "Invariant: a tick lies on the grid of its own places"
        self._factors = Places(
            tick,
            rules.base_units_per_lot * 10 ** (new.base - rules.base_scale),
            rules.quote_units_per_tick_lot * 10 ** (new.quote - rules.quote_scale),
        )

    def add(self, trades: Sequence[Trade]) -> None:
        """Add the trades of one output; all of them carry the same stamp."""
        ts_us = trades[0].ts_us
        open_us = ts_us - ts_us % MINUTE_US
        if self._open_us != open_us:
            self._fold()
            self._open_us = open_us
        self._pending += trades

    def _fold(self) -> None:
        """Take the pending trades, all of one minute, into the candles of every interval."""
        pending, factors = self._pending, self._factors
        if not pending:
            return
        prices = [trade.price_ticks for trade in pending]
        price = factors.price
        part = Candle(
            open_us=self._open_us,
            prices=(
                prices[0] * price,
                max(prices) * price,
                min(prices) * price,
                prices[-1] * price,
            ),
            base=sum(trade.qty_lots for trade in pending) * factors.base,
            quote=sum(trade.price_ticks * trade.qty_lots for trade in pending) * factors.quote,
            trades=len(pending),
            seq=pending[-1].seq,
        )
        pending.clear()
        for name, length_us in INTERVALS_US.items():
            open_us = part.open_us - part.open_us % length_us
            candle = self._current.get(name)
            if candle is not None and candle.open_us == open_us:
                candle.merge(part)
            else:
                candle = self._current[name] = part.opening(open_us)
                if name == "1m":
                    self._minutes.append(candle)
            self._changed[name, open_us] = candle

    def changed(self) -> list[tuple[str, Candle]]:
        """Return the candles, with their interval, that were not `stored` since they changed."""
        self._fold()
        return [(name, candle) for (name, _), candle in self._changed.items()]

    def stored(self, seqs: Mapping[tuple[str, int], int]) -> None:
        """Forget that candles changed which are stored as of these seqs, by (interval, open_us)."""
        for key, seq in seqs.items():
            if self._changed[key].seq == seq:
                del self._changed[key]

    def last_price(self) -> int | None:
        """Return the price of the last trade, or None before the first."""
        self._fold()
        candle = self._current.get("1d")
        return None if candle is None else candle.close

    def day(self, now_us: int) -> DayTicker:
        """Return the ticker of the 24 h that end with the minute of `now_us`."""
        self._fold()
        window_us = now_us - now_us % MINUTE_US - (TICKER_MINUTES - 1) * MINUTE_US
        minutes = self._minutes
        while minutes and minutes[0].open_us < window_us:
            minutes.popleft()
        if not minutes:
            return DayTicker(window_us, 0, 0, 0, 0, 0, 0, 0)
        return DayTicker(
            window_us,
            minutes[0].open,
            max(candle.high for candle in minutes),
            min(candle.low for candle in minutes),
            minutes[-1].close,
            sum(candle.base for candle in minutes),
            sum(candle.quote for candle in minutes),
            sum(candle.trades for candle in minutes),
        )

    def _every_candle(self) -> list[Candle]:
        return [*self._minutes, *self._current.values(), *self._changed.values()]


def _places(step: str) -> int:
    return len(step.partition(".")[2])
