"""What `retry_while_away` says in the log of a server that is not cleared yet."""

from __future__ import annotations

import pytest

from router import redis_client
from router.errors import Uncleared
from router.redis_client import retry_while_away


async def failing_at_first(times: int) -> list[bool]:
    """Make a call that fails so often before it succeeds; return what `on_change` was told."""
    changes: list[bool] = []
    left = times

    async def attempt() -> None:
        nonlocal left
        left -= 1
        if left >= 0:
            raise Uncleared(0)

    await retry_while_away(attempt, what="commit", on_change=changes.append)
    return changes


async def test_the_moment_before_a_started_server_is_cleared_is_not_worth_a_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert await failing_at_first(2) == [False, True]
    assert caplog.messages == []


async def test_a_server_that_stays_uncleared_is_told_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_client, "RETRY_DELAY_MAX_MS", 40)
    assert await failing_at_first(4) == [False, True]
    assert caplog.messages == [
        f"commit: Redis is away, trying again: {Uncleared(0)}",
        "commit: Redis is back",
    ]
