"""What an engine compares with its journal before it reads the streams."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import pytest

from engine.journal_keys import LEDGER, skip_key
from engine.journal_reader import JournalReader
from ops import engine_server
from ops.engine_server import ServerCheck
from router.errors import LostWrites, OutOfMemory
from router.lease import Lease
from router.redis_client import RedisLink
from router.shards import Shard
from router.skips import Skips
from tests.router_helpers import BTC, ETH

URL = "redis://127.0.0.1:1"


async def nothing() -> None:
    """Nothing waits to be done."""


def check_with(
    journalled: Mapping[str, int],
    skips: Skips,
    *,
    on_cleared: Callable[[], Awaitable[None]] = nothing,
) -> ServerCheck:
    link = RedisLink(URL, db=0, name="none", timeout_ms=1)
    return ServerCheck(
        link,
        link,
        Lease(link, owner="engine-1:1:a", ttl_ms=300),
        Shard(1, URL, 1, (BTC, ETH)),
        with_ledger=True,
        skips=skips,
        own=JournalReader(Path("none")),
        journalled=journalled,
        other=None,
        written=dict,
        committed=dict,
        on_cleared=on_cleared,
    )


def test_streams_and_skips_may_go_on_behind_the_journal() -> None:
    journalled = {BTC: 7, skip_key(BTC): 3, LEDGER: 5}
    check = check_with(journalled, {BTC: {3: "bad", 9: "worse"}, ETH: {4: "x"}})
    check.check_ends({BTC: 7, ETH: 2})
    assert check.ledger_position == 5
    assert check_with({}, {BTC: {}, ETH: {}}).ledger_position == 0


def test_commands_and_skips_that_the_journal_has_alone_are_listed() -> None:
    check = check_with({BTC: 7, ETH: 9, skip_key(ETH): 6}, {BTC: {}, ETH: {2: "before", 8: "next"}})
    with pytest.raises(LostWrites) as caught:
        check.check_ends({BTC: 5, ETH: 9})
    assert caught.value.lost == (("orders:BTC-USD", 6, 7), ("skips:ETH-USD", 6, 6))
    assert str(caught.value) == (
        "shard 1: Redis has lost what the journal has: orders:BTC-USD lacks 6 to 7 (2);"
        " skips:ETH-USD lacks 6; to put it back: shardex repair 1"
    )


@pytest.fixture
def cleared(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The servers that were cleared, in memory; each of them stays so."""
    servers: list[str] = []

    async def clear(link: RedisLink, lease: Lease, shard: Shard, **_: object) -> None:
        servers.append(lease.run_id)

    async def is_cleared(check: ServerCheck) -> bool:
        return check._lease.run_id in servers

    async def check_skips(link: RedisLink, known: Skips) -> None:
        """Nothing was skipped."""

    monkeypatch.setattr(engine_server, "clear", clear)
    monkeypatch.setattr(engine_server, "check_skips", check_skips)
    monkeypatch.setattr(ServerCheck, "_is_cleared", is_cleared)
    return servers


async def test_server_that_comes_back_with_its_old_mark_is_compared_again(
    cleared: list[str],
) -> None:
    check = check_with({}, {})
    for server in ("a", "a", "b", "a", "a"):
        check._lease._link.run_id = server
        await check.check()
    assert cleared == ["a", "b", "a"]


async def test_what_waits_until_a_server_is_cleared_is_done_once_however_often_it_fails(
    cleared: list[str],
) -> None:
    tries = 0

    async def refused_at_first() -> None:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise OutOfMemory("OOM")

    check = check_with({}, {}, on_cleared=refused_at_first)
    check._lease._link.run_id = "a"
    with pytest.raises(OutOfMemory):
        await check.check()
    await check.check()
    await check.check()
    assert (cleared, tries) == (["a"], 2)
