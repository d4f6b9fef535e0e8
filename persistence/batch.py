"""Batches: what stands in one transaction, and when it is written. Pure.

A batch collects outputs and ledger entries until it has rows_max rows or its oldest is age_ns_max
old. While one is written the next fills up; so under load batches grow by themselves, and what a
transaction costs is shared by more rows.

Within a batch, many events of one order become the order's last state, and many changes of one
balance become their sum. Neither shows in the tables: however the streams are cut into batches,
the rows at the end are the same.

The positions of a batch say for each stream from which entry to which it reaches; they are its
checkpoint.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import msgspec

from engine.commands import OrderConditions
from engine.errors import SequenceGap
from engine.events import (
    BalanceChange,
    Event,
    OrderAccepted,
    OrderCanceled,
    OrderFilled,
    OrderRejected,
    OrderReplaced,
    OrderTriggered,
    Output,
    PhaseChanged,
    Skipped,
    SymbolDefined,
)
from engine.ledger_entries import (
    Deposited,
    LedgerEntry,
    PasswordChanged,
    UserCreated,
    UserDisabled,
    Withdrawn,
    field_set,
)
from persistence import rows
from persistence.errors import VenueMismatch
from persistence.rows import OpeningEvent, OrderEvent, SymbolFormat
from persistence.table import Table

LEDGER_STREAM = "ledger"
"""The ledger's name among the streams; symbols are upper case."""

_WITH_CONDITIONS = frozenset({OrderAccepted, OrderReplaced, OrderTriggered})


class _OrderRow(msgspec.Struct, gc=False):
    """One order of a batch: how it began, if that was in this batch, and its last event.

    A batch holds thousands of them, so they are of the kind that the collector does not walk.
    """

    of: SymbolFormat
    opening: OpeningEvent | None
    opening_ts: str
    last: OrderEvent
    last_ts: str


class _ConditionsRow(msgspec.Struct, gc=False):
    """The conditions of one order as the batch leaves them, and when it was triggered in it."""

    of: SymbolFormat
    conditions: OrderConditions
    triggered_ts: str | None


class _UserRow(msgspec.Struct):
    """One user of a batch: its creation, if that was in this batch, and what changed since."""

    created: UserCreated | None
    created_ts: str
    password_hash: str | None = None
    disabled: bool = False


