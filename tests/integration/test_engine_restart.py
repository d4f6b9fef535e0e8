"""A whole engine that saves, trims and starts again: from a snapshot, and from its journal."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from engine.commands import NewOrder, encode_command
from engine.enums import OrdType, SelfTradePrevention, Side, TimeInForce
from ops.engine_process import run_engine
from ops.settings import Settings
from ops.wiring import snapshot_directory
from router import keys
from router.admission import Admission, PublishItem
from tests.helpers import eventually_async
from tests.router_helpers import BACKLOG_MAX
from tests.venue import Venue, running_venue

SYMBOL = "BTC-USD"
BATCH = 150


@asynccontextmanager
async def engine(settings: Settings, url: str) -> AsyncIterator[None]:
    """Run the first shard's engine; leaving stops it."""
    task = asyncio.create_task(run_engine(settings, url, 1))
    yield
    assert not task.done(), "it runs until it is stopped"
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


class Trader:
    """An account that sends orders which fill each other, past the gateways."""

    def __init__(self, venue: Venue) -> None:
        self._venue = venue
        self._admission = Admission(venue.link, venue.homes, backlog_max=BACKLOG_MAX)
        self._sent = 0

    async def open(self) -> None:
        """Have a session and money."""
        await self._venue.link.call("HSET", keys.session(1), "epoch", 1)
        for asset in ("BTC", "USD"):
            await self._venue.link.call(
                "HSET", keys.balances(1), keys.available(asset), str(10**15)
            )

    async def trade(self) -> None:
        """Send orders and wait until they are settled."""
        rules = self._venue.homes[SYMBOL].rules
        items = []
        for number in range(self._sent + 1, self._sent + BATCH + 1):
            side = Side.BUY if number % 3 else Side.SELL
            amount = rules.hold_of(side, 1_000 + number % 7, 100)
            order = NewOrder(
                1,
                1,
                number,
                f"order-{number}",
                side,
                OrdType.LIMIT,
                TimeInForce.GTC,
                False,
                SelfTradePrevention.NONE,
                1_000 + number % 7,
                100,
                rules.version,
                amount,
            )
            data, asset = encode_command(order), rules.hold_asset(side)
            items.append(PublishItem(1, 1, number, SYMBOL, data, asset, amount, 1))
        self._sent += BATCH
        await self._admission.admit(items)

        async def are_settled() -> bool:
            settled = await self._venue.link.call("HGET", keys.SETTLED, SYMBOL)
            return int(settled or 0) == self._sent + 1

        await eventually_async(are_settled)


async def test_engine_goes_on_from_its_snapshot_and_from_its_journal(
    redis_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "engine")
    async with running_venue(redis_url, tmp_path, engines=False) as venue:
        often = {"snapshot_interval_s": 1, "snapshot_inputs_min": 1}
        settings = venue.settings.model_copy(
            update={"engine": venue.settings.engine.model_copy(update=often)}
        )
        folder = snapshot_directory(settings, "engine-1")
        trader = Trader(venue)
        await trader.open()
        async with venue.link.sibling(1) as link, engine(settings, redis_url):

            async def begins_late() -> bool:
                found = await link.call("XRANGE", keys.orders(SYMBOL), "-", "+", "COUNT", 1)
                return bool(found) and int(found[0][0].partition(b"-")[0]) > 1

            # One may be made while orders are on their way: the newest one has them all.
            for count in (1, 2):
                seq = count * BATCH + 1
                await trader.trade()
                newest = folder / f"{SYMBOL}.{seq:016d}.snapshot"
                await eventually_async(newest.exists)
            await eventually_async(begins_late)

        async with engine(venue.settings, redis_url):
            await trader.trade()
        assert f"{SYMBOL}: restored from its snapshot at seq {seq}" in caplog.messages
        assert "reading journal" not in caplog.text

        for path in folder.glob("*.snapshot"):
            path.write_bytes(path.read_bytes()[:-1])
        async with engine(venue.settings, redis_url):
            await trader.trade()
        assert f"{newest} is passed over" in caplog.text
        assert f"{SYMBOL}: seq 1 is needed, its stream begins at" in caplog.text
        assert "reading journal engine-1" in caplog.text
