"""Market data on a real Redis: what is published and kept, whatever stops in between."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import astuple

from engine.commands import SetPhase
from engine.enums import PhaseReason, Side, TradingPhase
from engine.order_replica import OrderReplica
from marketdata.board import Board
from marketdata.errors import PositionMoved, StateMismatch
from marketdata.feed import SymbolFeed
from marketdata.feed_codec import (
    BboMessage,
    Message,
    TradesMessage,
    decode_candle,
    decode_snapshot,
)
from marketdata.service import MarketDataService
from marketdata.store import MarketStore
from marketdata.subscriber import MarketSubscriber
from ops.data_dir import DataDirectory
from ops.embedded_redis import EmbeddedRedis, RedisBinary
from router import keys
from router.errors import RedisUnavailable, StreamGap
from router.homes import read_homes
from router.market_state import ORDERS_KEPT_S, decode_orders_snapshot, decode_phase
from router.redis_client import Argument, RedisLink
from router.subscriber import Subscriber
from tests.exchange_process import FIRST_PORT
from tests.helpers import DEADLINE_MS, DEADLINE_S, eventually, eventually_async
from tests.market_events import TS_US
from tests.market_venue import LEVELS_MAX, SYMBOLS, Venue, random_commands


@pytest.fixture(autouse=True)
def endless_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no subscriber connect anew because it hears nothing for a while: it misses messages."""
    monkeypatch.setattr("marketdata.subscriber.SILENCE_MAX_S", DEADLINE_S)


@pytest.fixture
async def venue(redis_url: str) -> AsyncIterator[Venue]:
    one = Venue(redis_url)
    await one.define()
    yield one
    await one.link.close()


@asynccontextmanager
async def running(*services: MarketDataService | MarketSubscriber) -> AsyncIterator[list[Any]]:
    """Run services until the block ends; cancels them without any farewell, like a crash."""
    tasks = [asyncio.create_task(service.run()) for service in services]
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        for result in results:
            assert isinstance(result, asyncio.CancelledError), result


async def failure_of(service: MarketDataService) -> BaseException:
    """Run a service that must stop by itself, and return why."""
    with pytest.raises(BaseException) as caught:
        async with asyncio.timeout(DEADLINE_S):
            await service.run()
    error = caught.value
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def is_current(subscriber: MarketSubscriber, venue: Venue) -> bool:
    """Whether every replica is joined and shows the engine's book."""
    for symbol, replica in subscriber.replicas.items():
        book = venue.engine.matcher(symbol).book
        ours = [[astuple(one) for one in side.top(99)] for side in (replica.bids, replica.asks)]
        if not replica.joined or ours != [book.levels(side, 99) for side in Side]:
            return False
    return True


async def test_subscriber_has_the_engines_book_and_sees_every_quote_and_trade(
    venue: Venue,
) -> None:
    heard: list[Message] = []
    subscriber = venue.subscriber(on_message=heard.append)
    async with running(venue.service(), subscriber):
        async with asyncio.timeout(DEADLINE_S):
            await subscriber.joined()
        for number, symbol in enumerate(SYMBOLS):
            await venue.publish(symbol, list(random_commands(number, 400)))
        await eventually_async(lambda: is_current(subscriber, venue))
        await eventually_async(venue.is_saved)
        await venue.check_keys()
    for symbol in SYMBOLS:
        updates = venue.expected(symbol)[2]
        quotes = [m.seq for m in heard if isinstance(m, BboMessage) and m.symbol == symbol]
        assert quotes == [update.seq for update in updates if update.bbo is not None]
        trades = [m for m in heard if isinstance(m, TradesMessage) and m.symbol == symbol]
        ids = [one.id for message in trades for one in message.trades]
        assert ids == [f"{symbol}-{t.seq}-{t.trade}" for u in updates for t in u.trades]
        assert len(ids) > 50
        assert subscriber.replicas[symbol].gaps == 0


