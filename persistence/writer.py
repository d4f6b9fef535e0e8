"""Writes batches into PostgreSQL: rows and positions in one transaction, each batch exactly once.

A batch says from which to which position of each stream it reaches. Its transaction first moves
those positions, with the old ones as the condition, and writes nothing where one is not as
expected. So a batch whose commit was not answered can be written again, and a second writer cannot
write anything twice.

New rows go by COPY straight into their tables: the positions guarantee that they are new, and if
they are not, their keys say so. What changes rows that exist (orders, balances, users, rules) goes
by COPY into a staging table of the session, and from there in one statement per table.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

import psycopg
from psycopg import AsyncConnection, AsyncCursor, sql

from persistence import rows
from persistence.batch import LEDGER_STREAM, Batch
from persistence.errors import PositionConflict, PostgresUnavailable, VenueMismatch, WriteFailed
from persistence.execution_rows import BINARY_HEADER, BINARY_TRAILER, EXECUTIONS
from persistence.rows import SymbolFormat
from persistence.schema import apply_schema
from persistence.settings import PostgresSettings
from persistence.table import Table

logger = logging.getLogger("persistence")

# A batch touches few orders of a table that only grows: looking each one up by its key is right
# however large the table becomes. The planner cannot know that, as nobody gathers statistics about
# staging tables.
_SESSION = b"""
SET enable_hashjoin = off;
SET enable_mergejoin = off;
SET synchronous_commit = on;
CREATE TEMP TABLE symbol_changes (LIKE symbols) ON COMMIT DELETE ROWS;
CREATE TEMP TABLE user_changes (id bigint, password_hash text, disabled boolean)
    ON COMMIT DELETE ROWS;
CREATE TEMP TABLE user_setting_changes (LIKE user_settings) ON COMMIT DELETE ROWS;
CREATE TEMP TABLE order_changes (
    id text COLLATE "C", cl_ord_id text, type text, time_in_force text, price numeric,
    quantity numeric, remaining_quantity numeric, filled_quantity numeric, status text,
    updated_at timestamptz
) ON COMMIT DELETE ROWS;
CREATE TEMP TABLE order_condition_changes (LIKE order_conditions) ON COMMIT DELETE ROWS;
CREATE TEMP TABLE balance_changes (LIKE balances) ON COMMIT DELETE ROWS;
"""

_MOVE_POSITIONS = """
UPDATE stream_positions AS p SET position = moved.after
FROM unnest(%s::text[], %s::bigint[], %s::bigint[]) AS moved (stream, before, after)
WHERE p.stream = moved.stream AND p.position = moved.before
"""

# Staging table → the statement that applies it; it must touch as many rows as the staging table
# has.
_APPLY = {
    rows.SYMBOL_CHANGES.name: """
INSERT INTO symbols SELECT * FROM symbol_changes
ON CONFLICT (symbol) DO UPDATE SET
    (base, quote, base_scale, quote_scale, tick_size, lot_size, maker_fee_ppm, taker_fee_ppm,
     rules_version, incarnation)
    = (excluded.base, excluded.quote, excluded.base_scale, excluded.quote_scale,
       excluded.tick_size, excluded.lot_size, excluded.maker_fee_ppm, excluded.taker_fee_ppm,
       excluded.rules_version, excluded.incarnation)
""",
    rows.USER_CHANGES.name: """
UPDATE users AS u SET
    password_hash = coalesce(c.password_hash, u.password_hash),
    disabled = u.disabled OR c.disabled
FROM user_changes AS c WHERE u.id = c.id
""",
    rows.USER_SETTINGS.name: """
INSERT INTO user_settings SELECT * FROM user_setting_changes
ON CONFLICT (user_id, field) DO UPDATE SET
    (value, position, changed_at) = (excluded.value, excluded.position, excluded.changed_at)
""",
    rows.ORDER_CHANGES.name: """
UPDATE orders AS o SET
    (cl_ord_id, type, time_in_force, price, quantity, remaining_quantity, filled_quantity, status,
     updated_at)
    = (c.cl_ord_id, c.type, c.time_in_force, c.price, c.quantity, c.remaining_quantity,
       c.filled_quantity, c.status, c.updated_at)
FROM order_changes AS c WHERE o.id = c.id
""",
    rows.ORDER_CONDITIONS.name: """
