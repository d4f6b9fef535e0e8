"""SymbolFeed: the outputs of one symbol, in order, become numbered updates. Pure.

Numbering: a message of a channel carries the ``seq`` of the input that caused it, and as
    ``prev_seq`` the seq of the channel's message before it. Both derive from the stream alone, so
    a feed that starts again from a checkpoint makes the very same messages, and a subscriber
    knows a repeated one by its seq.
"""

from __future__ import annotations

from typing import Final

import msgspec

from engine.enums import Liquidity
from engine.errors import SequenceGap
from engine.events import Event, OrderFilled, OutputEvents, SymbolDefined
from marketdata.depth import DepthBook
from marketdata.errors import StateMismatch
from marketdata.updates import NO_BBO, NO_MESSAGES, Bbo, ChannelSeqs, LevelChange, Trade, Update

_TAKER: Final = Liquidity.TAKER


class Checkpoint(msgspec.Struct, frozen=True, array_like=True):
    """All that a feed and a board need to go on behind input ``seq``; candles are kept beside it.

    ``defined`` is None while the symbol has no output yet.
    """

    symbol: str
    seq: int
    ts_us: int
    defined: SymbolDefined | None
    bids: list[LevelChange]
    asks: list[LevelChange]
    last: ChannelSeqs
    trades: list[Trade]

    @classmethod
    def empty(cls, symbol: str) -> Checkpoint:
        """Return the checkpoint before the first input."""
        return cls(symbol, 0, 0, None, [], [], NO_MESSAGES, [])


class SymbolFeed:
    """The depth book of one symbol and the numbers of its channels.

    Args:
        checkpoint: where to go on.
    """

    __slots__ = ("_bbo", "_defined", "_last", "book", "seq", "symbol")

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.symbol = checkpoint.symbol
        self.seq = checkpoint.seq
        self.book = DepthBook(checkpoint.bids, checkpoint.asks)
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
        bids, asks = self.book.apply(events)
        trades = _trades(output) if len(events) > 1 else []
        bbo: Bbo | None = self.book.bbo() if bids or asks else self._bbo
        if bbo == self._bbo:
            bbo = None
        else:
            assert bbo is not None, "Invariant: a changed best price is one"
            self._bbo = bbo
        before = self._last
        after = before
        if trades or bbo or bids or asks or defined:
            after = ChannelSeqs(
                seq if trades else before.trades,
                seq if bbo else before.bbo,
                seq if bids or asks or defined else before.depth,
            )
            self._last = after
        self.seq = seq
        return Update(
            self.symbol, seq, output.ts_us, trades, bids, asks, bbo, defined, before, after
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


def _trades(output: OutputEvents) -> list[Trade]:
    return [
        Trade(
            output.seq,
            event.trade,
            output.ts_us,
            event.last_price_ticks,
            event.last_qty_lots,
            event.side,
        )
        for event in output.events
        if type(event) is OrderFilled and event.liquidity is _TAKER
    ]
