"""Entry ids of dense streams, ``n-0`` with n = 1, 2, 3…, and where such a stream ends. Pure.

The last entry of a dense stream is never trimmed, so its id says how far the stream has got.
"""

from __future__ import annotations

from typing import Any


def entry_number(entry_id: bytes) -> int:
    """Return n of an entry id ``n-0``."""
    return int(entry_id[:-2])


def last_entry(key: str) -> tuple[str | int, ...]:
    """Return the command that reads a stream's last entry."""
    return ("XREVRANGE", key, "+", "-", "COUNT", 1)


def first_entry(key: str) -> tuple[str | int, ...]:
    """Return the command that reads a stream's first entry."""
    return ("XRANGE", key, "-", "+", "COUNT", 1)


def last_number(found: list[Any]) -> int:
    """Return the number of the entry that ``last_entry`` found; 0 for an empty stream."""
    return entry_number(found[0][0]) if found else 0


def first_number(found: list[Any]) -> int:
    """Return the number of the entry that ``first_entry`` found; 1 for an empty stream."""
    return entry_number(found[0][0]) if found else 1
