"""The gateway's ring: order, the journal before forward, and what happens when it is full."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from engine.journal_file import JournalFile
from engine.journal_reader import JournalReader, segment_paths
from engine.journal_writer import FsyncPolicy, JournalWriter
from engine.limits import RING_SLOTS
from gateway.connection import Connection, ConnectionLimits
from gateway.fix_message import frame
from gateway.pipeline import Inbound, Pipeline
from gateway.session_events import (
    AdminMessage,
    Closed,
    IgnoredMessage,
    NeedOutLimit,
    Outbound,
    ResendRequested,
    SessionRules,
)
from tests.helpers import eventually_async

NOW_NS = 1_767_323_045_000_000_000


class World:
    """A pipeline on a real journal, whose stages keep what they were given."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        file = JournalFile(
            directory,
            kind="fix",
            owner="gateway-1",
            incarnations={},
            keeps_positions=False,
            now_ns=lambda: NOW_NS,
        )
        self.journal = JournalWriter(file, policy=FsyncPolicy.STRICT)
        self.encoded: list[Inbound] = []
        self.forwarded: list[Inbound] = []
        self.requests: list[ResendRequested | NeedOutLimit] = []
        self.journalled_at_forward: list[int] = []
        self.pipeline = Pipeline(
            self.journal,
            encode=self._encode,
            forward=self._forward,
            on_request=lambda connection, request: self.requests.append(request),
            connections_max=1,
        )
        limits = ConnectionLimits(
            SessionRules(comp_id=b"SHARDEX"),
            write_buffer_bytes_max=1_000,
            orders_per_s_max=10,
            requests_per_s_max=100,
            now_ns=lambda: NOW_NS,
        )
        self.connection = Connection(self.pipeline, limits)
        self.connection.journal_key = "7"

    def _encode(self, entries: list[Inbound], *, end_of_batch: bool) -> None:
        self.encoded += entries

    def _forward(self, entries: list[Inbound], *, end_of_batch: bool) -> None:
        self.forwarded += entries
        self.journalled_at_forward.append(self.journal.durable_count)

    def take(self, first: int, count: int) -> None:
        events = [AdminMessage(b"m%d" % n, b"0", n) for n in range(first, first + count)]
        self.pipeline.take_events(self.connection, events, NOW_NS)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        pipeline = self.pipeline
        works = (pipeline.run_journal, pipeline.run_encode, pipeline.run_forward)
        tasks = [asyncio.create_task(work()) for work in (*works, pipeline.run_waiting)]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path / "journal")
    yield made
    await made.journal.close()


async def test_every_message_is_durable_before_it_is_forwarded(world: World) -> None:
    world.take(1, 700)
    async with world.running():
        await world.pipeline.drained()
    assert [entry.event for entry in world.forwarded] == [entry.event for entry in world.encoded]
    assert world.journalled_at_forward[-1] == 700
    payloads = [record.payload for record in JournalReader(world.directory)]
    assert payloads == [b"m%d" % n for n in range(1, 701)]


async def test_more_than_the_ring_holds_waits_and_stops_reading(world: World) -> None:
    world.take(1, RING_SLOTS - 1)
    assert world.pipeline.room() == 1
    world.take(RING_SLOTS, 50)
    assert world.pipeline.room() == 0
    world.take(RING_SLOTS + 50, 10)
    async with world.running():
        await world.pipeline.drained()
    numbers = [entry.event.msg_seq_num for entry in world.forwarded]  # type: ignore[union-attr]
    assert numbers == list(range(1, RING_SLOTS + 60))
    assert world.pipeline.room() == RING_SLOTS


async def test_messages_that_the_disk_refuses_pass_unrecorded_and_are_recorded_later(
    world: World,
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    async with world.running():
        try:
            # Room for a part of the first record: what was written of it is cut off again.
            size = segment_paths(world.directory)[-1].stat().st_size
            resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10, hard))
            world.take(1, 2)
            await world.pipeline.drained()
            world.take(3, 1)
            await world.pipeline.drained()
            world.pipeline.note_output(world.connection, [Outbound(9, b"8", b"out", True)], NOW_NS)
            assert [entry.recorded for entry in world.forwarded] == [False] * 3
            assert not list(JournalReader(world.directory))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        await eventually_async(lambda: world.journal.failure is None)
        world.take(4, 1)
        await world.pipeline.drained()
    assert world.forwarded[-1].recorded
    await world.journal.sync()
    payloads = [record.payload for record in JournalReader(world.directory)]
    assert payloads == [b"m1", b"m2", b"m3", b"out", b"m4"]


async def test_requests_pass_by_and_endings_are_not_journalled(world: World) -> None:
    raw = frame(b"35=0\x0149=7\x01")
    events = [ResendRequested(1, 2), IgnoredMessage(raw, "late"), NeedOutLimit(5), Closed("over")]
    world.pipeline.take_events(world.connection, events, NOW_NS)
    assert world.requests == [events[0], events[2]]
    async with world.running():
        await world.pipeline.drained()
    assert [entry.event for entry in world.forwarded] == [events[1], events[3]]
    (record,) = JournalReader(world.directory)
    assert (record.key, record.seq, record.payload) == ("7", 0, raw)


async def test_output_is_journalled_and_waits_for_nothing(world: World) -> None:
    world.pipeline.note_output(world.connection, [Outbound(3, b"8", b"out", True)], NOW_NS)
    await world.journal.sync()
    (record,) = JournalReader(world.directory)
    assert (record.key, record.seq, record.flags, record.payload) == ("7", 3, 1, b"out")


async def test_connections_are_counted(world: World) -> None:
    assert world.pipeline.connected(world.connection)
    assert not world.pipeline.connected(world.connection)
    world.pipeline.disconnected(world.connection)
    await world.pipeline.all_disconnected()
    assert world.pipeline.connected(world.connection)
