"""All of one symbol's state as plain values, and back: for snapshots, digests and copies. Pure."""

from __future__ import annotations

import msgspec

from engine.enums import Side, TradingPhase
from engine.expiry import Sweep
from engine.instrument import SymbolRules
from engine.open_order import AccountOrders, DoneOrder, OpenOrder, OrderContent
from engine.opening import Opening


class MatcherContent(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """All of a symbol's state as plain values.

    Attributes:
        rules: In force.
        orders: Resting ones in priority: bids before asks, best price first, oldest first.
        done: Accounts, sorted, that have ClOrdIDs gone out of use, and those, oldest first.
        stops: Waiting ones in priority.
        last_ticks, high_ticks, low_ticks: Of the trades (`engine.trading`, `engine.stops`).
        sweeps: Expiries under way.
        phase, auction_ticks: Of trading (`engine.opening`).
    """

    rules: SymbolRules
    orders: list[OrderContent]
    done: list[tuple[int, list[tuple[str, DoneOrder | int]]]]
    stops: list[OrderContent]
    last_ticks: int
    high_ticks: int
    low_ticks: int
    sweeps: list[Sweep]
    phase: TradingPhase
    auction_ticks: int


def content_of(state: Opening) -> MatcherContent:
    """Return the content of a state."""
    accounts, stops = state.accounts, state.stops
    return MatcherContent(
        state.rules,
        [order.content() for order in state.book.by_priority()],
        [
            (account, list(accounts[account].done.items()))
            for account in sorted(accounts)
            if accounts[account].done
        ],
        [order.content() for order in stops.by_priority()],
        state.last_ticks,
        stops.high_ticks,
        stops.low_ticks,
        list(state.expiry.sweeps),
        state.phase,
        state.auction_ticks,
    )


def fill_from(state: Opening, content: MatcherContent) -> None:
    """Give a new state, which has the rules already, this content."""
    book, stops, accounts = state.book, state.stops, state.accounts
    for account, items in content.done:
        accounts[account] = AccountOrders.restore(items)
    for one in (*content.orders, *content.stops):
        order = OpenOrder.restore(one)
        if order.waits:
            stops.add(order)
        else:
            own = book.bids if order.side == Side.BUY else book.asks
            book.rest(own, order.price_ticks, order)
        owned = accounts.get(order.owner)
        if owned is None:
            owned = accounts[order.owner] = AccountOrders()
        owned.open[order.cl_ord_id] = order
        state.watch(order)
    state.last_ticks = content.last_ticks
    stops.high_ticks, stops.low_ticks = content.high_ticks, content.low_ticks
    for sweep in content.sweeps:
        state.expiry.sweep(sweep.time_in_force, sweep.before_seq)
    state.phase, state.auction_ticks = content.phase, content.auction_ticks