INSERT INTO order_conditions AS o SELECT * FROM order_condition_changes
ON CONFLICT (order_id) DO UPDATE SET
    (stop_price, display_quantity, min_quantity, expire_at, cash, triggered_at)
    = (excluded.stop_price, excluded.display_quantity, excluded.min_quantity, excluded.expire_at,
       excluded.cash, coalesce(excluded.triggered_at, o.triggered_at))
""",
    rows.BALANCE_CHANGES.name: """
INSERT INTO balances SELECT * FROM balance_changes
ON CONFLICT (user_id, asset) DO UPDATE SET
    available = balances.available + excluded.available,
    held = balances.held + excluded.held
""",
}


@dataclass(frozen=True)
class Stored:
    """What the database knows at start.

    Attributes:
        positions: stream → last entry that the rows contain.
        formats: the symbols that are defined up to there.
        scales: asset → scale.
    """

    positions: dict[str, int]
    formats: dict[str, SymbolFormat]
    scales: dict[str, int]


class PostgresWriter:
    """One connection that writes batches, one at a time.

    It never repeats anything by itself: `PostgresUnavailable` closes the connection, and calling
    again opens a new one.

    Args:
        url: of the database.
        settings: time-outs.
    """

    def __init__(self, url: str, settings: PostgresSettings) -> None:
        self._url = url
        self._settings = settings
        self._connection: AsyncConnection | None = None
        self._in_doubt: Batch | None = None

    async def load(self, incarnations: Mapping[str, str], scales: Mapping[str, int]) -> Stored:
        """Apply the schema where there is none, and return how far the tables are.

        Args:
            incarnations: symbol → incarnation of its home; streams that are new start at position
            0. scales: asset → scale of the venue.

        Raises:
            PostgresUnavailable: call again.
            SchemaMismatch: the database's tables are not ours, or of another version.
            VenueMismatch: a symbol's incarnation or an asset's scale is another in the database.
        """
        try:
            async with asyncio.timeout(self._settings.write_timeout_s):
                connection = await self._connected()
                async with connection.transaction():
                    return await _register(connection, incarnations, scales)
        except (psycopg.OperationalError, psycopg.InterfaceError, TimeoutError) as e:
            raise await self._lost(e) from e

    async def write(self, batch: Batch) -> None:
        """Write a batch; returning means that it is on disk.

        A batch that is in the database already, because its commit was not answered the last time,
        is left as it is.

        Raises:
            PostgresUnavailable: the batch is written whole or not at all; call again with it.
            PositionConflict: another writer has moved a position; nothing was written.
            WriteFailed: PostgreSQL refused a row; nothing was written.
        """
        was_in_doubt, self._in_doubt = self._in_doubt is batch, batch
        try:
            async with asyncio.timeout(self._settings.write_timeout_s):
                connection = await self._connected()
                async with connection.transaction():
                    moved = await _move_positions(connection, batch, was_in_doubt=was_in_doubt)
                    if moved:
                        await _write_rows(connection, batch)
        except (psycopg.OperationalError, psycopg.InterfaceError, TimeoutError) as e:
            raise await self._lost(e) from e
        except psycopg.Error as e:
            raise WriteFailed(f"PostgreSQL refused {_range(batch)}: {e}") from e
        self._in_doubt = None

    async def close(self) -> None:
        """Close the connection; the next call opens a new one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    async def _connected(self) -> AsyncConnection:
        if self._connection is None:
            connection = await AsyncConnection.connect(
                self._url,
                autocommit=True,
                connect_timeout=self._settings.connect_timeout_s,
                application_name="shardex writer",
            )
            try:
                await apply_schema(connection)
                await connection.execute(_SESSION)
            except BaseException:
                await connection.close()
                raise
            self._connection = connection
        return self._connection

    async def _lost(self, error: Exception) -> PostgresUnavailable:
        await self.close()
        reason = str(error).strip() or f"no answer within {self._settings.write_timeout_s} s"
        return PostgresUnavailable(reason)


