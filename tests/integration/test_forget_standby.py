"""A second engine that never got going, or is not coming back, holds back no trimming."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from engine.errors import RecoveryGap
from ops.__main__ import main
from ops.data_dir import DATA_DIRECTORY_VERSION, read_versions
from ops.engine_process import run_engine
from router import keys
from router.process_registry import PROCESS_KEPT_S, ProcessRegistry
from tests.router_helpers import BTC
from tests.venue import Venue, running_venue

STANDBY = "engine-1-standby"


async def needs(venue: Venue, name: str) -> bool:
    return bool(await venue.link.call("EXISTS", keys.position_engine(name)))


async def test_a_standby_that_cannot_begin_is_forgotten_and_a_first_engine_is_not(
    redis_url: str, tmp_path: Path
) -> None:
    async with running_venue(redis_url, tmp_path, engines=False) as venue:
        async with venue.link.sibling(1) as link:
            await link.call("XADD", keys.orders(BTC), "2-0", "c", "command", "t", 5)
            await link.call("XTRIM", keys.orders(BTC), "MINID", "2-0")
        with pytest.raises(RecoveryGap, match="seq 1 is needed"):
            await run_engine(venue.settings, redis_url, 1, standby=True)
        assert not await needs(venue, STANDBY)
        # Begun without `up`, its data directory says of which version it is.
        assert read_versions(venue.settings.var_dir) == {"data_directory": DATA_DIRECTORY_VERSION}
        with pytest.raises(RecoveryGap, match="seq 1 is needed"):
            await run_engine(venue.settings, redis_url, 1)
        assert await needs(venue, "engine-1")


async def test_an_operator_forgets_a_standby_that_does_not_run(
    redis_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("SHARDEX_REDIS_URL", redis_url)
    async with running_venue(redis_url, tmp_path, engines=False) as venue:

        async def forget(shard: str = "1") -> tuple[int, str]:
            command = ["forget-standby", shard, "--config", str(tmp_path / "exchange.toml")]
            code = await asyncio.to_thread(main, command)
            printed = capsys.readouterr()
            return code, (printed.out + printed.err).strip()

        await venue.link.call("HSET", keys.position_engine(STANDBY), BTC, 1)
        registry = ProcessRegistry(
            venue.link, name=STANDBY, pid=7, version="1", now_us=lambda: 5, counters=dict
        )
        await registry.refresh()
        # However long it takes to ask, this sign of life is not old.
        await venue.link.call("EXPIRE", keys.process(STANDBY), 2 * PROCESS_KEPT_S)
        refused = (1, f"shardex: {STANDBY} runs (process 7): stop it first")
        assert await forget() == refused
        assert await needs(venue, STANDBY)
        await registry.remove()
        assert await forget() == (0, f"shard 1: orders are kept no longer for {STANDBY}")
        assert not await needs(venue, STANDBY)
        neither = f"shard 1: no orders were kept for {STANDBY}"
        assert await forget() == (0, neither)
        assert (await forget("9"))[0] == 1
