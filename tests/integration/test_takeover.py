"""Two engine processes of a shard, and a client: one is killed or hands over, the other goes on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ops.__main__ import main
from ops.engine_process import run_engine
from ops.settings import load_settings
from ops.wiring import wall_us
from router import keys
from router.errors import HomeMismatch
from router.lease import Lease
from router.process_registry import PROCESS_KEPT_S, ProcessRegistry, read_processes
from tests.engine_pair import ENGINE, STANDBY, Pair, running_pair
from tests.helpers import DEADLINE_MS, DEADLINE_S, eventually_async
from tests.venue import Peer, limit_order, running_venue

Captured = pytest.CaptureFixture[str]


@pytest.fixture
async def pair(
    redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Pair]:
    monkeypatch.setenv("SHARDEX_REDIS_URL", redis_url)
    async with running_pair(redis_url, tmp_path) as pair:
        yield pair


async def rest(peer: Peer, cl_ord_id: str) -> None:
    """Have an order rest."""
    peer.send(limit_order(cl_ord_id, 1, "1", "100"))
    await peer.expect("8", t150="0", t11=cl_ord_id)


async def cancel(peer: Peer, cl_ord_id: str, orig: str) -> None:
    """Cancel it; the next report is about that."""
    peer.send(f"35=F|11={cl_ord_id}|41={orig}|55=BTC-USD|54=1|60=now")
    await peer.expect("8", t150="4", t39="4", t11=cl_ord_id, t41=orig)


async def test_killed_leader_comes_back_as_a_follower_and_leads_again_when_asked(
    pair: Pair, capsys: Captured
) -> None:
    async with pair.venue.gateway() as gateway:
        peer = await pair.venue.trader(gateway, "user")
        await rest(peer, "a1")
        await rest(peer, "a2")
        await pair.state(STANDBY, compared=2)

        await pair.kill(ENGINE)
        await cancel(peer, "a3", "a1")
        await pair.leads(STANDBY)
        await rest(peer, "a4")
        assert f"Leads, epoch 2, after {ENGINE}:{pair.running[ENGINE].pid}:" in pair.said(STANDBY)

        pair.start(ENGINE)
        await pair.state(ENGINE, is_live=1)
        await cancel(peer, "a5", "a2")
        state = await pair.state(ENGINE, compared=1)
        assert not state.counters["is_leading"]

        assert await pair.failover("--json") == 0
        done = json.loads(capsys.readouterr().out)
        pids = {name: process.pid for name, process in pair.running.items()}
        assert (done["shard"], done["epoch"]) == (1, 3)
        assert done["previous"].startswith(f"{STANDBY}:{pids[STANDBY]}:")
        assert done["leader"].startswith(f"{ENGINE}:{pids[ENGINE]}:")
        # It ends without an error, and says why.
        assert pair.running[STANDBY].wait(DEADLINE_S) == 0
        assert f"{done['previous']} hands its shard over (epoch 2)" in pair.said(STANDBY)
        await cancel(peer, "a6", "a4")
        balance = (await pair.venue.balances(peer.account))["USD"]
        assert (balance.pending, balance.held) == (0, 0)

        async def is_gone() -> bool:
            return not await read_processes(pair.venue.link, [STANDBY])

        await eventually_async(is_gone)
        assert await pair.failover() == 1
        assert f"no other engine runs beside {done['leader']}" in capsys.readouterr().err
        assert await pair.leader() is not None
        await pair.venue.close()


async def test_failover_says_why_it_cannot_be(
    redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.setenv("SHARDEX_REDIS_URL", redis_url)
    config = str(tmp_path / "exchange.toml")

    async def refusal(*arguments: str) -> str:
        code = await asyncio.to_thread(main, ["failover", *arguments, "--config", config])
        assert code == 1
        return capsys.readouterr().err

    async with (
        running_venue(redis_url, tmp_path, engines=False) as venue,
        venue.link.sibling(1) as shard_link,
    ):
        live = 0
        follower = ProcessRegistry(
            venue.link,
            name=STANDBY,
            pid=2,
            version="1",
            now_us=wall_us,
            counters=lambda: {"is_live": live},
        )

        async def give_sign() -> None:
            """Give a sign of life that is not old before it is read."""
            await follower.refresh()
            kept_ms = PROCESS_KEPT_S * 1_000 + DEADLINE_MS
            await venue.link.call("PEXPIRE", keys.process(STANDBY), kept_ms)

        assert "shard 9: no [[shards]] block has this id" in await refusal("9")
        assert "shard 1: nobody leads it" in await refusal("1")
        lease = Lease(shard_link, owner="engine-1:1:a", ttl_ms=60_000)
        assert await lease.try_acquire() is None
        assert "no other engine runs beside engine-1:1:a; `shardex up --st" in await refusal("1")
        await give_sign()
        assert "shard 1: engine-1-standby still recovers" in await refusal("1")
        live = 1
        await give_sign()
        slow = "engine-1:1:a was asked, but nobody else leads it after 1 s"
        assert slow in await refusal("1", "--timeout-s", "1")


async def test_engine_refuses_a_symbol_that_another_shard_owns(
    redis_url: str, tmp_path: Path
) -> None:
    async with running_venue(redis_url, tmp_path, engines=False):
        config = tmp_path / "exchange.toml"
        text = config.read_text()
        moved = text.replace('["BTC-USD"]', '["?"]').replace('["ETH-USD"]', '["BTC-USD"]')
        config.write_text(moved.replace('["?"]', '["ETH-USD"]'))

        with pytest.raises(HomeMismatch, match=r"USD lives in shard 2 .*, not in shard 1"):
            await run_engine(load_settings(config, {}), redis_url, 2)
