"""What tests of the router share: a small venue in Redis, and a connection that loses replies."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import msgspec

from engine.events import BalanceChange
from engine.instrument import SymbolRules, define_rules
from engine.settlement import Settlement
from engine.turn import OpenUpdate
from router import keys
from router.homes import Home, define_symbols
from router.redis_client import RedisLink
from router.shards import Shard
from tests.helpers import DEADLINE_MS

BACKLOG_MAX = 100_000
BTC, ETH, SOL = "BTC-USD", "ETH-USD", "SOL-USD"


def make_link(url: str, *, db: int = 0, timeout_ms: int = DEADLINE_MS) -> RedisLink:
    """Return a link with a name and a time-out for tests."""
    return RedisLink(url, db=db, name="test", timeout_ms=timeout_ms)


def make_rules(symbol: str = BTC, **changed: str | int) -> SymbolRules:
    """Return the rules of a symbol like ``BTC-USD``: tick 0.01, lot 1, scales 2, no fees."""
    base, _, quote = symbol.partition("-")
    values: dict[str, str | int] = {
        "symbol": symbol,
        "base": base,
        "quote": quote,
        "base_scale": 2,
        "quote_scale": 2,
        "tick_size": "0.01",
        "lot_size": "1",
        "min_qty": "1",
        "max_qty": "500",
        "min_notional": "0",
        "maker_fee_ppm": 0,
        "taker_fee_ppm": 0,
        "version": 1,
    }
    return define_rules(**{**values, "max_price": None, **changed})  # type: ignore[arg-type]


class SmallVenue(msgspec.Struct):
    """Three symbols in two shards: BTC-USD and ETH-USD in database 1, SOL-USD in database 2."""

    link: RedisLink
    shards: list[Shard]
    rules: dict[str, SymbolRules]
    homes: dict[str, Home]
    links: list[RedisLink]

    def new_link(self, db: int = 0) -> RedisLink:
        """Return another link, closed with the venue."""
        link = self.link.sibling(db)
        self.links.append(link)
        return link

    def shard_homes(self, shard_id: int) -> dict[str, Home]:
        """Return the homes of one shard's symbols."""
        return {symbol: home for symbol, home in self.homes.items() if home.shard == shard_id}

    async def give(self, account: int, asset: str, amount: int) -> None:
        """Make an amount available, without a ledger entry."""
        await self.link.call("HINCRBY", keys.balances(account), keys.available(asset), str(amount))

    async def open_session(self, account: int, *, epoch: int = 1) -> None:
        """Have an account's FIX session at this epoch."""
        await self.link.call("HSET", keys.session(account), "epoch", epoch)

    async def balance(self, account: int, asset: str) -> tuple[int, int, int]:
        """Return available, pending and held."""
        fields = (keys.available(asset), keys.pending(asset), keys.held(asset))
        values = await self.link.call("HMGET", keys.balances(account), *fields)
        available, pending, held = (int(value or 0) for value in values)
        return available, pending, held

    async def stream(self, key: str, *, db: int = 0) -> list[tuple[int, dict[str, bytes]]]:
        """Return a dense stream: number and fields of each entry."""
        async with self.link.sibling(db) as link:
            entries = await link.call("XRANGE", key, "-", "+")
        return [
            (
                int(entry_id.partition(b"-")[0]),
                {n.decode(): v for n, v in zip(fields[::2], fields[1::2], strict=True)},
            )
            for entry_id, fields in entries
        ]

    async def dump(self) -> dict[str, object]:
        """Return everything in DB 0 to 2 that is not a stamp: to compare two histories."""
        content: dict[str, object] = {}
        for db in range(3):
            async with self.link.sibling(db) as link:
                for key in await link.call("KEYS", "*"):
                    content[f"{db} {key.decode()}"] = await link.call("DUMP", key)
        return content


