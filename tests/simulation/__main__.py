"""Simulate worlds: ``python -m tests.simulation --seconds 30``, or one again: ``--seed N``.

Prints worlds per minute and what happened in them; where a world fails, its seed, the commit and
what differed, and ends with 1.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import time
from itertools import count, islice
from pathlib import Path

from tests.simulation.breakages import BREAKAGES, SOUND
from tests.simulation.many import results, simulate
from tests.simulation.plan import make_plan
from tests.simulation.world import Result

SHOWN_COUNTS = (
    "commands",
    "ticks",
    "gone",
    "kills",
    "takeovers",
    "fenced",
    "trimmed",
    "redis",
    "phase",
    "requests lost",
)


def commit() -> str:
    """Return the commit that was simulated, marked where files differ from it."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    here = Path(__file__).parent
    done = subprocess.run(command, cwd=here, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def _report(result: Result, breakage: str) -> None:
    option = "" if breakage == SOUND.name else f" --breakage {breakage}"
    print(f"Seed {result.seed} fails at commit {commit()}:")
    for failure in result.failures:
        print(f"  {failure}")
    print(f"Again: python -m tests.simulation --seed {result.seed}{option}")


def _one(seed: int, breakage: str) -> int:
    print(make_plan(seed))
    result = simulate(seed, breakage)
    print(f"digest {result.digest}, {result.counts}")
    if result.failures:
        _report(result, breakage)
        return 1
    print(f"Seed {seed}: no difference")
    return 0


def main(arguments: list[str]) -> int:
    """Run the command; return its exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, help="run this world alone, and print its plan")
    parser.add_argument("--seconds", type=float, default=30.0, help="stop after so long")
    parser.add_argument("--worlds", type=int, help="stop after so many")
    parser.add_argument("--first", type=int, help="seed of the first world; default: any")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes")
    parser.add_argument("--breakage", default=SOUND.name, choices=BREAKAGES, help="be faulty")
    chosen = parser.parse_args(arguments)
    if chosen.seed is not None:
        return _one(chosen.seed, chosen.breakage)
    first = random.randrange(1 << 32) if chosen.first is None else chosen.first
    seeds = islice(count(first), chosen.worlds)
    seconds = chosen.seconds if chosen.worlds is None else 1e9
    started_s = time.monotonic()
    worlds, sums = 0, dict.fromkeys(SHOWN_COUNTS, 0)
    for result in results(seeds, chosen.breakage, jobs=chosen.jobs, seconds=seconds):
        if result.failures:
            _report(result, chosen.breakage)
            return 1
        worlds += 1
        for name in sums:
            sums[name] += result.counts.get(name, 0)
    took_s = time.monotonic() - started_s
    told = ", ".join(f"{number} {name}" for name, number in sums.items())
    print(
        f"{worlds} worlds from seed {first} in {took_s:.1f} s, {worlds / took_s * 60:.0f} a minute"
        f" ({chosen.jobs} processes): no difference ({told})"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
