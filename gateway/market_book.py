"""MarketBook: one symbol's displayed book and trades, and the messages made of them. Pure.

Theory. A subscription is never sent what happened, but the difference between what it was sent last
and what is: a ``Mark`` is all levels (or orders) of a kind of subscription at one moment, and the
difference of two marks is an incremental refresh, whatever lies between them. So a reader that is
skipped for a while is conflated by that alone. Subscriptions that were last sent at the same moment
share their mark, and with it the bodies, which are made once: only MDReqID differs, and stands in
front. Trades are counted; those since the last message are told one by one, as long as they are
kept. Where they are not, a whole snapshot says how many were omitted.

Outputs are only noted when they come, and applied when it is time to send: nothing changes while a
round of messages goes out.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Final

from engine.enums import Side
from engine.events import OutputEvents, SymbolDefined
from engine.instrument import SymbolRules
from engine.order_replica import BookOrder, OrderReplica
from engine.price_levels import LevelChange
from engine.trades import Trade, trades_of
from gateway.fix_message import SharedFields
from gateway.fix_tags import MARKET_DATA_INCREMENTAL_REFRESH, MARKET_DATA_SNAPSHOT
from gateway.fix_time import UtcTimestampWriter
from gateway.market_requests import Kind
from gateway.symbol_texts import SymbolTexts
from router.market_state import OrdersSnapshot

ORDERS_MAX: Final = 5_000
"""Orders of a side that an order-by-order subscription has at most: the best ones."""

TRADES_KEPT_MAX: Final = 1_000
"""Trades kept for subscriptions; with more between two messages they are counted, not told."""

ENTRIES_PER_MESSAGE_MAX: Final = 500
"""Entries of one incremental refresh, some 40 kB; what is more goes into the next message."""

NEVER, UNKNOWN = -1, -2
"""Trades that a subscription was told: it is new; or nobody knows how many it missed."""

_ENTRY_TYPES: Final = {Side.BUY: b"0", Side.SELL: b"1"}
_NEW, _CHANGE, _DELETE = b"0", b"1", b"2"
_TAKERS: Final = {Side.BUY: b"buy", Side.SELL: b"sell", None: b"auction"}
_NS_PER_US: Final = 1_000

Entry = LevelChange | BookOrder
SideView = dict[int, Entry]
"""Levels by price, or orders by number; best first."""
Update = tuple[bytes, SharedFields]
"""MsgType, and what stands behind MDReqID (262)."""


class Mark:
    """What a kind of subscription shows at one moment; compared by identity.

    Attributes:
        sides: per side that is shown.
        texts: of the rules then in force.
    """

    __slots__ = ("sides", "texts")

    def __init__(self, sides: dict[Side, SideView], texts: SymbolTexts) -> None:
        self.sides = sides
        self.texts = texts


class MarketBook:
    """See the head of this file.

    Args:
        snapshot: where it begins.

    Attributes:
        symbol: its name.
        seq: the last input that was noted.
        trade_count: trades applied so far; a subscription remembers it.
    """

    __slots__ = (
        *("_bodies", "_last_trade", "_marks", "_noted", "_replica", "_times", "_trades"),
        *("_views", "seq", "symbol", "texts", "trade_count"),
    )

    def __init__(self, snapshot: OrdersSnapshot) -> None:
        self.symbol = snapshot.symbol
        self.seq = snapshot.seq
        self.texts = SymbolTexts(snapshot.defined.rules)
        self.trade_count = 0
        self._replica = OrderReplica(snapshot.orders)
        self._last_trade = snapshot.last_trade
        self._trades: deque[Trade] = deque(maxlen=TRADES_KEPT_MAX)
        self._noted: deque[OutputEvents] = deque()
        self._times = UtcTimestampWriter()
        # Made when first wanted, and forgotten when they do not hold any more.
        self._views: dict[tuple[Side, bool, int], SideView] = {}
        self._marks: dict[tuple[bool, int, tuple[Side, ...]], Mark] = {}
        self._bodies: dict[tuple[Kind, Mark | None, int], list[Update]] = {}

    @property
    def noted(self) -> int:
        """Return how many outputs wait to be applied."""
        return len(self._noted)

    def note(self, outputs: Sequence[OutputEvents]) -> None:
        """Take the next outputs; they are applied later."""
        self._noted.extend(outputs)
        if outputs:
            self.seq = outputs[-1].seq

    def apply(self, count: int) -> None:
        """Apply up to ``count`` noted outputs.

        Raises:
            AssertionError, KeyError: they do not continue this book.
        """
        noted = self._noted
        for _ in range(min(count, len(noted))):
            self._apply(noted.popleft())

    def mark(self, kind: Kind) -> Mark:
        """Return what a kind of subscription shows now; the same object until that changes."""
        key = kind.by_order, kind.depth, kind.sides
        found = self._marks.get(key)
        if found is None:
            sides = {side: self._view(side, kind.by_order, kind.depth) for side in kind.sides}
            found = self._marks[key] = Mark(sides, self.texts)
        return found

    def bodies(self, kind: Kind, mark: Mark | None, told: int) -> list[Update]:
        """Return the messages that bring a subscription up to date; often none.

        Args:
            kind: of the subscription.
            mark: what it was sent last; None where it must be sent a whole snapshot.
            told: ``trade_count`` then, or ``NEVER`` or ``UNKNOWN``.
        """
        key = kind, mark, told if kind.trades else 0
        found = self._bodies.get(key)
        if found is None:
            found = self._bodies[key] = self._render(kind, mark, told)
        return found

    # ------------------------------------------------------------ the book

    def _apply(self, output: OutputEvents) -> None:
        events = output.events
        if events and type(events[0]) is SymbolDefined:
            self._define(events[0].rules)
        changes = self._replica.apply(events)
        bids, asks = changes.bids, changes.asks
        trades = trades_of(output) if len(events) > 1 else ()
        if trades:
            self._trades.extend(trades)
            self.trade_count += len(trades)
            self._last_trade = self._trades[-1]
        if bids:
            self._forget(Side.BUY)
        if asks:
            self._forget(Side.SELL)
        if trades or bids or asks:
            self._bodies.clear()

    def _define(self, rules: SymbolRules) -> None:
        old, self.texts = self.texts.rules, SymbolTexts(rules)
        if (old.tick_size, old.lot_size) != (rules.tick_size, rules.lot_size):
            # Their ticks and lots would be read on the new grid; the book is empty.
            self._trades.clear()
            self._last_trade = None
        self._marks.clear()
        self._bodies.clear()

    def _forget(self, side: Side) -> None:
        if self._views:
            self._views = {key: view for key, view in self._views.items() if key[0] is not side}
        if self._marks:
            self._marks = {key: mark for key, mark in self._marks.items() if side not in key[2]}

    def _view(self, side: Side, by_order: bool, depth: int) -> SideView:
        found = self._views.get((side, by_order, depth))
        if found is not None:
            return found
        levels = (self._replica.bids if side is Side.BUY else self._replica.asks).top(depth)
        view: SideView = {}
        if by_order:
            for level in levels:
                for order in self._replica.queue(side, level.price_ticks):
                    if len(view) < ORDERS_MAX:
                        view[order.order_seq] = order
        else:
            view.update((level.price_ticks, level) for level in levels)
        self._views[side, by_order, depth] = view
        return view

    # ------------------------------------------------------------ messages

    def _render(self, kind: Kind, mark: Mark | None, told: int) -> list[Update]:
        now = self.mark(kind)
        trades, note = self._trades_since(told) if kind.trades else ([], b"")
        same = mark is now and not trades
        if mark is None or note or mark.texts is not self.texts or (kind.whole and not same):
            snapshot = self._snapshot(now, trades, note)
            return [(MARKET_DATA_SNAPSHOT, SharedFields.of(snapshot))]
        entries: list[bytes] = []
        for side in kind.sides:
            if mark.sides[side] is not now.sides[side]:
                entries += self._changes(side, mark.sides[side], now.sides[side])
        name = self.texts.name
        for trade in trades:
            identity = b"%b-%d-%d" % (name, trade.seq, trade.trade)
            entries.append(
                b"279=0\x01269=2\x01278=%b\x0155=%b\x01%b\x01"
                % (identity, name, self._trade(trade, b"", b""))
            )
        return [
            (
                MARKET_DATA_INCREMENTAL_REFRESH,
                SharedFields.of(b"268=%d\x01%b" % (len(part), b"".join(part))),
            )
            for part in _parts(entries)
        ]

    def _trades_since(self, told: int) -> tuple[list[Trade], bytes]:
        """Return the trades to tell, and what to say of those that are not."""
        last = [] if self._last_trade is None else [self._last_trade]
        if told == NEVER:
            return last, b""
        if told == UNKNOWN:
            return last, b"trades may have been omitted" if last else b""
        missed = self.trade_count - told
        if not missed:
            return [], b""
        if missed > len(self._trades):
            return last, b"%d trades omitted" % (missed - len(last))
        return list(self._trades)[-missed:], b""

    def _snapshot(self, mark: Mark, trades: Sequence[Trade], note: bytes) -> bytes:
        texts = self.texts
        entries = [
            b"269=%b\x01%b" % (_ENTRY_TYPES[side], self._whole(entry))
            for side, view in mark.sides.items()
            for entry in view.values()
        ]
        for trade in trades:
            identity = b"299=%b-%d-%d\x01" % (texts.name, trade.seq, trade.trade)
            entries.append(b"269=2\x01%b\x01" % self._trade(trade, identity, note))
        return b"55=%b\x01268=%d\x01%b" % (texts.name, len(entries), b"".join(entries))

    def _whole(self, entry: Entry) -> bytes:
        """Return an entry of a snapshot behind its MDEntryType."""
        texts = self.texts
        price, lots = texts.prices.text(entry.price_ticks), texts.quantities.text(entry.qty_lots)
        if isinstance(entry, BookOrder):
            return b"270=%b\x01271=%b\x0137=%b-%d\x01" % (
                price,
                lots,
                texts.name,
                entry.order_seq,
            )
        return b"270=%b\x01271=%b\x01346=%d\x01" % (price, lots, entry.orders)

    def _trade(self, trade: Trade, identity: bytes, note: bytes) -> bytes:
        """Return a trade from its price on, without the last SOH."""
        texts = self.texts
        date, _, time = self._times.write(trade.ts_us * _NS_PER_US).partition(b"-")
        return b"270=%b\x01271=%b\x01272=%b\x01273=%b\x01%b%b58=%b" % (
            texts.prices.text(trade.price_ticks),
            texts.quantities.text(trade.qty_lots),
            date,
            time,
            b"277=E\x01" if trade.aggressor is None else b"",
            identity,
            note or _TAKERS[trade.aggressor],
        )

    def _changes(self, side: Side, before: SideView, now: SideView) -> Iterator[bytes]:
        """Yield what turns one view of a side into another: deletes, changes, then new ones.

        An order that has lost its place goes and comes again; new ones come in their priority.
        """
        entry_type = _ENTRY_TYPES[side]
        changed: list[Entry] = []
        added: list[Entry] = []
        for key, old in before.items():
            if key not in now:
                yield self._entry(_DELETE, entry_type, old)
        for key, entry in now.items():
            old_entry = before.get(key)
            if old_entry is None:
                added.append(entry)
            elif old_entry is not entry and old_entry != entry:
                if _keeps_place(old_entry, entry):
                    changed.append(entry)
                else:
                    yield self._entry(_DELETE, entry_type, old_entry)
                    added.append(entry)
        for entry in changed:
            yield self._entry(_CHANGE, entry_type, entry)
        for entry in added:
            yield self._entry(_NEW, entry_type, entry)

    def _entry(self, action: bytes, entry_type: bytes, entry: Entry) -> bytes:
        """Return an entry of an incremental refresh."""
        texts = self.texts
        identity = count = b""
        if isinstance(entry, BookOrder):
            identity = b"278=%b-%d\x01" % (texts.name, entry.order_seq)
        elif action != _DELETE:
            count = b"346=%d\x01" % entry.orders
        price = texts.prices.text(entry.price_ticks)
        head = (action, entry_type, identity, texts.name, price)
        if action == _DELETE:
            return b"279=%b\x01269=%b\x01%b55=%b\x01270=%b\x01" % head
        lots = texts.quantities.text(entry.qty_lots)
        return b"279=%b\x01269=%b\x01%b55=%b\x01270=%b\x01271=%b\x01%b" % (*head, lots, count)


def _keeps_place(old: Entry, new: Entry) -> bool:
    return not isinstance(old, BookOrder) or (isinstance(new, BookOrder) and old.place == new.place)


def _parts(entries: list[bytes]) -> Iterator[list[bytes]]:
    for start in range(0, len(entries), ENTRIES_PER_MESSAGE_MAX):
        yield entries[start : start + ENTRIES_PER_MESSAGE_MAX]
