"""Many worlds, one after the other and beside each other in several processes."""

from __future__ import annotations

import gc
import multiprocessing
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from itertools import islice

from tests.simulation.breakages import BREAKAGES, SOUND
from tests.simulation.plan import make_plan
from tests.simulation.world import Result, World

SEEDS_AT_ONCE = 8
"""Worlds that a process runs before it asks for more."""


def simulate(seed: int, breakage: str = SOUND.name) -> Result:
    """Run one world."""
    result = World(make_plan(seed), BREAKAGES[breakage]).run()
    # Tasks and their exceptions are cycles; a pass in the middle of a world would cost more.
    gc.collect()
    return result


def results(seeds: Iterator[int], breakage: str, *, jobs: int, seconds: float) -> Iterator[Result]:
    """Yield the results of worlds until the seeds or the time are used up."""
    until_s = time.monotonic() + seconds

    def chunks() -> Iterator[list[int]]:
        while time.monotonic() < until_s and (chunk := list(islice(seeds, SEEDS_AT_ONCE))):
            yield chunk

    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, context, _prepare) as pool:
        waiting: deque[Future[list[Result]]] = deque()
        for chunk in chunks():
            waiting.append(pool.submit(_run_chunk, chunk, breakage))
            if len(waiting) > jobs:
                yield from waiting.popleft().result()
        for one in waiting:
            yield from one.result()


def _run_chunk(seeds: list[int], breakage: str) -> list[Result]:
    return [simulate(seed, breakage) for seed in seeds]


def _prepare() -> None:
    """Have the collector look only at what worlds make, and only between them."""
    gc.collect()
    gc.freeze()
    gc.disable()
