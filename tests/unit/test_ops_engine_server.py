"""What an engine compares with its journal before it reads the streams."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from engine.journal_keys import LEDGER, skip_key
from engine.journal_reader import JournalReader
from ops.engine_server import ServerCheck
from router.errors import LostWrites
from router.lease import Lease
from router.redis_client import RedisLink
from router.shards import Shard
from router.skips import Skips
from tests.router_helpers import BTC, ETH

URL = "redis://127.0.0.1:1"


async def nothing() -> None:
    """Nothing waits to be done."""


def check_with(journalled: Mapping[str, int], skips: Skips) -> ServerCheck:
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
        on_cleared=nothing,
    )


def test_streams_and_skips_may_go_on_behind_the_journal() -> None:
    journalled = {BTC: 7, skip_key(BTC): 3, LEDGER: 5}
    check = check_with(journalled, {BTC: {3: "bad", 9: "worse"}, ETH: {4: "x"}})
    check.check_ends({BTC: 7, ETH: 2})
    assert check.ledger_position == 5
    assert check_with({}, {BTC: {}, ETH: {}}).ledger_position == 0


def test_commands_and_skips_that_the_journal_has_alone_are_listed() -> None:
    check = check_with({BTC: 7, ETH: 9, skip_key(ETH): 6}, {BTC: {}, ETH: {2: "before"}})
    with pytest.raises(LostWrites) as caught:
        check.check_ends({BTC: 5, ETH: 9})
    assert caught.value.lost == (("orders:BTC-USD", 6, 7), ("skips:ETH-USD", 6, 6))