class Batch:
    """The rows and positions of one transaction; append only.

    Args:
        scales: asset → scale, of every asset that may occur; read, and completed by symbols'
        definitions.
    """

    def __init__(self, scales: dict[str, int]) -> None:
        self.positions: dict[str, tuple[int, int]] = {}
        """Stream → (position before, position after)."""
        self.executions: list[bytes] = []
        """Rows of EXECUTIONS, binary."""
        self.entries = 0
        self._scales = scales
        self._ts_us = -1
        self._ts = ""
        self._second = -1
        self._second_text = ""
        self._symbols: dict[str, SymbolDefined] = {}
        self._users: dict[int, _UserRow] = {}
        self._settings: dict[tuple[int, str], str] = {}
        self._transfers: list[str] = []
        self._orders: dict[str, dict[int, _OrderRow]] = {}
        self._orders_touched = 0
        self._trades: list[str] = []
        self._phases: list[str] = []
        self._conditions: dict[tuple[str, int], _ConditionsRow] = {}
        self._balances: dict[tuple[int, str], list[int]] = {}

    @property
    def rows(self) -> int:
        """Return how many rows of the large tables the batch holds."""
        return (
            self._orders_touched + len(self._trades) + len(self.executions) + len(self._transfers)
        )

    def add_output(self, of: SymbolFormat, output: Output) -> None:
        """Add what one input did; `of` is the symbol's format after this output."""
        symbol, seq = output.symbol, output.seq
        ts = self._timestamp(output.ts_us)
        orders = self._orders.setdefault(symbol, {})
        maker: OrderFilled | None = None
        self.executions += of.executions.of_output(output)
        for event in output.events:
            # By type, not isinstance: the events' metaclass makes a miss of isinstance slow.
            if type(event) is OrderFilled:
                if maker is None:
                    maker = event
                else:
                    self._trades.append(rows.trade_line(of, seq, ts, maker, event))
                    maker = None
            elif type(event) is not OrderCanceled:
                changed = self._add_other(of, seq, ts, event)
                if changed is None:
                    continue
                event = changed
            row = orders.get(event.order_seq)
            if row is None:
                orders[event.order_seq] = _OrderRow(of, None, ts, event, ts)
                self._orders_touched += 1
            else:
                row.last = event
                row.last_ts = ts
        self._add_changes(output.changes)
        self._advance(symbol, seq)

    def add_ledger_entry(self, n: int, ts_us: int, entry: LedgerEntry) -> None:
        """Add a user, a change of one, a deposit or a withdrawal.

        Raises:
            VenueMismatch: an amount is in an asset that the venue does not have.
        """
        ts = self._timestamp(ts_us)
        match entry:
            case UserCreated():
                self._users[entry.account] = _UserRow(entry, ts)
            case PasswordChanged():
                self._user(entry.account, ts).password_hash = entry.password_hash
            case UserDisabled():
                self._user(entry.account, ts).disabled = True
            case Deposited():
                self._transfer(n, ts, entry, "deposit", entry.amount)
            case Withdrawn():
                self._transfer(n, ts, entry, "withdrawal", -entry.amount)
        if (changed := field_set(entry)) is not None:
            line = rows.user_setting_line(n, ts, entry.account, *changed)
            self._settings[entry.account, changed[0]] = line
        self._advance(LEDGER_STREAM, n)

    def tables(self) -> Iterator[tuple[Table, list[str]]]:
        """Yield the lines of each table that has any, in the order in which they must be written.

        Users come before what refers to them. Executions are not lines: see `executions`.
        """
        orders = [row for orders in self._orders.values() for row in orders.values()]
        for table, lines in (
            (rows.SYMBOL_CHANGES, [rows.symbol_line(event) for event in self._symbols.values()]),
            *self._user_lines(),
            (rows.USER_SETTINGS, list(self._settings.values())),
            (rows.TRANSFERS, self._transfers),
            (
                rows.ORDERS,
                [
                    rows.order_line(row.of, row.opening, row.opening_ts, row.last, row.last_ts)
                    for row in orders
                    if row.opening is not None
                ],
            ),
            (
                rows.ORDER_CHANGES,
                [
                    rows.order_change_line(row.of, row.last, row.last_ts)
                    for row in orders
                    if row.opening is None
                ],
            ),
            (
                rows.ORDER_CONDITIONS,
                [
                    rows.order_conditions_line(row.of, order_seq, row.conditions, row.triggered_ts)
                    for (_, order_seq), row in self._conditions.items()
                ],
            ),
            (rows.PHASE_CHANGES, self._phases),
            (rows.TRADES, self._trades),
            (
                rows.BALANCE_CHANGES,
                [
                    rows.balance_change_line(account, asset, available, held, self._scales[asset])
                    for (account, asset), (available, held) in self._balances.items()
                ],
            ),
        ):
            if lines:
                yield table, lines

    def _user_lines(self) -> list[tuple[Table, list[str]]]:
        created, changed = [], []
        for account, row in self._users.items():
            last = row.password_hash, row.disabled
            if row.created is None:
                changed.append(rows.user_change_line(account, *last))
            else:
                created.append(rows.user_line(row.created, row.created_ts, *last))
        return [(rows.USERS, created), (rows.USER_CHANGES, changed)]

    def _add_other(
        self, of: SymbolFormat, seq: int, ts: str, event: Event
    ) -> OrderReplaced | OrderTriggered | None:
        # Returns an event that changes an order which is there already.
        kind = type(event)
        if kind is OrderAccepted or kind is OrderRejected:
            self._open(of, seq, cast(OpeningEvent, event), ts)
        elif kind is SymbolDefined:
            self._symbols[of.symbol] = cast(SymbolDefined, event)
        elif kind is PhaseChanged:
            self._phases.append(rows.phase_line(of, seq, ts, cast(PhaseChanged, event)))
        elif kind is Skipped:
            answer = cast(Skipped, event).answer
            if isinstance(answer, OrderRejected):
                self._open(of, seq, answer, ts)
        if kind in _WITH_CONDITIONS:
            order = cast("OrderAccepted | OrderReplaced | OrderTriggered", event)
            if order.conditions is not None:
                self._add_conditions(of, order, ts)
            return None if kind is OrderAccepted else cast("OrderReplaced | OrderTriggered", event)
        # CancelRejected, OrderRefilled, reports: no order is another after it.
        return None

    def _open(self, of: SymbolFormat, seq: int, opening: OpeningEvent, ts: str) -> None:
        assert opening.order_seq == seq, "Invariant: an order's number is its input's"
        self._orders[of.symbol][seq] = _OrderRow(of, opening, ts, opening, ts)
        self._orders_touched += 1

    def _add_conditions(
        self, of: SymbolFormat, event: OrderAccepted | OrderReplaced | OrderTriggered, ts: str
    ) -> None:
        conditions = event.conditions
        assert conditions is not None, "Invariant: only orders with conditions have a row of them"
        key = of.symbol, event.order_seq
        row = self._conditions.get(key)
        triggered_ts = ts if type(event) is OrderTriggered else row.triggered_ts if row else None
        self._conditions[key] = _ConditionsRow(of, conditions, triggered_ts)

    def _add_changes(self, changes: list[BalanceChange]) -> None:
        balances = self._balances
        for change in changes:
            key = (change.account, change.asset)
            balance = balances.get(key)
            # A reservation that is not settled yet never shows here: available contains pending.
            if balance is None:
                balances[key] = [change.available + change.pending, change.held]
            else:
                balance[0] += change.available + change.pending
                balance[1] += change.held

    def _user(self, account: int, ts: str) -> _UserRow:
        row = self._users.get(account)
        if row is None:
            row = self._users[account] = _UserRow(None, ts)
        return row

    def _transfer(
        self, n: int, ts: str, entry: Deposited | Withdrawn, kind: str, amount: int
    ) -> None:
        scale = self._scales.get(entry.asset)
        if scale is None:
            raise VenueMismatch(f"ledger entry {n}: the venue has no asset {entry.asset!r}")
        self._transfers.append(rows.transfer_line(n, ts, entry, kind, amount, scale))
        balance = self._balances.setdefault((entry.account, entry.asset), [0, 0])
        balance[0] += amount

    def _timestamp(self, ts_us: int) -> str:
        """Return timestamptz text; entries of one stamp, and of one second, share the work."""
        if ts_us == self._ts_us:
            return self._ts
        second, us = divmod(ts_us, 1_000_000)
        if second != self._second:
            self._second = second
            self._second_text = rows.timestamp_text(second * 1_000_000).removesuffix("+00:00")
        self._ts_us = ts_us
        self._ts = f"{self._second_text}.{us:06d}+00"
        return self._ts

    def _advance(self, stream: str, position: int) -> None:
        known = self.positions.get(stream)
        self.positions[stream] = (known[0] if known else position - 1, position)
        self.entries += 1


