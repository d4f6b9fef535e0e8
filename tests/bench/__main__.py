"""All benchmarks, one after the other, and one table: `python -m tests.bench` (`make bench`).

Each benchmark is a process of its own and checks its answers; one that fails has no figures. The
table has the medians of its runs. `--quick` measures less of everything, to see that it works.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from ops.terminal import table
from tests.bench.machine import calibration_ms

Row = tuple[str, str, str, str]
"""What, measured, must reach, aim."""

Results = list[dict[str, Any]]
"""What the runs of one benchmark returned."""

# What design.md, section 9, allows each part, in µs of CPU per order.
CPU_BUDGETS = {
    "gateways": 40,
    "engines": 16,
    "redis": 20,
    "writer": 12,
    "postgres": 15,
    "marketdata": 8,
}

TIMEOUT_S = 900

# Each is imported with these constants changed and its main() called: what it returns is kept, or
# the line of JSON that it prints last.
_PROGRAM = """
import importlib, json, sys
name, constants, sys.argv = sys.argv[1], json.loads(sys.argv[2]), sys.argv[2:]
bench = importlib.import_module("tests.bench." + name)
for constant, value in constants.items():
    assert hasattr(bench, constant), constant
    setattr(bench, constant, value)
result = bench.main()
if result is not None:
    print(json.dumps(result))
"""


def median(results: Results, *path: str) -> float:
    """Return the median of a figure over the runs."""
    found = []
    for result in results:
        value: Any = result
        for key in path:
            value = value[key]
        found.append(float(value))
    return statistics.median(found)


def book_rows(results: Results) -> list[Row]:
    """Book alone: the worst flow, cost by size, memory."""
    rows = [
        (
            "book alone, worst flow",
            f"{median(results, 'worst'):,.0f} messages/s",
            "600,000",
            "1,200,000",
        )
    ]
    for line in results[0]["rows"]:
        if "resting" in line["what"] and line["note"] == "collector on":
            cost_us = 1e6 / line["rate_median"]
            rows.append(
                (f"cost per message, {line['what']}", f"{cost_us:.2f} us", "stated", "flat")
            )
    for name, size in results[0]["resting_bytes"].items():
        rows.append((f"memory per resting order, {name} book", f"{size:,} bytes", "stated", ""))
    return rows


def shard_rows(results: Results) -> list[Row]:
    """The engine without Redis and journal."""
    together = sum(median(results, key) for key in ("decode_us", "apply_us", "encode_us"))
    return [("engine alone, half crossing", f"{together:.1f} us per order", "", "")]


def recovery_rows(results: Results) -> list[Row]:
    """Snapshots and what they are for."""
    pause_ms = median(results, "pause_us") / 1_000
    restore_s, replay = median(results, "restore_s"), median(results, "replay_per_s")
    return [
        ("snapshot of 100,000 resting orders, pause", f"{pause_ms:.1f} ms", "20 ms", ""),
        ("restoring that snapshot", f"{restore_s:.2f} s", "", ""),
        ("replay from the journal, the engine's loop", f"{replay:,.0f} commands/s", "", ""),
    ]


def restart_rows(results: Results) -> list[Row]:
    """An engine process after kill -9, until it leads again."""
    without, replayed = (median(results, f"{name}_replay_s") for name in ("without", "with"))
    entries = f"{median(results, 'replayed'):,.0f}"
    return [
        ("engine restart, 100,000 resting orders", f"{without:.1f} s", "2 s", ""),
        (f"engine restart, and {entries} entries to replay", f"{replayed:.1f} s", "30 s", "10 s"),
    ]


def replay_rows(results: Results) -> list[Row]:
    """Replay of an engine's journal, every output checked."""
    both, one = (median(results, key) for key in ("commands_per_s", "one_process"))
    return [
        ("replay of a journal", f"{both:,.0f} commands/s", "50,000", "200,000"),
        ("replay of a journal, one process", f"{one:,.0f} commands/s", "", ""),
    ]


def writer_rows(results: Results) -> list[Row]:
    """The writer while catching up."""
    rate = median(results, "median")
    return [("writer, catching up", f"{rate:,.0f} events/s", "20,000", "40,000")]


