"""Two symbols in two shards of a real Redis, with an engine in the test itself."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from engine.commands import CancelOrder, Command, DefineSymbol, NewOrder, decode_command
from engine.enums import OrdType, SelfTradePrevention, Side, TimeInForce
from engine.events import Output, encode_output
from engine.shard import Shard as EngineShard
from marketdata.board import Board
from marketdata.candles import CANDLES_KEPT, CandleBook
from marketdata.feed import Checkpoint, SymbolFeed
from marketdata.feed_codec import Message, encode_candle
from marketdata.replica import CHANNELS
from marketdata.service import MarketDataService
from marketdata.settings import MarketDataSettings
from marketdata.subscriber import MarketSubscriber
from router import keys
from router.homes import define_symbols
from router.redis_client import RedisLink
from router.shards import Shard
from tests.helpers import DEADLINE_MS
from tests.market_events import TS_US, rules

SYMBOLS = ("BTC-USD", "ETH-USD")
RULES = {symbol: rules(symbol=symbol) for symbol in SYMBOLS}
FAST = MarketDataSettings(snapshot_interval_ms=20, heartbeat_interval_ms=50)
LEVELS_MAX = FAST.snapshot_levels_max


def random_commands(seed: int, count: int) -> Iterator[Command]:
    """Orders of three accounts around one price, of which a third are canceled again."""
    choose = random.Random(seed)
    for number in range(count):
        account, side = choose.randint(1, 3), choose.choice(list(Side))
        if number and choose.random() < 0.3:
            old = choose.randrange(number)
            yield CancelOrder(1 + old % 3, 1, number, f"x{number}", f"c{old}", 0)
            continue
        account = 1 + number % 3
        tif = TimeInForce.IOC if choose.random() < 0.2 else TimeInForce.GTC
        price, lots = choose.randint(995, 1_005), choose.randint(1, 9)
        hold = RULES[SYMBOLS[0]].hold_of(side, price, lots)
        yield NewOrder(
            *(account, 1, number, f"c{number}", side, OrdType.LIMIT, tif, False),
            *(SelfTradePrevention.NONE, price, lots, 1, hold),
        )


class Venue:
    """Two symbols in two shards of one Redis, whose engine is this."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.shards = [Shard(n, url, n, (symbol,)) for n, symbol in enumerate(SYMBOLS, 1)]
        self.link = RedisLink(url, db=0, name="test", timeout_ms=DEADLINE_MS)
        self.engine = EngineShard()
        self.outputs: dict[str, list[Output]] = {symbol: [] for symbol in SYMBOLS}

    async def define(self) -> None:
        await define_symbols(self.link, self.shards, RULES)
        for shard in self.shards:
            [symbol] = shard.symbols
            async with self.link.sibling(shard.db) as link:
                [[_, fields]] = await link.call("XRANGE", keys.orders(symbol), "-", "+")
            command = decode_command(fields[1])
            assert isinstance(command, DefineSymbol)
            await self.publish(symbol, [command])

    async def publish(self, symbol: str, commands: list[Command]) -> None:
        """Append the outputs of commands, each three seconds after the one before it."""
        outputs = self.outputs[symbol]
        new = []
        for command in commands:
            seq = len(outputs) + 1
            stamp = TS_US + 3_000_000 * seq
            outputs.append(self.engine.apply(symbol, seq, stamp, command).output)
            new.append(("XADD", keys.events(symbol), f"{seq}-0", "e", encode_output(outputs[-1])))
        db = next(shard.db for shard in self.shards if symbol in shard.symbols)
        async with self.link.sibling(db) as link:
            await link.pipeline(new)

    def service(self, settings: MarketDataSettings = FAST) -> MarketDataService:
        return MarketDataService(
            url=self.url,
            shards=self.shards,
            settings=settings,
            timeout_ms=DEADLINE_MS,
            now_us=lambda: TS_US + 86_400_000_000 // 2,
        )

    def subscriber(
        self,
        symbols: Sequence[str] = SYMBOLS,
        *,
        channels: Sequence[str] = CHANNELS,
        on_message: Callable[[Message], None] = lambda message: None,
    ) -> MarketSubscriber:
        """Make one for which a slow Redis is not away."""
        return MarketSubscriber(
            self.url, symbols, channels=channels, on_message=on_message, timeout_ms=DEADLINE_MS
        )

    async def is_saved(self) -> bool:
        saved = await self.link.call("HMGET", keys.POSITION_MARKETDATA, *SYMBOLS)
        return [int(value or 0) for value in saved] == [len(self.outputs[s]) for s in SYMBOLS]

    async def json(self, key: str) -> dict[str, Any]:
        value = await self.link.call("GET", key)
        decoded: dict[str, Any] = json.loads(value)
        return decoded

    def expected(self, symbol: str) -> tuple[Board, dict[str, list[bytes]], list[Any]]:
        """What the pure parts make of all outputs: the board, all candles, and the updates."""
        feed, board = (
            SymbolFeed(Checkpoint.empty(symbol)),
            Board(Checkpoint.empty(symbol), CandleBook()),
        )
        updates = [feed.apply(output) for output in self.outputs[symbol]]
        for update in updates:
            board.apply(update)
        candles: dict[str, list[bytes]] = {name: [] for name in CANDLES_KEPT}
        for name, candle in board.candles.changed():
            candles[name].append(encode_candle(candle, board.candles.places))
        return board, candles, updates

    async def check_keys(self) -> None:
        """Compare snapshot, ticker, candles and state with what an uninterrupted run makes."""
        for symbol in SYMBOLS:
            board, candles, _ = self.expected(symbol)
            now_us = TS_US + 86_400_000_000 // 2
            snapshot = board.snapshot(levels_max=LEVELS_MAX, now_us=now_us)
            assert await self.link.call("GET", keys.md_snapshot(symbol)) == snapshot
            assert await self.link.call("GET", keys.md_ticker(symbol)) == board.ticker(
                now_us=now_us
            )
            for name, rows in candles.items():
                stored = await self.link.call("ZRANGE", keys.md_candles(symbol, name), 0, -1)
                assert stored == rows, name
