"""The asyncio side of the ring: a task per consumer, and producers that wait for room.

Nothing polls. A consumer that has caught up sleeps on an event which its barrier sets; many moves
of a sequence before the task runs are one wake-up, so batches form by themselves while a stage is
busy.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Protocol, TypeVar

from engine.ring import Consumer, RingBuffer

T = TypeVar("T")


class BatchHandler(Protocol[T]):
    """What a stage does with a batch: a function or a coroutine function.

    `end_of_batch` is true when nothing more was ready as the batch was taken: the moment to flush.
    """

    def __call__(self, entries: list[T], /, *, end_of_batch: bool) -> Awaitable[None] | None: ...


async def run_consumer(consumer: Consumer[T], handler: BatchHandler[T], *, batch_max: int) -> None:
    """Hand every entry to `handler`, in order and in batches, until cancelled.

    The consumer's sequence moves when the handler has finished with a batch. When the handler
    raises, or is cancelled in the middle of a batch, the sequence stays in front of that batch and
    the exception goes up: it stops the component. Between two batches of a backlog the loop gives
    other tasks a turn.

    Args:
        consumer: The stage's consumer; it has one task at a time.
        handler: See BatchHandler.
        batch_max: Most entries in one batch.
    """
    wake = asyncio.Event()
    consumer.barrier.subscribe(wake.set)
    try:
        while True:
            ready = consumer.available()
            if not ready:
                # Nothing runs between this look and the wait, so no move of the barrier is missed.
                wake.clear()
                await wake.wait()
                continue
            entries = consumer.take(batch_max)
            end_of_batch = ready == len(entries)
            result = handler(entries, end_of_batch=end_of_batch)
            if result is not None:
                await result
            consumer.advance(consumer.sequence.value + len(entries))
            if not end_of_batch:
                await asyncio.sleep(0)
    finally:
        consumer.barrier.unsubscribe(wake.set)


async def wait_for_capacity(ring: RingBuffer[T], count: int) -> None:
    """Wait until `count` slots are free; they are as long as the caller does not await again.

    Waiting for `ring.capacity` slots is waiting until every consumer has finished with everything:
    the way to drain a ring before stopping its consumers. The wait is bounded by the consumers
    alone: a stage that stops ends the component, and that cancels the wait.

    Raises:
        ValueError: The ring has fewer slots than `count`.
    """
    if count > ring.capacity:
        raise ValueError(f"waiting for {count} slots of a ring with {ring.capacity}")
    if ring.remaining_capacity() >= count:
        return
    freed = asyncio.Event()
    ring.subscribe_freed(freed.set)
    try:
        while ring.remaining_capacity() < count:
            freed.clear()
            await freed.wait()
    finally:
        ring.unsubscribe_freed(freed.set)
