"""Books of one subscriber to market data over FIX: W and X applied to nothing else. Pure.

A message that does not fit what was told before raises BookBroken: the subscriber has been told
something that is not so, or not all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import NamedTuple

from engine.enums import Side
from gateway.fix_message import split_fields
from gateway.fix_tags import MARKET_DATA_INCREMENTAL_REFRESH

_TRADE = "2"
_NEW, _DELETE = "0", "2"
_SIDES = {"0": Side.BUY, "1": Side.SELL}
_FIRST_TAGS = {True: b"279", False: b"269"}

Entry = Mapping[str, str]
"""Fields of one entry (268), by tag."""
Row = tuple[str, ...]
"""Of a level: price, quantity, number of orders. Of an order: OrderID, price, quantity."""


class BookBroken(Exception):
    """A message does not fit what was told before; the text says how."""


class Subscription(NamedTuple):
    """What is asked for: MDReqID's beginning, MarketDepth (264), and 265 and 266."""

    name: str
    depth: int
    incremental: bool
    by_order: bool

    def request(self, req_id: str, symbols: Sequence[str]) -> bytes:
        """Return the body of a MarketDataRequest (35=V) for bids, offers and trades."""
        related = "".join(f"55={symbol}\x01" for symbol in symbols)
        return (
            f"262={req_id}\x01263=1\x01264={self.depth}\x01265={int(self.incremental)}\x01"
            f"266={'N' if self.by_order else 'Y'}\x01267=3\x01269=0\x01269=1\x01269=2\x01"
            f"146={len(symbols)}\x01{related}"
        ).encode()


class WatchedBook:
    """One symbol as one subscription tells it.

    Attributes:
        is_known: whether its snapshot has come.
    """

    def __init__(self) -> None:
        self.is_known = False
        self._rows: dict[Side, dict[str, tuple[str, Row]]] = {Side.BUY: {}, Side.SELL: {}}
        self._last_trade = (0, 0)

    def apply(self, msg_type: bytes, entries: Sequence[Entry]) -> None:
        """Take the entries of a message.

        Raises:
            BookBroken: they do not fit.
        """
        is_refresh = msg_type == MARKET_DATA_INCREMENTAL_REFRESH
        if is_refresh and not self.is_known:
            raise BookBroken("a refresh before the snapshot")
        if not is_refresh:
            self.is_known = True
            self._rows = {Side.BUY: {}, Side.SELL: {}}
        for entry in entries:
            if entry["269"] == _TRADE:
                self._take_trade(entry, is_refresh=is_refresh)
            else:
                self._take(entry, entry.get("279", _NEW))

    def rows(self, side: Side) -> list[Row]:
        """Return a side's levels or orders, best first, at a price first in priority first."""
        of_side = self._rows[side].values()
        by_price = sorted(of_side, key=lambda one: Decimal(one[0]), reverse=side is Side.BUY)
        return [row for _, row in by_price]

    def _take(self, entry: Entry, action: str) -> None:
        rows = self._rows[_SIDES[entry["269"]]]
        order_id = entry.get("278") or entry.get("37")
        name = order_id or entry["270"]
        if (name in rows) != (action != _NEW):
            raise BookBroken(f"action {action} on {rows.get(name)}: {entry}")
        if action == _DELETE:
            del rows[name]
        elif order_id:
            rows[name] = entry["270"], (order_id, entry["270"], entry["271"])
        else:
            rows[name] = entry["270"], (entry["270"], entry["271"], entry["346"])

    def _take_trade(self, entry: Entry, *, is_refresh: bool) -> None:
        _, seq, number = (entry.get("278") or entry["299"]).rsplit("-", 2)
        trade = int(seq), int(number)
        if trade < self._last_trade or (is_refresh and trade == self._last_trade):
            raise BookBroken(f"a trade after {self._last_trade}: {entry}")
        self._last_trade = trade


def read_entries(raw: bytes, *, is_refresh: bool) -> list[dict[str, str]]:
    """Return the entries (268) of a W or X.

    Raises:
        BookBroken: there are not as many as it says.
    """
    first, count = _FIRST_TAGS[is_refresh], -1
    entries: list[dict[str, str]] = []
    for tag, value in split_fields(raw):
        text = (value or b"").decode()
        if tag == b"268":
            count = int(text)
        elif count >= 0 and tag == first:
            entries.append({tag.decode(): text})
        elif count >= 0:
            entries[-1][tag.decode()] = text
    if len(entries) != count:
        raise BookBroken(f"{len(entries)} entries, {count} said: {raw!r}")
    return entries
