"""When a gateway decides that a client is gone: after a lease of prompt answers, and no pause."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway import disconnects
from gateway.disconnects import Disconnects
from router.disconnects import Disconnected

# Longer than any pause of the machine between two lines of a test.
LEASE_S = 3_600.0
PAUSE_MAX_S = 600.0


class Look:
    """A gateway that looks, and whom it has found gone; account 7 is always due."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.decided: list[int] = []
        self.looker = Disconnects(
            None,  # type: ignore[arg-type]  # nothing asks it
            dict,
            lease_s=LEASE_S,
            pause_max_s=PAUSE_MAX_S,
        )
        monkeypatch.setattr(disconnects, "read_due", self._read_due)
        monkeypatch.setattr(disconnects, "disconnect", self._disconnect)

    async def look(self, *, steady_s: float, took_s: float = 0.0) -> list[int]:
        """Look once, after prompt answers for so long; return who was found gone."""
        now_s = asyncio.get_running_loop().time()
        self.looker._steady_since_s = now_s - steady_s
        await self.looker._look(now_s - took_s)
        return self.decided

    async def _read_due(self, link: Any) -> list[int]:
        return [7]

    async def _disconnect(self, link: Any, account: int, homes: Any) -> Disconnected:
        self.decided.append(account)
        return Disconnected(1, 0)


@pytest.fixture
def look(monkeypatch: pytest.MonkeyPatch) -> Look:
    return Look(monkeypatch)


async def test_who_is_due_is_gone_after_a_lease_of_prompt_answers(look: Look) -> None:
    assert await look.look(steady_s=LEASE_S + 0.1) == [7]


async def test_nobody_is_gone_before(look: Look) -> None:
    assert await look.look(steady_s=LEASE_S / 2) == []


async def test_an_answer_that_came_after_a_pause_says_nothing(look: Look) -> None:
    steady_s = 2 * LEASE_S
    assert await look.look(steady_s=steady_s, took_s=PAUSE_MAX_S + 0.1) == []
    assert look.looker._steady_since_s is None
