"""A whole shard on a real Redis: the same outcome whatever is cut off, and whenever."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from engine.commands import CancelOrder, Command, NewOrder, decode_command, encode_command
from engine.enums import OrdType, SelfTradePrevention, Side, TimeInForce
from engine.journal_file import JournalFile
from engine.journal_keys import decode_hash, digest_of, hashed_symbol
from engine.journal_reader import JournalReader
from engine.journal_writer import FsyncPolicy, JournalWriter
from engine.runner import ShardRunner
from engine.settlement import encode_settlement
from engine.shard import Shard
from router import keys
from router.admission import Admission, PublishItem
from router.commit import Committer
from router.errors import Fenced
from router.leadership import Leadership
from router.lease import Lease
from router.redis_client import RedisLink
from router.standby import PublishedReader, RoleCommitter
from router.streams import CommandSource
from tests.helpers import eventually_async
from tests.router_helpers import (
    BACKLOG_MAX,
    BTC,
    ETH,
    LossyProxy,
    SmallVenue,
    make_link,
    make_rules,
    small_venue,
)

ACCOUNTS = (1, 2, 3)
MONEY = 10_000_000
SYMBOLS = (BTC, ETH)
ASSETS = ("USD", "BTC", "ETH")


@pytest.fixture
async def venue(redis_url: str) -> AsyncIterator[SmallVenue]:
    fees = {"maker_fee_ppm": 1_000, "taker_fee_ppm": 2_500}
    rules = {symbol: make_rules(symbol, **fees) for symbol in SYMBOLS}
    async with small_venue(redis_url, rules) as venue:
        for account in ACCOUNTS:
            await venue.open_session(account)
            for asset in ASSETS:
                await venue.give(account, asset, MONEY)
        yield venue


def flow(venue: SmallVenue, count: int, seed: int) -> Iterator[PublishItem]:
    """Yield orders around one price, and cancels of earlier ones."""
    choose = random.Random(seed)
    sent: dict[int, list[tuple[str, str]]] = {account: [] for account in ACCOUNTS}
    for number in range(1, count + 1):
        account, symbol = choose.choice(ACCOUNTS), choose.choice(SYMBOLS)
        rules = venue.rules[symbol]
        name = f"{account}-{number}"
        command: Command
        if sent[account] and choose.random() < 0.3:
            symbol, orig = choose.choice(sent[account])
            command = CancelOrder(account, 1, number, name, orig, 0)
            yield PublishItem(account, 1, number, symbol, encode_command(command))
            continue
        side = choose.choice((Side.BUY, Side.SELL))
        price, lots = 100 + choose.randint(-3, 3), choose.randint(1, 9)
        amount = rules.hold_of(side, price, lots)
        command = NewOrder(
            account,
            1,
            number,
            name,
            side,
            OrdType.LIMIT,
            choose.choice((TimeInForce.GTC, TimeInForce.IOC)),
            False,
            SelfTradePrevention.CANCEL_NEWEST,
            price,
            lots,
            rules.version,
            amount,
        )
        sent[account].append((symbol, name))
        yield PublishItem(
            account, 1, number, symbol, encode_command(command), rules.hold_asset(side), amount, 1
        )


@asynccontextmanager
async def engine(
    venue: SmallVenue, url: str, folder: Path, owner: str
) -> AsyncIterator[tuple[asyncio.Task[None], ShardRunner]]:
    """Run the first shard; leaving stops it in the middle of whatever it does."""
    homes = venue.shard_homes(1)
    links: list[RedisLink] = [make_link(url), *(make_link(url, db=1) for _ in range(3))]
    lease = Lease(links[1], owner=owner, ttl_ms=300)
    committer = Committer(links[0], lease, homes)

    async def check() -> None:
        """Leave it to the venue, which has cleared its server."""

    leadership = Leadership(lease, check=check, ready=lambda: True)
    positions = await committer.positions()
    file = JournalFile(
        folder,
        kind="commands",
        owner="shard 1",
        incarnations={symbol: home.incarnation for symbol, home in homes.items()},
        keeps_positions=True,
        now_ns=time.time_ns,
    )
    writer = JournalWriter(file, policy=FsyncPolicy.OVERLAPPED)
    runner = ShardRunner(
        shard=Shard(),
        source=CommandSource(links[2], dict.fromkeys(homes, 0), block_ms=100),
        journal=writer,
        journalled=file.positions,
        skips={},
        committer=RoleCommitter(committer, leadership, PublishedReader(links[3])),
        committed={s: min(p.settled, p.published) for s, p in positions.items()},
        keep_lease=leadership.keep,
        now_ns=time.time_ns,
    )
    task = asyncio.create_task(runner.run())
    try:
        yield task, runner
        task.cancel()
        # What ended it earlier is raised here.
        with contextlib.suppress(asyncio.CancelledError):
            await task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await writer.close()
        for link in links:
            await link.close()


async def settled(venue: SmallVenue) -> dict[str, int]:
    values = await venue.link.call("HMGET", keys.SETTLED, *SYMBOLS)
    return {symbol: int(value or 0) for symbol, value in zip(SYMBOLS, values, strict=True)}


class Expected:
    """What a fresh replay of the streams says there must be."""

    def __init__(self) -> None:
        self.shard = Shard()
        self.balances = {
            (account, asset): [MONEY, 0, 0] for account in ACCOUNTS for asset in ASSETS
        }
        self.reports: dict[int, list[bytes]] = {account: [] for account in ACCOUNTS}
        self.open_orders: dict[int, dict[bytes, bytes]] = {account: {} for account in ACCOUNTS}

    def apply(self, venue: SmallVenue, symbol: str, seq: int, fields: dict[str, bytes]) -> bytes:
        """Apply one entry of a stream of orders; return its output."""
        command = decode_command(fields["c"])
        one = encode_settlement(self.shard.apply(symbol, seq, int(fields["t"]), command))
        if isinstance(command, NewOrder):
            asset = venue.rules[symbol].hold_asset(command.side)
            self._move(command.account, asset, (-command.reserved, command.reserved, 0))
        for change in one.changes:
            parts = (change.available, change.pending, change.held)
            self._move(change.account, change.asset, parts)
        for account, report in one.reports():
            self.reports[account].append(report)
        for update in one.opens:
            field = keys.open_field(symbol, update.cl_ord_id).encode()
            self.open_orders[update.account].pop(field, None)
            if update.value is not None:
                self.open_orders[update.account][field] = update.value.encode()
        return one.event

    def _move(self, account: int, asset: str, parts: tuple[int, int, int]) -> None:
        balance = self.balances.setdefault((account, asset), [0, 0, 0])
        for index, part in enumerate(parts):
            balance[index] += part


async def check_everything(venue: SmallVenue, folder: Path) -> None:
    """Compare events, journal, outboxes, open orders and balances with a fresh replay."""
    expected = Expected()
    commands: dict[str, list[bytes]] = {}
    events: dict[str, list[bytes]] = {}
    for symbol in SYMBOLS:
        orders = await venue.stream(keys.orders(symbol), db=1)
        commands[symbol] = [fields["c"] for _, fields in orders]
        outputs = [(seq, {"e": expected.apply(venue, symbol, seq, f)}) for seq, f in orders]
        events[symbol] = [fields["e"] for _, fields in outputs]
        assert await venue.stream(keys.events(symbol), db=1) == outputs
    expected.shard.check_invariants()

    for (account, asset), parts in expected.balances.items():
        assert await venue.balance(account, asset) == tuple(parts)
        assert parts[1] == 0
    for asset in ASSETS:
        parts_of_all = [p for (_, name), p in expected.balances.items() if name == asset]
        assert sum(map(sum, parts_of_all)) == MONEY * len(ACCOUNTS)
    for account in ACCOUNTS:
        outbox = await venue.stream(keys.outbox(account))
        assert [number for number, _ in outbox] == list(range(1, len(outbox) + 1))
        assert sorted(f["e"] for _, f in outbox) == sorted(expected.reports[account])
        fields = await venue.link.call("HGETALL", keys.open_orders(account))
        stored = dict(zip(fields[::2], fields[1::2], strict=True))
        assert stored == expected.open_orders[account]

    check_journal(folder, commands, events)


def check_journal(
    folder: Path, commands: dict[str, list[bytes]], events: dict[str, list[bytes]]
) -> None:
    """The journal has every command, and the hash of every output."""
    journalled: dict[str, list[bytes]] = {symbol: [] for symbol in SYMBOLS}
    hashed = dict.fromkeys(SYMBOLS, 0)
    for record in JournalReader(folder):
        symbol = hashed_symbol(record.key)
        if symbol is None:
            journalled[record.key].append(record.payload)
            continue
        one = decode_hash(record.payload)
        assert one.first == hashed[symbol] + 1
        assert one.digest == digest_of(events[symbol][hashed[symbol] : one.last])
        hashed[symbol] = one.last
    assert journalled == commands
    assert hashed == {symbol: len(of) for symbol, of in events.items()}


async def test_orders_end_up_everywhere_exactly_once(venue: SmallVenue, tmp_path: Path) -> None:
    admission = Admission(venue.link, venue.homes, backlog_max=BACKLOG_MAX)
    items = list(flow(venue, 400, seed=1))
    async with engine(venue, venue.link.url, tmp_path, "engine-1") as (_, runner):
        for first in range(0, len(items), 50):
            await admission.admit(items[first : first + 50])
        await eventually_async(lambda: sum(runner.committed.values()) == len(items) + 2)
        assert runner.is_live

    await check_everything(venue, tmp_path)


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_restarts_and_lost_replies_change_nothing(
    venue: SmallVenue, tmp_path: Path, seed: int
) -> None:
    choose = random.Random(seed)
    items = list(flow(venue, 400, seed))
    async with LossyProxy(venue.link.url) as proxy, make_link(proxy.url) as link:
        admission = Admission(link, venue.homes, backlog_max=BACKLOG_MAX)
        sent = 0
        for life in range(6):
            async with engine(venue, proxy.url, tmp_path, f"life {life}") as (_, runner):
                for _ in range(3):
                    size = choose.randint(1, 40)
                    proxy.replies_to_lose = choose.randint(0, 3)
                    if items[sent : sent + size]:
                        await admission.admit(items[sent : sent + size])
                    sent += size
                # Cut off somewhere between the first commit of this life and the last.
                goal = choose.randint(0, 40) + sum((await settled(venue)).values())
                goal = min(goal, min(sent, len(items)) + 2)
                await eventually_async(lambda goal=goal: sum(runner.committed.values()) >= goal)
        proxy.replies_to_lose = 0
        await admission.admit(items[sent:])
        async with engine(venue, proxy.url, tmp_path, "engine-1 at last") as (_, runner):
            await eventually_async(lambda: sum(runner.committed.values()) == len(items) + 2)

    await check_everything(venue, tmp_path)


async def test_second_engine_takes_over_and_the_first_one_stops(
    venue: SmallVenue, tmp_path: Path
) -> None:
    admission = Admission(venue.link, venue.homes, backlog_max=BACKLOG_MAX)
    items = list(flow(venue, 60, seed=5))
    url = venue.link.url
    with pytest.raises(Fenced):
        async with engine(venue, url, tmp_path / "a", "first") as (task, first):
            await admission.admit(items[:30])
            await eventually_async(lambda: sum(first.committed.values()) == 32)
            # The first one is stuck long enough for its lease to run out.
            usurper = Lease(venue.new_link(1), owner="second", ttl_ms=300)
            shard_link = venue.new_link(1)

            async def usurp() -> bool:
                await shard_link.call("HSET", keys.LEASE, "until_ms", 0)
                return await usurper.try_acquire() is None

            await eventually_async(usurp)
            await admission.admit(items[30:40])
            await eventually_async(task.done)
            assert sum(first.committed.values()) == 32
    await usurper.release()
    async with engine(venue, url, tmp_path / "b", "third") as (_, third):
        await admission.admit(items[40:])
        await eventually_async(lambda: sum(third.committed.values()) == 62)

    await check_everything(venue, tmp_path / "b")


async def test_redis_that_goes_away_for_a_while_is_waited_for(
    venue: SmallVenue, tmp_path: Path
) -> None:
    admission = Admission(venue.link, venue.homes, backlog_max=BACKLOG_MAX)
    items = list(flow(venue, 100, seed=9))
    async with LossyProxy(venue.link.url) as proxy:
        async with engine(venue, proxy.url, tmp_path, "engine-1") as (_, runner):
            await admission.admit(items[:50])
            await eventually_async(lambda: sum(runner.committed.values()) == 52)
            proxy.refused = True
            proxy.replies_to_lose = 5
            await admission.admit(items[50:])
            await eventually_async(lambda: proxy.lost > 0)
            proxy.refused = False
            proxy.replies_to_lose = 0
            await eventually_async(lambda: sum(runner.committed.values()) == 102)

    await check_everything(venue, tmp_path)
