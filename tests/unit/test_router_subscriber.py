"""A subscription that fails while it is opened, without any server."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from typing import Any
from unittest.mock import Mock

import pytest

from router import subscriber
from router.errors import RedisUnavailable
from router.redis_client import Wire


@pytest.mark.parametrize("is_told", [True, False])
async def test_a_server_that_closes_at_once_is_away_and_leaves_no_error_behind(
    monkeypatch: pytest.MonkeyPatch, is_told: bool
) -> None:
    async def open_wire(
        url: str, *, on_lost: Callable[[str], None], on_reply: Callable[[Any], None], **_: Any
    ) -> Wire:
        """Return a connection that ended before anybody could use it."""
        wire = Wire(on_reply, on_lost)
        transport = Mock(asyncio.Transport)
        transport.is_closing.return_value = True
        wire.connection_made(transport)
        if is_told:
            wire.connection_lost(None)
        return wire

    left_behind: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: left_behind.append(context))
    monkeypatch.setattr(subscriber, "open_wire", open_wire)
    one = subscriber.Subscriber("redis://nowhere", ["wake"], name="test", timeout_ms=1_000)

    with pytest.raises(RedisUnavailable):
        await one.open()

    # An error that nobody has taken is told to the loop when its future goes; a gateway ends then.
    del one
    gc.collect()
    assert left_behind == []