async def clear_server(link: RedisLink, *dbs: int) -> None:
    """Let write what counts, as engines do after they have compared streams and journals."""
    await link.call("PING")
    for db in dbs:
        async with link.sibling(db) as other:
            await other.call("SET", keys.CLEARED, link.run_id)


@asynccontextmanager
async def small_venue(
    url: str, rules: Mapping[str, SymbolRules] | None = None
) -> AsyncIterator[SmallVenue]:
    """Define the small venue in an empty Redis."""
    shards = [Shard(1, url, 1, (BTC, ETH)), Shard(2, url, 2, (SOL,))]
    all_rules = {symbol: make_rules(symbol) for symbol in (BTC, ETH, SOL)} | dict(rules or {})
    async with make_link(url) as link:
        homes = await define_symbols(link, shards, all_rules)
        await clear_server(link, 0, *(shard.db for shard in shards))
        venue = SmallVenue(link, shards, all_rules, homes, [])
        yield venue
        for other in venue.links:
            await other.close()


class MadeSettlement(Settlement, frozen=True, gc=False, kw_only=True):
    """One whose reports are given instead of made of events."""

    told: list[tuple[int, bytes]]

    def reports(self) -> list[tuple[int, bytes]]:
        return self.told


def settlement(
    symbol: str,
    seq: int,
    *changes: BalanceChange,
    reports: list[tuple[int, bytes]] | None = None,
    opens: list[OpenUpdate] | None = None,
    event: bytes = b"",
    bbo: tuple[int, int] = (0, 0),
) -> Settlement:
    """Return what a commit needs of one input; its bytes name it unless given."""
    body = event or f"{symbol} {seq}".encode()
    return MadeSettlement(
        symbol, seq, 0, body, [], list(changes), opens or [], *bbo, told=reports or []
    )


@asynccontextmanager
async def no_memory(link: RedisLink) -> AsyncIterator[None]:
    """Have Redis refuse whatever would need more memory."""
    limit = (await link.call("CONFIG", "GET", "maxmemory"))[1]
    await link.call("CONFIG", "SET", "maxmemory", 1)
    try:
        yield
    finally:
        await link.call("CONFIG", "SET", "maxmemory", limit)


class LossyProxy:
    """Stands between a client and Redis, and can lose replies: the command was carried out.

    Attributes:
        url: where to connect instead.
        replies_to_lose: so many times, the next reply ends the connection instead of passing.
        refused: True refuses connections.
    """

    def __init__(self, url: str) -> None:
        self._target = urlsplit(url)
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self.replies_to_lose = 0
        self.lost = 0
        self.refused = False
        self.url = ""

    async def __aenter__(self) -> LossyProxy:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"redis://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        assert self._server is not None
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.gather(*self._tasks)

    def cut(self) -> None:
        """End all connections, and refuse new ones."""
        self.refused = True
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if self.refused:
            writer.close()
            return
        host, port = self._target.hostname or "", self._target.port or 0
        # At once: whoever ends everything meanwhile ends this one, too.
        self._writers.add(writer)
        from_redis, to_redis = await asyncio.open_connection(host, port)
        self._writers.add(to_redis)
        # Either direction's end ends both.
        await asyncio.gather(
            self._copy(reader, to_redis, writer, lossy=False),
            self._copy(from_redis, writer, to_redis, lossy=True),
        )
        self._writers -= {writer, to_redis}

    async def _copy(
        self,
        source: asyncio.StreamReader,
        to: asyncio.StreamWriter,
        back: asyncio.StreamWriter,
        *,
        lossy: bool,
    ) -> None:
        # The greeting of a connection (SELECT, CLIENT SETNAME) comes in one piece: never lost.
        pieces = 0
        with contextlib.suppress(ConnectionError):
            while data := await source.read(1 << 20):
                pieces += 1
                if lossy and self.replies_to_lose and pieces > 1:
                    self.replies_to_lose -= 1
                    self.lost += 1
                    break
                to.write(data)
        to.transport.abort()
        back.transport.abort()
