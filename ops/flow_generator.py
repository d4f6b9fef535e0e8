"""A realistic flow of orders: heavy cancels, clustered arrivals, power-law depth. Pure.

One generator for ``simulate`` and for the demo's participants. What it imitates (in the recorded
flow at hand 48 of 100 messages are new orders, 44 cancels, 4 replaces, 4 aggressive; here more new
ones meet fewer cancels, because the aggressive ones take more orders each):

- Orders come in bursts: after a message the next one follows within some 100 µs with probability
  ``_BURST``, else after a longer pause. Both waits are exponential.
- They lean on a price that wanders within the limits of the symbol's market. The distance of a
  new order from it has a power-law tail (Zovko and Farmer 2002; Bouchaud, Mézard and Potters 2002):
  P(distance ≥ d) = (1 + d)^-``_DEPTH_EXPONENT``. What the leaning price passes is taken.
- Sizes have a power-law tail too, and prefer round numbers.
- Most orders are cancelled, the more the fuller the book is; so its size stays near the target.

The random numbers come from outside, so the same seed gives the same flow. Floats only choose;
prices and quantities are whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import log

import msgspec

from engine.book import OrderBook
from engine.enums import Side
from ops.flow import AGGRESSIVE, CANCEL, IOC, NEW, REDUCE, REPLACE, FlowRow, apply_row

_BURST = 0.7
_BURST_WAIT_NS = 80_000
_PAUSE_WAIT_NS = 4_000_000
_DEPTH_EXPONENT = 1.1
_DEPTH_TICKS_MAX = 400
_SIZE_EXPONENT = 1.3
_ROUND_LOTS = 10
_WANDER = 0.05
"""Probability per message that the leaning price moves by a tick."""

MEAN_WAIT_NS = _BURST * _BURST_WAIT_NS + (1 - _BURST) * _PAUSE_WAIT_NS
"""Mean time between two rows."""

_FIRST_PAUSE_NS = 34_200_000_000_000
"""09:30, when the day begins."""


class FlowShape(msgspec.Struct, frozen=True, kw_only=True):
    """What kind of market.

    Args:
        low_ticks, high_ticks: the limits of every price.
        start_ticks: where the leaning price begins.
        qty_lots_max: largest quantity of an order.
        resting: how many orders the book holds about.
    """

    low_ticks: int
    high_ticks: int
    start_ticks: int
    qty_lots_max: int
    resting: int


class FlowGenerator:
    """Decide what comes next, from a book of what rests.

    The book belongs to the caller: ``simulate`` lets each row match in it, the demo keeps it by the
    reports of its participants. Whoever puts an order into it says so with ``note_resting``.

    Args:
        shape: kind of market.
        uniform: random numbers from 0 up to but not including 1.
        first_id: order ids count from here.

    Attributes:
        book: what rests.
    """

    def __init__(
        self, shape: FlowShape, uniform: Callable[[], float], *, first_id: int = 1
    ) -> None:
        assert shape.low_ticks < shape.start_ticks < shape.high_ticks, "Invariant: room to move"
        self.book = OrderBook()
        self._shape = shape
        self._uniform = uniform
        self._next_id = first_id
        self._lean_ticks = shape.start_ticks
        self._seq = 0
        self._ts_ns = _FIRST_PAUSE_NS
        self._resting: list[int] = []

    def note_resting(self, order_id: int) -> None:
        """Let the order be chosen for cancels and replaces while it is in the book."""
        self._resting.append(order_id)

    def lean_on_book(self) -> None:
        """Go on at the price where the book stands, if it has both sides."""
        bid, ask = self.book.best_bid(), self.book.best_ask()
        if bid is not None and ask is not None:
            low, high = self._shape.low_ticks + 1, self._shape.high_ticks - 1
            self._lean_ticks = min(max((bid + ask) // 2, low), high)

    def rows(self, count: int) -> Iterator[FlowRow]:
        """Yield so many rows, each matched in the book before the next."""
        for _ in range(count):
            row = self.next_row()
            apply_row(self.book, row)
            if row.order_id in self.book.orders and row.action in (NEW, AGGRESSIVE, REPLACE):
                self.note_resting(row.order_id)
            yield row

    def next_row(self) -> FlowRow:
        """Return what comes next; nothing is done to the book."""
        self._seq += 1
        self._wait()
        self._wander()
        fullness = len(self.book.orders) / self._shape.resting
        draw = self._uniform()
        passive = 0.68 - 0.16 * min(fullness, 2.0)
        if fullness < 0.25 or draw < passive:
            return self._passive()
        if draw < passive + 0.05:
            return self._aggressive(AGGRESSIVE if self._uniform() < 0.1 else IOC)
        order_id = self._choose_resting()
        if order_id is None:
            return self._passive()
        if draw < passive + 0.09:
            return self._replace(order_id)
        return self._cancel(order_id, reduces=draw < passive + 0.1)

    # ------------------------------------------------------------ time and prices

    def _wait(self) -> None:
        mean_ns = _BURST_WAIT_NS if self._uniform() < _BURST else _PAUSE_WAIT_NS
        self._ts_ns += 1 + int(-log(1.0 - self._uniform()) * mean_ns)

    def _wander(self) -> None:
        if self._uniform() < _WANDER:
            step = 1 if self._uniform() < 0.5 else -1
            low, high = self._shape.low_ticks + 1, self._shape.high_ticks - 1
            self._lean_ticks = min(max(self._lean_ticks + step, low), high)

    def _passive_price(self, side: Side) -> int:
        """Return a price that does not cross, at or behind the leaning price."""
        sign = 1 if side == Side.BUY else -1
        other = self.book.best_ask() if side == Side.BUY else self.book.best_bid()
        best = self._lean_ticks - sign
        distance = self._power(_DEPTH_EXPONENT, _DEPTH_TICKS_MAX)
        price = best - sign * distance
        if other is not None and (other - price) * sign <= 0:
            price = other - sign
        return min(max(price, self._shape.low_ticks), self._shape.high_ticks)

    def _crosses(self, side: Side, price_ticks: int) -> bool:
        if side == Side.BUY:
            ask = self.book.best_ask()
            return ask is not None and price_ticks >= ask
        bid = self.book.best_bid()
        return bid is not None and price_ticks <= bid

    # ------------------------------------------------------------ rows

    def _passive(self) -> FlowRow:
        side = self._side()
        price = self._passive_price(side)
        if self._crosses(side, price):
            # The market stands at the limit of its range: only the other side has room.
            side = Side.SELL if side == Side.BUY else Side.BUY
            price = self._passive_price(side)
        return self._row(NEW, self.new_id(), side, price, self._size())

    def _aggressive(self, action: str) -> FlowRow:
        """Take what the leaning price has passed, or a little from either side."""
        bid, ask = self.book.best_bid(), self.book.best_ask()
        side, size = self._side(), self._size()
        if ask is not None and ask <= self._lean_ticks:
            side = Side.BUY
            size += self.book.depth_at(Side.SELL, ask)
        elif bid is not None and bid >= self._lean_ticks:
            side = Side.SELL
            size += self.book.depth_at(Side.BUY, bid)
        best = ask if side == Side.BUY else bid
        if best is None:
            return self._passive()
        sign = 1 if side == Side.BUY else -1
        price = best + sign * self._power(2.0, 5)
        price = min(max(price, self._shape.low_ticks), self._shape.high_ticks)
        return self._row(action, self.new_id(), side, price, min(size, self._shape.qty_lots_max))

    def _replace(self, order_id: int) -> FlowRow:
        side = self.book.orders[order_id].level.side
        price = self._passive_price(side)
        if self._crosses(side, price):
            return self._cancel(order_id, reduces=False)
        return self._row(REPLACE, self.new_id(), side, price, self._size(), orig_id=order_id)

    def _cancel(self, order_id: int, *, reduces: bool) -> FlowRow:
        order = self.book.orders[order_id]
        leaves = order.leaves_qty_lots
        side, price = order.level.side, order.level.price_ticks
        if reduces and leaves > 1:
            return self._row(REDUCE, order_id, side, price, 1 + int(self._uniform() * (leaves - 1)))
        return self._row(CANCEL, order_id, side, price, leaves)

    def _choose_resting(self) -> int | None:
        """Return a resting order by chance; those that are gone leave the list as they are met."""
        resting, orders = self._resting, self.book.orders
        while resting:
            place = int(self._uniform() * len(resting))
            order_id = resting[place]
            if order_id in orders:
                return order_id
            resting[place] = resting[-1]
            resting.pop()
        return None

    def _row(
        self, action: str, order_id: int, side: Side, price: int, qty: int, *, orig_id: int = 0
    ) -> FlowRow:
        return FlowRow(self._seq, self._ts_ns, action, order_id, side, price, qty, orig_id, "")

    # ------------------------------------------------------------ chance

    def new_id(self) -> int:
        """Return the next order id."""
        self._next_id += 1
        return self._next_id - 1

    def _side(self) -> Side:
        return Side.BUY if self._uniform() < 0.5 else Side.SELL

    def _size(self) -> int:
        lots = 1 + self._power(_SIZE_EXPONENT, self._shape.qty_lots_max - 1)
        if lots > 2 and self._uniform() < 0.5:
            lots = -(-lots // _ROUND_LOTS) * _ROUND_LOTS
        return min(lots, self._shape.qty_lots_max)

    def _power(self, exponent: float, most: int) -> int:
        """Return a number from 0 to ``most`` with a power-law tail."""
        return min(int((1.0 - self._uniform()) ** (-1.0 / exponent)) - 1, most)
