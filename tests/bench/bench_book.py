"""What the book costs: `python -m tests.bench.bench_book`.

Measures the book alone, driven directly: no accounts, no decoding, no Redis. Flows are made
outside the timing and kept in columns, so that each message's integers are fresh objects, as a
decoder makes them. Each figure is taken several times, the books interleaved; the table gives the
slowest, the median and the fastest run. The answers are checked against the naive book.
"""

from __future__ import annotations

import gc
import itertools
import statistics
import sys
import tracemalloc
from array import array
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from time import perf_counter

from engine.book import OrderBook
from engine.book_naive import NaiveBook
from engine.enums import Side
from tests.bench.flows import (
    ADVERSE,
    CANCEL,
    FLOWS,
    IOC,
    NEW,
    REPLACE,
    FlowSpec,
    Message,
    make_flow,
)

MESSAGES = 200_000
RUNS = 5
SIZES = (1_000, 100_000, 1_000_000)
SEED = 1


class Columns:
    """A flow as columns; iterating makes each message's integers anew."""

    def __init__(self, messages: list[Message]) -> None:
        self.count = len(messages)
        self._kinds = bytes(message[0] for message in messages)
        self._sides: list[Side] = [message[2] for message in messages]
        self._numbers = [array("q", (message[at] for message in messages)) for at in (1, 3, 4, 5)]

    def __iter__(self) -> Iterator[tuple[int, Side, int, int, int, int]]:
        """Iterate over (kind, side, order_id, price_ticks, qty_lots, new_order_id)."""
        return zip(self._kinds, self._sides, *self._numbers, strict=True)

    def head(self, count: int) -> itertools.islice[tuple[int, Side, int, int, int, int]]:
        """Iterate over the first messages."""
        return itertools.islice(iter(self), count)


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table; rates in messages per second."""

    what: str
    rate_min: int
    rate_median: int
    rate_max: int
    note: str


def drive(
    book: OrderBook | NaiveBook, messages: Iterator[tuple[int, Side, int, int, int, int]]
) -> int:
    """Apply messages to a book.

    Returns:
        The number of fills.
    """
    new_limit, new_ioc, cancel, replace = book.new_limit, book.new_ioc, book.cancel, book.replace
    fills = 0
    for kind, side, order_id, price, qty, new_id in messages:
        if kind == NEW:
            fills += len(new_limit(order_id, side, price, qty))
        elif kind == CANCEL:
            cancel(order_id)
        elif kind == REPLACE:
            fills += len(replace(order_id, new_id, price, qty) or ())
        else:
            fills += len(new_ioc(order_id, side, price, qty))
    return fills


def timed(seeded: Columns, messages: Columns, *, collector: bool = True) -> tuple[float, OrderBook]:
    """Return messages per second of one run on a fresh book, and the book."""
    book = OrderBook()
    drive(book, iter(seeded))
    gc.collect()
    if not collector:
        gc.freeze()
        gc.disable()
    start = perf_counter()
    drive(book, iter(messages))
    seconds = perf_counter() - start
    if not collector:
        gc.enable()
        gc.unfreeze()
    return messages.count / seconds, book


def check_answers(spec: FlowSpec) -> None:
    """Assert that fast and naive book agree on a small flow of this kind, fills and final hash."""
    seeded, messages = make_flow(spec.resized(300), 2_000, SEED)
    fast, naive = OrderBook(), NaiveBook()
    for part in (Columns(seeded), Columns(messages)):
        assert drive(fast, iter(part)) == drive(naive, iter(part)), f"{spec.name}: fills differ"
    assert fast.state_hash() == naive.state_hash(), f"{spec.name}: books differ"
    fast.check_invariants()


def row(what: str, rates: list[float], note: str) -> Row:
    """Make a row of several runs."""
    return Row(what, int(min(rates)), int(statistics.median(rates)), int(max(rates)), note)


def mix(messages: list[Message], book: OrderBook, resting: int) -> str:
    """Describe a flow: what its orders were and what became of them, in percent."""
    count = {kind: sum(1 for message in messages if message[0] == kind) for kind in range(4)}
    limits = count[NEW]
    filled = limits + resting - count[CANCEL] - len(book.orders)
    return (
        f"IOC {100 * count[IOC] // (limits + count[IOC])} % of orders; of the others"
        f" {100 * count[REPLACE] // limits} % replaced, {100 - 100 * filled // limits} % cancelled"
        f"; {len(book.bids.levels) + len(book.asks.levels) - 2} levels"
    )


def measure_flows() -> list[Row]:
    """Measure the five flows, their adverse case, and the naive book on the smallest."""
    specs = (*FLOWS, ADVERSE)
    made = {spec.name: make_flow(spec, MESSAGES, SEED) for spec in specs}
    flows = {name: (Columns(seeded), Columns(rest)) for name, (seeded, rest) in made.items()}
    rates: dict[str, list[float]] = {spec.name: [] for spec in specs}
    notes: dict[str, str] = {}
    baseline: list[float] = []
    hashes: dict[str, set[str]] = {spec.name: set() for spec in specs}
    for _ in range(RUNS):
        for spec in specs:
            rate, book = timed(*flows[spec.name])
            rates[spec.name].append(rate)
            hashes[spec.name].add(book.state_hash())
            notes[spec.name] = f"{spec.resting} resting; " + mix(
                made[spec.name][1], book, spec.resting
            )
        baseline.append(naive_rate(*flows[FLOWS[0].name]))
    assert all(len(found) == 1 for found in hashes.values()), "runs of one flow end differently"
    rows = [row(spec.name, rates[spec.name], notes[spec.name]) for spec in specs]
    return [*rows, row("baseline: naive book", baseline, "shallow flow, first 2,000 messages")]


def naive_rate(seeded: Columns, messages: Columns) -> float:
    """Return messages per second of the naive book on the head of a flow."""
    book = NaiveBook()
    drive(book, iter(seeded))
    start = perf_counter()
    drive(book, messages.head(2_000))
    return 2_000 / (perf_counter() - start)


def measure_sizes() -> list[Row]:
    """Measure the deep flow over books of several sizes, with the collector on and off."""
    rows = []
    for size in SIZES:
        seeded, messages = map(Columns, make_flow(FLOWS[1].resized(size), MESSAGES, SEED))
        rates: dict[bool, list[float]] = {True: [], False: []}
        for _ in range(3):
            for collector, found in rates.items():
                rate, book = timed(seeded, messages, collector=collector)
                found.append(rate)
                del book
        rows += [
            row(f"deep, {size} resting", found, f"collector {'on' if collector else 'off'}")
            for collector, found in rates.items()
        ]
    return rows


def resting_bytes(count: int = 100_000) -> dict[str, int]:
    """Return the bytes per resting order, with many orders to a price and with few."""
    found = {}
    for spec in (FLOWS[1], FLOWS[3]):
        seeded = Columns(make_flow(spec.resized(count), 0, SEED)[0])
        book = OrderBook()
        tracemalloc.start()
        drive(book, iter(seeded))
        found[spec.name] = tracemalloc.get_traced_memory()[0] // len(book.orders)
        tracemalloc.stop()
    return found


def main() -> dict[str, object]:
    """Measure, check, print the table, and return the figures."""
    for spec in (*FLOWS, ADVERSE):
        check_answers(spec)
    rows = [*measure_flows(), *measure_sizes()]
    memory = resting_bytes()
    print(f"book alone, Python {sys.version.split()[0]}, {RUNS} runs of {MESSAGES} messages/s:")
    for line in rows:
        print(
            f"  {line.what:26} {line.rate_min:>10,} {line.rate_median:>10,} {line.rate_max:>10,}"
            f"   {line.note}"
        )
    for name, size in memory.items():
        print(f"  bytes per resting order, {name}: {size}")
    worst = min(line.rate_median for line in rows[: len(FLOWS)])
    print(f"  worst of the {len(FLOWS)} flows: {worst:,} messages/s (median)")
    return {"rows": [asdict(line) for line in rows], "resting_bytes": memory, "worst": worst}


if __name__ == "__main__":
    main()
