"""Orders with accounts and money, and what an account has open and has had in one symbol. Pure.

A ClOrdID is used up by the order that is accepted under it, not by one that is refused. It stays
used while the order is open and until `RECENT_CL_ORD_IDS_MAX` other ClOrdIDs of the account have
gone out of use after it. A ClOrdID that a replace took over from is used up, and so is that of the
request that canceled an order: neither cancels or replaces anything any more, but a status request
finds the order by it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final

import msgspec

from engine.commands import NewOrder, OrderConditions
from engine.enums import OrdStatus, OrdType, SelfTradePrevention, Side, TimeInForce
from engine.fees import buy_hold
from engine.instrument import SymbolRules, fee_ceil
from engine.level import RestingOrder
from engine.limits import RECENT_CL_ORD_IDS_MAX

_SELL: Final = Side.SELL
_NEW: Final = OrdStatus.NEW
_PARTIALLY_FILLED: Final = OrdStatus.PARTIALLY_FILLED
_DIGITS: Final = "0123456789"
"""Members as text: formatting one costs 0.15 µs on CPython 3.11, this a third."""


class OrderContent(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """All of an open order but its place in the book.

    `rated_price_qty` is decimal text, because a sum of price × lots × ppm may go beyond 64 bits,
    which is where the integers of msgpack end. The others are within 2^62 (`engine.instrument`).
    """

    order_id: int
    owner: int
    cl_ord_id: str
    side: Side
    ord_type: OrdType
    time_in_force: TimeInForce
    post_only: bool
    stp: SelfTradePrevention
    price_ticks: int
    qty_lots: int
    leaves_qty_lots: int
    cum_lots: int
    cum_price_qty: int
    rated_price_qty: str
    maker_fee_ppm: int
    taker_fee_ppm: int
    charged: int
    hold: int
    conditions: OrderConditions | None
    hidden_lots: int
    waits: bool


class OpenOrder(RestingOrder):
    """An accepted order until it is done; `order_id` is its NewOrder's seq, `owner` its account.

    Attributes:
        cum_price_qty: Sum of price_ticks × lots over its fills.
        rated_price_qty: Sum of price_ticks × lots × the rate of the fill, in ppm: the fee on that,
            rounded up once, is what the order owes.
        max_fee_ppm: The larger of its two rates.
        charged: Fees paid so far, in quote units.
        hold: What is held for it: quote units of a buy, base units of a sell.
        conditions: What few orders have, None for the others.
        waits: Whether it is a stop order that has not been triggered. It is in no book then.

    What is left of it is `leaves_qty_lots + hidden_lots`: what it shows and what it does not. The
    second is 0 but for an iceberg order in the book.

    The other attributes are those of its command, or of its last replace. The fee rates are those
    in force when it was accepted.
    """

    __slots__ = (
        "charged",
        "cl_ord_id",
        "conditions",
        "cum_lots",
        "cum_price_qty",
        "hold",
        "maker_fee_ppm",
        "max_fee_ppm",
        "ord_type",
        "post_only",
        "price_ticks",
        "qty_lots",
        "rated_price_qty",
        "side",
        "stp",
        "taker_fee_ppm",
        "time_in_force",
        "waits",
    )

    def __init__(self, seq: int, command: NewOrder, rules: SymbolRules, hold: int) -> None:
        self.order_id = seq
        self.owner = command.account
        self.leaves_qty_lots = command.qty_lots
        self.hidden_lots = 0
        self.cl_ord_id = command.cl_ord_id
        self.side = command.side
        self.ord_type = command.ord_type
        self.time_in_force = command.time_in_force
        self.post_only = command.post_only
        self.stp = command.stp
        self.price_ticks = command.price_ticks
        self.qty_lots = command.qty_lots
        self.cum_lots = 0
        self.cum_price_qty = 0
        self.rated_price_qty = 0
        self.maker_fee_ppm = rules.maker_fee_ppm
        self.taker_fee_ppm = rules.taker_fee_ppm
        self.max_fee_ppm = rules.max_fee_ppm
        self.charged = 0
        self.hold = hold
        self.conditions = command.conditions
        self.waits = False

    @classmethod
    def restore(cls, content: OrderContent) -> OpenOrder:
        """Return the order that has this content, in no book yet."""
        order = cls.__new__(cls)
        order.order_id = content.order_id
        order.owner = content.owner
        order.leaves_qty_lots = content.leaves_qty_lots
        order.cl_ord_id = content.cl_ord_id
        order.side = content.side
        order.ord_type = content.ord_type
        order.time_in_force = content.time_in_force
        order.post_only = content.post_only
        order.stp = content.stp
        order.price_ticks = content.price_ticks
        order.qty_lots = content.qty_lots
        order.cum_lots = content.cum_lots
        order.cum_price_qty = content.cum_price_qty
        order.rated_price_qty = int(content.rated_price_qty)
        order.maker_fee_ppm = content.maker_fee_ppm
        order.taker_fee_ppm = content.taker_fee_ppm
        order.max_fee_ppm = max(content.maker_fee_ppm, content.taker_fee_ppm)
        order.charged = content.charged
        order.hold = content.hold
        order.conditions = content.conditions
        order.hidden_lots = content.hidden_lots
        order.waits = content.waits
        return order

    def content(self) -> OrderContent:
        """Return all of its state but its place in the book."""
        return OrderContent(
            self.order_id,
            self.owner,
            self.cl_ord_id,
            self.side,
            self.ord_type,
            self.time_in_force,
            self.post_only,
            self.stp,
            self.price_ticks,
            self.qty_lots,
            self.leaves_qty_lots,
            self.cum_lots,
            self.cum_price_qty,
            str(self.rated_price_qty),
            self.maker_fee_ppm,
            self.taker_fee_ppm,
            self.charged,
            self.hold,
            self.conditions,
            self.hidden_lots,
            self.waits,
        )

    def hold_for(self, rules: SymbolRules, price_ticks: int, leaves_lots: int) -> int:
        """Return what the order must hold with this limit and so many leaves."""
        if self.side is _SELL or not leaves_lots:
            return leaves_lots * rules.base_units_per_lot
        unit = rules.quote_units_per_tick_lot
        return buy_hold(
            open_notional=price_ticks * leaves_lots * unit,
            filled_notional=self.cum_price_qty * unit,
            max_ppm=self.max_fee_ppm,
            charged=self.charged,
        )

    def fill(
        self, rules: SymbolRules, price_ticks: int, qty_lots: int, *, as_maker: bool
    ) -> tuple[int, int]:
        """Count a fill by which the leaves have been lowered already, and lower the hold.

        Args:
            rules: Of the symbol.
            price_ticks: Of the trade.
            qty_lots: Of the trade.
            as_maker: Whether the order was resting.

        Returns:
            The fee that the fill charges, and what it takes off the hold.
        """
        price_qty = price_ticks * qty_lots
        self.cum_lots += qty_lots
        self.cum_price_qty += price_qty
        self.rated_price_qty += price_qty * (self.maker_fee_ppm if as_maker else self.taker_fee_ppm)
        owed = fee_ceil(self.rated_price_qty * rules.quote_units_per_tick_lot)
        fee = owed - self.charged
        self.charged = owed
        held_before = self.hold
        leaves_lots = self.leaves_qty_lots + self.hidden_lots
        self.hold = self.hold_for(rules, self.price_ticks, leaves_lots)
        return fee, held_before - self.hold

    def status(self) -> OrdStatus:
        """Return its OrdStatus while it is open."""
        return _PARTIALLY_FILLED if self.cum_lots else _NEW

    def text(self) -> str:
        """Return its value in the hash of its account's open orders."""
        text = (
            f"{self.order_id} {_DIGITS[self.side]} {self.price_ticks}"
            f" {self.leaves_qty_lots + self.hidden_lots} {self.cum_lots} {self.hold}"
            f" {self.max_fee_ppm} {_DIGITS[self.ord_type]} {_DIGITS[self.time_in_force]}"
            f" {self.cum_price_qty}"
        )
        conditions = self.conditions
        if conditions is None:
            return f"{text} 0 0 0 0 1 1" if self.post_only else text
        return (
            f"{text} {conditions.stop_ticks} {conditions.max_floor_lots}"
            f" {conditions.min_qty_lots} {conditions.expire_us} {not self.waits:d}"
            f" {self.post_only:d}"
        )