def marketdata_rows(results: Results) -> list[Row]:
    """Market data while catching up."""
    cost = median(results, "marketdata_us")
    return [("market data, catching up, CPU", f"{cost:.1f} us per output", "", "8")]


def follower_rows(results: Results) -> list[Row]:
    """A standby while it follows with much to do."""
    cost = median(results, "standby_us")
    return [("a standby that follows, CPU", f"{cost:.1f} us per order", "", "")]


def gateway_rows(results: Results) -> list[Row]:
    """One gateway with engines."""
    cost = median(results, "gateway_cpu_us_per_order")
    return [("one gateway and its engines, CPU", f"{cost:.1f} us per order", "", "40")]


def latency_rows(results: Results) -> list[Row]:
    """One order at a time."""
    p50, p99, sync, limit, aim = (
        median(results, key) / 1_000
        for key in ("p50_us", "p99_us", "fdatasync_us", "limit_us", "aim_us")
    )
    measured = f"{p50:.2f} / {p99:.2f} ms"
    return [
        ("ack latency, p50 / p99", measured, f"p50 {limit:.2f} ms", f"p50 {aim:.2f} ms"),
        ("the disk's own fdatasync of 4 KiB", f"{sync:.2f} ms", "", ""),
    ]


def end_to_end_rows(results: Results) -> list[Row]:
    """The whole exchange under load."""
    orders, reports = median(results, "orders_per_s"), median(results, "reports_per_s")
    rows = [
        ("end to end", f"{orders:,.0f} orders/s", "8,000", "16,000"),
        ("end to end, reports", f"{reports:,.0f} reports/s", "", ""),
    ]
    costs = results[0]["cpu_us_per_order"]
    for name in sorted(costs, key=lambda one: -median(results, "cpu_us_per_order", one)):
        cost = median(results, "cpu_us_per_order", name)
        rows.append(
            (f"CPU, {name}", f"{cost:.1f} us per order", "", str(CPU_BUDGETS.get(name, "")))
        )
    return rows


def fix_marketdata_rows(results: Results) -> list[Row]:
    """Subscribers of a busy symbol over FIX."""
    percent = 100 * median(results, "ratio")
    with_them, without = (median(results, f"gateway_cpu_us_{name}") for name in ("with", "without"))
    cost = f"{with_them:.1f} against {without:.1f} us per order"
    return [
        ("orders/s with 100 FIX subscribers, of none", f"{percent:.0f} %", "90 %", ""),
        ("that gateway's CPU with and without them", cost, "", ""),
    ]


def reconnect_rows(results: Results) -> list[Row]:
    """Clients of killed gateways."""
    p50_s, max_s = (median(results, key) for key in ("trading_p50_s", "trading_max_s"))
    measured = f"p50 {p50_s:.2f}, max {max_s:.2f} s"
    return [("gateway killed, reconnected until trading", measured, "3 s", "")]


def takeover_rows(results: Results) -> list[Row]:
    """A second engine: how soon it takes over, and what it costs."""
    p50, longest, share = (median(results, key) for key in ("p50_ms", "max_ms", "standby_percent"))
    return [
        ("standby takeover after kill -9, p50", f"{p50:,.0f} ms", "3,000 ms", "1,500 ms"),
        ("standby takeover after kill -9, longest", f"{longest:,.0f} ms", "", ""),
        ("throughput with standby on, of off", f"{share:.0f} %", "80 %", ""),
    ]


def sessions_idle_rows(results: Results) -> list[Row]:
    """Logons, and sessions that do nothing."""
    one = results[0]
    sessions = f"{one['sessions']} idle sessions"
    redis = f"{one['redis_percent']:.1f} % ({one['redis_percent_empty']:.1f} % without)"
    cpu = f"{one['gateway_percent']:.1f} % ({one['gateway_percent_empty']:.1f} % without)"
    memory = f"{one['gateway_mb']:.0f} MB, {one['kb_per_session']:.1f} kB a session"
    logons = f"{one['logons_per_s']:.1f}/s, {one['logon_cpu_ms']:.1f} ms of CPU each"
    return [
        ("logons with a password (argon2id), one gateway", logons, "stated", ""),
        (f"{sessions}, gateway, of a core", cpu, "stated", ""),
        (f"{sessions}, Redis, of a core", redis, "stated", ""),
        (f"{sessions}, gateway, memory", memory, "stated", ""),
    ]


