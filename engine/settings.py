"""What can be set about the engines: ``[engine]`` in exchange.toml."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class EngineSettings(BaseModel):
    """``[engine]``: how safe the journal is, and how long an engine waits."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    journal_fsync: Literal["strict", "overlapped"] = "overlapped"
    """strict: an output waits until its input is on disk here, too; overlapped: the fsync runs
    beside Redis' own, at most one batch behind."""
    journal_compressed: bool = True
    """Closed segments of the journal (64 MB) are compressed, in the background; both kinds are
    read. Journals are never deleted: they rebuild the database."""
    read_block_ms: Annotated[int, Field(ge=10, le=60_000)] = 1_000
    """Longest wait of one read; a new order ends it at once."""
    follow_interval_ms: Annotated[int, Field(ge=0, le=1_000)] = 50
    """An engine that follows reads orders and published outputs at most so often, unless it is
    behind: nobody waits for it, and fewer and larger reads cost it and Redis less. When it comes to
    lead, the first orders may wait so long."""
    snapshot_interval_s: Annotated[int, Field(ge=1, le=86_400)] = 60
    """Between two snapshots of an engine. After a crash it reads what came since the newest; orders
    stay in Redis from the older of the two newest on."""
    snapshot_inputs_min: Annotated[int, Field(ge=1, le=100_000_000)] = 10_000
    """No snapshot is made while fewer orders and requests have come since the last one."""
    snapshot_timeout_s: Annotated[int, Field(ge=1, le=3_600)] = 60
    """A snapshot that is not on disk, settled and journalled by then is given up; the next interval
    tries again."""
    lease_ttl_ms: Annotated[int, Field(ge=300, le=60_000)] = 1_500
    """After so long without a sign of life a shard may be led by another engine. Must be the same
    for all engines of a shard."""
