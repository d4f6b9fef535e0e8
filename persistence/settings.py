"""What can be set about persistence: ``[writer]`` and ``[postgres]`` in exchange.toml."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class WriterSettings(BaseModel):
    """``[writer]``: how much goes into one transaction, and how long things may take."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    batch_rows_max: Annotated[int, Field(ge=1, le=1_000_000)] = 30_000
    """A batch with so many rows is written at once. While it is written the next one fills up, then
    reading stops: two batches, some 1 kB a row, are what the writer holds in memory at most."""
    batch_age_ms_max: Annotated[int, Field(ge=10, le=60_000)] = 200
    """A smaller batch waits so long for more rows. Lower: rows show sooner, and each costs more."""
    read_interval_ms: Annotated[int, Field(ge=0, le=1_000)] = 100
    """Events of a shard are read at most so often, unless there are more than a read brings. Nobody
    waits for the writer: fewer and larger reads cost it and Redis less."""
    publish_interval_ms: Annotated[int, Field(ge=10, le=60_000)] = 1_000
    """How often positions are published and streams trimmed; between, the streams grow."""
    retry_delay_ms_max: Annotated[int, Field(ge=10, le=60_000)] = 2_000
    """Longest wait between two tries while PostgreSQL is away; it doubles from 50 ms."""


class PostgresSettings(BaseModel):
    """``[postgres]``: the private server, and how long to wait for any server."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    port: Annotated[int, Field(ge=1, le=65535)] = 5440
    """The private server's port; taken: the next free one."""
    connect_timeout_s: Annotated[int, Field(ge=2, le=600)] = 5
    """Longest wait for a connection."""
    write_timeout_s: Annotated[int, Field(ge=1, le=3_600)] = 120
    """Longest wait for one batch; after it the connection is closed and the batch written again."""
