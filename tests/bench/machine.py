"""What a figure depends on: the disk's fdatasync, the speed of one core, CPU time of processes."""

from __future__ import annotations

import os
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_SYNC_BYTES = 4_096
_LOOP_STEPS = 1_000_000


def fdatasync_us(directory: Path, count: int = 200) -> tuple[float, float]:
    """Return median and 99th percentile of writing 4 KiB and syncing them, in µs."""
    path = directory / "fdatasync.tmp"
    block = os.urandom(_SYNC_BYTES)
    times = []
    fd = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
    try:
        for _ in range(count):
            start = time.perf_counter_ns()
            os.write(fd, block)
            os.fdatasync(fd)
            times.append((time.perf_counter_ns() - start) / 1_000)
    finally:
        os.close(fd)
        path.unlink()
    return statistics.median(times), percentile(times, 99)


def percentile(values: list[float], percent: int) -> float:
    """Return the value that so many percent of the values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)]


def calibration_ms(runs: int = 7) -> float:
    """Return the median time of a fixed loop on one core, in ms, so that runs compare."""
    times = []
    for _ in range(runs):
        start = time.process_time_ns()
        total = 0
        for step in range(_LOOP_STEPS):
            total += step & 7
        assert total == _LOOP_STEPS // 8 * 28, "Invariant: the loop was run"
        times.append((time.process_time_ns() - start) / 1_000_000)
    return statistics.median(times)


def cpu_seconds(root_pid: int, name_of: Callable[[list[str]], str]) -> dict[str, float]:
    """Return the CPU time so far of a process and of each of its children with all theirs.

    Args:
        root_pid: the parent of all.
        name_of: gives a child's name by its command line; the root is called by the same.
    """
    parents: dict[int, int] = {}
    times: dict[int, float] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            text = (entry / "stat").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        fields = text.rpartition(")")[2].split()
        pid = int(entry.name)
        parents[pid] = int(fields[1])
        # utime, stime, and those of children that have ended and were waited for.
        times[pid] = sum(map(int, fields[11:15])) / _TICKS_PER_S
    found: dict[str, float] = defaultdict(float)
    for pid, seconds in times.items():
        line = pid
        while line != root_pid and parents.get(line, 0) not in (root_pid, 0):
            line = parents[line]
        if line == root_pid or parents.get(line) == root_pid:
            found[name_of(_command_line(line))] += seconds
    return dict(found)


def cpu_s(root_pid: int | None) -> float:
    """Return the CPU seconds so far of a process that runs, with all its children."""
    assert root_pid is not None, "Invariant: the process runs"
    return sum(cpu_seconds(root_pid, lambda _: "all").values())


def _command_line(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
    except (FileNotFoundError, ProcessLookupError):
        return [""]
