"""One input while it is being applied: its events, its balance changes, its open orders. Pure.

What an input does to the balances of an account is a list of six amounts, in the smallest unit of
their asset: available, pending and held of the base asset, then of the quote asset. `BASE` and
`QUOTE` are where each asset begins, `AVAILABLE`, `PENDING` and `HELD` what follows from there.
"""

from __future__ import annotations

from typing import Final

import msgspec

from engine.events import BalanceChange, Event
from engine.open_order import OpenOrder

BASE: Final = 0
QUOTE: Final = 3
AVAILABLE: Final = 0
PENDING: Final = 1
HELD: Final = 2


class OpenUpdate(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What becomes of one entry of an account's open orders.

    `value` is the text that `router.keys` describes; None takes the entry away.
    """

    account: int
    cl_ord_id: str
    value: str | None


class Turn:
    """Collects what one input does; a new one for each.

    Attributes:
        seq: Of the input.
        ts_us: Its stamp, µs since 1970 UTC.
        events: In order; an event's index is its place here.
        trade_count: Trades so far; the next trade's number.
        touched: Orders, by seq, whose entry among the open orders may have to be written or taken
            away.
    """

    __slots__ = ("_moves", "_renamed", "events", "seq", "touched", "trade_count", "ts_us")

    def __init__(self, seq: int, ts_us: int = 0) -> None:
        self.seq = seq
        self.ts_us = ts_us
        self.events: list[Event] = []
        self.trade_count = 0
        self.touched: dict[int, OpenOrder] = {}
        self._moves: dict[int, list[int]] = {}
        self._renamed: dict[int, OpenUpdate] = {}

    def moves(self, account: int) -> list[int]:
        """Return the six amounts of an account, to be added to."""
        amounts = self._moves.get(account)
        if amounts is None:
            amounts = self._moves[account] = [0, 0, 0, 0, 0, 0]
        return amounts

    def rename(self, order: OpenOrder) -> None:
        """Note that an order is about to lose its ClOrdID, and its entry with it."""
        self._renamed[order.order_id] = OpenUpdate(order.owner, order.cl_ord_id, None)
        self.touched[order.order_id] = order

    def changes(self, base: str, quote: str) -> list[BalanceChange]:
        """Return the balance changes, sorted by account and asset, without empty ones.

        Args:
            base: Name of the base asset.
            quote: Name of the quote asset.

        Raises:
            AssertionError: Money appears or vanishes.
        """
        result: list[BalanceChange] = []
        base_made = quote_made = 0
        moves = self._moves
        for account in sorted(moves) if len(moves) > 1 else moves:
            b_free, b_pending, b_held, q_free, q_pending, q_held = moves[account]
            base_made += b_free + b_pending + b_held
            quote_made += q_free + q_pending + q_held
            if b_free or b_pending or b_held:
                result.append(BalanceChange(account, base, b_free, b_pending, b_held))
            if q_free or q_pending or q_held:
                result.append(BalanceChange(account, quote, q_free, q_pending, q_held))
                if quote < base and len(result) > 1 and result[-2].account == account:
                    result[-2:] = result[:-3:-1]
        assert not base_made, f"Invariant: {base} only moves, made {base_made} (seq {self.seq})"
        assert not quote_made, f"Invariant: {quote} only moves, made {quote_made} (seq {self.seq})"
        return result

    def opens(self) -> list[OpenUpdate]:
        """Return the changed entries of open orders: those given up first, then in order of touch.

        A ClOrdID that came and went in this input never had an entry.
        """
        updates = list(self._renamed.values()) if self._renamed else []
        for order_seq, order in self.touched.items():
            if order.leaves_qty_lots:
                updates.append(OpenUpdate(order.owner, order.cl_ord_id, order.text()))
            elif order_seq != self.seq and order_seq not in self._renamed:
                updates.append(OpenUpdate(order.owner, order.cl_ord_id, None))
        return updates
