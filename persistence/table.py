"""A target of COPY. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Table:
    """A target of COPY: a table of schema.sql, or a staging table of the writer's session.

    Attributes:
        name: the table's name.
        columns: in the order of the lines.
    """

    name: str
    columns: tuple[str, ...]
