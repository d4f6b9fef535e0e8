"""A follower lets go what the leader published with the same bytes, and commits the rest later."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence

import msgspec
import pytest

from engine.events import BalanceChange, Output, encode_output
from engine.settlement import Settlement
from router.errors import OutputDiffers, RedisUnavailable
from router.standby import SHOWN_CHARACTERS_MAX, RoleCommitter, describe_versions
from tests.helpers import eventually_async
from tests.router_helpers import BTC, ETH, settlement


class Role:
    """A leadership that comes when the test says so."""

    def __init__(self) -> None:
        self.led = asyncio.Event()

    @property
    def is_leading(self) -> bool:
        return self.led.is_set()

    async def wait_until_leading(self) -> None:
        await self.led.wait()


class Published:
    """Streams of outputs in memory; a read waits until there is something behind a position."""

    def __init__(self) -> None:
        self.streams: dict[str, dict[int, bytes]] = {BTC: {}, ETH: {}}
        self.largest_read = 0
        self._grown = asyncio.Event()

    def add(self, symbol: str, *seqs: int) -> None:
        for seq in seqs:
            self.streams[symbol][seq] = settlement(symbol, seq).event
        self._grown.set()

    async def read(
        self, positions: Mapping[str, int], *, count: int
    ) -> dict[str, list[tuple[int, bytes]]]:
        while True:
            found = {
                symbol: [(seq, body) for seq, body in self.streams[symbol].items() if seq > after]
                for symbol, after in positions.items()
            }
            if any(found.values()):
                self.largest_read = max(self.largest_read, count)
                return {symbol: entries[:count] for symbol, entries in found.items() if entries}
            self._grown.clear()
            await self._grown.wait()


class Committed:
    """Remembers what it was given."""

    def __init__(self) -> None:
        self.batches: list[list[tuple[str, int]]] = []

    async def commit(self, batch: Sequence[Settlement]) -> None:
        self.batches.append([(one.symbol, one.seq) for one in batch])


class World(msgspec.Struct):
    role: Role
    published: Published
    committed: Committed
    follower: RoleCommitter


@pytest.fixture
async def world() -> World:
    role, published, committed = Role(), Published(), Committed()
    return World(role, published, committed, RoleCommitter(committed, role, published))


def outputs(symbol: str, first: int, last: int) -> list[Settlement]:
    return [settlement(symbol, seq) for seq in range(first, last + 1)]


async def test_what_is_not_published_yet_is_read_again_after_the_interval(world: World) -> None:
    follower = RoleCommitter(world.committed, world.role, world.published, interval_ms=40)
    loop = asyncio.get_running_loop()
    world.published.add(BTC, 1)
    start_s = loop.time()
    committing = asyncio.create_task(follower.commit(outputs(BTC, 1, 2)))
    await eventually_async(lambda: follower.compared == 1)
    world.published.add(BTC, 2)

    await committing
    assert loop.time() - start_s >= 0.04
    assert follower.compared == 2


async def test_coming_to_lead_ends_the_interval(world: World) -> None:
    follower = RoleCommitter(world.committed, world.role, world.published, interval_ms=60_000)
    world.published.add(BTC, 1)
    committing = asyncio.create_task(follower.commit(outputs(BTC, 1, 2)))
    await eventually_async(lambda: follower.compared == 1)
    world.role.led.set()

    await committing
    assert world.committed.batches == [[(BTC, 2)]]


async def test_what_is_published_with_the_same_bytes_is_let_go(world: World) -> None:
    world.published.add(BTC, 1, 2, 3, 4, 5, 6)
    committing = asyncio.create_task(
        world.follower.commit([*outputs(BTC, 1, 3), *outputs(ETH, 1, 2)])
    )
    await eventually_async(lambda: world.follower.compared == 3)
    world.published.add(ETH, 1)
    await eventually_async(lambda: world.follower.compared == 4)
    assert not committing.done()

    world.published.add(ETH, 2)
    await committing

    assert (world.follower.compared, world.follower.uncompared) == (5, 0)
    assert world.committed.batches == []
    assert world.published.largest_read == 3


async def test_leader_commits_without_reading(world: World) -> None:
    world.role.led.set()

    await world.follower.commit(outputs(BTC, 1, 2))

    assert world.committed.batches == [[(BTC, 1), (BTC, 2)]]
    assert world.follower.compared == 0


async def test_rest_of_a_batch_is_committed_at_a_takeover(world: World) -> None:
    world.published.add(BTC, 7, 8)
    batch = [settlement(ETH, 3), *outputs(BTC, 7, 9), settlement(ETH, 4), settlement(BTC, 10)]
    committing = asyncio.create_task(world.follower.commit(batch))
    await eventually_async(lambda: world.follower.compared == 2)

    world.role.led.set()
    await committing

    assert world.committed.batches == [[(ETH, 3), (BTC, 9), (ETH, 4), (BTC, 10)]]


async def test_other_bytes_stop_the_follower_with_both_versions(world: World) -> None:
    theirs = Output(BTC, 2, 5, [], [BalanceChange(7, "USD", 1, -1, 0)])
    ours = Output(BTC, 2, 5, [], [BalanceChange(7, "USD", 2, -2, 0)])
    world.published.add(BTC, 1)
    world.published.streams[BTC][2] = encode_output(theirs)
    batch = [settlement(BTC, 1), settlement(BTC, 2, event=encode_output(ours))]

    with pytest.raises(OutputDiffers) as raised:
        await world.follower.commit(batch)

    assert str(raised.value).splitlines() == [
        "BTC-USD seq 2: another output was published before",
        f"  published: {theirs!r}",
        f"  ours:      {ours!r}",
    ]
    assert (raised.value.symbol, raised.value.seq) == (BTC, 2)
    assert world.follower.compared == 1
    assert world.committed.batches == []


async def test_outputs_that_were_trimmed_are_counted_and_told_once(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    world.published.add(BTC, 6, 7)

    await world.follower.commit(outputs(BTC, 1, 3))
    await world.follower.commit(outputs(BTC, 4, 7))

    assert (world.follower.compared, world.follower.uncompared) == (2, 5)
    assert [one.getMessage() for one in caplog.records] == [
        "BTC-USD: outputs from seq 1 to 5 were trimmed before they could be compared"
    ]


async def test_error_of_the_reader_ends_it(world: World) -> None:
    async def fail(
        positions: Mapping[str, int], *, count: int
    ) -> dict[str, list[tuple[int, bytes]]]:
        raise RedisUnavailable("no retry")

    world.published.read = fail  # type: ignore[method-assign]

    with pytest.raises(RedisUnavailable):
        await world.follower.commit(outputs(BTC, 1, 1))


def test_long_outputs_are_cut_around_the_first_difference() -> None:
    changes = [BalanceChange(account, "USD", 1, -1, 0) for account in range(1_000)]
    other = [*changes]
    other[500] = BalanceChange(500, "USD", 2, -2, 0)

    text = describe_versions(
        published=encode_output(Output(BTC, 2, 5, [], changes)),
        ours=encode_output(Output(BTC, 2, 5, [], other)),
    )

    assert len(text) < 2 * SHOWN_CHARACTERS_MAX + 100
    published, ours = text.splitlines()[1:]
    assert "account=500, asset='USD', available=1," in published
    assert "account=500, asset='USD', available=2," in ours


def test_bytes_that_are_no_output_are_shown_too() -> None:
    good = Output(BTC, 2, 5, [], [])

    text = describe_versions(published=b"\xc1", ours=encode_output(good))

    assert "published: (not an output: " in text
    assert f"ours:      {good!r}" in text
