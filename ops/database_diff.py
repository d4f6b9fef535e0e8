"""Compare two databases of the exchange, every table, row for row.

Both are read in the order of the primary key and merged, so memory does not grow with the tables:
a row of each at a time, and the first DIFFERENCES_SHOWN_MAX differences of each table.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from persistence.table_rows import TableReader, TableShape, unescaped

DIFFERENCES_SHOWN_MAX = 5
"""Differences of one table that are kept as text; all are counted."""

_CONNECT_TIMEOUT_S = 10


class TableDifference(msgspec.Struct, frozen=True):
    """How one table of two databases compares.

    Attributes:
        table: its name.
        rows_a, rows_b: how many each database has.
        only_a, only_b: rows whose key only one of them has.
        changed: rows with the same key and other values.
        shape: why the tables cannot be compared; empty where they can.
        first: the first differences, as text.
    """

    table: str
    rows_a: int
    rows_b: int
    only_a: int
    only_b: int
    changed: int
    shape: str
    first: list[str]

    @property
    def is_equal(self) -> bool:
        """Tell whether the table is the same in both."""
        return not (self.only_a or self.only_b or self.changed or self.shape)


def compare_databases(url_a: str, url_b: str) -> list[TableDifference]:
    """Compare all tables and return how each compares, the equal ones too, by name.

    Raises:
        PostgresUnavailable: a database cannot be reached.
        SchemaMismatch: a table has no primary key.
    """
    with (
        TableReader(url_a, connect_timeout_s=_CONNECT_TIMEOUT_S) as a,
        TableReader(url_b, connect_timeout_s=_CONNECT_TIMEOUT_S) as b,
    ):
        shapes_a, shapes_b = a.shapes(), b.shapes()
        found = []
        for table in sorted({*shapes_a, *shapes_b}):
            shape_a, shape_b = shapes_a.get(table), shapes_b.get(table)
            if shape_a is not None and shape_a == shape_b:
                found.append(compare_rows(shape_a, a.rows(shape_a), b.rows(shape_a)))
                continue
            reason = (
                "has other columns"
                if shape_a and shape_b
                else f"only {'A' if shape_a else 'B'} has it"
            )
            found.append(TableDifference(table, 0, 0, 0, 0, 0, reason, []))
        return found


def diff_databases(url_a: str, url_b: str) -> list[TableDifference]:
    """Return the tables that differ; none: the databases are equal, row for row.

    Raises: as of ``compare_databases``.
    """
    return [one for one in compare_databases(url_a, url_b) if not one.is_equal]


def compare_rows(shape: TableShape, a: Iterator[bytes], b: Iterator[bytes]) -> TableDifference:
    """Compare the rows of one table.

    Args:
        shape: of the table in both databases.
        a, b: lines of COPY text, in the order of the key; read to their ends.
    """
    rows_a = rows_b = only_a = only_b = changed = 0
    first: list[str] = []
    line_a, line_b = next(a, None), next(b, None)
    while line_a is not None or line_b is not None:
        if line_a == line_b:
            order = 0
        else:
            order = _order(shape, line_a, line_b)
            if len(first) < DIFFERENCES_SHOWN_MAX:
                first.append(_text(shape, line_a, line_b, order))
            only_a += order < 0
            only_b += order > 0
            changed += not order
        if order <= 0:
            rows_a += 1
            line_a = next(a, None)
        if order >= 0:
            rows_b += 1
            line_b = next(b, None)
    return TableDifference(shape.name, rows_a, rows_b, only_a, only_b, changed, "", first)


def _order(shape: TableShape, line_a: bytes | None, line_b: bytes | None) -> int:
    """Return which row comes first: -1 that of A, 1 that of B, 0 they have the same key."""
    if line_a is None or line_b is None:
        return 1 if line_a is None else -1
    key_a, key_b = shape.key(line_a), shape.key(line_b)
    return (key_a > key_b) - (key_a < key_b)


def _text(shape: TableShape, line_a: bytes | None, line_b: bytes | None, order: int) -> str:
    line = line_a if order <= 0 else line_b
    assert line is not None, "Invariant: the row that comes first is there"
    names = [name for name, _ in shape.columns]
    values = _values(line)
    key = ", ".join(
        f"{name} {value}" for name, value in zip(names, values[: shape.key_columns], strict=False)
    )
    if order:
        rest = ", ".join(
            f"{name} {value}"
            for name, value in zip(
                names[shape.key_columns :], values[shape.key_columns :], strict=True
            )
        )
        return f"{key}: only in {'A' if order < 0 else 'B'} ({rest})"
    assert line_b is not None, "Invariant: rows of the same key are both there"
    changes = ", ".join(
        f"{name}: A {in_a}, B {in_b}"
        for name, in_a, in_b in zip(names, values, _values(line_b), strict=True)
        if in_a != in_b
    )
    return f"{key}: {changes}"


def _values(line: bytes) -> list[str]:
    return [
        "NULL" if field == b"\\N" else unescaped(field).decode("utf-8", "backslashreplace")
        for field in line.rstrip(b"\n").split(b"\t")
    ]
