"""MarketReplica: what a subscriber of one symbol must do, without any connection. Pure.

Theory. Pub/sub drops messages when a connection breaks or is slow, so a subscriber joins, and
joins again, like this:

1. subscribe; keep what arrives; 2. read the snapshot key until a snapshot is *continued* by what
was kept: in each channel, the first kept message
   behind the snapshot's ``seq`` names a ``prev_seq`` at or below it, and each further one the seq
   before it;
3. from then on, per channel: a message with ``seq`` at or below the last one is a repetition and
is ignored; one whose
   ``prev_seq`` is beyond the last one shows that something is missing: begin again at 2.

Heartbeats obey the same rule, since both of their numbers are the channel's last seq. All levels
are absolute, so nothing depends on how often something is applied, only on missing nothing.

Snapshots of a very deep side hold its best levels only. Then levels worse than the worst given
price are known as far as they have changed since; ``levels`` therefore ends at that price, and
when half of the given levels are used up the replica asks for a new snapshot.
"""

from __future__ import annotations

from collections import deque
from typing import Final, NamedTuple

from engine.enums import Side
from engine.errors import DecodeError
from engine.instrument import DecimalGrid
from engine.price_levels import LevelChange, PriceLevels
from marketdata.feed_codec import (
    BboMessage,
    DepthMessage,
    HeartbeatMessage,
    LevelText,
    Message,
    RulesMessage,
    SnapshotMessage,
    StatusMessage,
    TradesMessage,
    TradeText,
)

KEPT_MESSAGES_MAX: Final = 10_000
"""Messages kept while waiting for a snapshot; beyond it the oldest go: it must be newer then."""

CHANNELS: Final = ("trades", "bbo", "depth", "status")

TAPE_LENGTH: Final = 50
"""Trades that a replica remembers, as many as a snapshot has."""


class BboText(NamedTuple):
    """Best bid and offer as public text; None on an empty side."""

    bid_price: str | None
    bid_qty: str | None
    ask_price: str | None
    ask_qty: str | None