class BatchBuilder:
    """Fills one batch after the other, and knows when the current one is due.

    Args:
        rows_max: a batch with so many rows is full: take it before adding more than what is read
        already. age_ns_max: a batch is due so long after its first entry.
        positions: stream → position of the last entry that is written.
        formats: the symbols that are defined up to those positions.
        scales: asset → scale of the venue.
    """

    def __init__(
        self,
        *,
        rows_max: int,
        age_ns_max: int,
        positions: dict[str, int],
        formats: dict[str, SymbolFormat],
        scales: dict[str, int],
    ) -> None:
        self._rows_max = rows_max
        self._age_ns_max = age_ns_max
        self._positions = dict(positions)
        self._formats = dict(formats)
        self._scales = dict(scales)
        self._batch = Batch(self._scales)
        self._first_ns = 0

    @property
    def is_full(self) -> bool:
        """Tell whether the batch has reached its rows: nothing more should be read."""
        return self._batch.rows >= self._rows_max

    @property
    def is_empty(self) -> bool:
        """Tell whether there is nothing to write."""
        return self._batch.entries == 0

    def due_in_ns(self, now_ns: int) -> int | None:
        """Return how long the batch may still wait (0: write it now), or None while it is empty."""
        if self.is_empty:
            return None
        if self.is_full:
            return 0
        return max(0, self._first_ns + self._age_ns_max - now_ns)

    def add_output(self, output: Output, *, now_ns: int) -> None:
        """Add the output that follows the symbol's last one.

        Raises:
            SequenceGap: it is another one; nothing was added.
        """
        symbol = output.symbol
        self._step(symbol, output.seq, now_ns)
        first = output.events[0] if output.events else None
        if type(first) is SymbolDefined:
            of = self._formats[symbol] = SymbolFormat.of_event(first)
            self._scales.update({of.base: of.base_scale, of.quote: of.quote_scale})
        self._batch.add_output(self._formats[symbol], output)

    def add_ledger_entry(self, n: int, ts_us: int, entry: LedgerEntry, *, now_ns: int) -> None:
        """Add the ledger entry that follows the last one.

        Raises:
            SequenceGap: it is another one; nothing was added.
            VenueMismatch: an amount is in an asset that the venue does not have.
        """
        self._step(LEDGER_STREAM, n, now_ns)
        self._batch.add_ledger_entry(n, ts_us, entry)

    def take(self) -> Batch:
        """Return the batch and begin the next one."""
        batch, self._batch = self._batch, Batch(self._scales)
        return batch

    def _step(self, stream: str, position: int, now_ns: int) -> None:
        expected = self._positions[stream] + 1
        if position != expected:
            raise SequenceGap(stream, expected, position)
        self._positions[stream] = position
        if self._batch.entries == 0:
            self._first_ns = now_ns
