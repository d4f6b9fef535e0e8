"""Redis without memory: engines wait, with their lease and with what they have to settle."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from engine.settlement import Settlement
from router.commit import Committer
from router.leadership import Leadership
from router.lease import Lease, read_leader
from router.redis_client import RedisLink
from tests.helpers import eventually_async
from tests.router_helpers import make_link, no_memory
from tests.venue import limit_order, running_venue


async def test_lease_is_acquired_and_kept_as_soon_as_there_is_memory(redis_url: str) -> None:
    async with make_link(redis_url, db=1) as link, make_link(redis_url, db=1) as other:
        lease = Lease(link, owner="engine-1", ttl_ms=300)

        async def clear() -> None:
            """Nothing is committed here."""

        async with no_memory(other):
            before = await _refused_calls(other)
            leadership = Leadership(lease, check=clear, ready=lambda: True)
            keeping = asyncio.create_task(leadership.keep())

            async def was_refused() -> bool:
                return await _refused_calls(other) > before

            await eventually_async(was_refused)
            assert not leadership.is_leading
        await leadership.wait_until_leading()

        async def has_run_out() -> bool:
            return await read_leader(other) is None

        async with no_memory(other):
            await eventually_async(has_run_out)
            assert not keeping.done()
        await eventually_async(lambda: read_leader(other))
        keeping.cancel()
        with suppress(asyncio.CancelledError):
            await keeping


async def _refused_calls(link: RedisLink) -> int:
    stats = await link.call("INFO", "stats")
    return int(stats.split(b"total_error_replies:")[1].split(b"\r\n")[0])


async def test_an_engine_waits_for_memory_with_what_it_has_to_settle(
    redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit, may_commit = Committer.commit, asyncio.Event()
    committers: list[Committer] = []

    async def commit_when_told(self: Committer, batch: Sequence[Settlement]) -> None:
        committers.append(self)
        await may_commit.wait()
        await commit(self, batch)

    monkeypatch.setattr(Committer, "commit", commit_when_told)
    async with running_venue(redis_url, tmp_path, engines=False) as venue, venue.gateway() as one:
        peer = await venue.trader(one, "user")
        peer.send(limit_order("a1", 1, "1", "1"))
        await eventually_async(lambda: one.stats()["admitted"])
        async with venue.engine(1):
            await eventually_async(lambda: committers)
            async with no_memory(venue.link):
                reserved = (await venue.balances(peer.account))["USD"]
                may_commit.set()
                await eventually_async(lambda: not committers[0].available)
                peer.send("35=1|112=x")
                await peer.expect("0", t112="x")
                assert (await venue.balances(peer.account))["USD"] == reserved
            await peer.expect("8", t150="0", t11="a1")
        assert (await venue.balances(peer.account))["USD"].pending == 0
