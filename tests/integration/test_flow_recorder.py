"""What a replayed flow takes as the state before it."""

from __future__ import annotations

import asyncio

import msgspec
import pytest
import redis.asyncio

from marketdata.feed_codec import LastSeqs, LevelText, SnapshotMessage, encode_heartbeat
from ops import flow_recorder
from ops.flow_recorder import FlowRecorder
from router import keys
from tests.helpers import DEADLINE_MS, DEADLINE_S, eventually_async

SYMBOL = "FLOW-USD"
LAST_SEQ = 5
SETTLED = 6


def snapshot(seq: int, bids: list[LevelText]) -> bytes:
    return msgspec.json.encode(
        SnapshotMessage(
            symbol=SYMBOL,
            seq=seq,
            ts=0,
            written=0,
            incarnation="1",
            rules=1,
            tick_size="0.01",
            lot_size="1",
            last_seq=LastSeqs(trades=0, bbo=LAST_SEQ, depth=LAST_SEQ, status=0),
            phase="continuous",
            bid_price=None,
            bid_qty=None,
            ask_price=None,
            ask_qty=None,
            complete=True,
            levels_max=10,
            bids=bids,
            asks=[],
            trades=[],
        )
    )


async def test_a_snapshot_from_before_the_last_report_is_not_taken(
    redis_url: str, redis_client: redis.asyncio.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flow_recorder, "WAIT_TIMEOUT_S", DEADLINE_S)
    monkeypatch.setattr(flow_recorder, "_TIMEOUT_MS", DEADLINE_MS)
    await redis_client.hset(keys.SETTLED, SYMBOL, SETTLED)
    await redis_client.set(keys.md_snapshot(SYMBOL), snapshot(LAST_SEQ, [("5.00", "30", 1)]))
    channels = {"bbo": keys.md_bbo(SYMBOL), "depth": keys.md_depth(SYMBOL)}
    await redis_client.get("any")

    async def snapshots_read() -> int:
        commands = await redis_client.info("commandstats")
        return int(commands["cmdstat_get"]["calls"])

    before = await snapshots_read()

    async def is_refused() -> bool:
        if opening.done():
            opening.result()
        for name, channel in channels.items():
            beat = encode_heartbeat(SYMBOL, name, seq=LAST_SEQ, ts_us=0, incarnation="1")
            await redis_client.publish(channel, beat)
        return await snapshots_read() >= before + 2

    recorder = FlowRecorder(redis_url, SYMBOL)
    opening = asyncio.create_task(recorder.open())
    try:
        await eventually_async(is_refused)
        await redis_client.set(keys.md_snapshot(SYMBOL), snapshot(SETTLED, []))
        await opening
        assert recorder.snapshot.seq == SETTLED
    finally:
        opening.cancel()
        await recorder.close()
