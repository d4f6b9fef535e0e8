"""Consumers and producers of a ring as asyncio tasks."""

from __future__ import annotations

import asyncio

import pytest

from engine.ring import RingBuffer
from engine.ring_loop import run_consumer, wait_for_capacity
from tests.helpers import DEADLINE_S


async def stop(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [asyncio.CancelledError] * len(tasks)


async def test_three_stages_pass_every_entry_on_in_order() -> None:
    ring = RingBuffer[list[int]](8)
    journal = ring.add_consumer("journal")
    encode = ring.add_consumer("encode")
    forward = ring.add_consumer("forward", after=(journal, encode))
    journalled: list[int] = []
    forwarded: list[int] = []

    async def write(entries: list[list[int]], /, *, end_of_batch: bool) -> None:
        await asyncio.sleep(0)
        journalled.extend(entry[0] for entry in entries)

    def translate(entries: list[list[int]], /, *, end_of_batch: bool) -> None:
        for entry in entries:
            entry.append(entry[0] * 10)

    def admit(entries: list[list[int]], /, *, end_of_batch: bool) -> None:
        for number, encoded in entries:
            assert number in journalled
            forwarded.append(encoded)

    tasks = [
        asyncio.create_task(run_consumer(journal, write, batch_max=3)),
        asyncio.create_task(run_consumer(encode, translate, batch_max=2)),
        asyncio.create_task(run_consumer(forward, admit, batch_max=4)),
    ]
    async with asyncio.timeout(DEADLINE_S):
        for first in range(0, 100, 5):
            await wait_for_capacity(ring, 5)
            ring.publish_many([[number] for number in range(first, first + 5)])
        await wait_for_capacity(ring, ring.capacity)
    assert forwarded == [number * 10 for number in range(100)]
    await stop(*tasks)


async def test_publications_before_the_task_runs_are_one_batch_with_its_end_marked() -> None:
    ring = RingBuffer[int](8)
    consumer = ring.add_consumer("only")
    batches: list[tuple[list[int], bool]] = []

    def handle(entries: list[int], /, *, end_of_batch: bool) -> None:
        batches.append((entries, end_of_batch))

    task = asyncio.create_task(run_consumer(consumer, handle, batch_max=3))
    for number in range(5):
        ring.publish_many([number])
    async with asyncio.timeout(DEADLINE_S):
        await wait_for_capacity(ring, ring.capacity)
    assert batches == [([0, 1, 2], False), ([3, 4], True)]
    await stop(task)


async def test_handler_error_goes_up_and_the_batch_is_not_finished() -> None:
    ring = RingBuffer[int](4)
    consumer = ring.add_consumer("only")

    def handle(entries: list[int], /, *, end_of_batch: bool) -> None:
        raise OSError("disk gone")

    ring.publish_many([1, 2])
    async with asyncio.timeout(DEADLINE_S):
        with pytest.raises(OSError, match="disk gone"):
            await run_consumer(consumer, handle, batch_max=8)
    assert consumer.take(8) == [1, 2]


async def test_cancelled_in_the_middle_of_a_batch_leaves_it_to_a_successor() -> None:
    ring = RingBuffer[int](4)
    consumer = ring.add_consumer("only")
    started = asyncio.Event()
    seen: list[int] = []

    async def hang(entries: list[int], /, *, end_of_batch: bool) -> None:
        started.set()
        await asyncio.Event().wait()

    def handle(entries: list[int], /, *, end_of_batch: bool) -> None:
        seen.extend(entries)

    ring.publish_many([1, 2])
    task = asyncio.create_task(run_consumer(consumer, hang, batch_max=8))
    async with asyncio.timeout(DEADLINE_S):
        await started.wait()
        await stop(task)
        successor = asyncio.create_task(run_consumer(consumer, handle, batch_max=8))
        await wait_for_capacity(ring, ring.capacity)
    assert seen == [1, 2]
    await stop(successor)


async def test_backlog_gives_other_tasks_a_turn_between_batches() -> None:
    ring = RingBuffer[int](8)
    consumer = ring.add_consumer("only")
    order: list[str] = []

    def handle(entries: list[int], /, *, end_of_batch: bool) -> None:
        order.append("batch")

    async def neighbour() -> None:
        order.append("neighbour")

    ring.publish_many(list(range(8)))
    task = asyncio.create_task(run_consumer(consumer, handle, batch_max=4))
    async with asyncio.timeout(DEADLINE_S):
        await asyncio.gather(neighbour(), wait_for_capacity(ring, ring.capacity))
    assert order == ["batch", "neighbour", "batch"]
    await stop(task)


async def test_waiting_for_more_than_the_ring_has_is_refused() -> None:
    with pytest.raises(ValueError, match="9 slots of a ring with 8"):
        await wait_for_capacity(RingBuffer[int](8), 9)


async def test_waiting_producer_wakes_when_room_appears_and_leaves_no_listener() -> None:
    ring = RingBuffer[int](2)
    consumer = ring.add_consumer("only")
    ring.publish_many([1, 2])
    waiter = asyncio.create_task(wait_for_capacity(ring, 2))
    await asyncio.sleep(0)
    consumer.advance(0)
    await asyncio.sleep(0)
    assert not waiter.done()
    consumer.advance(1)
    async with asyncio.timeout(DEADLINE_S):
        await waiter
    ring.publish_many([3, 4])
    cancelled = asyncio.create_task(wait_for_capacity(ring, 1))
    await asyncio.sleep(0)
    await stop(cancelled)
    assert consumer.sequence._listeners == ()
