"""What one output means to the public: the entries of market data's ring. Pure.

An ``Update`` is made once per output by ``feed.SymbolFeed``; the publisher renders it as
messages, the board keeps what it changes. Everything in it is absolute (a level's new total, not
a difference), so it may be applied twice.
"""

from __future__ import annotations

import msgspec

from engine.enums import PhaseReason, TradingPhase
from engine.events import SymbolDefined
from engine.order_replica import BookOrder
from engine.price_levels import Bbo, LevelChange
from engine.trades import Trade


class Phase(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The trading phase of a symbol, and the input (``seq``, ``ts_us``) since which it holds.

    ``auction_ticks``, ``auction_lots``: price and volume of the auction that it came with; 0: none.
    """

    seq: int
    ts_us: int
    phase: TradingPhase
    reason: PhaseReason
    auction_ticks: int
    auction_lots: int


FIRST_PHASE = Phase(0, 0, TradingPhase.CONTINUOUS, PhaseReason.OPERATOR, 0, 0)
"""Of a symbol whose phase has never changed."""


class ChannelSeqs(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Seq of the last message of each channel; 0 before the first."""

    trades: int
    bbo: int
    depth: int
    status: int


NO_MESSAGES = ChannelSeqs(0, 0, 0, 0)


class Update(msgspec.Struct, frozen=True, gc=False):
    """What one output changes in public.

    ``bbo`` is None where the best price and size of both sides are as before. ``defined`` is set
    where the output defines the symbol or changes its rules, ``phase`` where it changes the trading
    phase (the last one, where it does so twice). ``orders``: those displayed, see
    ``engine/order_replica.py``. ``before`` and ``after`` are the channels' last seqs before and
    after this update; a channel has a message of this update where they differ.
    """

    symbol: str
    seq: int
    ts_us: int
    trades: list[Trade]
    bids: list[LevelChange]
    asks: list[LevelChange]
    orders: list[BookOrder]
    bbo: Bbo | None
    defined: SymbolDefined | None
    phase: Phase | None
    before: ChannelSeqs
    after: ChannelSeqs
