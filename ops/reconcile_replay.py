"""What inputs have brought: recomputed by a shard of our own, or told by published outputs. Pure.

`Replay` applies commands: from the first entries of the streams on, or behind snapshots. Nothing
else is taken for granted then. `Behind` adds what outputs say to what PostgreSQL has; it needs no
book, and no more outputs than PostgreSQL lacks.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from decimal import Decimal

from engine.commands import Command, decode_command
from engine.events import (
    BalanceChange,
    OrderAccepted,
    OrderCanceled,
    OrderFilled,
    OrderReplaced,
    Output,
)
from engine.shard import Applied, Shard, SymbolState
from ops.reconcile import Opens, Owner, expected_balances
from router import keys


class Holdings:
    """What inputs have given and taken, added up.

    Attributes:
        owned: (account, asset) → [available with what is pending, held].
        opens: account → field → text of its open orders.
    """

    def __init__(self) -> None:
        self.owned: dict[Owner, list[int]] = defaultdict(_nothing)
        self.opens: dict[int, dict[str, str]] = defaultdict(dict)

    def add(self, symbol: str, applied: Applied) -> None:
        """Add what one input of a symbol did."""
        add_changes(self.owned, applied.output.changes)
        for update in applied.opens:
            name, opens = keys.open_field(symbol, update.cl_ord_id), self.opens[update.account]
            if update.value is None:
                opens.pop(name, None)
            else:
                opens[name] = update.value


class Replay(Holdings):
    """What a shard of our own makes of commands.

    Args:
        skips: symbol → seq → reason of the inputs to pass over.

    Attributes:
        shard: all symbols.
    """

    def __init__(self, skips: Mapping[str, Mapping[int, str]] | None = None) -> None:
        super().__init__()
        self.shard = Shard()
        self._skips = skips or {}

    def apply(self, symbol: str, seq: int, ts_us: int, command: Command) -> Applied:
        """Apply the next input of a symbol and return what it does.

        Raises:
            SequenceGap, AssertionError: see ``Shard.apply``.
        """
        applied = self.shard.apply(symbol, seq, ts_us, command)
        self.add(symbol, applied)
        return applied

    def apply_entry(self, symbol: str, seq: int, ts_us: int, payload: bytes) -> Applied:
        """Apply the next input of a symbol as it stands in its stream, or pass over it.

        Raises:
            SequenceGap, AssertionError: see ``Shard.apply``.
            DecodeError: it is no command, and is not to be passed over.
        """
        reason = self._skips.get(symbol, {}).get(seq)
        if reason is None:
            return self.apply(symbol, seq, ts_us, decode_command(payload))
        applied = self.shard.skip(symbol, seq, ts_us, payload, reason)
        self.add(symbol, applied)
        return applied

    def restore(self, symbol: str, state: SymbolState) -> None:
        """Go on with a symbol from a state of its own.

        Raises:
            AssertionError: book, orders and holds of the state do not agree.
        """
        state.matcher.check_invariants()
        self.shard.restore_symbol(symbol, state)
        for account, orders in state.matcher.accounts.items():
            for order in orders.open.values():
                self.opens[account][keys.open_field(symbol, order.cl_ord_id)] = order.text()

    def best_prices(self, symbol: str) -> str:
        """Return the text of a symbol's best prices, as the hash of them must have it."""
        book = self.shard.matcher(symbol).book
        return f"{book.best_bid() or 0} {book.best_ask() or 0} {self.shard.position(symbol)}"


class Behind:
    """What published outputs say that inputs have done, without applying any.

    Attributes:
        owned: as in ``Holdings``.
    """

    def __init__(self) -> None:
        self.owned: dict[Owner, list[int]] = defaultdict(_nothing)
        # The last word about each order that was touched; None = it is not open any more.
        self._opens: dict[tuple[int, str], str | None] = {}

    def add(self, output: Output) -> None:
        """Add what one input did."""
        add_changes(self.owned, output.changes)
        for event in output.events:
            if isinstance(event, OrderAccepted | OrderFilled | OrderCanceled | OrderReplaced):
                self._note(output.symbol, event)

    def opens(self, stored: Opens) -> dict[int, dict[str, str]]:
        """Return the open orders that PostgreSQL had, as they stand now; without holds."""
        now = {account: dict(of) for account, of in stored.items()}
        for (account, name), text in self._opens.items():
            of = now.setdefault(account, {})
            if text is None:
                of.pop(name, None)
            else:
                of[name] = text
        return now

    def balances(
        self,
        stored: Mapping[Owner, tuple[Decimal, Decimal]],
        transfers: Mapping[Owner, int],
    ) -> dict[Owner, tuple[Decimal, Decimal]]:
        """Return available (with what is pending) and held that PostgreSQL had, as they are now.

        Args:
            transfers: what came in behind PostgreSQL's position, by account and asset.
        """
        now = dict(stored)
        for name, (available, held) in expected_balances(self.owned, transfers).items():
            had = stored.get(name, (Decimal(0), Decimal(0)))
            now[name] = had[0] + available, had[1] + held
        return now

    def _note(
        self, symbol: str, event: OrderAccepted | OrderFilled | OrderCanceled | OrderReplaced
    ) -> None:
        cl_ord_id = event.cl_ord_id
        if isinstance(event, OrderReplaced):
            self._opens[event.account, keys.open_field(symbol, event.orig_cl_ord_id)] = None
        elif isinstance(event, OrderCanceled) and event.orig_cl_ord_id:
            # The event names the cancel request's ClOrdID; the order has its own.
            cl_ord_id = event.orig_cl_ord_id
        text = None
        if event.leaves_lots:
            numbers = (event.side, event.price_ticks, event.leaves_lots, event.cum_lots)
            text = " ".join(map(str, map(int, (event.order_seq, *numbers))))
        self._opens[event.account, keys.open_field(symbol, cl_ord_id)] = text


def _nothing() -> list[int]:
    return [0, 0]


def add_changes(owned: dict[Owner, list[int]], changes: Iterable[BalanceChange]) -> None:
    """Add balance changes to sums by account and asset; available contains what is pending."""
    for change in changes:
        amounts = owned[change.account, change.asset]
        amounts[0] += change.available + change.pending
        amounts[1] += change.held
