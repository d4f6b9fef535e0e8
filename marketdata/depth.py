"""DepthBook: the price levels of one symbol's book, kept from the engine's events alone. Pure.

Theory. An order is in the book exactly when it is open and its output is over, so one output is
read as: first what it takes out of the book, with each event; last, what is left of the one
incoming order goes in. The incoming order is the subject of ``OrderAccepted``, or of an
``OrderReplaced`` that lost its priority; its own fills and its own cancel are about an order that
does not rest, and touch no level. Everything else that is filled (maker) or canceled was resting.
That holds for every order type, because the rest of a market, IOC or FOK order ends in an
``OrderCanceled`` of the same output.

Prices of a side are kept sorted with the best at the end, where a book changes most: finding the
best costs nothing, inserting moves only the few better prices.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import Final

from engine.enums import Liquidity, Side
from engine.events import (
    Event,
    OrderAccepted,
    OrderCanceled,
    OrderFilled,
    OrderReplaced,
    OrderState,
)
from marketdata.updates import Bbo, LevelChange

_MAKER: Final = Liquidity.MAKER
_BUY: Final = Side.BUY

_Touched = tuple[list[int], list[int]]
"""Prices of bids and of asks that one output touched; the same one may stand in it twice."""


class _Level:
    __slots__ = ("orders", "qty_lots")

    def __init__(self) -> None:
        self.qty_lots = 0
        self.orders = 0


class DepthSide:
    """One side: its levels by price, and the prices in order."""

    __slots__ = ("_keys", "_levels", "_sign")

    def __init__(self, side: Side) -> None:
        self._sign = 1 if side == Side.BUY else -1
        self._levels: dict[int, _Level] = {}
        # Prices, negated for asks: ascending, so that the best is the last on both sides.
        self._keys: list[int] = []

    def __len__(self) -> int:
        return len(self._keys)

    def add(self, price_ticks: int, *, qty_lots: int, orders: int) -> None:
        """Add to a level's total and number of orders; both may be negative."""
        level = self._levels.get(price_ticks)
        if level is None:
            level = self._open(price_ticks)
        level.qty_lots += qty_lots
        level.orders += orders
        if not level.orders:
            self._close(price_ticks)
        assert level.qty_lots >= 0, "Invariant: no level is negative"
        assert (level.qty_lots > 0) == (level.orders > 0), "Invariant: quantity means orders"

    def put(self, change: LevelChange) -> None:
        """Set a level to a total and a number of orders; 0 orders removes it if it is there."""
        price_ticks, orders = change.price_ticks, change.orders
        level = self._levels.get(price_ticks)
        if level is None:
            if not orders:
                return
            level = self._open(price_ticks)
        level.qty_lots = change.qty_lots
        level.orders = orders
        if not orders:
            self._close(price_ticks)

    def at(self, price_ticks: int) -> LevelChange:
        """Return the level at a price; of 0 lots and orders where there is none."""
        level = self._levels.get(price_ticks)
        if level is None:
            return LevelChange(price_ticks, 0, 0)
        return LevelChange(price_ticks, level.qty_lots, level.orders)

    def best(self) -> tuple[int, int]:
        """Return the best price in ticks and its total in lots; zeros for an empty side."""
        if not self._keys:
            return 0, 0
        price_ticks = self._keys[-1] * self._sign
        return price_ticks, self._levels[price_ticks].qty_lots

    def count_to(self, price_ticks: int) -> int:
        """Return how many levels are at this price or better."""
        return len(self._keys) - bisect_left(self._keys, price_ticks * self._sign)

    def top(self, count: int) -> list[LevelChange]:
        """Return up to ``count`` levels, best first."""
        if count <= 0:
            return []
        return [self.at(key * self._sign) for key in reversed(self._keys[-count:])]

    def _open(self, price_ticks: int) -> _Level:
        level = self._levels[price_ticks] = _Level()
        key = price_ticks * self._sign
        keys = self._keys
        keys.insert(bisect_left(keys, key), key)
        return level

    def _close(self, price_ticks: int) -> None:
        del self._levels[price_ticks]
        keys = self._keys
        del keys[bisect_left(keys, price_ticks * self._sign)]


class DepthBook:
    """Both sides of one symbol, after each output equal to the engine's book by level."""

    __slots__ = ("asks", "bids")

    def __init__(self, bids: Iterable[LevelChange] = (), asks: Iterable[LevelChange] = ()) -> None:
        self.bids = DepthSide(Side.BUY)
        self.asks = DepthSide(Side.SELL)
        for level in bids:
            self.bids.put(level)
        for level in asks:
            self.asks.put(level)

    def apply(self, events: Sequence[Event]) -> tuple[list[LevelChange], list[LevelChange]]:
        """Apply the events of one whole output.

        Returns:
            The levels of bids and of asks that it touched, each once, as they stand after it.
        """
        incoming: OrderState | None = None
        incoming_seq = leaves_lots = 0
        touched: _Touched = ([], [])
        for event in events:
            # By type, not isinstance: the events' metaclass makes a miss of isinstance slow.
            if type(event) is OrderFilled:
                if event.liquidity is _MAKER:
                    gone = 0 if event.leaves_lots else 1
                    self._take(event, event.price_ticks, event.last_qty_lots, gone, touched)
                else:
                    leaves_lots = event.leaves_lots
            elif type(event) is OrderAccepted:
                incoming, incoming_seq, leaves_lots = event, event.order_seq, event.leaves_lots
            elif type(event) is OrderCanceled:
                if event.order_seq == incoming_seq:
                    leaves_lots = 0
                else:
                    self._take(event, event.price_ticks, event.canceled_lots, 1, touched)
            elif type(event) is OrderReplaced:
                self._take(event, event.old_price_ticks, event.old_leaves_lots, 1, touched)
                if event.kept_priority:
                    self._rest(event, event.leaves_lots, touched)
                else:
                    incoming, incoming_seq, leaves_lots = event, event.order_seq, event.leaves_lots
        if leaves_lots:
            assert incoming is not None, "Invariant: only an incoming order has leaves to rest"
            self._rest(incoming, leaves_lots, touched)
        bids, asks = self.bids, self.asks
        bid_prices, ask_prices = touched
        return (
            [bids.at(price) for price in _once(bid_prices)],
            [asks.at(price) for price in _once(ask_prices)],
        )

    def bbo(self) -> Bbo:
        """Return the best price and total of both sides."""
        bid_ticks, bid_lots = self.bids.best()
        ask_ticks, ask_lots = self.asks.best()
        return Bbo(bid_ticks, bid_lots, ask_ticks, ask_lots)

    def _take(
        self, event: OrderState, price_ticks: int, qty_lots: int, orders: int, touched: _Touched
    ) -> None:
        if event.side is _BUY:
            self.bids.add(price_ticks, qty_lots=-qty_lots, orders=-orders)
            touched[0].append(price_ticks)
        else:
            self.asks.add(price_ticks, qty_lots=-qty_lots, orders=-orders)
            touched[1].append(price_ticks)

    def _rest(self, event: OrderState, leaves_lots: int, touched: _Touched) -> None:
        self._take(event, event.price_ticks, -leaves_lots, -1, touched)


def _once(prices: list[int]) -> Iterable[int]:
    return prices if len(prices) < 2 else dict.fromkeys(prices)