@pytest.mark.parametrize("seed", range(3))
async def test_restarts_at_any_moment_leave_no_wrong_number(venue: Venue, seed: int) -> None:
    choose = random.Random(seed)
    heard: list[Message] = []
    subscriber = venue.subscriber(on_message=heard.append)
    flows = {symbol: list(random_commands(seed + 9, 600)) for symbol in SYMBOLS}
    async with running(subscriber):
        for _ in range(6):
            for symbol, flow in flows.items():
                await venue.publish(symbol, [flow.pop(0) for _ in range(100)])
            service = venue.service()
            async with running(service):
                wanted = choose.randint(1, len(venue.outputs[SYMBOLS[1]]))

                def published(service: MarketDataService = service, wanted: int = wanted) -> bool:
                    symbols = service.stats()["symbols"]
                    return bool(symbols) and symbols[SYMBOLS[1]]["published"] >= wanted

                await eventually_async(published)
        async with running(venue.service()):
            await eventually_async(venue.is_saved)
            await eventually_async(lambda: is_current(subscriber, venue))
            await venue.check_keys()
    for replica in subscriber.replicas.values():
        assert replica.gaps == 0


async def test_subscriber_whose_connection_is_killed_joins_again(venue: Venue) -> None:
    subscriber = venue.subscriber()
    async with running(venue.service(), subscriber):
        await eventually_async(lambda: is_current(subscriber, venue))
        for number in range(3):
            await venue.link.call("CLIENT", "KILL", "TYPE", "pubsub")
            await venue.publish(SYMBOLS[0], list(random_commands(number, 50)))
            await eventually_async(lambda: is_current(subscriber, venue))
        assert subscriber.connections == 4


async def test_subscriber_of_quotes_alone_joins_from_the_snapshot(venue: Venue) -> None:
    await venue.publish(SYMBOLS[0], list(random_commands(1, 100)))
    subscriber = venue.subscriber([SYMBOLS[0]], channels=["bbo"])
    replica = subscriber.replicas[SYMBOLS[0]]
    async with running(venue.service(), subscriber):
        await venue.publish(SYMBOLS[0], list(random_commands(2, 100)))
        await eventually_async(venue.is_saved)
        snapshot = await venue.json(keys.md_snapshot(SYMBOLS[0]))
        names = ("bid_price", "bid_qty", "ask_price", "ask_qty")
        await eventually_async(lambda: replica.bbo == tuple(snapshot[name] for name in names))
        assert replica.joined


async def test_every_channel_beats_and_keys_are_refreshed_in_a_quiet_market(venue: Venue) -> None:
    await venue.publish(SYMBOLS[0], list(random_commands(1, 100)))
    async with running(venue.service()):
        await eventually_async(venue.is_saved)
        last = (await venue.json(keys.md_snapshot(SYMBOLS[0])))["last_seq"]
        await venue.link.call("DEL", keys.md_snapshot(SYMBOLS[0]))
        await eventually_async(lambda: venue.link.call("EXISTS", keys.md_snapshot(SYMBOLS[0])))
        for channel, key in (
            ("trades", keys.md_trades),
            ("bbo", keys.md_bbo),
            ("depth", keys.md_depth),
            ("status", keys.md_status),
        ):
            beat = await _next_message(venue.url, key(SYMBOLS[0]))
            assert (beat["type"], beat["channel"]) == ("heartbeat", channel)
            assert beat["seq"] == beat["prev_seq"] == last[channel]


async def _next_message(url: str, channel: str) -> dict[str, Any]:
    subscriber = Subscriber(url, [channel], name="test", timeout_ms=DEADLINE_MS)
    await subscriber.open()
    try:
        async with asyncio.timeout(DEADLINE_S):
            [(_, data), *_] = await subscriber.messages()
    finally:
        subscriber.close()
    decoded: dict[str, Any] = json.loads(data)
    return decoded


