"""The ring buffer alone: claims, barriers, gating, listeners."""

from __future__ import annotations

import pytest

from engine.errors import RingFull
from engine.ring import Consumer, RingBuffer, Sequence, SequenceBarrier


def drain(consumer: Consumer[int], count_max: int = 100) -> list[int]:
    entries = consumer.take(count_max)
    consumer.advance(consumer.sequence.value + len(entries))
    return entries


@pytest.mark.parametrize("capacity", [0, -8, 3, 6, 12, 1000])
def test_capacity_that_is_no_power_of_two_is_refused(capacity: int) -> None:
    with pytest.raises(ValueError, match=f"power of two, was {capacity}"):
        RingBuffer[int](capacity)


def test_entries_come_out_in_order_across_the_wrap() -> None:
    ring = RingBuffer[int](8)
    consumer = ring.add_consumer("only")
    assert ring.publish_many([0, 1, 2, 3, 4]) == 4
    assert drain(consumer) == [0, 1, 2, 3, 4]
    assert ring.publish_many([5, 6, 7, 8, 9, 10]) == 10
    assert consumer.available() == 6
    assert drain(consumer) == [5, 6, 7, 8, 9, 10]


def test_take_is_bounded_and_repeats_until_advance() -> None:
    ring = RingBuffer[int](4)
    consumer = ring.add_consumer("only")
    ring.publish_many([1, 2, 3])
    assert consumer.take(2) == [1, 2]
    assert consumer.take(2) == [1, 2]
    consumer.advance(0)
    assert consumer.take(2) == [2, 3]
    assert drain(consumer) == [2, 3]
    assert consumer.take(2) == []


def test_full_ring_refuses_the_whole_batch_and_takes_it_once_there_is_room() -> None:
    ring = RingBuffer[int](4)
    consumer = ring.add_consumer("only")
    ring.publish_many([0, 1, 2])
    with pytest.raises(RingFull, match="2 slots claimed, 1 of 4 are free"):
        ring.publish_many([3, 4])
    assert ring.remaining_capacity() == 1
    assert ring.publish_many([3]) == 3
    with pytest.raises(RingFull):
        ring.publish_many([4])
    assert drain(consumer, 2) == [0, 1]
    assert ring.publish_many([4, 5]) == 5
    assert drain(consumer) == [2, 3, 4, 5]


def test_claimed_entries_are_invisible_until_published() -> None:
    ring = RingBuffer[str](4)
    consumer = ring.add_consumer("only")
    last = ring.claim(2)
    assert last == 1
    ring.put(last - 1, "a")
    ring.put(last, "b")
    assert consumer.available() == 0
    assert ring.remaining_capacity() == 2
    ring.publish(last)
    assert consumer.take(9) == ["a", "b"]


def test_stage_waits_for_all_stages_before_it() -> None:
    ring = RingBuffer[int](8)
    journal = ring.add_consumer("journal")
    encode = ring.add_consumer("encode")
    forward = ring.add_consumer("forward", after=(journal, encode))
    ring.publish_many([1, 2, 3])
    assert forward.available() == 0
    journal.advance(2)
    assert forward.available() == 0
    encode.advance(0)
    assert forward.take(9) == [1]


def test_only_the_last_stage_of_a_chain_gates_the_producer() -> None:
    ring = RingBuffer[int](2)
    first = ring.add_consumer("first")
    second = ring.add_consumer("second", after=(first,))
    beside = ring.add_consumer("beside")
    ring.publish_many([1, 2])
    assert drain(first) == [1, 2]
    assert drain(beside) == [1, 2]
    assert ring.remaining_capacity() == 0
    second.advance(0)
    assert ring.remaining_capacity() == 1
    assert not ring.is_drained()
    second.advance(1)
    assert ring.is_drained()


def test_earlier_stage_changes_an_entry_for_a_later_one() -> None:
    ring = RingBuffer[dict[str, str]](2)
    encode = ring.add_consumer("encode")
    forward = ring.add_consumer("forward", after=(encode,))
    ring.publish_many([{"raw": "35=D"}])
    encode.take(1)[0]["command"] = "new"
    encode.advance(0)
    assert forward.take(1) == [{"raw": "35=D", "command": "new"}]


def test_listeners_hear_each_move_until_they_unsubscribe() -> None:
    ring = RingBuffer[int](4)
    consumer = ring.add_consumer("only")
    heard: list[str] = []

    def on_publish() -> None:
        heard.append("published")

    def on_freed() -> None:
        heard.append("freed")

    consumer.barrier.subscribe(on_publish)
    ring.subscribe_freed(on_freed)
    ring.publish_many([1, 2])
    consumer.advance(1)
    assert heard == ["published", "freed"]
    consumer.barrier.unsubscribe(on_publish)
    consumer.barrier.unsubscribe(on_publish)
    ring.unsubscribe_freed(on_freed)
    ring.publish_many([3])
    consumer.advance(2)
    assert heard == ["published", "freed"]


def test_listener_may_unsubscribe_another_while_both_are_called() -> None:
    sequence = Sequence()
    heard: list[str] = []

    def second() -> None:
        heard.append("second")

    def first() -> None:
        heard.append("first")
        sequence.unsubscribe(second)

    sequence.subscribe(first)
    sequence.subscribe(second)
    sequence.advance(0)
    sequence.advance(1)
    assert heard == ["first", "second", "first"]


def test_ring_without_consumers_fills_and_stays_full() -> None:
    ring = RingBuffer[int](2)
    ring.publish_many([1, 2])
    with pytest.raises(RingFull):
        ring.publish_many([3])


def test_misuse_trips_the_invariants() -> None:
    ring = RingBuffer[int](4)
    consumer = ring.add_consumer("only")
    with pytest.raises(AssertionError, match="never passes its barrier"):
        consumer.advance(0)
    last = ring.claim(2)
    with pytest.raises(AssertionError, match="published in order"):
        ring.publish_many([9])
    with pytest.raises(AssertionError, match="claimed, unpublished"):
        ring.put(last + 1, 9)
    with pytest.raises(AssertionError, match="never passes what was claimed"):
        ring.publish(last + 1)
    with pytest.raises(AssertionError, match="before the first claim"):
        ring.add_consumer("late")
    ring.publish(last)
    consumer.advance(last)
    with pytest.raises(AssertionError, match="never moves back"):
        consumer.advance(0)


def test_stage_of_another_ring_is_refused() -> None:
    stranger = RingBuffer[int](2).add_consumer("stranger")
    with pytest.raises(AssertionError, match="its own ring"):
        RingBuffer[int](2).add_consumer("next", after=(stranger,))


def test_barrier_on_nothing_is_refused() -> None:
    with pytest.raises(AssertionError, match="at least one sequence"):
        SequenceBarrier(())
