"""What becomes of the accepted orders of one symbol, and of their money: trade, rest, wait, end.
Pure.

Theory. `engine.book` knows queues and prices; this module knows what orders own and owe. Money is
moved as it would be by hand: a fill lowers the hold, pays, and frees what is over; the end of an
order frees what it still holds. A taker is treated like a maker in all of this, so one function
settles both sides of a trade.

An order is in one of three places. What comes in is nowhere while it trades. What is left of it
rests in the book, where an iceberg order shows a part; when that is gone, the next part goes to the
end of the queue of its price, so that the order that took it may meet it again before the next
price. A stop order waits in the stop book until a trade reaches its stop price.

What is due because of the time leaves before an input is applied, stops that it has reached are
triggered after it; both in portions (`engine.limits`), and `due_us` says when there is more to do.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Final

from engine import reports
from engine.bands import check_band, clamp
from engine.book import NO_OWNER, LimitBook
from engine.enums import (
    CancelReason,
    Liquidity,
    OrdStatus,
    OrdType,
    PhaseReason,
    SelfTradePrevention,
    Side,
    TimeInForce,
    TradingPhase,
)
from engine.events import PhaseChanged
from engine.expiry import NEVER, Expiry
from engine.fees import FEE_ACCOUNT
from engine.instrument import SymbolRules
from engine.limits import (
    EXPIRIES_PER_INPUT_MAX,
    MATCHES_PER_ORDER_MAX,
    STOP_TRIGGERS_EVENTS_MAX,
    STOP_TRIGGERS_PER_INPUT_MAX,
)
from engine.open_order import AccountOrders, DoneOrder, OpenOrder
from engine.stops import StopBook
from engine.turn import AVAILABLE, BASE, HELD, QUOTE, Turn

# Members as globals: reading one through its class costs 70 ns on CPython 3.11.
_BUY: Final = Side.BUY
_GTC: Final = TimeInForce.GTC
_STOP: Final = OrdType.STOP
_CONTINUOUS: Final = TradingPhase.CONTINUOUS
_IMMEDIATE: Final = (TimeInForce.IOC, TimeInForce.FOK)
_MAKER: Final = Liquidity.MAKER
_TAKER: Final = Liquidity.TAKER
_FILLED: Final = OrdStatus.FILLED
_STP_NONE: Final = SelfTradePrevention.NONE
_STP_OLDEST: Final = SelfTradePrevention.CANCEL_OLDEST
_STP_NEWEST: Final = SelfTradePrevention.CANCEL_NEWEST
_EXPIRED: Final = (CancelReason.EXPIRED, CancelReason.TIME_EXPIRED)


class Trading:
    """One symbol's orders, and what happens to them.

    Attributes:
        rules: In force.
        book: The resting orders.
        stops: The stop orders that wait.
        expiry: When open orders end because of the time.
        accounts: What each account has open and has had.
        last_ticks: Price of the last trade; 0 before the first.
        phase: What the symbol takes; orders match as they come in CONTINUOUS only.
        is_behind: Whether orders are left that this input was to end: nothing matches then.
        quiet: Whether nothing comes of an input but what its command does: the phase is CONTINUOUS,
            no stop order waits and no order expires. False does no harm; it is true for most
            inputs, which need not look then.
    """

    __slots__ = (
        "accounts",
        "book",
        "expiry",
        "is_behind",
        "last_ticks",
        "phase",
        "quiet",
        "rules",
        "stops",
    )

    def __init__(self, rules: SymbolRules) -> None:
        self.rules = rules
        self.book: LimitBook[OpenOrder] = LimitBook()
        self.stops = StopBook()
        self.expiry = Expiry()
        self.accounts: dict[int, AccountOrders] = {}
        self.last_ticks = 0
        self.phase = TradingPhase.CONTINUOUS
        self.is_behind = False
        self.quiet = False

    def open_orders(self) -> Iterator[OpenOrder]:
        """Iterate over all orders that rest or wait, in no order that means anything."""
        return chain(self.book.orders.values(), self.stops.orders.values())

    def find(self, account: int, cl_ord_id: str, order_seq: int) -> OpenOrder | DoneOrder | None:
        """Return the order that a request names, or None.

        An OrderID (37) that names another order than the ClOrdID makes the order unknown.

        Args:
            order_seq: From the OrderID; 0 where none was given.
        """
        orders = self.accounts.get(account)
        if orders is None:
            return None
        order = orders.open.get(cl_ord_id)
        if order is not None:
            return order if order_seq in (0, order.order_id) else None
        done = orders.done.get(cl_ord_id)
        return done if isinstance(done, DoneOrder) and order_seq in (0, done.order_seq) else None

    def match(self, turn: Turn, order: OpenOrder) -> None:
        """Trade what crosses of an order that is nowhere; then its rest rests, or ends."""
        book = self.book
        own, opposite = (book.bids, book.asks) if order.side is _BUY else (book.asks, book.bids)
        if (
            opposite.best.key <= order.price_ticks * opposite.sign
            and self.phase is _CONTINUOUS
            and self._take(turn, order)
        ):
            return
        time_in_force = order.time_in_force
        if (time_in_force is not _GTC and time_in_force in _IMMEDIATE) or order.ord_type is _STOP:
            self.end(turn, order, CancelReason.EXPIRED)
            return
        if order.conditions is not None:
            self._show_part(order)
        book.rest(own, order.price_ticks, order)
        if order.conditions is not None:
            self.watch(order)
        turn.touched[order.order_id] = order

    def wait(self, turn: Turn, order: OpenOrder) -> None:
        """Let a stop order wait; one that is reached already is triggered after this input."""
        self.quiet = False
        self.stops.add(order)
        self.watch(order)
        turn.touched[order.order_id] = order

    def watch(self, order: OpenOrder) -> None:
        """Note the expiry time of an order, if it has one; it must rest or wait already."""
        if order.conditions is not None and order.conditions.expire_us:
            self.quiet = False
            open_count = len(self.book.orders) + len(self.stops.orders)
            self.expiry.watch(order, self.open_orders(), open_count)

    def withdraw(self, order: OpenOrder) -> None:
        """Take an open order out of where it rests or waits; all that is left of it is shown."""
        if order.waits:
            self.stops.remove(order)
        else:
            self.book.cancel(order.order_id)
            order.leaves_qty_lots += order.hidden_lots
            order.hidden_lots = 0

    def end(self, turn: Turn, order: OpenOrder, reason: CancelReason, request_id: str = "") -> None:
        """End an order that is nowhere, with what is left of it."""
        lots = order.leaves_qty_lots
        moves = turn.moves(order.owner)
        asset = QUOTE if order.side is _BUY else BASE
        moves[asset + AVAILABLE] += order.hold
        moves[asset + HELD] -= order.hold
        order.hold = 0
        order.leaves_qty_lots = 0
        status = OrdStatus.EXPIRED if reason in _EXPIRED else OrdStatus.CANCELED
        alone = request_id if reason is CancelReason.REQUESTED else ""
        self.accounts[order.owner].close(order, status, alone)
        reports.canceled(turn, order, reason, lots, request_id)
        turn.touched[order.order_id] = order

    def fill(
        self, turn: Turn, order: OpenOrder, liquidity: Liquidity, price_ticks: int, lots: int
    ) -> int:
        """Do one side of a trade, by which the order's leaves have been lowered already.

        Returns:
            The fee, which is the caller's to credit.
        """
        rules = self.rules
        fee, released = order.fill(rules, price_ticks, lots, as_maker=liquidity is not _TAKER)
        moves = turn.moves(order.owner)
        notional = price_ticks * lots * rules.quote_units_per_tick_lot
        if order.side is _BUY:
            moves[QUOTE + AVAILABLE] += released - notional - fee
            moves[QUOTE + HELD] -= released
            moves[BASE + AVAILABLE] += lots * rules.base_units_per_lot
        else:
            moves[QUOTE + AVAILABLE] += notional - fee
            moves[BASE + HELD] -= released
        reports.filled(turn, order, liquidity, price_ticks, lots, fee)
        if not order.leaves_qty_lots and not order.hidden_lots:
            self.accounts[order.owner].close(order, _FILLED)
        return fee

    def refill(self, turn: Turn, order: OpenOrder) -> None:
        """Put an iceberg order, of which all that was shown has traded, back in the book."""
        order.leaves_qty_lots, order.hidden_lots = order.hidden_lots, 0
        self._show_part(order)
        own = self.book.bids if order.side is _BUY else self.book.asks
        self.book.rest(own, order.price_ticks, order)
        reports.refilled(turn, order)

    def expire_due(self, turn: Turn) -> None:
        """End the orders whose time has come, up to a limit; note whether some are left."""
        expiry = self.expiry
        due = expiry.due(turn.ts_us, self._find_open, EXPIRIES_PER_INPUT_MAX)
        self._expire(turn, due)
        left = EXPIRIES_PER_INPUT_MAX - len(due)
        while expiry.sweeps and left:
            swept = expiry.swept(self.open_orders(), left)
            self._expire(turn, swept)
            left -= len(swept)
        self.is_behind = bool(expiry.sweeps) or expiry.first_us(self._find_open) <= turn.ts_us

    def expire_day_orders(self, turn: Turn) -> None:
        """Begin to end the DAY orders that are open now, and end as many as one input may."""
        self.quiet = False
        self.expiry.sweep(TimeInForce.DAY, turn.seq)
        self.expire_due(turn)

    def expire_opening_orders(self, turn: Turn) -> None:
        """Begin to end the OPG orders that are open now, and end as many as one input may."""
        self.quiet = False
        self.expiry.sweep(TimeInForce.OPG, turn.seq)
        self.expire_due(turn)

    def trigger_stops(self, turn: Turn) -> None:
        """Send the stop orders that the last trade has reached to work, one after the other.

        Each may move the last trade. Ends when none is reached any more, at the limits of one
        input, or when the symbol is halted; what is left then stays reached.
        """
        stops = self.stops
        stops.observe(self.last_ticks)
        triggers_left = STOP_TRIGGERS_PER_INPUT_MAX
        while (order := stops.reached()) is not None:
            if not triggers_left or len(turn.events) >= STOP_TRIGGERS_EVENTS_MAX:
                return
            triggers_left -= 1
            stops.remove(order)
            turn.touched[order.order_id] = order
            if order.ord_type is _STOP:
                self._protect(turn, order)
            reports.triggered(turn, order)
            side, price_ticks = order.side, order.price_ticks
            if check_band(self.rules, self.last_ticks, side, price_ticks) is None:
                self.match(turn, order)
                stops.observe(self.last_ticks)
                continue
            self.end(turn, order, CancelReason.PRICE_BAND)
            self.halt_beyond_band(turn, side, price_ticks)
            if self.phase is not _CONTINUOUS:
                return
        stops.forget()

    def change_phase(
        self,
        turn: Turn,
        phase: TradingPhase,
        reason: PhaseReason,
        auction_ticks: int = 0,
        auction_lots: int = 0,
    ) -> None:
        """Be in another phase from here on."""
        self.phase = phase
        self.quiet = False
        index = len(turn.events)
        turn.events.append(PhaseChanged(index, phase, reason, auction_ticks, auction_lots))

    def halt_beyond_band(self, turn: Turn, side: Side, price_ticks: int) -> None:
        """Halt the symbol, if its rules say so, for an order beyond the band that would trade."""
        halts = self.rules.band_halts and self.phase is _CONTINUOUS
        if halts and self.book.crosses(side, price_ticks):
            self.change_phase(turn, TradingPhase.HALTED, PhaseReason.PRICE_BAND)

    def due_us(self) -> int:
        """Return when there is something to do though no input comes, µs since 1970 UTC.

        Returns:
            0: never; 1: now; else the earliest expiry time, which may have passed.
        """
        if self.expiry.sweeps or self.phase is TradingPhase.OPENING_AUCTION:
            return 1
        if self.phase is _CONTINUOUS and self.stops.reached() is not None:
            return 1
        first_us = self.expiry.first_us(self._find_open)
        return 0 if first_us == NEVER else first_us

    def _take(self, turn: Turn, order: OpenOrder) -> bool:
        # Trades what crosses; returns whether that was the end of the order.
        avoid = NO_OWNER if order.stp == _STP_NONE else order.owner
        matches_left = MATCHES_PER_ORDER_MAX
        while True:
            left, fills, stopped = self.book.take(
                order.side, order.price_ticks, order.leaves_qty_lots, avoid, matches_left
            )
            for maker, lots in fills:
                self._trade(turn, maker, order, lots)
            assert order.leaves_qty_lots == left, "Invariant: an order trades what the book gave"
            if fills and not self.quiet and self.stops.orders:
                # An order's prices go one way only: its first is an extreme, its last the other.
                self.stops.observe(fills[0][0].price_ticks)
            if stopped is None:
                return not left
            matches_left -= len(fills)
            if not stopped.leaves_qty_lots:
                self.refill(turn, stopped)
                if not left:
                    return True
                continue
            if stopped.owner != avoid or not matches_left:
                self.end(turn, order, CancelReason.EXPIRED)
                return True
            matches_left -= 1
            if order.stp != _STP_NEWEST:
                self.withdraw(stopped)
                self.end(turn, stopped, CancelReason.SELF_TRADE)
            if order.stp != _STP_OLDEST:
                self.end(turn, order, CancelReason.SELF_TRADE)
                return True

    def _trade(self, turn: Turn, maker: OpenOrder, taker: OpenOrder, lots: int) -> None:
        # The book has lowered the maker's leaves already.
        taker.leaves_qty_lots -= lots
        self.last_ticks = price_ticks = maker.price_ticks
        fees = self.fill(turn, maker, _MAKER, price_ticks, lots)
        fees += self.fill(turn, taker, _TAKER, price_ticks, lots)
        turn.touched[maker.order_id] = maker
        turn.moves(FEE_ACCOUNT)[QUOTE + AVAILABLE] += fees
        turn.trade_count += 1

    def _protect(self, turn: Turn, order: OpenOrder) -> None:
        # A stop order that becomes a market order trades no further than the bands let it.
        price_ticks = clamp(self.rules, self.last_ticks, order.side, order.price_ticks)
        if price_ticks == order.price_ticks:
            return
        order.price_ticks = price_ticks
        hold = order.hold_for(self.rules, price_ticks, order.leaves_qty_lots)
        moves = turn.moves(order.owner)
        asset = QUOTE if order.side is _BUY else BASE
        moves[asset + AVAILABLE] += order.hold - hold
        moves[asset + HELD] -= order.hold - hold
        order.hold = hold

    def _show_part(self, order: OpenOrder) -> None:
        assert order.conditions is not None, "Invariant: what shows a part has a MaxFloor"
        floor_lots = order.conditions.max_floor_lots
        if 0 < floor_lots < order.leaves_qty_lots:
            order.hidden_lots = order.leaves_qty_lots - floor_lots
            order.leaves_qty_lots = floor_lots

    def _expire(self, turn: Turn, orders: list[OpenOrder]) -> None:
        for order in orders:
            self.withdraw(order)
            self.end(turn, order, CancelReason.TIME_EXPIRED)

    def _find_open(self, order_id: int) -> OpenOrder | None:
        return self.book.orders.get(order_id) or self.stops.orders.get(order_id)
