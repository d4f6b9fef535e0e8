"""The ring against a model of plain lists: every stage sees every entry once, in order.

                      ┌─▶ journal ─┐
producer ──▶ cursor ──┤            ├─▶ forward
                      ├─▶ encode ──┘
                      └─▶ beside
"""

from __future__ import annotations

from functools import partial

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from engine.errors import RingFull
from engine.ring import Consumer, RingBuffer

STAGES = ("journal", "encode", "forward", "beside")
BEFORE = {"journal": (), "encode": (), "forward": ("journal", "encode"), "beside": ()}


class RingMachine(RuleBasedStateMachine):
    """The model is `published` (all entries so far) and `done` (a count per stage)."""

    @initialize(capacity_bits=st.integers(0, 4))
    def build(self, capacity_bits: int) -> None:
        self.capacity = 1 << capacity_bits
        self.ring = RingBuffer[int](self.capacity)
        self.consumers: dict[str, Consumer[int]] = {}
        for name in STAGES:
            after = [self.consumers[before] for before in BEFORE[name]]
            self.consumers[name] = self.ring.add_consumer(name, after=after)
        self.published: list[int] = []
        self.done = dict.fromkeys(STAGES, 0)
        self.wakes = dict.fromkeys(STAGES, 0)
        for name in STAGES:
            self.consumers[name].barrier.subscribe(partial(self.count_wake, name))

    def count_wake(self, name: str) -> None:
        self.wakes[name] += 1

    def ready(self, name: str) -> int:
        ahead = [self.done[before] for before in BEFORE[name]] or [len(self.published)]
        return min(ahead) - self.done[name]

    def free(self) -> int:
        slowest = min(self.done["forward"], self.done["beside"])
        return self.capacity - (len(self.published) - slowest)

    def next_entries(self, count: int) -> list[int]:
        return [len(self.published) + offset for offset in range(count)]

    @rule(count=st.integers(0, 20))
    def publish_many(self, count: int) -> None:
        entries = self.next_entries(count)
        try:
            last = self.ring.publish_many(entries)
        except RingFull:
            assert count > self.free()
        else:
            assert count <= self.free()
            self.published += entries
            assert last == len(self.published) - 1

    @rule(count=st.integers(1, 5), data=st.data())
    def claim_fill_publish(self, count: int, data: st.DataObject) -> None:
        if count > self.free():
            return
        last = self.ring.claim(count)
        entries = self.next_entries(count)
        for sequence in data.draw(st.permutations(range(last - count + 1, last + 1))):
            self.ring.put(sequence, sequence)
        self.ring.publish(last)
        self.published += entries

    @rule(name=st.sampled_from(STAGES), count_max=st.integers(1, 20), data=st.data())
    def consume(self, name: str, count_max: int, data: st.DataObject) -> None:
        consumer = self.consumers[name]
        done = self.done[name]
        entries = consumer.take(count_max)
        count = min(count_max, self.ready(name))
        assert entries == self.published[done : done + count]
        finished = data.draw(st.integers(0, count))
        heard = self.wakes["forward"]
        consumer.advance(done + finished - 1)
        self.done[name] = done + finished
        if name in BEFORE["forward"]:
            assert self.wakes["forward"] == heard + 1

    @invariant()
    def agrees_with_the_model(self) -> None:
        assert self.ring.cursor.value == len(self.published) - 1
        assert self.ring.remaining_capacity() == self.free()
        assert self.ring.is_drained() == (self.free() == self.capacity)
        for name in STAGES:
            assert self.consumers[name].available() == self.ready(name)
            assert self.consumers[name].sequence.value == self.done[name] - 1


RingMachine.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestRingAgainstModel = RingMachine.TestCase
