"""PriceLevels: one side of a book by price, and what is said of a level. Pure.

Prices of a side are kept sorted with the best at the end, where a book changes most: finding the
best costs nothing, inserting moves only the few better prices.
"""

from __future__ import annotations

from bisect import bisect_left

import msgspec

from engine.enums import Side


class LevelChange(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A price level as it stands now; 0 lots and 0 orders: it is gone."""

    price_ticks: int
    qty_lots: int
    orders: int


class Bbo(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Best bid and offer; price and quantity 0 on a side that is empty."""

    bid_ticks: int
    bid_lots: int
    ask_ticks: int
    ask_lots: int


NO_BBO = Bbo(0, 0, 0, 0)


class PriceLevels:
    """One side: its levels by price, and the prices in order."""

    __slots__ = ("_keys", "_levels", "_sign")

    def __init__(self, side: Side) -> None:
        self._sign = 1 if side == Side.BUY else -1
        self._levels: dict[int, LevelChange] = {}
        # Prices, negated for asks: ascending, so that the best is the last on both sides.
        self._keys: list[int] = []

    def __len__(self) -> int:
        return len(self._keys)

    def add(self, price_ticks: int, qty_lots: int, orders: int) -> LevelChange:
        """Add to a level's total and number of orders; both may be negative. Return the level."""
        level = self._levels.get(price_ticks)
        if level is None:
            self._insert(price_ticks)
        else:
            qty_lots += level.qty_lots
            orders += level.orders
        assert qty_lots >= 0, "Invariant: no level is negative"
        assert (qty_lots > 0) == (orders > 0), "Invariant: quantity means orders"
        changed = LevelChange(price_ticks, qty_lots, orders)
        if orders:
            self._levels[price_ticks] = changed
        else:
            self._remove(price_ticks)
        return changed

    def put(self, change: LevelChange) -> None:
        """Set a level to a total and a number of orders; 0 orders removes it if it is there."""
        price_ticks = change.price_ticks
        is_there = price_ticks in self._levels
        if change.orders:
            if not is_there:
                self._insert(price_ticks)
            self._levels[price_ticks] = change
        elif is_there:
            self._remove(price_ticks)

    def at(self, price_ticks: int) -> LevelChange:
        """Return the level at a price; of 0 lots and orders where there is none."""
        level = self._levels.get(price_ticks)
        return LevelChange(price_ticks, 0, 0) if level is None else level

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
        sign, levels = self._sign, self._levels
        return [levels[key * sign] for key in reversed(self._keys[-count:])]

    def _insert(self, price_ticks: int) -> None:
        key = price_ticks * self._sign
        keys = self._keys
        keys.insert(bisect_left(keys, key), key)

    def _remove(self, price_ticks: int) -> None:
        self._levels.pop(price_ticks, None)
        keys = self._keys
        del keys[bisect_left(keys, price_ticks * self._sign)]
