"""ops.reconcile_watch: what is found is said once, in bounded words, and when it is over."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from engine.errors import DecodeError
from ops import reconcile_watch
from ops.reconcile import Difference
from ops.reconcile_watch import ALARMS_SHOWN_MAX, ReconcileWatch
from router.errors import RedisUnavailable
from router.redis_client import RedisLink

ONE = Difference("money", "USD", "accounts own 1, deposits - withdrawals are 0")


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[list[Difference] | Exception]]:
    """What the next looks find; the test fills it."""
    results: list[list[Difference] | Exception] = []

    async def next_result(_: RedisLink) -> list[Difference]:
        result = results.pop(0)
        if isinstance(result, Exception):
            raise result
        return result

    monkeypatch.setattr(reconcile_watch, "reconcile_cut", next_result)
    yield results
    assert not results


async def said_at_each_look(count: int) -> list[list[str]]:
    said: list[str] = []
    watch = ReconcileWatch(RedisLink("redis://unused", db=0, name="", timeout_ms=1), 1, said.append)
    told = []
    for _ in range(count):
        await watch.look()
        told.append(said[:])
        said.clear()
    return told


async def test_a_difference_is_said_once_and_so_is_its_end(
    looks: list[list[Difference] | Exception],
) -> None:
    looks += [[], [ONE], [ONE], [], []]
    alarm = ["ALARM reconcile: money: USD: accounts own 1, deposits - withdrawals are 0"]
    over = ["reconcile: no difference any more"]
    assert await said_at_each_look(5) == [[], alarm, [], over, []]


async def test_of_many_differences_some_are_said(
    looks: list[list[Difference] | Exception],
) -> None:
    looks.append([ONE] * (ALARMS_SHOWN_MAX + 1))
    (said,) = await said_at_each_look(1)
    assert len(said) == ALARMS_SHOWN_MAX + 1
    assert said[-1].endswith(f"{ALARMS_SHOWN_MAX + 1} differences; shardex reconcile shows all")


async def test_redis_away_is_no_alarm_and_what_cannot_be_read_is_one(
    looks: list[list[Difference] | Exception],
) -> None:
    looks += [RedisUnavailable("away"), DecodeError("not a balance")]
    assert await said_at_each_look(2) == [[], ["ALARM reconcile: not a balance"]]
