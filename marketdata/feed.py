"""SymbolFeed: the outputs of one symbol, in order, become numbered updates. Pure.

Numbering: a message of a channel carries the ``seq`` of the input that caused it, and as
    ``prev_seq`` the seq of the channel's message before it. Both derive from the stream alone, so
    a feed that starts again from a checkpoint makes the very same messages, and a subscriber
    knows a repeated one by its seq.
"""

from __future__ import annotations

import msgspec

from engine.errors import SequenceGap
from engine.events import Event, OutputEvents, PhaseChanged, SymbolDefined
from engine.order_replica import BookOrder, OrderReplica
from engine.price_levels import NO_BBO, Bbo
from engine.trades import Trade, trades_of
from marketdata.errors import StateMismatch
from marketdata.updates import FIRST_PHASE, NO_MESSAGES, ChannelSeqs, Phase, Update


class Checkpoint(msgspec.Struct, frozen=True, array_like=True):
    """All that a feed and a board need to go on behind input ``seq``; candles are kept beside it.

    ``defined`` is None while the symbol has no output yet.
    """

    symbol: str
    seq: int
    ts_us: int
    defined: SymbolDefined | None
    orders: list[BookOrder]
    last: ChannelSeqs
    trades: list[Trade]
    phase: Phase

    @classmethod
    def empty(cls, symbol: str) -> Checkpoint:
        """Return the checkpoint before the first input."""
        return cls(symbol, 0, 0, None, [], NO_MESSAGES, [], FIRST_PHASE)


class SymbolFeed:
    """The displayed book of one symbol and the numbers of its channels.

    Args:
        checkpoint: where to go on.
    """

    __slots__ = ("_bbo", "_defined", "_last", "book", "seq", "symbol")

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.symbol = checkpoint.symbol
        self.seq = checkpoint.seq
        self.book = OrderReplica(checkpoint.orders)
        self._defined = checkpoint.defined
        self._last = checkpoint.last
        self._bbo = self.book.bbo() if checkpoint.defined else NO_BBO

    def apply(self, output: OutputEvents) -> Update:
        """Apply the next output.

        Raises:
            SequenceGap: the output is not the next one; nothing is changed.
            StateMismatch: another incarnation of the symbol begins, or its grid changes under
                resting orders.
        """
        seq = output.seq
        if seq != self.seq + 1:
            raise SequenceGap(self.symbol, self.seq + 1, seq)
        events = output.events
        defined = self._define(events) if events and type(events[0]) is SymbolDefined else None
        changes = self.book.apply(events)
        bids, asks = changes.bids, changes.asks
        trades: list[Trade] = []
        phase = None
        # A trade has two events, and a change of phase alone changes no order.
        if len(events) > 1 or not changes.orders:
            trades, phase = trades_of(output), _phase_of(output)
        bbo: Bbo | None = self.book.bbo() if bids or asks else self._bbo
        if bbo == self._bbo:
            bbo = None
        else:
            assert bbo is not None, "Invariant: a changed best price is one"
            self._bbo = bbo
        before = self._last
        after = before
        if trades or bbo or bids or asks or defined or phase:
            after = ChannelSeqs(
                seq if trades else before.trades,
                seq if bbo else before.bbo,
                seq if bids or asks or defined else before.depth,
                seq if phase else before.status,
            )
            self._last = after
        self.seq = seq
        ts_us, orders = output.ts_us, changes.orders
        return Update(
            self.symbol, seq, ts_us, trades, bids, asks, orders, bbo, defined, phase, before, after
        )

    def _define(self, events: list[Event]) -> SymbolDefined:
        event = events[0]
        assert isinstance(event, SymbolDefined), "Invariant: the caller has looked"
        known = self._defined
        if known is not None:
            old, new = known.rules, event.rules
            if event.incarnation != known.incarnation:
                raise StateMismatch(
                    self.symbol,
                    f"expected incarnation {known.incarnation}, received {event.incarnation}",
                )
            same_grid = (old.tick_size, old.lot_size) == (new.tick_size, new.lot_size)
            if not same_grid and (len(self.book.bids) or len(self.book.asks)):
                raise StateMismatch(self.symbol, "tick or lot size changes under resting orders")
        self._defined = event
        return event


def _phase_of(output: OutputEvents) -> Phase | None:
    """Return the phase that an output changes to; with the auction of this output, if it had one.

    An output may change it twice: an auction begins, and is done.
    """
    changed = None
    ticks = lots = 0
    for event in output.events:
        if type(event) is PhaseChanged:
            changed = event
            ticks, lots = event.auction_ticks or ticks, event.auction_lots or lots
    if changed is None:
        return None
    return Phase(output.seq, output.ts_us, changed.phase, changed.reason, ticks, lots)
