"""A few worlds at each run of the tests; many in ``python -m tests.simulation``."""

from __future__ import annotations

import itertools

import pytest

from tests.simulation.breakages import BREAKAGES, SOUND
from tests.simulation.many import simulate
from tests.simulation.plan import make_plan

WORLDS = 16
FAULTY_WORLDS_MAX = 100
"""Within so many worlds that may show it each deliberate fault must have been found; most are
within three."""


def test_worlds_come_to_rest_without_a_difference() -> None:
    failures = {seed: simulate(seed).failures for seed in range(1, WORLDS + 1)}
    assert not {seed: texts for seed, texts in failures.items() if texts}


@pytest.mark.parametrize("seed", [2, 8])
def test_a_seed_gives_the_same_world_again(seed: int) -> None:
    first, second = simulate(seed), simulate(seed)
    assert (first.digest, first.counts) == (second.digest, second.counts)
    assert first.digest != simulate(seed + 1).digest


@pytest.mark.parametrize("breakage", [name for name in BREAKAGES if name != SOUND.name])
def test_a_deliberate_fault_is_found(breakage: str) -> None:
    shown: list[str] = []
    may_show = BREAKAGES[breakage].may_show
    seeds = (seed for seed in itertools.count(1) if may_show(make_plan(seed)))
    for seed in itertools.islice(seeds, FAULTY_WORLDS_MAX):
        shown += simulate(seed, breakage).failures
        if any(piece in text for text in shown for piece in BREAKAGES[breakage].shows_as):
            return
    raise AssertionError(f"no world shows it as it should, but: {shown}")
