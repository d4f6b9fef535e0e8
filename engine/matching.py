"""Matching: what one command does to the book, the orders and the money of one symbol. Pure.

Theory. `engine.book` knows queues and prices; this module knows order types. Money is moved as it
would be by hand: when an order is accepted, its hold goes from pending to held and the rest of what
was reserved to available; a fill lowers the hold, pays, and frees what is over; the end of an order
frees what it still holds. A taker is treated like a maker in all of this, so one function settles
both sides of a trade. The engine spends from the reservation that the command carries and refuses
an order that it does not cover.

Order of events: the acceptance, then for each trade the resting side and the incoming side, with
self-trade cancels where they happen, then the cancel of what an incoming order may not keep.

Decisions. Self-trade prevention is the incoming order's mode. A FOK order counts what it could
trade first: up to its own account's first order (cancel newest, cancel both), past it (cancel
oldest); where that is too little, nothing happens but its own end. A post-only order is refused
whoever owns the order that it would cross. Refusals are in the order of the code: the rules
(`engine.checks`), the ClOrdID, the number of open orders, post-only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from engine import reports
from engine.book import NO_OWNER, LimitBook
from engine.checks import Refusal, check_new_order
from engine.commands import (
    CancelAll,
    CancelOrder,
    Command,
    NewOrder,
    QueryOrder,
    ReplaceOrder,
)
from engine.enums import (
    CancelReason,
    CxlRejReason,
    Liquidity,
    OrdRejReason,
    OrdStatus,
    SelfTradePrevention,
    Side,
    TimeInForce,
)
from engine.fees import FEE_ACCOUNT
from engine.instrument import SymbolRules
from engine.limits import MATCHES_PER_ORDER_MAX, OPEN_ORDERS_PER_ACCOUNT_MAX
from engine.open_order import AccountOrders, DoneOrder, OpenOrder, OrderContent
from engine.replacing import Replacement, plan_replace
from engine.turn import AVAILABLE, BASE, HELD, PENDING, QUOTE, Turn

# Members as globals: reading one through its class costs 70 ns on CPython 3.11.
_BUY: Final = Side.BUY
_FOK: Final = TimeInForce.FOK
_IMMEDIATE: Final = (TimeInForce.IOC, TimeInForce.FOK)
_MAKER: Final = Liquidity.MAKER
_TAKER: Final = Liquidity.TAKER
_FILLED: Final = OrdStatus.FILLED
_STP_NONE: Final = SelfTradePrevention.NONE
_STP_OLDEST: Final = SelfTradePrevention.CANCEL_OLDEST
_STP_NEWEST: Final = SelfTradePrevention.CANCEL_NEWEST

_FINAL_STATUS: Final = {
    CancelReason.REQUESTED: OrdStatus.CANCELED,
    CancelReason.EXPIRED: OrdStatus.EXPIRED,
    CancelReason.SELF_TRADE: OrdStatus.CANCELED,
    CancelReason.USER_DISABLED: OrdStatus.CANCELED,
}


class MatcherContent(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """All of a symbol's state as plain values.

    Attributes:
        rules: In force.
        orders: Open ones in priority: bids before asks, best price first, oldest first.
        done: Accounts, sorted, that have ClOrdIDs gone out of use, and those, oldest first.
    """

    rules: SymbolRules
    orders: list[OrderContent]
    done: list[tuple[int, list[tuple[str, DoneOrder | None]]]]


class Matcher:
    """The state of one symbol and what commands do to it.

    Attributes:
        rules: In force.
        book: The resting orders.
        accounts: What each account has open and has had.
    """

    __slots__ = ("accounts", "book", "rules")

    def __init__(self, rules: SymbolRules) -> None:
        self.rules = rules
        self.book: LimitBook[OpenOrder] = LimitBook()
        self.accounts: dict[int, AccountOrders] = {}

    def apply(self, turn: Turn, command: Command) -> None:
        """Apply any command but the definition of the symbol; `turn` gets what it does."""
        _HANDLERS[type(command)](self, turn, command)

    def change_rules(self, rules: SymbolRules) -> None:
        """Go on under other rules; open orders keep their fee rates.

        Raises:
            AssertionError: They are not the next version, or change the units of a book in use.
        """
        old = self.rules
        assert rules.version == old.version + 1, "Invariant: versions of rules are dense"
        same_units = _units(rules) == _units(old)
        assert same_units or not self.book.orders, "Invariant: units change while the book is empty"
        self.rules = rules

    def new_order(self, turn: Turn, command: NewOrder) -> None:
        """Refuse a new order, or accept and match it, and rest what may rest."""
        rules = self.rules
        account, side, reserved = command.account, command.side, command.reserved
        orders = self.accounts.get(account)
        hold = rules.hold_of(side, command.price_ticks, command.qty_lots)
        refusal = check_new_order(rules, command, hold) or self._check_state(orders, command)
        moves = turn.moves(account)
        asset = QUOTE if side == _BUY else BASE
        moves[asset + PENDING] -= reserved
        if refusal is not None:
            moves[asset + AVAILABLE] += reserved
            reports.rejected(turn, command, refusal.reason, refusal.text)
            return
        moves[asset + AVAILABLE] += reserved - hold
        moves[asset + HELD] += hold
        order = OpenOrder(turn.seq, command, rules, hold)
        if orders is None:
            orders = self.accounts[account] = AccountOrders()
        orders.open[order.cl_ord_id] = order
        reports.accepted(turn, order)
        if order.time_in_force == _FOK and not self._can_fill(order):
            self._end(turn, order, CancelReason.EXPIRED)
        else:
            self._match(turn, order)

    def cancel(self, turn: Turn, command: CancelOrder) -> None:
        """Cancel an open order, or refuse to."""
        found = self.find(command.account, command.orig_cl_ord_id, command.order_seq)
        if isinstance(found, OpenOrder):
            self.book.cancel(found.order_id)
            self._end(turn, found, CancelReason.REQUESTED, command.cl_ord_id)
        elif found is not None:
            too_late = f"Too late: {command.orig_cl_ord_id} is done"
            reports.cancel_rejected(turn, command, found, CxlRejReason.TOO_LATE, too_late)
        else:
            unknown = f"Unknown order {command.orig_cl_ord_id}"
            reports.cancel_rejected(turn, command, None, CxlRejReason.UNKNOWN_ORDER, unknown)

    def replace(self, turn: Turn, command: ReplaceOrder) -> None:
        """Give an open order new terms, or refuse to; match it again unless it keeps its place."""
        rules = self.rules
        orders = self.accounts.get(command.account)
        found = self.find(command.account, command.orig_cl_ord_id, command.order_seq)
        id_used = orders is not None and orders.has_used(command.cl_ord_id)
        plan = plan_replace(rules, self.book, command, found, id_used=id_used)
        moves = turn.moves(command.account)
        asset = QUOTE if command.side == _BUY else BASE
        moves[asset + PENDING] -= command.reserved
        if not isinstance(plan, Replacement):
            moves[asset + AVAILABLE] += command.reserved
            reports.cancel_rejected(turn, command, found, plan.reason, plan.text)
            return
        order = plan.order
        added = plan.hold - order.hold
        moves[asset + AVAILABLE] += command.reserved - added
        moves[asset + HELD] += added
        turn.rename(order)
        old_leaves_lots, old_price_ticks = order.leaves_qty_lots, order.price_ticks
        if plan.keeps_priority:
            if plan.leaves_lots < old_leaves_lots:
                self.book.reduce(order, old_leaves_lots - plan.leaves_lots)
        else:
            self.book.cancel(order.order_id)
            order.leaves_qty_lots = plan.leaves_lots
        self.accounts[order.owner].rename(order, command.cl_ord_id)
        order.price_ticks = command.price_ticks
        order.qty_lots = command.qty_lots
        order.time_in_force = command.time_in_force
        order.post_only = command.post_only
        if command.stp is not None:
            order.stp = command.stp
        order.hold = plan.hold
        reports.replaced(
            turn,
            order,
            orig_cl_ord_id=command.orig_cl_ord_id,
            old_price_ticks=old_price_ticks,
            old_leaves_lots=old_leaves_lots,
            kept_priority=plan.keeps_priority,
        )
        if not plan.keeps_priority:
            self._match(turn, order)

    def query(self, turn: Turn, command: QueryOrder) -> None:
        """Answer a status request."""
        found = self.find(command.account, command.cl_ord_id, command.order_seq)
        reports.status_reported(turn, command, found)

    def cancel_all(self, turn: Turn, command: CancelAll) -> None:
        """Cancel every open order of an account, oldest first."""
        orders = self.accounts.get(command.account)
        for order in sorted(orders.open.values(), key=_order_seq) if orders else ():
            self.book.cancel(order.order_id)
            self._end(turn, order, CancelReason.USER_DISABLED)

    def content(self) -> MatcherContent:
        """Return the whole state as plain values."""
        accounts = self.accounts
        return MatcherContent(
            self.rules,
            [order.content() for order in self.book.by_priority()],
            [
                (account, list(accounts[account].done.items()))
                for account in sorted(accounts)
                if accounts[account].done
            ],
        )

    def check_invariants(self) -> None:
        """Assert that book, orders, accounts and holds agree. For tests and audits; slow.

        Raises:
            AssertionError: They do not.
        """
        self.book.check_invariants()
        open_orders = [order for orders in self.accounts.values() for order in orders.open.values()]
        assert len(open_orders) == len(self.book.orders), "Invariant: open orders rest"
        for order in open_orders:
            assert self.book.orders[order.order_id] is order, "Invariant: open orders rest"
            assert order.leaves_qty_lots + order.cum_lots == order.qty_lots, "Invariant: quantities"
            hold = order.hold_for(self.rules, order.price_ticks, order.leaves_qty_lots)
            assert order.hold == hold, f"Invariant: order {order.order_id} holds {hold}"
            assert order.time_in_force not in _IMMEDIATE, "Invariant: IOC and FOK never rest"

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
        return done if done is not None and order_seq in (0, done.order_seq) else None

    def _check_state(self, orders: AccountOrders | None, command: NewOrder) -> Refusal | None:
        # What a new order is refused for that its command alone does not show.
        if orders is not None:
            if orders.has_used(command.cl_ord_id):
                text = f"ClOrdID {command.cl_ord_id} was used before"
                return Refusal(OrdRejReason.DUPLICATE_ORDER, text)
            if len(orders.open) >= OPEN_ORDERS_PER_ACCOUNT_MAX:
                text = f"More than {OPEN_ORDERS_PER_ACCOUNT_MAX} open orders in {self.rules.symbol}"
                return Refusal(OrdRejReason.EXCEEDS_LIMIT, text)
        if command.post_only and self.book.crosses(command.side, command.price_ticks):
            return Refusal(OrdRejReason.UNSUPPORTED_CHARACTERISTIC, "Post-only: it would trade")
        return None

    def _can_fill(self, order: OpenOrder) -> bool:
        # Whether a FOK order can trade all of its quantity. Nothing is changed.
        missing = order.leaves_qty_lots
        owner = NO_OWNER if order.stp == _STP_NONE else order.owner
        met = 0
        for maker in self.book.crossing(order.side, order.price_ticks):
            met += 1
            if met > MATCHES_PER_ORDER_MAX:
                return False
            if maker.owner == owner:
                if order.stp != _STP_OLDEST:
                    return False
                continue
            missing -= maker.leaves_qty_lots
            if missing <= 0:
                return True
        return False

    def _match(self, turn: Turn, order: OpenOrder) -> None:
        # Trades what crosses; then the rest of the order rests, or ends.
        book = self.book
        own, opposite = (book.bids, book.asks) if order.side == _BUY else (book.asks, book.bids)
        if opposite.best.key <= order.price_ticks * opposite.sign and self._take(turn, order):
            return
        if order.time_in_force in _IMMEDIATE:
            self._end(turn, order, CancelReason.EXPIRED)
            return
        book.rest(own, order.price_ticks, order)
        turn.touched[order.order_id] = order

    def _take(self, turn: Turn, order: OpenOrder) -> bool:
        # Trades what crosses; returns whether that was the end of the order.
        avoid = NO_OWNER if order.stp == _STP_NONE else order.owner
        matches_left = MATCHES_PER_ORDER_MAX
        while True:
            left, fills, stopped_before = self.book.take(
                order.side, order.price_ticks, order.leaves_qty_lots, avoid, matches_left
            )
            for maker, lots in fills:
                self._trade(turn, maker, order, lots)
            assert order.leaves_qty_lots == left, "Invariant: an order trades what the book gave"
            if stopped_before is None:
                return not left
            matches_left -= len(fills) + 1
            if stopped_before.owner != avoid:
                self._end(turn, order, CancelReason.EXPIRED)
                return True
            if order.stp != _STP_NEWEST:
                self.book.cancel(stopped_before.order_id)
                self._end(turn, stopped_before, CancelReason.SELF_TRADE)
            if order.stp != _STP_OLDEST:
                self._end(turn, order, CancelReason.SELF_TRADE)
                return True

    def _trade(self, turn: Turn, maker: OpenOrder, taker: OpenOrder, lots: int) -> None:
        # The book has lowered the maker's leaves already.
        taker.leaves_qty_lots -= lots
        price_ticks = maker.price_ticks
        fees = self._fill(turn, maker, _MAKER, price_ticks, lots)
        fees += self._fill(turn, taker, _TAKER, price_ticks, lots)
        turn.touched[maker.order_id] = maker
        turn.moves(FEE_ACCOUNT)[QUOTE + AVAILABLE] += fees
        turn.trade_count += 1

    def _fill(
        self, turn: Turn, order: OpenOrder, liquidity: Liquidity, price_ticks: int, lots: int
    ) -> int:
        # Does one side of a trade; returns the fee.
        rules = self.rules
        fee, released = order.fill(rules, price_ticks, lots, as_maker=liquidity is _MAKER)
        moves = turn.moves(order.owner)
        notional = price_ticks * lots * rules.quote_units_per_tick_lot
        if order.side == _BUY:
            moves[QUOTE + AVAILABLE] += released - notional - fee
            moves[QUOTE + HELD] -= released
            moves[BASE + AVAILABLE] += lots * rules.base_units_per_lot
        else:
            moves[QUOTE + AVAILABLE] += notional - fee
            moves[BASE + HELD] -= released
        reports.filled(turn, order, liquidity, price_ticks, lots, fee)
        if not order.leaves_qty_lots:
            self.accounts[order.owner].close(order, _FILLED)
        return fee

    def _end(
        self, turn: Turn, order: OpenOrder, reason: CancelReason, request_id: str = ""
    ) -> None:
        # Ends an order that is not in the book any more, or never was, with leaves.
        lots = order.leaves_qty_lots
        moves = turn.moves(order.owner)
        asset = QUOTE if order.side == _BUY else BASE
        moves[asset + AVAILABLE] += order.hold
        moves[asset + HELD] -= order.hold
        order.hold = 0
        order.leaves_qty_lots = 0
        self.accounts[order.owner].close(order, _FINAL_STATUS[reason])
        reports.canceled(turn, order, reason, lots, request_id)
        turn.touched[order.order_id] = order


_HANDLERS: dict[type, Callable[[Matcher, Turn, Any], None]] = {
    NewOrder: Matcher.new_order,
    CancelOrder: Matcher.cancel,
    ReplaceOrder: Matcher.replace,
    QueryOrder: Matcher.query,
    CancelAll: Matcher.cancel_all,
}


def _units(rules: SymbolRules) -> tuple[object, ...]:
    return (
        rules.base,
        rules.quote,
        rules.base_scale,
        rules.quote_scale,
        rules.tick_size,
        rules.lot_size,
    )


def _order_seq(order: OpenOrder) -> int:
    return order.order_id
