"""What tests share: waiting for a condition with a deadline."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

DEADLINE_S = 100.0
"""Of every wait in the tests, unless a test is about time: a loaded machine is no failure."""
DEADLINE_MS = 100_000
"""The same, for links: how long they wait for a reply of Redis."""
_POLL_S = 0.005
"""Between two questions, or as long as the last one took: what is waited for needs the machine."""


def eventually(predicate: Callable[[], T], deadline_s: float = DEADLINE_S) -> T:
    """Call the predicate until it returns something true, and return that.

    Args:
        predicate: asked again and again; its exceptions pass through.
        deadline_s: seconds after which the test fails, with the last answer.
    """
    deadline = time.monotonic() + deadline_s
    while True:
        asked = time.monotonic()
        answer = predicate()
        if answer:
            return answer
        now = time.monotonic()
        assert now < deadline, _too_late(predicate, deadline_s, answer)
        time.sleep(max(_POLL_S, now - asked))


async def eventually_async(
    predicate: Callable[[], T | Awaitable[T]], deadline_s: float = DEADLINE_S
) -> T:
    """Do the same without blocking the loop; the predicate may be a coroutine function."""
    deadline = time.monotonic() + deadline_s
    while True:
        asked = time.monotonic()
        result = predicate()
        answer: T = await result if isinstance(result, Awaitable) else result
        if answer:
            return answer
        now = time.monotonic()
        assert now < deadline, _too_late(predicate, deadline_s, answer)
        await asyncio.sleep(max(_POLL_S, now - asked))


def _too_late(predicate: Callable[[], object], deadline_s: float, answer: object) -> str:
    name = getattr(predicate, "__qualname__", repr(predicate))
    return f"not within {deadline_s:g} s: {name} (last answer: {answer!r})"
