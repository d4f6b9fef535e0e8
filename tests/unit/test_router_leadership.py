"""When an engine leads: after it is ready, has the lease, and has checked the server."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from router.errors import Fenced, HandedOver, HomeMismatch, OutOfMemory, RedisUnavailable
from router.leadership import Leadership
from router.lease import Held, Lease
from router.redis_client import RedisLink
from tests.helpers import eventually_async

Answer = Held | Exception | None


class ScriptedLease(Lease):
    """Answers as a test says; when that is used up, everything succeeds."""

    def __init__(self, *, acquires: list[Answer] | None = None) -> None:
        link = RedisLink("redis://127.0.0.1:1", db=0, name="none", timeout_ms=1)
        super().__init__(link, owner="engine-1:1:a", ttl_ms=3)
        self.acquires = acquires or []
        self.renewals: list[Exception] = []
        self.server = "server-a"
        self.acquired = 0
        self.renewed = 0

    @property
    def run_id(self) -> str:
        return self.server

    async def try_acquire(self) -> Held | None:
        answer = self.acquires.pop(0) if self.acquires else None
        if isinstance(answer, Exception):
            raise answer
        if answer is None:
            self.acquired += 1
            self.epoch += 1
        return answer

    async def renew(self) -> None:
        if self.renewals:
            raise self.renewals.pop(0)
        self.renewed += 1


async def nothing() -> None:
    """Check nothing."""


@asynccontextmanager
async def kept(
    lease: Lease,
    *,
    check: Callable[[], Awaitable[None]] = nothing,
    ready: Callable[[], bool] = lambda: True,
) -> AsyncIterator[tuple[Leadership, asyncio.Task[None]]]:
    leadership = Leadership(lease, check=check, ready=ready)
    keeping = asyncio.create_task(leadership.keep())
    try:
        yield leadership, keeping
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)


async def test_engine_that_is_not_live_does_not_acquire() -> None:
    lease, asked, live = ScriptedLease(), 0, False

    def ready() -> bool:
        nonlocal asked
        asked += 1
        return live

    async with kept(lease, ready=ready) as (leadership, _):
        await eventually_async(lambda: asked >= 3)
        assert lease.acquired == 0
        live = True
        await leadership.wait_until_leading()
        assert lease.acquired == 1


async def test_lease_is_renewed_while_the_server_is_checked() -> None:
    lease, compared = ScriptedLease(), asyncio.Event()

    async def check() -> None:
        await compared.wait()

    async with kept(lease, check=check) as (leadership, _):
        await eventually_async(lambda: lease.renewed >= 3)
        assert not leadership.is_leading
        compared.set()
        await leadership.wait_until_leading()
        assert leadership.is_leading


async def test_takeover_names_the_predecessor(caplog: pytest.LogCaptureFixture) -> None:
    lease = ScriptedLease(acquires=[Held("engine-1:7:b", 1), Held("engine-1:7:b", 1)])

    async with kept(lease) as (leadership, _):
        await leadership.wait_until_leading()

    assert [one.getMessage() for one in caplog.records] == ["Leads, epoch 1, after engine-1:7:b"]


async def test_first_leader_is_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        async with kept(ScriptedLease()) as (leadership, _):
            await leadership.wait_until_leading()

    assert [(one.levelname, one.getMessage()) for one in caplog.records] == [
        ("INFO", "Leads, epoch 1")
    ]


@pytest.mark.parametrize("error", [Fenced("lost"), HandedOver("asked")])
async def test_end_of_the_lease_ends_the_keeping(error: Exception) -> None:
    lease = ScriptedLease()
    async with kept(lease) as (leadership, keeping):
        await leadership.wait_until_leading()
        lease.renewals.append(error)

        with pytest.raises(type(error)):
            await keeping


async def test_lease_lost_during_the_check_ends_it() -> None:
    lease, never = ScriptedLease(), asyncio.Event()
    lease.renewals.append(Fenced("lost"))

    async def check() -> None:
        await never.wait()

    async with kept(lease, check=check) as (leadership, keeping):
        with pytest.raises(Fenced):
            await keeping
        assert not leadership.is_leading


async def test_failed_check_ends_it_without_having_led() -> None:
    async def check() -> None:
        raise HomeMismatch("other")

    async with kept(ScriptedLease(), check=check) as (leadership, keeping):
        with pytest.raises(HomeMismatch):
            await keeping
        assert not leadership.is_leading


async def test_other_server_is_checked_once_too() -> None:
    lease, checked = ScriptedLease(), list[str]()

    async def check() -> None:
        checked.append(lease.run_id)

    async with kept(lease, check=check) as (leadership, _):
        await leadership.wait_until_leading()
        lease.server = "server-b"
        await eventually_async(lambda: len(checked) == 2)
        renewed = lease.renewed
        await eventually_async(lambda: lease.renewed >= renewed + 3)

        assert checked == ["server-a", "server-b"]
        assert leadership.is_leading


async def test_redis_that_is_away_or_full_is_waited_for() -> None:
    lease = ScriptedLease(acquires=[RedisUnavailable("away"), OutOfMemory("full")])
    lease.renewals += [RedisUnavailable("away"), OutOfMemory("full")]
    failures: list[Exception] = [RedisUnavailable("away"), OutOfMemory("full")]

    async def check() -> None:
        if failures:
            raise failures.pop()

    async with kept(lease, check=check) as (leadership, _):
        await leadership.wait_until_leading()
        await eventually_async(lambda: lease.renewed >= 1)
        assert not lease.renewals
