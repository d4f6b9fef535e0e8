"""MarketFeeds: the trading phases, heard through outages."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from gateway import market_feed
from gateway.market_feed import NOTED_MAX, MarketFeeds
from router.errors import RedisUnavailable
from router.market_state import OrdersSnapshot, PhaseStatus, encode_orders_snapshot
from tests.helpers import eventually_async
from tests.market_events import defined, rules

SYMBOL = "BTC-USD"
PHASE = PhaseStatus(SYMBOL, 4, 5_000_000, "halted", "operator")


class World:
    """A Redis that takes subscriptions at once, and loads for a while before it answers."""

    def __init__(self, *, refusals: int = 0, value: bytes = b"") -> None:
        self.url, self.name = "redis://127.0.0.1:1", "gateway-1"
        self.refusals = refusals
        self.value = value
        self.opened = self.calls = 0
        self.told: list[PhaseStatus] = []
        self.books: dict[str, Any] = {}
        desk: Any = SimpleNamespace(
            take_phase=self.told.append,
            books=self.books,
            take_book=lambda book: self.books.update({SYMBOL: book}),
        )
        homes: Any = {SYMBOL: None}
        link: Any = self
        self.feeds = MarketFeeds(
            link, homes, desk, timeout_ms=100, interval_ms=10, spawn=asyncio.ensure_future
        )
        self.feeds._subscriber = self  # type: ignore[assignment]

    async def open(self) -> None:
        self.opened += 1

    async def messages(self) -> list[tuple[str, bytes]]:
        await asyncio.Event().wait()
        raise AssertionError

    async def call(self, *args: Any) -> bytes:
        self.calls += 1
        if self.refusals:
            self.refusals -= 1
            raise RedisUnavailable("LOADING Redis is loading the dataset in memory")
        return self.value


async def listen(world: World) -> None:
    listening = asyncio.create_task(world.feeds.run_phases())
    await eventually_async(lambda: world.told == [PHASE] or listening.done())
    listening.cancel()
    await asyncio.gather(listening, return_exceptions=True)


async def test_phases_are_waited_for_while_redis_loads_and_that_is_said_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = World(refusals=5, value=msgspec.json.encode(PHASE))
    with caplog.at_level(logging.WARNING):
        await listen(world)
    assert world.told == [PHASE] and world.opened == 6
    assert [record.getMessage().partition(": ")[0] for record in caplog.records] == [
        "trading phases",
        "trading phases",
    ]


async def test_a_phase_of_another_build_stops_no_gateway(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(market_feed, "_REJOIN_DELAY_S", 0.001)
    world = World(refusals=0, value=b"{}")
    listening = asyncio.create_task(world.feeds.run_phases())
    await eventually_async(lambda: world.opened >= 2)
    assert "Trading phases lost" in caplog.text
    world.value = msgspec.json.encode(PHASE)
    await eventually_async(lambda: world.told == [PHASE])
    listening.cancel()
    await asyncio.gather(listening, return_exceptions=True)


async def test_a_book_is_waited_for_on_the_server_that_redis_is_by_then() -> None:
    event: Any = defined(rules(symbol=SYMBOL))
    snapshot = OrdersSnapshot(SYMBOL, 7, "two", event, [], None)
    world = World(value=encode_orders_snapshot(snapshot))
    shard: Any = SimpleNamespace(run_id="")
    servers = ["one"]

    async def call(*_: str) -> None:
        shard.run_id = servers[-1]
        # It dies behind the answer, and the snapshot is of the next one.
        servers.append("two")

    shard.call = call
    joining = asyncio.create_task(world.feeds._join(shard, SYMBOL))
    await eventually_async(lambda: joining.done() or world.calls > 5)
    assert joining.done(), "it waits for the server that is gone"
    assert joining.result().seq == 7
    assert shard.run_id == "two"


def stream_end(number: int) -> Callable[..., Any]:
    """Return a ``call`` that finds this as the last entry of a stream."""

    async def call(*_: str | int) -> list[Any]:
        return [[b"%d-0" % number, []]] if number else []

    return call


class LateBook:
    """A book whose outputs wait until they are let go, and that counts who looks."""

    symbol, seq = SYMBOL, 1

    def __init__(self) -> None:
        self.looks = 0
        self.waiting = NOTED_MAX + 1

    @property
    def noted(self) -> int:
        self.looks += 1
        return self.waiting


async def test_events_are_not_read_on_while_rounds_are_late(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World()
    reads = 0

    async def read(*, block_ms: int) -> list[Any]:
        nonlocal reads
        reads += 1
        await asyncio.sleep(0)
        return []

    monkeypatch.setattr(market_feed, "StreamReader", lambda *_, **__: SimpleNamespace(read=read))
    book: Any = LateBook()
    link: Any = SimpleNamespace(run_id="one", call=stream_end(0))
    following = asyncio.create_task(world.feeds._follow(link, book))
    await eventually_async(lambda: book.looks >= 5)
    assert reads == 0
    book.waiting = 0
    await eventually_async(lambda: reads > 1)
    world.books.clear()
    with pytest.raises(market_feed._BeginAnew):
        await following


class BookBehind:
    """A book of a snapshot from before its stream's end; it says when something is applied."""

    symbol = SYMBOL

    def __init__(self) -> None:
        self.seq = 3
        self.applied: list[int] = []
        self._outputs: list[int] = []

    @property
    def noted(self) -> int:
        return len(self._outputs)

    def note(self, outputs: list[int]) -> None:
        self._outputs += outputs
        self.seq = outputs[-1]

    def apply(self, count: int) -> None:
        self.applied += self._outputs[:count]
        del self._outputs[:count]


@pytest.mark.parametrize("servers", [["one"] * 4, ["one", "one", "two"]])
async def test_a_book_is_shown_once_it_is_where_its_events_end(
    monkeypatch: pytest.MonkeyPatch, servers: list[str]
) -> None:
    world, book = World(), BookBehind()
    link: Any = SimpleNamespace(run_id=servers.pop(0), call=stream_end(5))

    async def read(*, block_ms: int) -> list[Any]:
        await asyncio.sleep(0)
        assert SYMBOL not in world.books or book.seq >= 5, "clients are told the past"
        link.run_id = servers.pop(0)
        return [(SYMBOL, book.seq + 1, [book.seq + 1])]

    monkeypatch.setattr(market_feed, "StreamReader", lambda *_, **__: SimpleNamespace(read=read))
    monkeypatch.setattr(market_feed, "decode_output_events", lambda value: value)
    shown: Any = book
    following = asyncio.create_task(world.feeds._follow(link, shown))
    if "two" in servers:
        with pytest.raises(market_feed._BeginAnew, match="another server"):
            await following
        assert not world.books and book.applied == [4]
    else:
        await eventually_async(lambda: bool(world.books))
        assert book.applied == [4, 5]
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
