"""Every row of every table of a database, in the order of its primary key, from one snapshot.

For comparing two databases: rows come as lines of COPY text, so that equal rows are equal bytes.
Numbers lose trailing zeros (1.50 and 1.5 are equal), times are UTC.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType
from typing import Any

import msgspec
import psycopg
from psycopg import Connection, sql

from persistence.errors import PostgresUnavailable, SchemaMismatch

_SNAPSHOT = b"""
SET TimeZone = 'UTC';
SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY;
"""
_COLUMNS = """
SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod),
       array_position(i.indkey::int2[], a.attnum)
FROM pg_class c
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
LEFT JOIN pg_index i ON i.indrelid = c.oid AND i.indisprimary
WHERE c.relkind = 'r' AND c.relnamespace = ANY (
    SELECT oid FROM pg_namespace WHERE nspname = ANY (current_schemas(false)))
ORDER BY c.relname, a.attnum
"""
_NUMBERS = ("bigint", "integer")


class TableShape(msgspec.Struct, frozen=True):
    """A table: its columns and their types, those of its primary key first and in its order.

    Attributes:
        name: the table's.
        columns: name and type.
        key_columns: how many of them are the key.
    """

    name: str
    columns: tuple[tuple[str, str], ...]
    key_columns: int

    def key(self, line: bytes) -> tuple[int | bytes, ...]:
        """Return the key of a row, which compares as PostgreSQL orders it (text: COLLATE "C")."""
        fields = line.rstrip(b"\n").split(b"\t", self.key_columns)[: self.key_columns]
        return tuple(
            int(field) if kind in _NUMBERS else unescaped(field)
            for field, (_, kind) in zip(fields, self.columns, strict=False)
        )


class TableReader:
    """A read-only transaction in one database; a context manager.

    Args:
        url: of the database.
        connect_timeout_s: longest wait for a connection.

    Raises:
        PostgresUnavailable: it cannot be reached.
    """

    def __init__(self, url: str, *, connect_timeout_s: int) -> None:
        try:
            self._connection: Connection[Any] = psycopg.connect(
                url, connect_timeout=connect_timeout_s, application_name="shardex diff"
            )
            with self._connection.transaction():
                self._connection.execute(_SNAPSHOT)
        except psycopg.OperationalError as error:
            raise PostgresUnavailable(str(error).strip()) from error
        self.name = self._connection.info.dbname

    def __enter__(self) -> TableReader:
        """Return itself; leaving closes the connection."""
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the connection."""
        self._connection.close()

    def shapes(self) -> dict[str, TableShape]:
        """Return all tables by name.

        Raises:
            SchemaMismatch: one has no primary key, so that its rows have no order.
        """
        found: dict[str, list[tuple[int, str, str]]] = {}
        for table, column, kind, place in self._connection.execute(_COLUMNS):
            found.setdefault(table, []).append((-1 if place is None else place, column, kind))
        shapes = {}
        for table, columns in found.items():
            key = sorted(one for one in columns if one[0] >= 0)
            if not key:
                raise SchemaMismatch(f"table {table} of {self.name} has no primary key")
            rest = [one for one in columns if one[0] < 0]
            names = tuple((name, kind) for _, name, kind in [*key, *rest])
            shapes[table] = TableShape(table, names, len(key))
        return shapes

    def rows(self, shape: TableShape) -> Iterator[bytes]:
        """Yield the rows of a table as lines of COPY text, in the order of its key.

        Raises:
            PostgresUnavailable: the connection was lost.
        """
        columns = sql.SQL(", ").join(
            sql.SQL("trim_scale({})" if kind == "numeric" else "{}").format(sql.Identifier(name))
            for name, kind in shape.columns
        )
        keys = [sql.Identifier(name) for name, _ in shape.columns[: shape.key_columns]]
        query = sql.SQL("COPY (SELECT {} FROM {} ORDER BY {}) TO STDOUT").format(
            columns, sql.Identifier(shape.name), sql.SQL(", ").join(keys)
        )
        try:
            with self._connection.cursor() as cursor, cursor.copy(query) as copy:
                for data in copy:
                    yield bytes(data)
        except psycopg.OperationalError as error:
            raise PostgresUnavailable(str(error).strip()) from error


def unescaped(field: bytes) -> bytes:
    """Return a field of COPY text as it is in the table."""
    if b"\\" not in field:
        return field
    return field.decode("unicode_escape").encode("latin-1")
