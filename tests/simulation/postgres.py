"""The tables of PostgreSQL in memory, written through the interface of the PostgresWriter.

A transaction takes effect whole or not at all, and may do so without its answer arriving. Keys,
references and the guard of the positions are those of ``schema.sql`` and ``persistence/writer.py``.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from decimal import Decimal

from engine.events import Output
from engine.ledger_entries import decode_ledger_entry
from persistence import rows
from persistence.batch import LEDGER_STREAM, Batch, BatchBuilder
from persistence.errors import PositionConflict, PostgresUnavailable, WriteFailed
from persistence.rows import SymbolFormat, Table
from persistence.writer import Stored

_FORMAT_COLUMNS = ("symbol", "base", "quote", "base_scale", "quote_scale", "tick_size", "lot_size")


class Tables:
    """What stands in the database. ``content`` is compared between two histories."""

    def __init__(self) -> None:
        self.positions: dict[str, int] = {}
        self.scales: dict[str, int] = {}
        self.symbols: dict[str, dict[str, str]] = {}
        self.users: dict[str, dict[str, str]] = {"0": {"username": "(fees)"}}
        self.user_settings: dict[tuple[str, str], dict[str, str]] = {}
        self.transfers: dict[str, dict[str, str]] = {}
        self.orders: dict[str, dict[str, str]] = {}
        self.conditions: dict[str, dict[str, str]] = {}
        self.phases: dict[tuple[str, str, str], dict[str, str]] = {}
        self.trades: dict[tuple[str, str, str], dict[str, str]] = {}
        self.executions: dict[bytes, bytes] = {}
        self.balances: dict[tuple[str, str], list[Decimal]] = {}

    def content(self) -> dict[str, object]:
        """Return everything, by table."""
        return {
            "positions": self.positions,
            "symbols": self.symbols,
            "users": self.users,
            "user_settings": self.user_settings,
            "transfers": self.transfers,
            "orders": self.orders,
            "order_conditions": self.conditions,
            "phase_changes": self.phases,
            "trades": self.trades,
            "executions": self.executions,
            "balances": self.balances,
        }

    def write(self, batch: Batch) -> None:
        """Apply the rows of a batch.

        Raises:
            WriteFailed: a row is there already, or what it refers to is not.
        """
        for table, lines in batch.tables():
            columns = table.columns
            for line in lines:
                fields = line.removesuffix("\n").split("\t")
                self._apply(table, dict(zip(columns, fields, strict=True)))
        for row in batch.executions:
            symbol_bytes = int.from_bytes(row[14:18], "big")
            key = row[6 : 18 + symbol_bytes + 12 + 8]
            self._insert(self.executions, key, row)

    def _apply(self, table: Table, row: dict[str, str]) -> None:
        if table is rows.SYMBOL_CHANGES:
            self.symbols[row["symbol"]] = row
        elif table is rows.USERS:
            self._insert(self.users, row["id"], row)
        elif table is rows.USER_CHANGES:
            user = self.users[row["id"]]
            if row["password_hash"] != rows.NULL:
                user["password_hash"] = row["password_hash"]
            if row["disabled"] == "t":
                user["disabled"] = "t"
        elif table is rows.ORDERS:
            self._need(self.users, row["user_id"])
            self._insert(self.orders, row["id"], row)
        elif table is rows.ORDER_CHANGES:
            self._need(self.orders, row["id"])
            self.orders[row["id"]].update(row)
        elif table is rows.ORDER_CONDITIONS:
            self._need(self.orders, row["order_id"])
            before = self.conditions.get(row["order_id"])
            if before is not None and row["triggered_at"] == rows.NULL:
                row["triggered_at"] = before["triggered_at"]
            self.conditions[row["order_id"]] = row
        else:
            self._apply_fact(table, row)

    def _apply_fact(self, table: Table, row: dict[str, str]) -> None:
        """Apply a row of what is never changed or put whole in its place, or of balances."""
        if table is rows.PHASE_CHANGES:
            self._insert(self.phases, (row["symbol"], row["seq"], row["index"]), row)
        elif table is rows.TRADES:
            self._need(self.orders, row["maker_order_id"])
            self._insert(self.trades, (row["symbol"], row["seq"], row["index"]), row)
        elif table is rows.USER_SETTINGS:
            self._need(self.users, row["user_id"])
            self.user_settings[row["user_id"], row["field"]] = row
        elif table is rows.TRANSFERS:
            self._need(self.users, row["user_id"])
            self._insert(self.transfers, row["position"], row)
        else:
            assert table is rows.BALANCE_CHANGES, f"the simulation lacks table {table.name}"
            balance = self.balances.setdefault((row["user_id"], row["asset"]), [Decimal(0)] * 2)
            balance[0] += Decimal(row["available"])
            balance[1] += Decimal(row["held"])

    @staticmethod
    def _insert(table: dict, key: object, row: object) -> None:  # type: ignore[type-arg]
        if key in table:
            raise WriteFailed(f"duplicate key {key!r}")
        table[key] = row

    @staticmethod
    def _need(table: Mapping[str, object], key: str) -> None:
        if key not in table:
            raise WriteFailed(f"there is no row {key!r} to refer to")


class TableWriter:
    """A PostgresWriter on Tables.

    Args:
        tables: the database, which outlives the writer.
        choose: decides how long things take.
        is_away: tells whether the database does not answer now.
        loses: tells whether the next message is lost.
        positions_first: the deliberate fault of moving positions in a transaction of their own.
    """

    def __init__(
        self,
        tables: Tables,
        choose: random.Random,
        *,
        is_away: Callable[[], bool],
        loses: Callable[[], bool],
        positions_first: bool,
    ) -> None:
        self._tables = tables
        self._choose = choose
        self._is_away = is_away
        self._loses = loses
        self._positions_first = positions_first
        self._in_doubt: Batch | None = None

    async def load(self, incarnations: Mapping[str, str], scales: Mapping[str, int]) -> Stored:
        """See PostgresWriter.load."""
        await self._request()
        tables = self._tables
        for stream in (*incarnations, LEDGER_STREAM):
            tables.positions.setdefault(stream, 0)
        tables.scales.update(scales)
        formats = {
            symbol: SymbolFormat(
                symbol=symbol,
                base=row["base"],
                quote=row["quote"],
                base_scale=int(row["base_scale"]),
                quote_scale=int(row["quote_scale"]),
                tick_size=row["tick_size"],
                lot_size=row["lot_size"],
            )
            for symbol, row in tables.symbols.items()
        }
        return Stored(dict(tables.positions), formats, dict(tables.scales))

    async def write(self, batch: Batch) -> None:
        """See PostgresWriter.write."""
        was_in_doubt, self._in_doubt = self._in_doubt is batch, batch
        await self._request()
        tables = self._tables
        before = {stream: one for stream, (one, _) in batch.positions.items()}
        after = {stream: one for stream, (_, one) in batch.positions.items()}
        found = {stream: tables.positions.get(stream) for stream in after}
        if found == before:
            tables.positions.update(after)
            if self._positions_first:
                await self._request()
            tables.write(batch)
        elif not (was_in_doubt and found == after):
            raise PositionConflict(f"expected {before}, found {found}")
        await self._request()
        self._in_doubt = None

    async def close(self) -> None:
        """See PostgresWriter.close."""

    async def _request(self) -> None:
        """Take the time of a message, which may be lost.

        Raises:
            PostgresUnavailable: it was.
        """
        await asyncio.sleep(self._choose.random() * 0.01)
        if self._is_away() or self._loses():
            raise PostgresUnavailable("no answer")


def rows_of_uncut_run(
    outputs: list[Output], ledger: list[tuple[int, int, bytes]], scales: Mapping[str, int]
) -> Tables:
    """Return the tables as one batch makes them of whole streams.

    Args:
        outputs: of all symbols.
        ledger: number, stamp and bytes of each entry.
        scales: asset → scale.
    """
    tables = Tables()
    positions = dict.fromkeys([LEDGER_STREAM, *(one.symbol for one in outputs)], 0)
    builder = BatchBuilder(
        rows_max=1 << 60, age_ns_max=1 << 60, positions=positions, formats={}, scales=dict(scales)
    )
    for n, ts_us, data in ledger:
        builder.add_ledger_entry(n, ts_us, decode_ledger_entry(data), now_ns=0)
    for output in outputs:
        builder.add_output(output, now_ns=0)
    batch = builder.take()
    tables.write(batch)
    tables.positions = {stream: after for stream, (_, after) in batch.positions.items()}
    return tables
