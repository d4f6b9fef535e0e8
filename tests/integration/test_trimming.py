"""Trimming of commands and outputs on a real Redis: below whoever needs most, never the last."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from engine.errors import RecoveryGap
from engine.journal import Record
from engine.journal_reader import JournalReader
from engine.recovery import RecoverySource
from router import keys, trimming
from router.errors import OutOfMemory
from router.redis_client import RedisLink
from router.shards import Shard
from router.streams import CommandSource
from router.trimming import EventStreams, OrderStreams
from tests.router_helpers import BTC, ETH, make_link, no_memory
from tests.unit.test_engine_recovery import journal

ENTRIES = 1_000
NODE = 100
"""Entries in one node of a stream (redis.conf's default): what "~" may leave."""

ENGINE, STANDBY = "engine-1", "engine-1-standby"


@pytest.fixture
async def link(redis_url: str) -> AsyncIterator[RedisLink]:
    async with make_link(redis_url) as link:
        yield link


@pytest.fixture
async def shard_link(redis_url: str) -> AsyncIterator[RedisLink]:
    async with make_link(redis_url, db=1) as link:
        yield link


@pytest.fixture
def shard(redis_url: str) -> Shard:
    return Shard(1, redis_url, 1, (BTC, ETH))


@pytest.fixture
async def orders(
    link: RedisLink, shard_link: RedisLink, shard: Shard
) -> AsyncIterator[OrderStreams]:
    for symbol in shard.symbols:
        await append(shard_link, keys.orders(symbol), 1, ENTRIES)
    streams = OrderStreams(link, shard)
    yield streams
    await streams.close()


async def append(link: RedisLink, key: str, first: int, last: int) -> None:
    await link.pipeline(
        [
            ("XADD", key, f"{seq}-0", "c", f"command {seq}", "t", seq)
            for seq in range(first, last + 1)
        ]
    )


async def bounds(link: RedisLink, key: str) -> tuple[int, int]:
    """Return the first and the last number of a stream."""
    found = [
        (await link.call(command, key, *ends, "COUNT", 1))[0][0]
        for command, ends in (("XRANGE", "-+"), ("XREVRANGE", "+-"))
    ]
    first, last = (int(entry_id.partition(b"-")[0]) for entry_id in found)
    return first, last


async def first_of(link: RedisLink, symbol: str) -> int:
    first, last = await bounds(link, keys.orders(symbol))
    assert last == ENTRIES, "the end stays"
    return first


async def test_nothing_goes_before_the_engine_says_what_it_needs(
    orders: OrderStreams, shard_link: RedisLink
) -> None:
    assert await orders.trim() == 0
    await orders.publish(STANDBY, {BTC: 500, ETH: 500})
    assert await orders.trim() == 0
    await orders.publish(ENGINE, {BTC: 0, ETH: 500})
    assert await orders.trim() > 0
    assert await first_of(shard_link, BTC) == 1
    assert 500 - NODE < await first_of(shard_link, ETH) <= 500


async def test_slower_engine_decides_until_it_is_forgotten(
    orders: OrderStreams, shard_link: RedisLink
) -> None:
    await orders.publish(ENGINE, {BTC: 900, ETH: 300})
    await orders.publish(STANDBY, {BTC: 400, ETH: 800})
    assert await orders.trim() > 0
    assert 400 - NODE < await first_of(shard_link, BTC) <= 400
    assert 300 - NODE < await first_of(shard_link, ETH) <= 300
    assert await orders.trim() == 0
    await orders.forget(STANDBY)
    assert await orders.trim() > 0
    assert 900 - NODE < await first_of(shard_link, BTC) <= 900


async def test_leader_trims_although_redis_has_no_memory_to_be_told(
    orders: OrderStreams, link: RedisLink, shard_link: RedisLink
) -> None:
    await orders.publish(ENGINE, {BTC: 100, ETH: 100})
    async with no_memory(link):
        with pytest.raises(OutOfMemory):
            await orders.publish(ENGINE, {BTC: 900, ETH: 300})
        assert await orders.trim({ENGINE: {BTC: 900, ETH: 300}}) > 0
    assert 900 - NODE < await first_of(shard_link, BTC) <= 900
    await orders.publish(ENGINE, {BTC: 950, ETH: 950})
    assert await orders.trim({STANDBY: {BTC: 0, ETH: 300}}) == 0


async def test_standby_that_has_only_the_ledger_holds_everything(
    orders: OrderStreams, link: RedisLink
) -> None:
    await orders.publish(ENGINE, {BTC: 900, ETH: 300})
    await link.call("HSET", keys.position_engine(STANDBY), "ledger", 7)
    assert await orders.trim() == 0


async def test_last_entry_stays_even_on_a_server_that_lost_writes(
    orders: OrderStreams, shard_link: RedisLink
) -> None:
    await orders.publish(ENGINE, {BTC: ENTRIES + 500, ETH: ENTRIES})
    await orders.trim()
    for symbol in (BTC, ETH):
        assert ENTRIES - NODE < await first_of(shard_link, symbol) <= ENTRIES


async def test_events_keep_their_last_entry_on_a_server_that_lost_writes(
    link: RedisLink, shard_link: RedisLink, shard: Shard
) -> None:
    await append(shard_link, keys.events(BTC), 1, ENTRIES)
    await link.call("HSET", keys.POSITION_MARKETDATA, BTC, ENTRIES + 700, ETH, 5)
    streams = EventStreams(link, [shard])
    assert await streams.trim({BTC: ENTRIES + 500, ETH: 5}) > 0
    first, last = await bounds(shard_link, keys.events(BTC))
    assert ENTRIES - NODE < first <= last == ENTRIES
    assert await shard_link.call("EXISTS", keys.events(ETH)) == 0
    await streams.close()


async def test_more_than_one_command_may_remove_goes_in_one_call(
    orders: OrderStreams, shard_link: RedisLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trimming, "_TRIM_ENTRIES_MAX", 2 * NODE)
    await orders.publish(ENGINE, {BTC: 900, ETH: 0})
    assert await orders.trim() > 700
    assert 900 - NODE < await first_of(shard_link, BTC) <= 900


async def test_engine_that_holds_back_too_much_is_named(
    link: RedisLink,
    shard: Shard,
    orders: OrderStreams,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(trimming, "ORDERS_KEPT_ALARM", 650)
    streams = OrderStreams(link, shard)
    await streams.publish(ENGINE, {BTC: 900, ETH: 600})
    await streams.publish(STANDBY, {BTC: 200, ETH: 800})
    for _ in range(2):
        await streams.trim()
    assert len(caplog.messages) == 1
    assert "orders:BTC-USD has" in caplog.messages[0]
    assert "engine-1-standby needs them from 201 on" in caplog.messages[0]
    await streams.close()


async def test_who_holds_events_back_is_named_at_the_limit_and_when_that_has_doubled(
    link: RedisLink,
    shard_link: RedisLink,
    shard: Shard,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(trimming, "EVENTS_KEPT_ALARM", 300)
    streams = EventStreams(link, [shard])
    end = 0

    async def trim_at(more: int, *, written: int, seen: int) -> list[str]:
        nonlocal end
        if more:
            await append(shard_link, keys.events(BTC), end + 1, end + more)
        end += more
        await link.call("HSET", keys.POSITION_MARKETDATA, BTC, seen, ETH, 0)
        caplog.clear()
        await streams.trim({BTC: written, ETH: 0})
        return list(caplog.messages)

    assert await trim_at(300, written=5, seen=300) == []
    text = "events:BTC-USD has 400 entries: writer needs them from 6 on"
    assert await trim_at(100, written=5, seen=400) == [text]
    assert await trim_at(399, written=5, seen=400) == []
    text = "events:BTC-USD has 800 entries: marketdata needs them from 10 on"
    assert await trim_at(1, written=800, seen=9) == [text]
    # When it was short meanwhile, that is another time.
    assert await trim_at(0, written=800, seen=800) == []
    [text] = await trim_at(320, written=1_120, seen=800)
    assert text.endswith(": marketdata needs them from 801 on")
    await streams.close()


async def test_source_says_where_streams_begin(orders: OrderStreams, shard_link: RedisLink) -> None:
    await orders.publish(ENGINE, {BTC: 900, ETH: 0})
    await orders.trim()
    source = CommandSource(shard_link, {BTC: 0, ETH: 0, "SOL-USD": 0}, block_ms=10)
    first = await first_of(shard_link, BTC)
    assert first > 1
    assert await source.firsts() == {BTC: first, ETH: 1, "SOL-USD": 1}
    assert await source.ends() == {BTC: ENTRIES, ETH: ENTRIES, "SOL-USD": 0}


async def test_recovery_reads_from_a_journal_what_is_trimmed(
    orders: OrderStreams, shard_link: RedisLink, tmp_path: Path
) -> None:
    await orders.publish(ENGINE, {BTC: 900, ETH: 0})
    await orders.trim()
    first = await first_of(shard_link, BTC)
    kept = [Record(BTC, seq, seq * 1_000, 0, b"command %d" % seq) for seq in range(1, 951)]
    reader = journal(tmp_path, kept, segment_bytes=4_000)

    async def recover(reader: JournalReader) -> dict[str, list[Record]]:
        positions = {BTC: 100, ETH: 990}
        stream = CommandSource(shard_link, positions, block_ms=10)
        source = RecoverySource({"own": reader}, stream, positions)
        found: dict[str, list[Record]] = {BTC: [], ETH: []}
        while batch := await source.read_batch(100):
            for record in batch:
                found[record.key].append(record)
        return found

    found = await recover(reader)
    assert [record.seq for record in found[BTC]] == list(range(101, ENTRIES + 1))
    assert found[BTC][: 950 - 100] == kept[100:], "the journal and the stream say the same"
    assert [record.seq for record in found[ETH]] == list(range(991, ENTRIES + 1))
    with pytest.raises(RecoveryGap, match=f"seq 101 is needed, the stream begins at {first}"):
        await recover(JournalReader(tmp_path / "none"))