class MarketReplica:
    """The public state of one symbol as a subscriber knows it.

    Attributes:
        seq: input of the newest message or snapshot applied.
        joined: whether the state is complete up to `seq`; otherwise a snapshot is wanted.
        gaps: how often something was found missing after the first join.
        bids, asks: the levels.
        bbo: best bid and offer.
        phase: the trading phase.
        tape: the last trades, oldest first.
    """

    __slots__ = (
        *("_bounds", "_grids", "_incarnation", "_kept", "_last", "_levels_max"),
        *("asks", "bbo", "bids", "gaps", "joined", "phase", "seq", "symbol", "tape"),
    )

    def __init__(self, symbol: str) -> None:
        self.symbol = symbol
        self.seq = 0
        self.joined = False
        self.gaps = 0
        self.bids = PriceLevels(Side.BUY)
        self.asks = PriceLevels(Side.SELL)
        self.phase = ""
        self.bbo = BboText(None, None, None, None)
        self.tape: deque[TradeText] = deque(maxlen=TAPE_LENGTH)
        self._kept: deque[Message] = deque(maxlen=KEPT_MESSAGES_MAX)
        self._last: dict[str, int] = {}
        self._incarnation = ""
        self._grids = (DecimalGrid("1"), DecimalGrid("1"))
        self._levels_max = 0
        # Per side the worst price up to which all levels are known; None: all of them.
        self._bounds: dict[Side, int | None] = {Side.BUY: None, Side.SELL: None}

    def receive(self, message: Message) -> list[Message]:
        """Take a message of this symbol.

        Returns:
            The message if it was applied now; nothing if it is a repetition, a heartbeat, or kept
            until a snapshot has been loaded.

        Raises:
            DecodeError: a price or quantity is off the symbol's grid.
        """
        if not self.joined:
            self._kept.append(message)
            return []
        channel = _channel(message)
        if isinstance(message, HeartbeatMessage) and message.incarnation != self._incarnation:
            self.lose()
            return []
        last = self._last[channel]
        if message.seq <= last:
            return []
        if message.prev_seq > last:
            self.gaps += 1
            self.lose()
            self._kept.append(message)
            return []
        self._last[channel] = message.seq
        self._apply(message)
        return [message]

    def load(self, snapshot: SnapshotMessage) -> list[Message] | None:
        """Take a snapshot, if it is wanted and what has been kept continues it.

        Returns:
            The kept messages that were applied on top of it; None if the snapshot was not taken:
            read the next one.

        Raises:
            DecodeError: a price or quantity is off the snapshot's own grid; nothing is changed.
        """
        if self.joined or not self._continues(snapshot):
            return None
        self._take(snapshot)
        kept = list(self._kept)
        self._kept.clear()
        return [applied for message in kept for applied in self.receive(message)]

    def lose(self) -> None:
        """Forget that the state is complete: the connection broke, or something is missing."""
        self.joined = False
        self._kept.clear()

    def levels(self, side: Side, count: int) -> list[LevelText]:
        """Return up to ``count`` certain levels as (price, quantity, orders), best first."""
        tick, lot = self._grids
        book_side = self._side(side)
        bound = self._bounds[side]
        if bound is not None:
            count = min(count, book_side.count_to(bound))
        return [
            (tick.format(level.price_ticks), lot.format(level.qty_lots), level.orders)
            for level in book_side.top(count)
        ]

    def _continues(self, snapshot: SnapshotMessage) -> bool:
        if snapshot.incarnation == self._incarnation and snapshot.seq < self.seq:
            return False
        last: dict[str, int] = {}
        for message in self._kept:
            channel = _channel(message)
            before = last.get(channel, snapshot.seq)
            if message.seq > before:
                if message.prev_seq > before:
                    return False
                last[channel] = message.seq
        return True

    def _take(self, snapshot: SnapshotMessage) -> None:
        grids = (DecimalGrid(snapshot.tick_size), DecimalGrid(snapshot.lot_size))
        bids = [_parse(level, grids) for level in snapshot.bids]
        asks = [_parse(level, grids) for level in snapshot.asks]
        self._grids = grids
        self.bids, self.asks = PriceLevels(Side.BUY), PriceLevels(Side.SELL)
        for level in bids:
            self.bids.put(level)
        for level in asks:
            self.asks.put(level)
        self.phase = snapshot.phase
        self._levels_max = snapshot.levels_max
        for side, levels in ((Side.BUY, bids), (Side.SELL, asks)):
            cut = not snapshot.complete and len(levels) == snapshot.levels_max
            self._bounds[side] = levels[-1].price_ticks if cut else None
        self._incarnation = snapshot.incarnation
        self.bbo = BboText(
            snapshot.bid_price, snapshot.bid_qty, snapshot.ask_price, snapshot.ask_qty
        )
        self.tape.clear()
        self.tape.extend(snapshot.trades)
        self.seq = snapshot.seq
        self._last = dict.fromkeys(CHANNELS, snapshot.seq)
        self.joined = True

    def _apply(self, message: Message) -> None:
        self.seq = max(self.seq, message.seq)
        if isinstance(message, DepthMessage):
            for level in message.bids:
                self.bids.put(_parse(level, self._grids))
            for level in message.asks:
                self.asks.put(_parse(level, self._grids))
            self._check_bounds()
        elif isinstance(message, BboMessage):
            self.bbo = BboText(
                message.bid_price, message.bid_qty, message.ask_price, message.ask_qty
            )
        elif isinstance(message, TradesMessage):
            self.tape.extend(message.trades)
        elif isinstance(message, StatusMessage):
            self.phase = message.phase
        elif isinstance(message, RulesMessage):
            self._grids = (DecimalGrid(message.tick_size), DecimalGrid(message.lot_size))

    def _check_bounds(self) -> None:
        for side, bound in self._bounds.items():
            if bound is not None and 2 * self._side(side).count_to(bound) < self._levels_max:
                self.lose()

    def _side(self, side: Side) -> PriceLevels:
        return self.bids if side == Side.BUY else self.asks


def _channel(message: Message) -> str:
    if isinstance(message, HeartbeatMessage):
        return message.channel
    if isinstance(message, TradesMessage):
        return "trades"
    if isinstance(message, StatusMessage):
        return "status"
    return "bbo" if isinstance(message, BboMessage) else "depth"


def _parse(level: LevelText, grids: tuple[DecimalGrid, DecimalGrid]) -> LevelChange:
    price, qty, orders = level
    price_ticks, qty_lots = grids[0].parse(price), grids[1].parse(qty)
    if price_ticks is None or qty_lots is None:
        raise DecodeError(f"level {level} is off the grid of {grids[0].step} and {grids[1].step}")
    return LevelChange(price_ticks, qty_lots, orders)
