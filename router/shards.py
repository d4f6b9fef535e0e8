"""Which shard a symbol lives in, exactly as exchange.toml says. Pure.

A shard is a Redis URL and a database number. All shards have the accounts' URL today, because
admission is one atomic script on one server (design, section 8).
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from router.errors import VenueRefused

ACCOUNTS_SHARD = 0


def accounts_shard(account: int) -> int:
    """Return which accounts server an account lives on: the first and only one, so far.

    Args:
        account: the SenderCompID.
    """
    assert account >= 0, "Invariant: accounts are numbered from 0"
    return ACCOUNTS_SHARD


class Shard(msgspec.Struct, frozen=True):
    """One shard: its number, its Redis server and database, and the symbols it matches."""

    id: int
    url: str
    db: int
    symbols: tuple[str, ...]


class ShardMap:
    """Symbol → shard.

    Args:
        shards: at most one shard per symbol; exchange.toml is checked for that when it is read.
        accounts_url: the server of DB 0.

    Raises:
        VenueRefused: a shard has another server than the accounts.
    """

    __slots__ = ("_by_id", "_by_symbol", "shards")

    def __init__(self, shards: Iterable[Shard], *, accounts_url: str) -> None:
        self.shards = tuple(shards)
        self._by_id = {shard.id: shard for shard in self.shards}
        self._by_symbol = {symbol: shard for shard in self.shards for symbol in shard.symbols}
        for index, shard in enumerate(self.shards):
            if shard.url != accounts_url:
                raise VenueRefused(
                    f"shards.{index}.redis_url",
                    "expected the accounts' server: a shard cannot have one of its own yet",
                )

    @property
    def symbols(self) -> tuple[str, ...]:
        """Return all symbols, in the order of the shards."""
        return tuple(self._by_symbol)

    def of_symbol(self, symbol: str) -> Shard:
        """Return the shard of a symbol.

        Raises:
            KeyError: the venue has no such symbol.
        """
        return self._by_symbol[symbol]

    def by_id(self, shard_id: int) -> Shard:
        """Return a shard by its number.

        Raises:
            KeyError: the venue has no such shard.
        """
        return self._by_id[shard_id]
