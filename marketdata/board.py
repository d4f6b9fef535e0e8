"""Board: what stands in one symbol's keys, kept from updates. Pure.

The board is always exactly at the position that is saved with it. It holds the levels as plain
numbers and the last trades, and makes snapshot, ticker and checkpoint of them when they are due,
which costs an order next to nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from msgspec.structs import asdict

from engine.instrument import DecimalGrid
from engine.order_replica import OrderReplica
from engine.price_levels import NO_BBO, LevelChange
from engine.trades import Trade
from marketdata.candles import Candle, CandleBook, Places
from marketdata.feed import Checkpoint
from marketdata.feed_codec import CandleText, SymbolTexts, encode_json
from marketdata.updates import Update
from router.market_state import OrdersSnapshot, encode_orders_snapshot

RECENT_TRADES: Final = 50
"""Trades in a snapshot: what a late subscriber sees of the tape."""

_PERCENT: Final = DecimalGrid("0.01")


class Board:
    """One symbol's levels, last trades, candles and numbers, at one position.

    Args:
        checkpoint: where to go on.
        candles: those kept beside it, at the same position.
    """

    __slots__ = (
        *("_asks", "_bbo", "_bids", "_defined", "_last", "_orders", "_phase", "_texts"),
        *("_trades", "_ts_us"),
        *("candles", "seq", "symbol"),
    )

    def __init__(self, checkpoint: Checkpoint, candles: CandleBook) -> None:
        self.symbol = checkpoint.symbol
        self.seq = checkpoint.seq
        self.candles = candles
        self._ts_us = checkpoint.ts_us
        self._defined = checkpoint.defined
        self._orders = {order.order_seq: order for order in checkpoint.orders}
        book = OrderReplica(checkpoint.orders)
        self._bids, self._asks = (
            {level.price_ticks: level for level in side.top(len(side))}
            for side in (book.bids, book.asks)
        )
        self._bbo = book.bbo() if checkpoint.orders else NO_BBO
        self._last = checkpoint.last
        self._phase = checkpoint.phase
        self._trades: deque[Trade] = deque(checkpoint.trades, maxlen=RECENT_TRADES)
        self._texts: SymbolTexts | None = None
        if checkpoint.defined is not None:
            self._texts = SymbolTexts(checkpoint.defined.rules)
            candles.use_rules(checkpoint.defined.rules)

    def apply(self, update: Update) -> None:
        """Take the next update."""
        assert update.seq == self.seq + 1, "Invariant: a board misses no update"
        self.seq = update.seq
        self._ts_us = update.ts_us
        self._last = update.after
        if update.bids:
            _put(self._bids, update.bids)
        if update.asks:
            _put(self._asks, update.asks)
        for order in update.orders:
            if order.qty_lots:
                self._orders[order.order_seq] = order
            else:
                self._orders.pop(order.order_seq, None)
        if update.bbo is not None:
            self._bbo = update.bbo
        if update.phase is not None:
            self._phase = update.phase
        if update.trades:
            self._trades.extend(update.trades)
            self.candles.add(update.trades)
        if update.defined is not None:
            self._define(update)

    @property
    def order_count(self) -> int:
        """Return how many orders are displayed."""
        return len(self._orders)

    def checkpoint(self) -> Checkpoint:
        """Return all that is needed to go on from here, candles excepted."""
        return Checkpoint(
            self.symbol,
            self.seq,
            self._ts_us,
            self._defined,
            list(self._orders.values()),
            self._last,
            list(self._trades),
            self._phase,
        )

    def snapshot(self, *, levels_max: int, now_us: int) -> bytes | None:
        """Return the snapshot key's value (`SnapshotMessage`); None while nothing is defined.

        Args:
            levels_max: levels given per side, the best ones.
            now_us: the clock, µs since 1970 UTC.
        """
        if self._defined is None or self._texts is None:
            return None
        rules, texts = self._defined.rules, self._texts
        bids = [self._bids[price] for price in sorted(self._bids, reverse=True)[:levels_max]]
        asks = [self._asks[price] for price in sorted(self._asks)[:levels_max]]
        return encode_json(
            {
                "type": "snapshot",
                "symbol": self.symbol,
                "seq": self.seq,
                "ts": self._ts_us,
                "written": now_us,
                "incarnation": self._defined.incarnation,
                "rules": rules.version,
                "tick_size": rules.tick_size,
                "lot_size": rules.lot_size,
                "last_seq": asdict(self._last),
                "phase": self._phase.phase.name.lower(),
                **texts.bbo_fields(self._bbo),
                "complete": len(self._bids) <= levels_max and len(self._asks) <= levels_max,
                "levels_max": levels_max,
                "bids": texts.level_list(bids),
                "asks": texts.level_list(asks),
                "trades": texts.trade_list(self.symbol, list(self._trades)),
            }
        )

    def phase(self) -> bytes | None:
        """Return the value of the phase key; None before the symbol is defined."""
        if self._defined is None or self._texts is None:
            return None
        return encode_json(
            {
                "type": "phase",
                "symbol": self.symbol,
                "seq": self.seq,
                "ts": self._ts_us,
                "incarnation": self._defined.incarnation,
                "last_seq": self._phase.seq,
                "since": self._phase.ts_us,
                **self._texts.phase_fields(self._phase),
            }
        )

    def orders(self, *, run_id: str) -> bytes | None:
        """Return the value of the orders key (`OrdersSnapshot`); None before a definition.

        Args:
            run_id: of the server that it is written to.
        """
        if self._defined is None:
            return None
        return encode_orders_snapshot(
            OrdersSnapshot(
                self.symbol,
                self.seq,
                run_id,
                self._defined,
                list(self._orders.values()),
                self._trades[-1] if self._trades else None,
            )
        )

    def ticker(self, *, now_us: int) -> bytes | None:
        """Return the value of the ticker key; None before the symbol is defined.

        ``open high low change change_percent`` are null when the window has no trade, ``last``
        before the first trade of all. ``change_percent`` is cut, not rounded, after two places.

        Args:
            now_us: the clock; the window ends with the later of its minute and the last command's.
        """
        if self._texts is None:
            return None
        now_us = max(now_us, self._ts_us)
        places = self.candles.places
        price = DecimalGrid.of_scale(places.price).format
        day = self.candles.day(now_us)
        last = self.candles.last_price()
        change = day.close - day.open
        percent = abs(change) * 10_000 // day.open if day.open else 0
        traded = bool(day.trades)
        return encode_json(
            {
                "type": "ticker",
                "symbol": self.symbol,
                "seq": self.seq,
                "ts": self._ts_us,
                "written": now_us,
                "open_time": day.window_us,
                "last": None if last is None else price(last),
                "open": price(day.open) if traded else None,
                "high": price(day.high) if traded else None,
                "low": price(day.low) if traded else None,
                "change": price(change) if traded else None,
                "change_percent": _PERCENT.format(-percent if change < 0 else percent)
                if traded
                else None,
                "volume": DecimalGrid.of_scale(places.base).format(day.base),
                "quote_volume": DecimalGrid.of_scale(places.quote).format(day.quote),
                "trades": day.trades,
                **self._texts.bbo_fields(self._bbo),
            }
        )

    def _define(self, update: Update) -> None:
        assert update.defined is not None, "Invariant: the caller has looked"
        rules = update.defined.rules
        old = self._defined.rules if self._defined else rules
        if (old.tick_size, old.lot_size) != (rules.tick_size, rules.lot_size):
            # Their ticks and lots would be read on the new grid; the candles remember them.
            self._trades.clear()
        self._defined = update.defined
        self._texts = SymbolTexts(rules)
        self.candles.use_rules(rules)


def restore_candles(kept: Mapping[str, Sequence[CandleText]]) -> CandleBook:
    """Return the candle book of stored candles.

    Args:
        kept: per interval the candles that matter (see `CandleBook`), oldest first.
    """
    texts = [text for row in kept.values() for text in row]
    places = Places(
        _places(price for text in texts for price in (text.open, text.high, text.low, text.close)),
        _places(text.volume for text in texts),
        _places(text.quote_volume for text in texts),
    )
    grids = [DecimalGrid.of_scale(count) for count in places]
    return CandleBook(
        {name: [_candle(text, *grids) for text in row] for name, row in kept.items()}, places
    )


def _candle(text: CandleText, price: DecimalGrid, base: DecimalGrid, quote: DecimalGrid) -> Candle:
    return Candle(
        open_us=text.open_time,
        prices=(
            _steps(price, text.open),
            _steps(price, text.high),
            _steps(price, text.low),
            _steps(price, text.close),
        ),
        base=_steps(base, text.volume),
        quote=_steps(quote, text.quote_volume),
        trades=text.trades,
        seq=text.seq,
    )


def _steps(grid: DecimalGrid, text: str) -> int:
    steps = grid.parse(text)
    assert steps is not None, "Invariant: the grid has the most places of all kept candles"
    return steps


def _places(texts: Iterable[str]) -> int:
    return max((len(text.partition(".")[2]) for text in texts), default=0)


def _put(levels: dict[int, LevelChange], changes: list[LevelChange]) -> None:
    for change in changes:
        if change.orders:
            levels[change.price_ticks] = change
        else:
            levels.pop(change.price_ticks, None)
