"""What an output costs market data while catching up: `python -m tests.bench.bench_marketdata`.

The outputs are those of `bench_writer`: limit orders in four symbols on two shards, half of them
trading at once. All stand in Redis before market data starts, in this process, on a server with its
default durability and without subscribers; a run ends when all is published and saved. Then Redis
must have carried out each PUBLISH, and the snapshots must be those of a feed that reads the outputs
here.

Catching up, reads are full; what small reads cost shows in `bench_end_to_end`.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import redis
import uvloop

from engine.events import Output, encode_output
from marketdata.feed import Checkpoint, SymbolFeed
from marketdata.feed_codec import LevelText, SymbolTexts, decode_snapshot
from marketdata.service import MarketDataService
from marketdata.settings import MarketDataSettings
from ops.data_dir import DataDirectory
from ops.embedded_redis import EmbeddedRedis
from router import keys
from router.homes import define_symbols, read_homes
from router.redis_client import RedisLink
from router.shards import Shard
from tests.bench.bench_writer import SHARDS, outputs_of
from tests.bench.machine import cpu_s
from tests.persistence_events import rules

EVENTS_PER_SYMBOL = 20_000
RUNS = 5
_CHUNK = 2_000
_COLLECT_AFTER = 50_000

Expected = tuple[int, list[LevelText], list[LevelText]]
"""Messages of all channels, and the levels at the end."""


async def define(url: str, shards: list[Shard]) -> dict[str, str]:
    """Make the symbols' homes; return their incarnations."""
    async with RedisLink(url, db=keys.ACCOUNTS_DB, name="bench", timeout_ms=5_000) as link:
        symbols = {symbol: rules(symbol) for shard in shards for symbol in shard.symbols}
        await define_symbols(link, shards, symbols)
        return {home.symbol: home.incarnation for home in (await read_homes(link, shards)).values()}


def publish(url: str, shards: list[Shard], outputs: dict[str, list[Output]]) -> None:
    """Append the outputs as the script does."""
    for shard in shards:
        with redis.Redis.from_url(url, db=shard.db) as client:
            for symbol in shard.symbols:
                for start in range(0, len(outputs[symbol]), _CHUNK):
                    pipeline = client.pipeline(transaction=False)
                    for output in outputs[symbol][start : start + _CHUNK]:
                        fields = {b"e": encode_output(output)}
                        pipeline.xadd(keys.events(symbol), fields, id=f"{output.seq}-0")
                    pipeline.execute()


def expected_of(symbol: str, outputs: list[Output]) -> Expected:
    """Return what must be public after these outputs."""
    feed = SymbolFeed(Checkpoint.empty(symbol))
    messages = 0
    for output in outputs:
        update = feed.apply(output)
        touched = bool(update.bids or update.asks)
        messages += bool(update.trades) + touched + bool(update.bbo) + bool(update.defined)
    texts = SymbolTexts(rules(symbol))
    bids, asks = feed.book.bids, feed.book.asks
    return (
        messages,
        texts.level_list(bids.top(len(bids))),
        texts.level_list(asks.top(len(asks))),
    )


async def catch_up(server: EmbeddedRedis, shards: list[Shard], end: int) -> tuple[float, float]:
    """Run market data until everything is saved; return its and Redis' CPU per output, in µs."""
    service = MarketDataService(
        url=server.url,
        shards=shards,
        settings=MarketDataSettings(),
        timeout_ms=10_000,
        now_us=lambda: time.time_ns() // 1_000,
    )
    before = (time.process_time(), cpu_s(server.pid))
    task = asyncio.create_task(service.run())

    def is_saved() -> bool:
        positions = service.stats()["symbols"].values()
        return bool(positions) and all(position["saved"] == end for position in positions)

    while not is_saved():
        assert not task.done(), task
        await asyncio.sleep(0.02)
    after = (time.process_time(), cpu_s(server.pid))
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    own_us, redis_us = (
        (b - a) / (end * sum(len(shard.symbols) for shard in shards)) * 1e6
        for a, b in zip(before, after, strict=True)
    )
    return own_us, redis_us


def check(client: redis.Redis, expected: dict[str, Expected]) -> None:
    """Assert that all was published and that the snapshots are right."""
    stats: Any = client.info("commandstats")
    published = stats["cmdstat_publish"]["calls"]
    messages = sum(count for count, _, _ in expected.values())
    assert published >= messages, f"expected {messages} messages, {published} were published"
    for symbol, (_, bids, asks) in expected.items():
        value: Any = client.get(keys.md_snapshot(symbol))
        snapshot = decode_snapshot(value)
        assert (snapshot.bids, snapshot.asks) == (bids, asks), f"{symbol}: another book"


def main() -> dict[str, object]:
    """Measure, check, print the table, and return the figures."""
    runs: list[tuple[float, float]] = []
    with (
        tempfile.TemporaryDirectory() as directory,
        DataDirectory.open(Path(directory) / "var") as data,
        EmbeddedRedis(data, port=0) as server,
    ):
        shards = [Shard(db, server.url, db, symbols) for db, symbols in SHARDS.items()]
        outputs = {
            symbol: outputs_of(symbol, EVENTS_PER_SYMBOL, incarnation)
            for symbol, incarnation in uvloop.run(define(server.url, shards)).items()
        }
        publish(server.url, shards, outputs)
        expected = {symbol: expected_of(symbol, made) for symbol, made in outputs.items()}
        # The collector need not walk what market data's process does not hold, and looks as
        # seldom as there.
        gc.freeze()
        gc.set_threshold(_COLLECT_AFTER)
        with redis.Redis.from_url(server.url) as client:
            for _ in range(RUNS):
                client.delete(keys.POSITION_MARKETDATA, *client.scan_iter("md:*"))
                client.config_resetstat()
                runs.append(uvloop.run(catch_up(server, shards, EVENTS_PER_SYMBOL)))
                check(client, expected)
    print(
        f"market data catching up, Python {sys.version.split()[0]}, "
        f"{EVENTS_PER_SYMBOL * len(outputs):,} outputs per run, µs of CPU per output:"
    )
    for own_us, redis_us in runs:
        print(f"  {own_us:>6.1f} market data  {redis_us:>6.1f} redis")
    own, of_redis = (statistics.median(values) for values in zip(*runs, strict=True))
    print(f"  median: {own:.1f} and {of_redis:.1f}")
    return {"marketdata_us": own, "redis_us": of_redis}


if __name__ == "__main__":
    main()
