"""The shard map: exactly what exchange.toml says, on one server."""

from __future__ import annotations

import pytest

from router.errors import VenueRefused
from router.shards import ACCOUNTS_SHARD, Shard, ShardMap, accounts_shard

URL = "redis://127.0.0.1:6390"


def test_symbols_are_found_in_their_shards() -> None:
    first, second = Shard(1, URL, 1, ("BTC-USD", "ETH-USD")), Shard(2, URL, 7, ("SOL-USD",))
    shards = ShardMap([first, second], accounts_url=URL)

    assert shards.symbols == ("BTC-USD", "ETH-USD", "SOL-USD")
    assert shards.of_symbol("ETH-USD") is first
    assert shards.of_symbol("SOL-USD") is second
    assert shards.by_id(2) is second
    with pytest.raises(KeyError):
        shards.of_symbol("XRP-USD")


def test_shard_with_a_server_of_its_own_is_refused_by_key() -> None:
    other = Shard(2, "redis://elsewhere:6390", 2, ("SOL-USD",))

    with pytest.raises(VenueRefused) as caught:
        ShardMap([Shard(1, URL, 1, ("BTC-USD",)), other], accounts_url=URL)

    assert caught.value.key == "shards.1.redis_url"


def test_all_accounts_live_on_the_first_server() -> None:
    assert {accounts_shard(account) for account in range(100)} == {ACCOUNTS_SHARD}
