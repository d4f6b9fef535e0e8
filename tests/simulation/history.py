"""The streams of a world once more, applied without any fault: what everything must equal."""

from __future__ import annotations

from typing import NamedTuple

from engine.book_naive import NaiveBook, NaiveOrder
from engine.commands import Command, NewOrder, OrderConditions, ReplaceOrder, decode_command
from engine.enums import Liquidity, OrdType, Side, TradingPhase
from engine.events import (
    OrderAccepted,
    OrderCanceled,
    OrderFilled,
    OrderRefilled,
    OrderReplaced,
    OrderTriggered,
    Output,
    PhaseChanged,
    decode_output,
)
from engine.settlement import encode_settlement
from engine.shard import Shard

Entries = list[tuple[int, list[bytes]]]

_Incoming = OrderAccepted | OrderReplaced | OrderTriggered
_STOPS = (OrdType.STOP, OrdType.STOP_LIMIT)
_NOBODY = 0
"""No order has this number."""


class Moves(NamedTuple):
    """What a history does to one balance: changes of available, pending, held."""

    available: int
    pending: int
    held: int


class History:
    """One clean run.

    Args:
        streams: symbol → the entries of its orders, all of them.

    Attributes:
        shard: after the last command.
        commands: symbol → seq → command.
        outputs: symbol → encoded outputs.
        moves: (account, asset) → what admission and settlement did together.
        reports: (account, symbol) → encoded Outputs for its outbox, in order.
        opens: (account, symbol, ClOrdID) → text as in ``open:{account}``.
    """

    def __init__(self, streams: dict[str, Entries]) -> None:
        self.shard = Shard()
        self.commands: dict[str, dict[int, Command]] = {}
        self.outputs: dict[str, list[bytes]] = {}
        self.moves: dict[tuple[int, str], Moves] = {}
        self.reports: dict[tuple[int, str], list[bytes]] = {}
        self.opens: dict[tuple[int, str, str], str] = {}
        for symbol, entries in streams.items():
            self.commands[symbol] = {}
            self.outputs[symbol] = []
            for seq, fields in entries:
                self._apply(symbol, seq, fields)

    def _apply(self, symbol: str, seq: int, fields: list[bytes]) -> None:
        command = decode_command(fields[1])
        self.commands[symbol][seq] = command
        applied = self.shard.apply(symbol, seq, int(fields[3]), command)
        settlement = encode_settlement(applied)
        self.outputs[symbol].append(settlement.event)
        for account, data in settlement.reports():
            self.reports.setdefault((account, symbol), []).append(data)
        if isinstance(command, NewOrder | ReplaceOrder) and command.reserved:
            asset = self.shard.matcher(symbol).rules.hold_asset(command.side)
            self._move(command.account, asset, -command.reserved, command.reserved, 0)
        for change in applied.output.changes:
            self._move(change.account, change.asset, change.available, change.pending, change.held)
        for update in applied.opens:
            key = update.account, symbol, update.cl_ord_id
            if update.value is None:
                self.opens.pop(key, None)
            else:
                self.opens[key] = update.value

    def _move(self, account: int, asset: str, available: int, pending: int, held: int) -> None:
        before = self.moves.get((account, asset), Moves(0, 0, 0))
        self.moves[account, asset] = Moves(
            before.available + available, before.pending + pending, before.held + held
        )

    def decoded(self, symbol: str) -> list[Output]:
        """Return a symbol's outputs."""
        return [decode_output(data) for data in self.outputs[symbol]]


