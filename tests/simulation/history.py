"""The streams of a world once more, applied without any fault: what everything must equal."""

from __future__ import annotations

from typing import NamedTuple

from engine.book_naive import NaiveBook
from engine.commands import Command, NewOrder, ReplaceOrder, decode_command
from engine.events import (
    OrderAccepted,
    OrderCanceled,
    OrderFilled,
    OrderReplaced,
    Output,
    decode_output,
)
from engine.settlement import encode_settlement
from engine.shard import Shard

Entries = list[tuple[int, list[bytes]]]


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
        for account, data in settlement.reports:
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
    priority, exactly. Each order ends once, or rests.

    Attributes:
        book: as the events leave it.
        wrong: what contradicts it.
    """

    def __init__(self) -> None:
        self.book = NaiveBook()
        self.wrong: list[str] = []
        self._done: dict[int, None] = {}
        self._accepted: dict[int, None] = {}

    def apply(self, output: Output) -> None:
        """Take one output."""
        incoming: OrderAccepted | OrderReplaced | None = None
        leaves = 0
        for event in output.events:
            if isinstance(event, OrderAccepted | OrderReplaced):
                self._begin(event)
                if isinstance(event, OrderAccepted) or not event.kept_priority:
                    incoming, leaves = event, event.leaves_lots
            elif isinstance(event, OrderFilled | OrderCanceled):
                is_incoming = incoming is not None and event.order_seq == incoming.order_seq
                leaves = event.leaves_lots if is_incoming else leaves
                self._take(event, is_incoming)
        if incoming is not None and leaves:
            fills = self.book.new_limit(
                incoming.order_seq, incoming.side, incoming.price_ticks, leaves
            )
            if fills:
                self.wrong.append(f"rests, but would trade with {fills}: {incoming}")

    def check_rest(self) -> None:
        """Note orders that neither rest nor ended."""
        resting = {entry[2] for entry in self.book.content()}
        for order_seq in self._accepted:
            if (order_seq in resting) == (order_seq in self._done):
                self.wrong.append(f"order {order_seq} neither rests nor ended, or both")

    def _begin(self, event: OrderAccepted | OrderReplaced) -> None:
        if isinstance(event, OrderAccepted):
            self._accepted[event.order_seq] = None
            return
        resting = self.book.find(event.order_seq)
        if resting is None:
            self.wrong.append(f"replaced, but does not rest: {event}")
        elif not event.kept_priority:
            self.book.cancel(event.order_seq)
        elif event.leaves_lots < resting.leaves_qty_lots:
            self.book.reduce(event.order_seq, resting.leaves_qty_lots - event.leaves_lots)

    def _take(self, event: OrderFilled | OrderCanceled, is_incoming: bool) -> None:
        if isinstance(event, OrderFilled):
            if not is_incoming:
                self._fill(event)
        elif not is_incoming and self.book.cancel(event.order_seq) is None:
            self.wrong.append(f"canceled, but does not rest: {event}")
        if not event.leaves_lots:
            if event.order_seq in self._done:
                self.wrong.append(f"ended twice: {event}")
            self._done[event.order_seq] = None

    def _fill(self, event: OrderFilled) -> None:
        first = next((one for one in self.book.content() if one[0] == event.side), None)
        if first is None or first[1:3] != (event.last_price_ticks, event.order_seq):
            self.wrong.append(f"filled, but {first} was first: {event}")
        elif event.leaves_lots:
            self.book.reduce(event.order_seq, event.last_qty_lots)
        else:
            self.book.cancel(event.order_seq)
