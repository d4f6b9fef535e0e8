"""``shardex up --standby``: two engines per shard, seen by operators; without it, one again."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import redis
from psycopg import sql

from ops.embedded_postgres import EmbeddedPostgres
from ops.embedded_redis import EmbeddedRedis
from router import keys
from tests.exchange_process import ExchangeProcess
from tests.helpers import eventually

DATABASE = "test_up_standby"
ENGINES = ("engine-1", "engine-1-standby", "engine-2", "engine-2-standby")


@pytest.fixture
def exchange(
    tmp_path: Path, embedded_redis: EmbeddedRedis, embedded_postgres: EmbeddedPostgres
) -> Iterator[ExchangeProcess]:
    with redis.Redis.from_url(embedded_redis.url) as client:
        client.flushall()
    with psycopg.connect(embedded_postgres.url, autocommit=True) as db:
        db.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))
    process = ExchangeProcess(
        tmp_path,
        SHARDEX_ENGINE__LEASE_TTL_MS="20000",
        SHARDEX_REDIS_URL=embedded_redis.url,
        SHARDEX_POSTGRES_URL=embedded_postgres.url.rpartition("/")[0] + f"/{DATABASE}",
    )
    process.options = ("--standby",)
    try:
        process.start()
        yield process
    finally:
        process.stop()


def end_lease(exchange: ExchangeProcess) -> None:
    """End the lease of shard 1, whose leader is gone; else that takes its time."""
    with redis.Redis.from_url(exchange.environment["SHARDEX_REDIS_URL"], db=1) as client:
        client.hset(keys.LEASE, "until_ms", 0)


async def test_standbys_follow_take_over_stop_and_are_forgotten(exchange: ExchangeProcess) -> None:
    def roles_of_pairs() -> dict[str, str]:
        """Return the roles where each shard has both, and nothing is amiss."""
        status = exchange.json("status")
        found = {one["name"]: one["role"] for one in status["engines"]}
        pairs = [{found.get(name) for name in ENGINES[at : at + 2]} for at in (0, 2)]
        if pairs != [{"leads", "follows"}] * 2 or status["problems"]:
            return {}
        assert set(status["lags"]) == {*ENGINES, "marketdata", "writer"}
        return found

    roles = eventually(roles_of_pairs)
    leader = next(name for name in ENGINES[:2] if roles[name] == "leads")
    follower = next(name for name in ENGINES[:2] if name != leader)
    peer = await exchange.log_on(0)
    peer.send("35=D|11=s1|55=ALFA-USD|54=1|60=now|38=3|40=2|44=7.00")
    await peer.expect("8", t150="0", t11="s1")

    pid = exchange.pid_of(leader)
    os.kill(pid, signal.SIGKILL)
    said = f"{leader} ended by SIGKILL; starting it again in 0.5 s"
    eventually(lambda: said in exchange.said)
    end_lease(exchange)
    peer.send("35=F|11=s2|41=s1|55=ALFA-USD|54=1|60=now")
    await peer.expect("8", t150="4", t11="s2", t41="s1")
    # Or the killed one, where it is back before its lease has run out.
    takeover = re.compile(rf"({leader}|{follower}): router: Leads, epoch 2, after {leader}:{pid}:")
    eventually(lambda: takeover.search(exchange.said))
    await peer.close()

    eventually(lambda: f"{leader} runs again" in exchange.said)
    eventually(roles_of_pairs)
    for name in ENGINES:
        # Both roles end when they are asked to, however busy the machine is.
        os.kill(exchange.pid_of(name), signal.SIGTERM)
        eventually(lambda: f"{name} ended cleanly" in exchange.said)  # noqa: B023
    assert exchange.signal(signal.SIGINT) == 0
    with redis.Redis.from_url(exchange.environment["SHARDEX_REDIS_URL"]) as client:
        assert client.exists("position:engine-1-standby") == 1
        exchange.options = ()
        exchange.start_until("Starting the exchange")
        assert client.exists("position:engine-1-standby") == 0
