"""A bounded ring buffer for one thread, with the disruptor's parts and words. Pure.

Theory. Entries are numbered 0, 1, 2… for ever; entry n lives in slot n mod capacity. Nobody owns
a queue: everyone owns a number.

    cursor            the highest published sequence; the producer moves it
    consumer          its sequence is the highest entry it has finished with
    barrier           what a consumer waits for: the cursor, or the consumers before it
    gating sequences  the last consumers of each chain; the producer may not lap the slowest

        producer ──▶ cursor ─┬─▶ journal ─┐
                             └─▶ encode ──┴─▶ forward   (gates the producer)

Because a consumer never passes its barrier, `gating <= every consumer <= cursor <= claimed` holds,
and an entry is visible to exactly one stage of a chain at a time. A slot holds an object that the
producer made; an earlier consumer may change it for a later one (encode puts the encoded command
beside the message). A slot keeps its object until it is overwritten a lap later.

Waiting is not done here. A sequence tells its listeners that it has moved; `ring_loop.py` turns
that into asyncio wake-ups. All calls come from one thread, so there is no locking, and a batch
costs one step of a sequence however many entries it has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Generic, TypeVar, cast

from engine.errors import RingFull

T = TypeVar("T")

Listener = Callable[[], None]


class Sequence:
    """A number that only grows: the position of the producer or of one consumer."""

    __slots__ = ("_listeners", "value")

    def __init__(self) -> None:
        self.value = -1
        self._listeners: tuple[Listener, ...] = ()

    def advance(self, to: int) -> None:
        """Move to `to` and tell the listeners, in the order in which they subscribed."""
        assert to >= self.value, "Invariant: a sequence never moves back"
        self.value = to
        for listener in self._listeners:
            listener()

    def subscribe(self, listener: Listener) -> None:
        """Have `listener` called after each move; it must be quick and must not raise."""
        self._listeners = (*self._listeners, listener)

    def unsubscribe(self, listener: Listener) -> None:
        """Take back one `subscribe` of `listener`; one that is not subscribed is left alone."""
        kept = list(self._listeners)
        if listener in kept:
            kept.remove(listener)
        self._listeners = tuple(kept)


class SequenceBarrier:
    """The point up to which a stage may go: the slowest of the sequences before it."""

    __slots__ = ("_sequences",)

    def __init__(self, sequences: Iterable[Sequence]) -> None:
        self._sequences = tuple(sequences)
        assert self._sequences, "Invariant: a barrier waits on at least one sequence"

    def available(self) -> int:
        """Return the highest sequence that all stages before this one have passed."""
        slowest = self._sequences[0].value
        for sequence in self._sequences:
            if sequence.value < slowest:
                slowest = sequence.value
        return slowest

    def subscribe(self, listener: Listener) -> None:
        """Have `listener` called whenever one of the sequences moves."""
        for sequence in self._sequences:
            sequence.subscribe(listener)

    def unsubscribe(self, listener: Listener) -> None:
        """Take back one `subscribe` of `listener`."""
        for sequence in self._sequences:
            sequence.unsubscribe(listener)


class Consumer(Generic[T]):
    """One stage: its sequence, its barrier, and the entries between the two."""

    __slots__ = ("_ring", "barrier", "name", "sequence")

    def __init__(self, ring: RingBuffer[T], name: str, barrier: SequenceBarrier) -> None:
        self._ring = ring
        self.name = name
        self.barrier = barrier
        self.sequence = Sequence()

    def available(self) -> int:
        """Return how many entries are ready for this consumer."""
        return self.barrier.available() - self.sequence.value

    def take(self, count_max: int) -> list[T]:
        """Return up to `count_max` ready entries, oldest first, without finishing with them.

        Taking again before `advance` returns the same entries again.
        """
        first = self.sequence.value + 1
        count = min(self.barrier.available() + 1 - first, count_max)
        return self._ring.entries(first, count)

    def advance(self, to: int) -> None:
        """Finish with all entries up to sequence `to`: the stages behind may have them."""
        assert to <= self.barrier.available(), "Invariant: a consumer never passes its barrier"
        self.sequence.advance(to)


class RingBuffer(Generic[T]):
    """Slots, cursor and gating sequences; see the head of this file.

    Args:
        capacity: Number of slots, a power of two. It is the limit of entries between the producer
            and the slowest consumer; when it is reached `claim` raises RingFull, and whoever
            feeds the ring must stop reading.

    Raises:
        ValueError: The capacity is not a power of two.

    Source: LMAX Disruptor, SingleProducerSequencer and ProcessingSequenceBarrier.
    """

    __slots__ = ("_claimed", "_consumers", "_free_until", "_gating", "_mask", "_slots", "cursor")

    def __init__(self, capacity: int) -> None:
        if capacity < 1 or capacity & (capacity - 1):
            raise ValueError(f"ring capacity must be a power of two, was {capacity}")
        self._mask = capacity - 1
        self._slots = cast("list[T]", [None] * capacity)
        self._consumers: list[Consumer[T]] = []
        self._gating: tuple[Sequence, ...] = ()
        self._claimed = -1
        # The highest sequence known to be free: the slowest gating sequence seen + capacity. It is
        # looked up again only when a claim goes beyond it, not at each claim.
        self._free_until = capacity - 1
        self.cursor = Sequence()

    @property
    def capacity(self) -> int:
        """Return the number of slots."""
        return self._mask + 1

    def add_consumer(self, name: str, *, after: Iterable[Consumer[T]] = ()) -> Consumer[T]:
        """Add a stage that follows the cursor, or all of the consumers in `after`.

        The consumers in `after` stop gating the producer, because the new one is behind them.
        Consumers are added before the first claim.
        """
        assert self._claimed == -1, "Invariant: consumers are added before the first claim"
        before = tuple(after)
        for consumer in before:
            assert consumer in self._consumers, "Invariant: a stage follows stages of its own ring"
        ahead = tuple(consumer.sequence for consumer in before)
        added = Consumer(self, name, SequenceBarrier(ahead or (self.cursor,)))
        self._consumers.append(added)
        self._gating = (*(gate for gate in self._gating if gate not in ahead), added.sequence)
        return added

    def remaining_capacity(self) -> int:
        """Return how many entries can be claimed now."""
        self._look_up_free()
        return self._free_until - self._claimed

    def is_drained(self) -> bool:
        """Tell whether every consumer has finished with all that was claimed."""
        return self.remaining_capacity() == self.capacity

    def claim(self, count: int = 1) -> int:
        """Reserve the next `count` sequences and return the last of them.

        The producer then fills each slot by `put` and makes them visible by `publish`.

        Raises:
            RingFull: Fewer than `count` slots are free; nothing is claimed.
        """
        assert count >= 0, "Invariant: a claim is not negative"
        last = self._claimed + count
        if last > self._free_until:
            self._look_up_free()
            if last > self._free_until:
                free = self._free_until - self._claimed
                raise RingFull(f"{count} slots claimed, {free} of {self.capacity} are free")
        self._claimed = last
        return last

    def put(self, sequence: int, entry: T) -> None:
        """Fill the slot of a sequence that is claimed and not yet published."""
        assert self.cursor.value < sequence <= self._claimed, (
            "Invariant: only claimed, unpublished slots are filled"
        )
        self._slots[sequence & self._mask] = entry

    def publish(self, sequence: int) -> None:
        """Make all entries up to `sequence`, each of them filled, visible to the consumers."""
        assert sequence <= self._claimed, "Invariant: the cursor never passes what was claimed"
        self.cursor.advance(sequence)

    def publish_many(self, entries: list[T]) -> int:
        """Claim, fill and publish a slot for each of `entries` at once; all of them or none.

        Returns:
            The sequence of the last entry.

        Raises:
            RingFull: Fewer slots are free; nothing is published.
        """
        assert self.cursor.value == self._claimed, "Invariant: entries are published in order"
        count = len(entries)
        first = self._claimed + 1
        last = self.claim(count)
        slots = self._slots
        start = first & self._mask
        until_wrap = len(slots) - start
        if count <= until_wrap:
            slots[start : start + count] = entries
        else:
            slots[start:] = entries[:until_wrap]
            slots[: count - until_wrap] = entries[until_wrap:]
        self.cursor.advance(last)
        return last

    def entries(self, first: int, count: int) -> list[T]:
        """Return the published entries `first` to `first + count - 1`, in order."""
        slots = self._slots
        start = first & self._mask
        end = start + count
        if end <= len(slots):
            return slots[start:end]
        return slots[start:] + slots[: end - len(slots)]

    def subscribe_freed(self, listener: Listener) -> None:
        """Have `listener` called whenever a gating sequence moves, so that slots may be free."""
        for gate in self._gating:
            gate.subscribe(listener)

    def unsubscribe_freed(self, listener: Listener) -> None:
        """Take back one `subscribe_freed` of `listener`."""
        for gate in self._gating:
            gate.unsubscribe(listener)

    def _look_up_free(self) -> None:
        slowest = min((gate.value for gate in self._gating), default=-1)
        self._free_until = slowest + self.capacity