class NaiveReplay:
    """One symbol's book by the reference book, driven by events alone.

    Each fill must be of the order that is first in the reference book at that moment: price-time
    priority, exactly; in an auction on both sides. Each order ends once, rests, or is a stop order
    that waits.

    Attributes:
        book: as the events leave it.
        wrong: what contradicts it.
    """

    def __init__(self) -> None:
        self.book = NaiveBook()
        self.wrong: list[str] = []
        self._phase = TradingPhase.CONTINUOUS
        self._incoming: _Incoming | None = None
        self._left = 0
        self._waiting: dict[int, None] = {}
        self._done: dict[int, None] = {}
        self._accepted: dict[int, None] = {}

    def apply(self, output: Output) -> None:
        """Take one output."""
        for event in output.events:
            if isinstance(event, PhaseChanged):
                self._change_phase(event)
            elif isinstance(event, OrderAccepted | OrderReplaced | OrderTriggered):
                self._settle()
                self._begin(event)
            elif isinstance(event, OrderFilled | OrderCanceled):
                self._take(event)
            elif isinstance(event, OrderRefilled):
                self._check_refill(event)
        self._settle()

    def check_rest(self) -> None:
        """Note orders that neither rest nor wait nor ended."""
        resting = {entry[2] for entry in self.book.content()} | self._waiting.keys()
        for order_seq in self._accepted:
            if (order_seq in resting) == (order_seq in self._done):
                self.wrong.append(f"order {order_seq} neither rests nor ended, or both")

    def _change_phase(self, event: PhaseChanged) -> None:
        self._phase = event.phase
        bid, ask = self.book.best_bid(), self.book.best_ask()
        if event.phase is TradingPhase.CONTINUOUS and bid and ask and bid >= ask:
            self.wrong.append(f"opened, but {bid} crosses {ask}: {event}")

    def _begin(self, event: _Incoming) -> None:
        order_seq = event.order_seq
        if isinstance(event, OrderAccepted):
            self._accepted[order_seq] = None
            if event.ord_type in _STOPS:
                self._waiting[order_seq] = None
                return
        elif isinstance(event, OrderTriggered):
            if order_seq not in self._waiting:
                self.wrong.append(f"triggered, but does not wait: {event}")
            self._waiting.pop(order_seq, None)
        elif order_seq in self._waiting or not self._gives_up_place(event):
            return
        self._incoming, self._left = event, event.leaves_lots

    def _gives_up_place(self, event: OrderReplaced) -> bool:
        resting = self.book.find(event.order_seq)
        if resting is None:
            self.wrong.append(f"replaced, but does not rest: {event}")
            return True
        if not event.kept_priority:
            self.book.cancel(event.order_seq)
            return True
        lots = resting.leaves_qty_lots + resting.hidden_lots - event.leaves_lots
        if lots:
            self.book.reduce(event.order_seq, lots)
        return False

    def _take(self, event: OrderFilled | OrderCanceled) -> None:
        incoming = self._incoming
        if incoming is not None and event.order_seq == incoming.order_seq:
            self._left = event.leaves_lots
        elif isinstance(event, OrderFilled):
            self._fill(event)
        elif event.order_seq in self._waiting:
            del self._waiting[event.order_seq]
        elif self.book.cancel(event.order_seq) is None:
            self.wrong.append(f"canceled, but does not rest: {event}")
        if not event.leaves_lots:
            if event.order_seq in self._done:
                self.wrong.append(f"ended twice: {event}")
            self._done[event.order_seq] = None

    def _fill(self, event: OrderFilled) -> None:
        first = next((one for one in self.book.content() if one[0] == event.side), None)
        price_ticks = event.last_price_ticks
        if event.liquidity is Liquidity.AUCTION and first is not None:
            # All at one price, which is not worse than the order's own.
            sign = 1 if event.side == Side.BUY else -1
            price_ticks = first[1] if sign * first[1] >= sign * price_ticks else 0
        if first is None or first[1:3] != (price_ticks, event.order_seq):
            self.wrong.append(f"filled, but {first} was first: {event}")
            return
        other = Side.SELL if event.side == Side.BUY else Side.BUY
        self.book.new_ioc(_NOBODY, other, price_ticks, event.last_qty_lots)
        resting = self.book.find(event.order_seq)
        left = resting.leaves_qty_lots + resting.hidden_lots if resting is not None else 0
        if left != event.leaves_lots:
            self.wrong.append(f"filled, but {left} are left: {event}")

    def _check_refill(self, event: OrderRefilled) -> None:
        # The reference book has shown the next part with the fill of the one before.
        resting = self.book.find(event.order_seq)
        shown = resting.leaves_qty_lots if resting is not None else 0
        if shown != event.displayed_lots:
            self.wrong.append(f"refilled, but {shown} are shown: {event}")

    def _settle(self) -> None:
        """Let what is left of the order that came in, or was triggered, rest."""
        incoming, self._incoming = self._incoming, None
        if incoming is None or not self._left:
            return
        conditions = incoming.conditions or OrderConditions()
        order_seq, side, price_ticks = incoming.order_seq, incoming.side, incoming.price_ticks
        floor_lots = conditions.max_floor_lots or self._left
        if self._phase is TradingPhase.CONTINUOUS:
            fills = self.book.new_limit(order_seq, side, price_ticks, self._left, floor_lots)
            if fills:
                self.wrong.append(f"rests, but would trade with {fills}: {incoming}")
        else:
            order = NaiveOrder(order_seq, side, price_ticks, 0, self._left, floor_lots)
            self.book.rest(order)