async def test_displayed_orders_are_written_when_somebody_asks(venue: Venue) -> None:
    symbol = SYMBOLS[0]
    await venue.publish(symbol, list(random_commands(1, 200)))
    async with running(venue.service()):
        await eventually_async(venue.is_saved)
        assert not await venue.link.call("EXISTS", keys.md_orders(symbol))

        async def found() -> tuple[bytes, int] | None:
            await venue.link.call("PUBLISH", keys.MD_CONTROL_CHANNEL, symbol)
            key = keys.md_orders(symbol)
            # At one moment: it does not stay.
            commands = [("MULTI",), ("GET", key), ("PTTL", key), ("EXEC",)]
            value, left_ms = (await venue.link.pipeline(commands))[-1]
            return None if value is None else (value, left_ms)

        value, left_ms = await eventually_async(found) or (b"", -1)
        assert 0 <= left_ms <= ORDERS_KEPT_S * 1_000
        snapshot = decode_orders_snapshot(value)
        assert not await venue.link.call("EXISTS", keys.md_orders(SYMBOLS[1]))
    assert (snapshot.seq, snapshot.run_id) == (len(venue.outputs[symbol]), venue.link.run_id)
    book = venue.engine.matcher(symbol).book
    replica = OrderReplica(snapshot.orders)
    assert [
        (order.order_seq, order.qty_lots)
        for side, levels in ((Side.BUY, replica.bids), (Side.SELL, replica.asks))
        for level in levels.top(99)
        for order in replica.queue(side, level.price_ticks)
    ] == [(order.order_id, order.leaves_qty_lots) for order in book.by_priority()]


async def test_trading_phase_is_kept_and_told_through_restarts(venue: Venue) -> None:
    symbol = SYMBOLS[0]
    subscriber = venue.subscriber([symbol], channels=["status"])
    replica = subscriber.replicas[symbol]
    async with running(subscriber):
        for phase in (TradingPhase.HALTED, TradingPhase.CANCEL_ONLY):
            async with running(venue.service()):
                await eventually_async(lambda: replica.joined)
                await venue.publish(symbol, [SetPhase(phase, PhaseReason.OPERATOR)])
                name = phase.name.lower()
                await eventually_async(lambda name=name: replica.phase == name)
                await eventually_async(venue.is_saved)
            status = decode_phase(await venue.link.call("GET", keys.md_phase(symbol)))
            assert (status.phase, status.changed_seq) == (name, len(venue.outputs[symbol]))
        assert replica.gaps == 0


async def test_second_process_is_noticed_and_stops_one_of_them(venue: Venue) -> None:
    first, second = venue.service(), venue.service()
    tasks = [asyncio.create_task(first.run())]
    await eventually_async(venue.is_saved)
    tasks.append(asyncio.create_task(second.run()))
    await eventually_async(lambda: second.stats()["symbols"])
    # Both have both symbols saved. Of one that goes on, one of them loses; of two, either could.
    await venue.publish(SYMBOLS[0], list(random_commands(1, 100)))
    done, pending = await asyncio.wait(
        tasks, timeout=DEADLINE_S, return_when=asyncio.FIRST_COMPLETED
    )
    assert len(done) == 1
    error = done.pop().exception()
    assert isinstance(error, BaseExceptionGroup)
    assert error.subgroup(PositionMoved) is not None
    await eventually_async(venue.is_saved)
    await venue.check_keys()
    [survivor] = pending
    survivor.cancel()
    await asyncio.wait([survivor])


async def test_state_that_does_not_belong_to_the_position_is_refused(venue: Venue) -> None:
    async with running(venue.service()):
        await eventually_async(venue.is_saved)
    await venue.link.call("DEL", keys.md_state(SYMBOLS[0]))
    assert isinstance(await failure_of(venue.service()), StateMismatch)


async def test_state_of_another_version_is_refused(venue: Venue) -> None:
    async with running(venue.service()):
        await eventually_async(venue.is_saved)
    await venue.link.call("SETRANGE", keys.md_state(SYMBOLS[0]), 0, b"\x09")
    error = await failure_of(venue.service())
    assert "version 2" in str(error)


async def test_state_ahead_of_the_stream_is_refused(venue: Venue) -> None:
    await venue.publish(SYMBOLS[0], list(random_commands(1, 10)))
    async with running(venue.service()):
        await eventually_async(venue.is_saved)
    async with venue.link.sibling(1) as link:
        await link.call("XDEL", keys.events(SYMBOLS[0]), "11-0")
    assert "events end at seq 10" in str(await failure_of(venue.service()))


async def test_everything_can_be_made_anew_while_the_stream_is_whole(venue: Venue) -> None:
    await venue.publish(SYMBOLS[0], list(random_commands(1, 100)))
    async with running(venue.service()):
        await eventually_async(venue.is_saved)
    found = await venue.link.call("KEYS", "md:*")
    await venue.link.call("DEL", keys.POSITION_MARKETDATA, *found)
    async with running(venue.service()):
        await eventually_async(venue.is_saved)
        await venue.check_keys()