class Bench:
    """One benchmark: how it is run, and what of it stands in the table."""

    def __init__(
        self,
        rows: Callable[[Results], list[Row]],
        *,
        runs: int = 1,
        quick_arguments: tuple[str, ...] = (),
        quick_constants: dict[str, int] | None = None,
    ) -> None:
        self.rows = rows
        self.runs = runs
        self.quick_arguments = quick_arguments
        self.quick_constants = quick_constants or {}


BENCHES = {
    "bench_book": Bench(book_rows, quick_constants={"MESSAGES": 30_000, "RUNS": 3}),
    "bench_shard": Bench(shard_rows, quick_constants={"ORDERS": 5_000, "RUNS": 3}),
    "bench_follower": Bench(follower_rows, quick_constants={"ORDERS_PER_SYMBOL": 5_000, "RUNS": 3}),
    "bench_recovery": Bench(
        recovery_rows,
        quick_constants={"RESTING": 10_000, "DONE_PER_ACCOUNT": 10, "REPLAYED": 20_000, "RUNS": 3},
    ),
    "bench_restart": Bench(restart_rows, quick_arguments=("--quick",)),
    "bench_replay": Bench(replay_rows, quick_constants={"ORDERS": 20_000, "RUNS": 1}),
    "bench_writer": Bench(writer_rows, quick_constants={"EVENTS_PER_SYMBOL": 8_000, "RUNS": 1}),
    "bench_marketdata": Bench(
        marketdata_rows, quick_constants={"EVENTS_PER_SYMBOL": 5_000, "RUNS": 3}
    ),
    "bench_gateway": Bench(gateway_rows, runs=3, quick_arguments=("--orders", "5000")),
    "bench_latency": Bench(latency_rows, runs=3, quick_arguments=("--quick",)),
    "bench_end_to_end": Bench(end_to_end_rows, runs=3, quick_arguments=("--quick",)),
    "bench_fix_marketdata": Bench(fix_marketdata_rows, quick_arguments=("--quick",)),
    "bench_reconnect": Bench(reconnect_rows, quick_arguments=("--quick",)),
    "bench_sessions_idle": Bench(sessions_idle_rows, quick_arguments=("--quick",)),
    "bench_takeover": Bench(takeover_rows, quick_arguments=("--quick",)),
}


def run(name: str, bench: Bench, *, quick: bool) -> Results:
    """Run a benchmark so often as it wants, and return what its runs returned.

    Raises:
        subprocess.SubprocessError: a run failed, or a check of its answers did.
    """
    results = []
    constants = json.dumps(bench.quick_constants if quick else {})
    arguments = bench.quick_arguments if quick else ()
    for _ in range(1 if quick else bench.runs):
        done = subprocess.run(
            [sys.executable, "-c", _PROGRAM, name, constants, *arguments],
            stdout=subprocess.PIPE,
            timeout=TIMEOUT_S,
            check=True,
            text=True,
        )
        *said, result = done.stdout.splitlines()
        for line in said:
            print(line, flush=True)
        results.append(json.loads(result))
    return results


def main() -> int:
    """Run what is asked for; return 1 where something failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench")
    parser.add_argument("--quick", action="store_true", help="measure less of everything")
    parser.add_argument("--only", choices=BENCHES, metavar="NAME", help=", ".join(BENCHES))
    args = parser.parse_args()
    rows: list[Row] = []
    failed = []
    for name, bench in BENCHES.items():
        if args.only in (None, name):
            print(f"--- {name}", flush=True)
            try:
                rows += bench.rows(run(name, bench, quick=args.quick))
            except subprocess.SubprocessError as error:
                print(f"{name}: {error}", file=sys.stderr)
                failed.append(name)
    rows.append(("calibration loop, one core", f"{calibration_ms():.1f} ms", "", ""))
    print(f"\nPython {sys.version.split()[0]}, medians" + (", quick" if args.quick else ""))
    print("\n".join(table(("what", "measured", "must reach", "aim"), rows)))
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
