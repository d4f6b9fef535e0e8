"""``shardex up --standby``: two engines per shard, seen by operators; without it, one again."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis
from psycopg import sql

from ops.embedded_postgres import EmbeddedPostgres
from ops.embedded_redis import EmbeddedRedis
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
        SHARDEX_REDIS_URL=embedded_redis.url,
        SHARDEX_POSTGRES_URL=embedded_postgres.url.rpartition("/")[0] + f"/{DATABASE}",
    )
    process.options = ("--standby",)
    try:
        process.start()
        yield process
    finally:
        process.stop()


def roles(exchange: ExchangeProcess) -> dict[str, str]:
    engines: list[dict[str, Any]] = exchange.json("status")["engines"]
    return {one["name"]: one["role"] for one in engines}


async def test_standbys_follow_take_over_stop_and_are_forgotten(exchange: ExchangeProcess) -> None:
    def has_two_roles() -> bool:
        found = roles(exchange)
        pairs = [{found.get(name) for name in ENGINES[at : at + 2]} for at in (0, 2)]
        return pairs == [{"leads", "follows"}] * 2

    eventually(has_two_roles)
    status = exchange.json("status")
    assert status["problems"] == []
    assert set(status["lags"]) == {*ENGINES, "marketdata", "writer"}
    leader = next(name for name in ENGINES[:2] if roles(exchange)[name] == "leads")
    follower = next(name for name in ENGINES[:2] if name != leader)
    peer = await exchange.log_on(0)
    peer.send("35=D|11=s1|55=ALFA-USD|54=1|60=now|38=3|40=2|44=7.00")
    await peer.expect("8", t150="0", t11="s1")

    pid = exchange.pid_of(leader)
    os.kill(pid, signal.SIGKILL)
    peer.send("35=F|11=s2|41=s1|55=ALFA-USD|54=1|60=now")
    await peer.expect("8", t150="4", t11="s2", t41="s1")
    assert f"{leader} ended by SIGKILL; starting it again in 0.5 s" in exchange.said
    # Or the killed one, where it is back before its lease has run out.
    takeover = re.compile(rf"({leader}|{follower}): router: Leads, epoch 2, after {leader}:{pid}:")
    eventually(lambda: takeover.search(exchange.said))
    await peer.close()

    assert exchange.signal(signal.SIGINT) == 0
    assert "did not stop" not in exchange.said
    with redis.Redis.from_url(exchange.environment["SHARDEX_REDIS_URL"]) as client:
        assert client.exists("position:engine-1-standby") == 1
        exchange.options = ()
        exchange.start_until("Starting the exchange")
        assert client.exists("position:engine-1-standby") == 0
