"""An engine whose output is not the published one stops, and stays so until somebody has looked."""

from __future__ import annotations

import asyncio
import errno
import os
from pathlib import Path

import pytest

from engine.events import Output, encode_output
from ops import engine_process
from ops.engine_process import run_engine
from ops.engine_server import DIFFERENCE_MARK
from ops.errors import EngineDiffered
from ops.wiring import snapshot_directory
from router import keys
from router.errors import OutputDiffers
from router.lease import Lease, read_leader
from router.process_registry import read_processes
from tests.helpers import DEADLINE_S, eventually_async
from tests.venue import running_venue


def refuse(path: Path, text: str) -> int:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


async def test_engine_that_differed_is_refused_until_its_mark_is_removed(
    redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_process, "CLEAR_TIMEOUT_S", DEADLINE_S)
    async with running_venue(redis_url, tmp_path, engines=False) as venue:
        mark = snapshot_directory(venue.settings, "engine-1-standby") / DIFFERENCE_MARK
        published = encode_output(Output("BTC-USD", 1, 5, [], []))
        async with venue.link.sibling(1) as link:
            leader = Lease(link, owner="leader", ttl_ms=3_600_000)
            await leader.try_acquire()
            await link.call("XADD", keys.events("BTC-USD"), "1-0", "e", published)

            with monkeypatch.context() as full_disk:
                full_disk.setattr(Path, "write_text", refuse)
                with pytest.raises(OutputDiffers, match="published: "):
                    await run_engine(venue.settings, redis_url, 1, standby=True)
            assert not mark.exists()

            with pytest.raises(OutputDiffers, match="published: "):
                await run_engine(venue.settings, redis_url, 1, standby=True)
            assert "ours:" in mark.read_text()

            await leader.release()
            for database in (link, venue.link):
                await database.call("SET", keys.CLEARED, "another server")
            with pytest.raises(EngineDiffered, match="published: "):
                await run_engine(venue.settings, redis_url, 1, standby=True)
            assert await read_leader(link) is None
            for database in (link, venue.link):
                assert await database.call("GET", keys.CLEARED) == link.run_id.encode(), (
                    "other shards trade on"
                )

            mark.unlink()
            await link.call("DEL", keys.events("BTC-USD"))
            again = asyncio.create_task(run_engine(venue.settings, redis_url, 1, standby=True))

            async def is_live() -> bool:
                assert not again.done()
                state = (await read_processes(venue.link, ["engine-1-standby"])).values()
                return any(one.counters["is_live"] for one in state)

            await eventually_async(is_live)
            again.cancel()
            await asyncio.gather(again, return_exceptions=True)