async def _register(
    connection: AsyncConnection, incarnations: Mapping[str, str], scales: Mapping[str, int]
) -> Stored:
    """Make rows for new streams and assets, compare the known ones, and read everything back."""
    known = {**incarnations, LEDGER_STREAM: ""}
    await connection.execute(
        "INSERT INTO stream_positions SELECT stream, 0, incarnation "
        "FROM unnest(%s::text[], %s::text[]) AS s (stream, incarnation) ON CONFLICT DO NOTHING",
        [list(known), list(known.values())],
    )
    await connection.execute(
        "INSERT INTO assets SELECT * FROM unnest(%s::text[], %s::int[]) ON CONFLICT DO NOTHING",
        [list(scales), list(scales.values())],
    )
    positions = {}
    query = "SELECT stream, position, incarnation FROM stream_positions"
    async for stream, position, incarnation in await connection.execute(query):
        if known.get(stream, incarnation) != incarnation:
            raise VenueMismatch(
                f"{stream}: the database has rows of incarnation {incarnation}, the venue's is "
                f"{known[stream]}: one of them was emptied or belongs to another venue"
            )
        positions[stream] = position
    stored_scales = {}
    async for asset, scale in await connection.execute("SELECT asset, scale FROM assets"):
        if scales.get(asset, scale) != scale:
            raise VenueMismatch(
                f"assets.{asset}.scale: the database has rows of scale {scale}, "
                f"the venue's is {scales[asset]}"
            )
        stored_scales[asset] = scale
    return Stored(positions, await _read_formats(connection), stored_scales)


async def _read_formats(connection: AsyncConnection) -> dict[str, SymbolFormat]:
    query = "SELECT symbol, base, quote, base_scale, quote_scale, tick_size, lot_size FROM symbols"
    formats = {}
    async for symbol, base, quote, base_scale, quote_scale, tick, lot in await connection.execute(
        query
    ):
        formats[symbol] = SymbolFormat(
            symbol=symbol,
            base=base,
            quote=quote,
            base_scale=base_scale,
            quote_scale=quote_scale,
            tick_size=_plain(tick),
            lot_size=_plain(lot),
        )
    return formats


def _plain(step: Decimal) -> str:
    return format(step, "f")


async def _move_positions(connection: AsyncConnection, batch: Batch, *, was_in_doubt: bool) -> bool:
    """Move the batch's positions; False means that it moved them when it was in doubt.

    Raises:
        PositionConflict: they stand elsewhere.
    """
    streams = list(batch.positions)
    before = [position for position, _ in batch.positions.values()]
    after = [position for _, position in batch.positions.values()]
    moved = await connection.execute(_MOVE_POSITIONS, [streams, before, after], prepare=True)
    if moved.rowcount == len(streams):
        return True
    stored = await connection.execute(
        "SELECT stream, position FROM stream_positions WHERE stream = ANY(%s)", [streams]
    )
    positions: dict[str, int] = dict(await stored.fetchall())
    if was_in_doubt and moved.rowcount == 0 and [positions.get(s) for s in streams] == after:
        return False
    raise PositionConflict(
        f"another writer is at work: expected to write {_range(batch)}, but the database was at "
        + ", ".join(f"{stream} {positions.get(stream)}" for stream in streams)
    )


async def _write_rows(connection: AsyncConnection, batch: Batch) -> None:
    for table, lines in batch.tables():
        await _write_table(connection, table, lines)
    if batch.executions:
        await _write_executions(connection, batch.executions)


async def _write_table(connection: AsyncConnection, table: Table, lines: list[str]) -> None:
    data = "".join(lines).encode()
    async with connection.cursor() as cursor:
        await _copy(cursor, table, "text", data)
        if statement := _APPLY.get(table.name):
            await cursor.execute(statement.encode(), prepare=True)
        _check_count(cursor, table, len(lines))


async def _write_executions(connection: AsyncConnection, executions: list[bytes]) -> None:
    data = b"".join([BINARY_HEADER, *executions, BINARY_TRAILER])
    async with connection.cursor() as cursor:
        await _copy(cursor, EXECUTIONS, "binary", data)
        _check_count(cursor, EXECUTIONS, len(executions))


async def _copy(cursor: AsyncCursor, table: Table, form: str, data: bytes) -> None:
    statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT {})").format(
        sql.Identifier(table.name),
        sql.SQL(", ").join(map(sql.Identifier, table.columns)),
        sql.Identifier(form),
    )
    async with cursor.copy(statement) as target:
        await target.write(data)


def _check_count(cursor: AsyncCursor, table: Table, count: int) -> None:
    assert cursor.rowcount == count, (
        f"Invariant: {table.name} takes {count} rows, it took {cursor.rowcount}"
    )


def _range(batch: Batch) -> str:
    return ", ".join(
        f"{stream} {before + 1} to {after}" for stream, (before, after) in batch.positions.items()
    )
