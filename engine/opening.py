"""Changes of the trading phase of one symbol, and the auction that an opening begins with. Pure.

An opening (`engine.phases`) of a crossed book begins with OPENING_AUCTION and the auction's price
and volume; CONTINUOUS follows when the last of it has traded, with the same input or a later one:
an input makes so many trades (`engine.limits`), the next one goes on, and where none comes the
leading engine's Tick. Both sides pay the maker's rate, and self-trade prevention is not applied.
What is canceled while the auction is under way does not trade; if that leaves a cross, an auction
of its own follows, at its own price. So CONTINUOUS never begins with a crossed book. Where nothing
is crossed it begins at once.

What is over at a change ends with it: orders at the opening when CONTINUOUS begins, and day orders,
too, when the symbol is closed. Where that is more than one input may do, an opening waits for it in
OPENING_AUCTION, of which the price comes later.
"""

from __future__ import annotations

from typing import Final

from engine.auction import crossed, find_price, trades
from engine.commands import SetPhase
from engine.enums import Liquidity, PhaseReason, TradingPhase
from engine.fees import FEE_ACCOUNT
from engine.instrument import SymbolRules
from engine.limits import AUCTION_TRADES_PER_INPUT_MAX, EXPIRIES_PER_INPUT_MAX, OUTPUT_EVENTS_MAX
from engine.open_order import OpenOrder
from engine.phases import IS_OPENING
from engine.trading import Trading
from engine.turn import AVAILABLE, QUOTE, Turn

_AUCTION: Final = Liquidity.AUCTION

EVENTS_PER_TRADE: Final = 4
"""At most: two fills, and two iceberg orders that show their next part."""

EVENTS_AT_THE_END: Final = 1 + EXPIRIES_PER_INPUT_MAX
"""At most: CONTINUOUS, and the orders at the opening that end."""


class Opening(Trading):
    """One symbol's orders and its trading phase.

    Attributes:
        auction_ticks: Price of the auction under way; 0 = none is, or it has not begun yet.
    """

    __slots__ = ("auction_ticks",)

    def __init__(self, rules: SymbolRules) -> None:
        super().__init__(rules)
        self.auction_ticks = 0

    def set_phase(self, turn: Turn, command: SetPhase) -> None:
        """Change to another phase; nothing happens in that phase, or in the auction before it."""
        phase, opens = command.phase, command.phase in IS_OPENING
        if phase is self.phase or (opens and self.phase in IS_OPENING):
            return
        self.auction_ticks = 0
        if not opens:
            self.change_phase(turn, phase, command.reason)
            if phase is TradingPhase.CLOSED:
                self.expire_day_orders(turn)
                self.expire_opening_orders(turn)
        elif self.is_behind:
            self.change_phase(turn, TradingPhase.OPENING_AUCTION, command.reason)
        else:
            self._open(turn, command.reason)

    def run_auction(self, turn: Turn) -> None:
        """Make the next trades of the auction under way, and end it after the last one.

        It begins, or goes on, only when no order is left that must not trade any more.
        """
        if self.is_behind:
            return
        if not self.auction_ticks:
            self._open(turn, PhaseReason.EXPIRY_DONE)
            if not self.auction_ticks:
                return
        room = OUTPUT_EVENTS_MAX - EVENTS_AT_THE_END - len(turn.events)
        left = min(AUCTION_TRADES_PER_INPUT_MAX, room // EVENTS_PER_TRADE)
        if left <= 0:
            return
        for bid, ask, lots in trades(self.book, self.auction_ticks):
            self._trade_at_auction(turn, bid, ask, lots)
            left -= 1
            if not left:
                return
        if self.stops.orders:
            self.stops.observe(self.last_ticks)  # another auction may have another price
        self.auction_ticks = 0
        self._open(turn, PhaseReason.AUCTION_DONE)

    def _open(self, turn: Turn, reason: PhaseReason) -> None:
        # Begins the next auction, or continuous trading where nothing is crossed.
        if not self._begin_auction(turn, reason):
            self.change_phase(turn, TradingPhase.CONTINUOUS, reason)
            self.expire_opening_orders(turn)

    def _begin_auction(self, turn: Turn, reason: PhaseReason) -> bool:
        # Returns whether there is anything to match.
        found = find_price(*crossed(self.book), self.last_ticks)
        if found is None:
            return False
        self.auction_ticks = found.price_ticks
        self.change_phase(turn, TradingPhase.OPENING_AUCTION, reason, *found)
        return True

    def _trade_at_auction(self, turn: Turn, bid: OpenOrder, ask: OpenOrder, lots: int) -> None:
        # The auction has lowered the leaves of both already.
        both = (bid, ask) if bid.order_id < ask.order_id else (ask, bid)
        self.last_ticks = price_ticks = self.auction_ticks
        moves = turn.moves(FEE_ACCOUNT)
        for order in both:
            moves[QUOTE + AVAILABLE] += self.fill(turn, order, _AUCTION, price_ticks, lots)
            turn.touched[order.order_id] = order
        turn.trade_count += 1
        for order in both:
            if not order.leaves_qty_lots and order.hidden_lots:
                self.refill(turn, order)
