"""What can be set about market data: ``[marketdata]`` in exchange.toml."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class MarketDataSettings(BaseModel):
    """``[marketdata]``: how often, and how much."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    read_interval_ms: Annotated[int, Field(ge=0, le=100)] = 20
    """Events of a shard are read at most so often. The first one after a quiet time is read at
    once; under load a message may be so much later, and costs less the more are read together."""
    snapshot_interval_ms: Annotated[int, Field(ge=20, le=1_000)] = 500
    """A change is in snapshot, ticker and candles at most so long after it was published. A
    subscriber waits about as long to join; a restart repeats the messages of about as long."""
    snapshot_levels_max: Annotated[int, Field(ge=10, le=50_000)] = 5_000
    """Levels per side in a snapshot, the best ones. Some 40 bytes each; a deeper book is marked as
    not complete, and subscribers follow its best levels only."""
    heartbeat_interval_ms: Annotated[int, Field(ge=20, le=10_000)] = 1_000
    """Each channel repeats its last seq so often, and keys are rewritten so often without a change:
    a message lost in a quiet market is noticed after that time."""
