"""Links, dense streams, outboxes and subscriptions on a real Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import hiredis
import pytest

from engine.enums import Side
from router import keys
from router.errors import OutOfMemory, RedisUnavailable, StreamGap
from router.open_orders import BestPrices, OpenOrder, read_best_prices, read_open_orders
from router.outbox import RefusedCommand, Report, read_outboxes
from router.redis_client import RedisLink, retry_while_away, scan_keys
from router.streams import CommandSource, StreamReader
from router.subscriber import Subscriber
from tests.helpers import DEADLINE_MS, DEADLINE_S, eventually_async
from tests.router_helpers import BTC, ETH, LossyProxy, make_link, no_memory


@pytest.fixture
async def link(redis_url: str) -> AsyncIterator[RedisLink]:
    async with make_link(redis_url) as link:
        yield link


@pytest.fixture
async def other(redis_url: str) -> AsyncIterator[RedisLink]:
    async with make_link(redis_url) as link:
        yield link


async def append(link: RedisLink, symbol: str, *seqs: int) -> None:
    for seq in seqs:
        await link.call("XADD", keys.events(symbol), f"{seq}-0", "e", f"{symbol} {seq}")


def reader_of(link: RedisLink, *, interval_ms: int = 0, **positions: int) -> StreamReader:
    named = {BTC: positions.get("btc", 0), ETH: positions.get("eth", 0)}
    streams = {symbol: keys.events(symbol) for symbol in named}
    return StreamReader(link, streams, named, interval_ms=interval_ms)


async def test_reader_waits_between_reads_that_were_not_full(
    link: RedisLink, other: RedisLink
) -> None:
    reader, loop = reader_of(link, interval_ms=50), asyncio.get_running_loop()
    await append(other, BTC, 1)
    start_s = loop.time()
    assert len(await reader.read(block_ms=0)) == 1
    await append(other, BTC, 2, 3)

    assert [seq for _, seq, _ in await reader.read(block_ms=0)] == [2, 3]
    assert loop.time() - start_s >= 0.04


async def test_reader_does_not_wait_after_a_full_read_or_an_empty_one(
    link: RedisLink, other: RedisLink
) -> None:
    reader = reader_of(link, interval_ms=3_600_000)
    async with asyncio.timeout(DEADLINE_S):
        assert await reader.read(block_ms=0) == []
        await append(other, BTC, 1, 2, 3)
        assert len(await reader.read(block_ms=0, count=2)) == 2
        assert len(await reader.read(block_ms=0, count=2)) == 1


async def test_calls_of_many_tasks_take_turns(link: RedisLink) -> None:
    replies = await asyncio.gather(*(link.call("ECHO", str(n)) for n in range(100)))

    assert replies == [str(n).encode() for n in range(100)]


async def test_error_reply_is_raised_and_the_link_goes_on(link: RedisLink) -> None:
    with pytest.raises(hiredis.ReplyError, match="unknown command"):
        await link.call("NONSENSE")
    with pytest.raises(hiredis.ReplyError, match="not an integer"):
        await link.pipeline([("SET", "a", "x"), ("INCR", "a"), ("SET", "a", "y")])

    assert await link.call("GET", "a") == b"y"


async def test_link_stays_in_its_database_after_a_reconnection(link: RedisLink) -> None:
    async with link.sibling(5) as five:
        await five.call("SET", "here", "5")
        await five.close()

        assert await five.call("GET", "here") == b"5"
    assert await link.call("GET", "here") is None


async def test_cancelled_call_leaves_no_reply_for_the_next(link: RedisLink) -> None:
    blocked = asyncio.create_task(link.call("BLPOP", "nothing", "0", block_ms=60_000))
    await eventually_async(lambda: link._wire is not None and link._done is not None)
    blocked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await blocked

    assert await link.call("ECHO", "next") == b"next"


async def test_silence_beyond_the_time_out_is_unavailable(redis_url: str) -> None:
    async with make_link(redis_url) as link:
        await link.call("PING")
        # Not for what is answered at once: a busy machine may take longer for that.
        link._timeout_ms = 100
        with pytest.raises(RedisUnavailable, match="no reply"):
            await link.call("BLPOP", "nothing", "0")
        link._timeout_ms = DEADLINE_MS
        assert await link.call("PING") == b"PONG"


async def test_blocking_longer_than_the_time_out_is_no_failure(redis_url: str) -> None:
    async with make_link(redis_url) as link:
        await link.call("PING")
        link._timeout_ms = 100
        assert await link.call("BLPOP", "nothing", "0.3", block_ms=DEADLINE_MS) is None


async def test_nobody_listening_is_unavailable() -> None:
    async with make_link("redis://127.0.0.1:1") as link:
        with pytest.raises(RedisUnavailable, match="cannot reach"):
            await link.call("PING")


async def test_unknown_scheme_is_named() -> None:
    async with make_link("http://127.0.0.1:1") as link:
        with pytest.raises(ValueError, match="http"):
            await link.call("PING")


async def test_wrong_password_is_an_error_without_the_password(redis_url: str) -> None:
    async with make_link(redis_url.replace("redis://", "redis://user:secret@")) as link:
        with pytest.raises(hiredis.ReplyError) as caught:
            await link.call("PING")
        assert "secret" not in str(caught.value)


async def test_lost_connection_fails_the_call_and_the_next_one_works(redis_url: str) -> None:
    async with LossyProxy(redis_url) as proxy, make_link(proxy.url) as link:
        await link.call("PING")
        proxy.replies_to_lose = 1
        with pytest.raises(RedisUnavailable, match="lost"):
            await link.call("INCR", "counter")
        assert await link.call("GET", "counter") == b"1"


async def test_link_leaves_a_server_that_has_become_a_replica(
    link: RedisLink, other: RedisLink
) -> None:
    await link.call("CLIENT", "SETNAME", "before")
    await other.call("REPLICAOF", "127.0.0.1", 1)
    try:
        with pytest.raises(RedisUnavailable, match="READONLY"):
            await link.call("SET", "a", "b")
        assert await link.call("CLIENT", "GETNAME") == link.name.encode()
    finally:
        await other.call("REPLICAOF", "NO", "ONE")


async def test_retry_reports_loss_and_return_once(redis_url: str) -> None:
    changes: list[bool] = []
    async with LossyProxy(redis_url) as proxy, make_link(proxy.url) as link:
        proxy.refused = True
        task = asyncio.create_task(
            retry_while_away(lambda: link.call("PING"), what="test", on_change=changes.append)
        )
        await eventually_async(lambda: changes == [False])
        proxy.refused = False
        assert await task == b"PONG"
    assert changes == [False, True]


async def test_out_of_memory_has_its_own_error(link: RedisLink) -> None:
    async with no_memory(link):
        with pytest.raises(OutOfMemory):
            await link.call("SET", "a", "b")


async def test_scan_finds_every_key(link: RedisLink) -> None:
    names = {f"scan:{n}" for n in range(2_500)}
    await link.pipeline([("SET", name, "") for name in (*names, "other")])

    assert {key async for key in scan_keys(link, "scan:*")} == names


async def test_reader_takes_several_streams_from_its_positions(link: RedisLink) -> None:
    await append(link, BTC, 1, 2, 3)
    await append(link, ETH, 1, 2)
    reader = reader_of(link, btc=1, eth=2)

    assert await reader.read(block_ms=0) == [(BTC, 2, [b"BTC-USD 2"]), (BTC, 3, [b"BTC-USD 3"])]
    assert reader.positions == {BTC: 3, ETH: 2}
    assert await reader.read(block_ms=0) == []


async def test_reader_limits_its_batches(link: RedisLink) -> None:
    await append(link, BTC, *range(1, 8))
    await append(link, ETH, *range(1, 3))
    reader = reader_of(link)

    sizes = [len(await reader.read(block_ms=0, count=3)) for _ in range(4)]

    assert sizes == [5, 3, 1, 0]


async def test_new_entry_ends_a_blocked_read(link: RedisLink, other: RedisLink) -> None:
    reader = reader_of(link)
    waiting = asyncio.create_task(reader.read(block_ms=60_000))
    await eventually_async(lambda: blocked_clients(other))

    await append(other, ETH, 1)

    assert await waiting == [(ETH, 1, [b"ETH-USD 1"])]


async def test_cancelled_read_moves_nothing(link: RedisLink, other: RedisLink) -> None:
    reader = reader_of(link)
    waiting = asyncio.create_task(reader.read(block_ms=60_000))
    await eventually_async(lambda: blocked_clients(other))
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await append(other, BTC, 1)

    assert await reader.read(block_ms=0) == [(BTC, 1, [b"BTC-USD 1"])]


async def test_missing_entry_is_a_gap(link: RedisLink) -> None:
    await append(link, BTC, 1, 2, 4)

    with pytest.raises(StreamGap) as caught:
        await reader_of(link).read(block_ms=0)

    error = caught.value
    assert (error.key, error.expected, error.received) == (keys.events(BTC), 3, 4)


async def test_trimmed_beginning_is_a_gap(link: RedisLink) -> None:
    await append(link, BTC, 1, 2, 3)
    await link.call("XTRIM", keys.events(BTC), "MINID", "3-0")

    with pytest.raises(StreamGap):
        await reader_of(link).read(block_ms=0)
    assert len(await reader_of(link, btc=2).read(block_ms=0)) == 1


async def test_reader_waits_while_redis_is_away(link: RedisLink, redis_url: str) -> None:
    await append(link, BTC, 1)
    async with LossyProxy(redis_url) as proxy, make_link(proxy.url) as away:
        proxy.refused = True
        reader = reader_of(away)
        waiting = asyncio.create_task(reader.read(block_ms=0))
        await eventually_async(lambda: not reader.available)
        proxy.refused = False

        assert len(await waiting) == 1
        assert reader.available


async def test_commands_come_as_journal_records(link: RedisLink) -> None:
    for symbol, count in ((BTC, 3), (ETH, 1)):
        for seq in range(1, count + 1):
            await link.call(
                "XADD", keys.orders(symbol), f"{seq}-0", "c", f"{seq}", "t", 1_000_000 + seq
            )
    source = CommandSource(link, {BTC: 1, ETH: 0}, block_ms=10)

    records = await source.read_batch(10)

    assert await source.ends() == {BTC: 3, ETH: 1}
    assert [(r.key, r.seq, r.ts_ns, r.payload) for r in records] == [
        (BTC, 2, 1_000_002_000, b"2"),
        (BTC, 3, 1_000_003_000, b"3"),
        (ETH, 1, 1_000_001_000, b"1"),
    ]
    assert await source.read_batch(10) == []


async def test_source_reads_at_intervals_as_long_as_it_is_told_to(link: RedisLink) -> None:
    async with make_link(link.url, db=link.db) as writing:

        async def append_command(seq: int) -> None:
            await writing.call("XADD", keys.orders(BTC), f"{seq}-0", "c", "x", "t", 1)

        interval_ms, loop = 60, asyncio.get_running_loop()
        source = CommandSource(link, {BTC: 0}, block_ms=10, interval_ms=lambda: interval_ms)
        await append_command(1)
        start_s = loop.time()
        assert len(await source.read_batch(10)) == 1
        await append_command(2)
        assert len(await source.read_batch(10)) == 1
        assert loop.time() - start_s >= 0.03

        interval_ms = 3_600_000
        await append_command(3)
        assert len(await source.read_batch(10)) == 1
        interval_ms = 0
        await append_command(4)
        assert len(await source.read_batch(10)) == 1


async def test_source_returns_no_more_than_asked_for(link: RedisLink) -> None:
    for symbol in (BTC, ETH):
        for seq in range(1, 9):
            await link.call("XADD", keys.orders(symbol), f"{seq}-0", "c", "x", "t", 1)
    source = CommandSource(link, {BTC: 0, ETH: 0}, block_ms=10)

    assert len(await source.read_batch(5)) == 4


async def test_outboxes_tell_what_stands_behind_each_cursor(link: RedisLink) -> None:
    for number in (1, 2, 3):
        await link.call("XADD", keys.outbox(7), f"{number}-0", "e", f"e{number}")
    await link.call(
        "XADD", keys.outbox(8), "1-0", "c", b"\x00", "s", BTC, "w", "funds", "t", "1700000000000000"
    )

    found = await read_outboxes(link, {7: 1, 8: 0, 9: 0}, count=10)

    assert found == {
        7: [Report(2, b"e2"), Report(3, b"e3")],
        8: [RefusedCommand(1, BTC, b"\x00", "funds", 1_700_000_000_000_000)],
    }
    assert await read_outboxes(link, {}, count=10) == {}
    assert await read_outboxes(link, {7: 0}, count=1) == {7: [Report(1, b"e1")]}


async def test_outbox_trimmed_beyond_a_cursor_is_a_gap(link: RedisLink) -> None:
    await link.call("XADD", keys.outbox(7), "5-0", "e", "x")

    with pytest.raises(StreamGap):
        await read_outboxes(link, {7: 2}, count=10)


async def test_open_orders_and_best_prices_are_read_in_one_go(link: RedisLink) -> None:
    field = keys.open_field(BTC, "A|1")
    await link.call("HSET", keys.open_orders(7), field, "12 2 5000 3 1 300 20 2 1 0")
    await link.call("HSET", keys.BBO, BTC, "4999 5001 17")

    orders = await read_open_orders(link, [(7, BTC, "A|1"), (7, ETH, "A|1"), (8, BTC, "A|1")])

    assert orders == [OpenOrder(12, Side.SELL, 5_000, 3, 1, 300, 20), None, None]
    assert await read_best_prices(link, [BTC, ETH]) == {
        BTC: BestPrices(4_999, 5_001, 17),
        ETH: BestPrices(0, 0, 0),
    }
    assert await read_best_prices(link, []) == {}


async def test_subscriber_hears_all_channels_in_order(link: RedisLink, redis_url: str) -> None:
    subscriber = Subscriber(redis_url, ["wake", "control"], name="test", timeout_ms=DEADLINE_MS)
    await subscriber.open()
    for number in range(50):
        await link.call("PUBLISH", ("wake", "control")[number % 2], str(number))

    heard: list[tuple[str, bytes]] = []
    while len(heard) < 50:
        heard += await subscriber.messages()

    assert heard == [(("wake", "control")[n % 2], str(n).encode()) for n in range(50)]
    subscriber.close()
    with pytest.raises(RedisUnavailable, match="closed"):
        await subscriber.messages()


async def test_subscriber_tells_a_lost_connection_and_opens_again(
    link: RedisLink, redis_url: str
) -> None:
    async with LossyProxy(redis_url) as proxy:
        subscriber = Subscriber(proxy.url, ["wake"], name="test", timeout_ms=DEADLINE_MS)
        proxy.refused = True
        with pytest.raises(RedisUnavailable):
            await subscriber.open()
        proxy.refused = False
        await subscriber.open()
        proxy.replies_to_lose = 1
        await link.call("PUBLISH", "wake", "lost")
        with pytest.raises(RedisUnavailable, match="lost"):
            await subscriber.messages()
        await subscriber.open()
        await link.call("PUBLISH", "wake", "heard")
        assert await subscriber.messages() == [("wake", b"heard")]
        subscriber.close()


async def blocked_clients(link: RedisLink) -> bool:
    info: bytes = await link.call("INFO", "clients")
    return b"blocked_clients:1" in info