class DoneOrder(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What is remembered of an order that is done: enough to answer about it.

    It does not keep the order itself, whose links would keep its former neighbours.
    """

    order_seq: int
    side: Side
    ord_type: OrdType
    time_in_force: TimeInForce
    price_ticks: int
    qty_lots: int
    cum_lots: int
    cum_price_qty: int
    status: OrdStatus
    conditions: OrderConditions | None = None
    post_only: bool = False


class AccountOrders:
    """One account's open orders in one symbol by ClOrdID, and the ClOrdIDs last gone out of use.

    Attributes:
        open: Open orders by their present ClOrdID.
        done: By ClOrdID gone out of use: the order that was done under it; or the seq of the order
            that a replace took over from it, or that it canceled, which is remembered for longer.
            At most `RECENT_CL_ORD_IDS_MAX`; the oldest are forgotten.
    """

    __slots__ = ("_oldest_first", "done", "open")

    def __init__(self) -> None:
        self.open: dict[str, OpenOrder] = {}
        self.done: dict[str, DoneOrder | int] = {}
        self._oldest_first: deque[str] = deque()

    @classmethod
    def restore(cls, done: Iterable[tuple[str, DoneOrder | int]]) -> AccountOrders:
        """Return an account with these ClOrdIDs gone out of use, oldest first, and nothing open."""
        orders = cls()
        orders.done.update(done)
        orders._oldest_first.extend(orders.done)
        return orders

    def has_used(self, cl_ord_id: str) -> bool:
        """Return whether a new order may not have this ClOrdID."""
        return cl_ord_id in self.open or cl_ord_id in self.done

    def close(self, order: OpenOrder, status: OrdStatus, request_id: str = "") -> None:
        """Move an order from the open ones to the done ones.

        Args:
            order: that is done.
            status: how it ended.
            request_id: ClOrdID of the request that canceled it alone, which is used up too.
        """
        if request_id and not self.has_used(request_id):
            self._retire(request_id, order.order_id)
        del self.open[order.cl_ord_id]
        done = DoneOrder(
            order.order_id,
            order.side,
            order.ord_type,
            order.time_in_force,
            order.price_ticks,
            order.qty_lots,
            order.cum_lots,
            order.cum_price_qty,
            status,
            order.conditions,
            order.post_only,
        )
        self._retire(order.cl_ord_id, done)

    def rename(self, order: OpenOrder, cl_ord_id: str) -> None:
        """Give an open order the ClOrdID of its replace."""
        del self.open[order.cl_ord_id]
        self._retire(order.cl_ord_id, order.order_id)
        order.cl_ord_id = cl_ord_id
        self.open[cl_ord_id] = order

    def _retire(self, cl_ord_id: str, done: DoneOrder | int) -> None:
        self.done[cl_ord_id] = done
        self._oldest_first.append(cl_ord_id)
        if len(self._oldest_first) > RECENT_CL_ORD_IDS_MAX:
            del self.done[self._oldest_first.popleft()]
