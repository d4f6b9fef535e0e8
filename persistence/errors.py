"""The family of errors of persistence. Pure.

ExchangeError
└── PersistenceError
    ├── SchemaMismatch        the database's tables are of another version, or not ours
    ├── VenueMismatch         the database belongs to another venue, or to its former life
    ├── PositionConflict      somebody else moved a stream's position: two writers
    ├── WriteFailed           PostgreSQL refused rows; trying again would not help
    └── PostgresUnavailable   PostgreSQL is away; the caller tries again
"""

from __future__ import annotations

from engine.errors import ExchangeError


class PersistenceError(ExchangeError):
    """Root of what persistence raises."""


class SchemaMismatch(PersistenceError):
    """The tables are of another version, or tables of somebody else are in their place."""


class VenueMismatch(PersistenceError):
    """What the database says of a symbol, asset or stream contradicts the running venue."""


class PositionConflict(PersistenceError):
    """A stream's position is not where this writer left it; nothing of the batch was written."""


class WriteFailed(PersistenceError):
    """PostgreSQL refused the rows of a batch, and would refuse them again."""


class PostgresUnavailable(PersistenceError):
    """PostgreSQL cannot be reached or ended the session; a batch may be written or not."""
