"""What one output means to the public: the entries of market data's ring. Pure.

An ``Update`` is made once per output by ``feed.SymbolFeed``; the publisher renders it as
messages, the board keeps what it changes. Everything in it is absolute (a level's new total, not
a difference), so it may be applied twice.
"""

from __future__ import annotations

import msgspec

from engine.enums import Side
from engine.events import SymbolDefined


class LevelChange(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A price level as it stands now; 0 lots and 0 orders: it is gone."""

    price_ticks: int
    qty_lots: int
    orders: int


class Trade(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One trade. ``seq`` and ``trade`` make its id; ``aggressor`` is the side that took."""

    seq: int
    trade: int
    ts_us: int
    price_ticks: int
    qty_lots: int
    aggressor: Side


class Bbo(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Best bid and offer; price and quantity 0 on a side that is empty."""

    bid_ticks: int
    bid_lots: int
    ask_ticks: int
    ask_lots: int


NO_BBO = Bbo(0, 0, 0, 0)


class ChannelSeqs(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Seq of the last message of each channel; 0 before the first."""

    trades: int
    bbo: int
    depth: int


NO_MESSAGES = ChannelSeqs(0, 0, 0)


class Update(msgspec.Struct, frozen=True, gc=False):
    """What one output changes in public.

    ``bbo`` is None where the best price and size of both sides are as before. ``defined`` is set
    where the output defines the symbol or changes its rules. ``before`` and ``after`` are the
    channels' last seqs before and after this update; a channel has a message of this update where
    they differ.
    """

    symbol: str
    seq: int
    ts_us: int
    trades: list[Trade]
    bids: list[LevelChange]
    asks: list[LevelChange]
    bbo: Bbo | None
    defined: SymbolDefined | None
    before: ChannelSeqs
    after: ChannelSeqs
