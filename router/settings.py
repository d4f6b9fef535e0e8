"""What can be set about Redis: ``[redis]`` in exchange.toml."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class RedisSettings(BaseModel):
    """``[redis]``: the private server, and how long to wait for any server."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    binary: Literal["auto", "path", "wheel"] = "auto"
    """Where the private server's redis-server comes from; auto prefers the one on PATH."""
    port: Annotated[int, Field(ge=1, le=65535)] = 6390
    """The private server's port; taken: the next free one."""
    acl_users: bool = False
    """With redis_url: each process logs on as a Redis user of its own, made by what `shardex acl`
    prints; passwords in redis-passwords.json of var_dir. A private server always has them."""
    call_timeout_ms: Annotated[int, Field(ge=100, le=600_000)] = 10_000
    """Longest wait for a reply. Longer than an fsync and an AOF rewrite's fork take; after it the
    connection is closed and the call repeated."""
    session_ttl_ms: Annotated[int, Field(ge=500, le=60_000)] = 2_000
    """After so long without a sign of life a gateway's FIX sessions may log on elsewhere."""