async def test_events_trimmed_before_they_were_read_are_a_gap(venue: Venue) -> None:
    await venue.publish(SYMBOLS[0], list(random_commands(1, 10)))
    async with venue.link.sibling(1) as link:
        await link.call("XTRIM", keys.events(SYMBOLS[0]), "MINID", "5")
    assert isinstance(await failure_of(venue.service()), StreamGap)


async def test_redis_that_is_killed_and_comes_back_loses_nothing(
    tmp_path: Path, redis_binary: RedisBinary
) -> None:
    with DataDirectory.open(tmp_path / "var") as directory:
        server = EmbeddedRedis(directory, binary=redis_binary, port=FIRST_PORT + 8)
        server.start()
        venue = Venue(server.url)
        await venue.define()
        subscriber = venue.subscriber()
        service = venue.service()
        async with running(service, subscriber):
            await venue.publish(SYMBOLS[0], list(random_commands(1, 100)))
            await eventually_async(venue.is_saved)
            assert server.pid is not None
            os.kill(server.pid, signal.SIGKILL)
            await asyncio.to_thread(eventually, lambda: server.poll() is not None)
            await eventually_async(lambda: not service.stats()["redis_available"])
            await asyncio.to_thread(server.start)
            await venue.publish(SYMBOLS[0], list(random_commands(2, 100)))
            await eventually_async(venue.is_saved)
            await eventually_async(lambda: is_current(subscriber, venue))
            await venue.check_keys()
        await venue.link.close()
        server.stop()


class _DeafLink(RedisLink):
    """A link that loses the next replies, of calls that were carried out or not."""

    losses: list[bool]

    async def exchange(
        self, commands: Sequence[tuple[Argument, ...]], *, block_ms: int = 0
    ) -> list[Any]:
        if not self.losses:
            return await super().exchange(commands, block_ms=block_ms)
        if self.losses.pop():
            await super().exchange(commands, block_ms=block_ms)
        raise RedisUnavailable("reply lost")


@pytest.mark.parametrize("losses", [[True], [False], [True, False], [False, True], [True, True]])
async def test_save_whose_reply_is_lost_is_made_again(venue: Venue, losses: list[bool]) -> None:
    symbol = SYMBOLS[0]
    await venue.publish(symbol, list(random_commands(1, 200)))
    link = _DeafLink(venue.url, db=0, name="deaf", timeout_ms=DEADLINE_MS)
    link.losses = []
    store = MarketStore(link, levels_max=LEVELS_MAX)
    homes = await read_homes(venue.link, venue.shards)
    checkpoint, candles = (await store.load([homes[symbol]]))[symbol]
    feed, board = SymbolFeed(checkpoint), Board(checkpoint, candles)
    for number, output in enumerate(venue.outputs[symbol]):
        board.apply(feed.apply(output))
        if number % 10 < len(losses):
            link.losses = [losses[number % 10]]
            with pytest.raises(RedisUnavailable):
                await store.save([board], now_us=TS_US)
        elif number % 10 == len(losses):
            await store.save([board], now_us=TS_US)
    await store.save([board], now_us=TS_US)
    again, candles = (await store.load([homes[symbol]]))[symbol]
    assert again == board.checkpoint()
    assert Board(again, candles).ticker(now_us=TS_US) == board.ticker(now_us=TS_US)
    await link.close()


async def test_candles_are_kept_in_order_and_number(venue: Venue) -> None:
    await venue.publish(SYMBOLS[0], list(random_commands(1, 300)))
    async with running(venue.service()):
        await eventually_async(venue.is_saved)
    key = keys.md_candles(SYMBOLS[0], "1m")
    rows = [decode_candle(row) for row in await venue.link.call("ZRANGE", key, 0, -1)]
    assert [row.open_time for row in rows] == sorted({row.open_time for row in rows})
    assert len(rows) > 10
    scores = (await venue.link.call("ZRANGE", key, 0, 0, "WITHSCORES"))[1]
    assert float(scores) == rows[0].open_time
    decode_snapshot(await venue.link.call("GET", keys.md_snapshot(SYMBOLS[0])))
