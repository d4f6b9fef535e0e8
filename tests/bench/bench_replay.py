"""How fast journals are replayed, every output checked: `python -m tests.bench.bench_replay`.

Two symbols in one journal, half of the orders cross and fill one resting order each; hashes of 100
outputs as an engine writes them under load. Measured from the first byte read to the last state
hash, as `shardex replay` does it: in as many processes as there are processors, which each read the
whole journal, and their start is in it. Median of several runs.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from engine.commands import DefineSymbol, decode_command, encode_command
from engine.events import encode_output
from engine.journal import Record
from engine.journal_file import JournalFile
from engine.journal_keys import hash_record
from engine.shard import Shard
from ops.journal_replay import replay_journal
from tests import matching_world
from tests.bench.bench_shard import commands

ORDERS = 300_000
"""Of each symbol."""

RUNS = 3
BATCH = 100
SYMBOLS = ("ALFA-USD", "BETA-USD")


def write(directory: Path, orders: int) -> int:
    """Write the journal and return how many commands it has."""
    file = JournalFile(
        directory,
        kind="commands",
        owner="shard-1",
        incarnations=dict.fromkeys(SYMBOLS, "bench"),
        keeps_positions=True,
        now_ns=time.time_ns,
    )
    shard = Shard()
    streams = {symbol: stream_of(symbol, orders) for symbol in SYMBOLS}
    for start in range(0, orders + 1, BATCH):
        for symbol, stream in streams.items():
            records, outputs = [], []
            for seq, data in enumerate(stream[start : start + BATCH], start + 1):
                command = decode_command(data)
                records.append(Record(symbol, seq, seq * 1_000, 0, data))
                outputs.append(encode_output(shard.apply(symbol, seq, seq, command).output))
            file.append(records)
            file.append([hash_record(symbol, start + 1, outputs, records[-1].ts_ns)])
    file.sync()
    file.close()
    return sum(map(len, streams.values()))


def stream_of(symbol: str, orders: int) -> list[bytes]:
    """Return a symbol's definition, and orders of which every second one takes the one before."""
    rules = msgspec.structs.replace(matching_world.rules(), symbol=symbol)
    return [encode_command(DefineSymbol("bench", rules)), *commands(orders, seed=1)[1:]]


def main() -> dict[str, float]:
    """Measure, print and return commands per second."""
    with TemporaryDirectory() as directory:
        journal = Path(directory) / "engine-1"
        count = write(journal, ORDERS)
        rates = []
        for _ in range(RUNS):
            result = replay_journal(journal)
            assert not result.differences, result.differences
            assert result.commands == result.outputs_checked == count, "every output has a hash"
            rates.append(result.commands_per_s)
        alone = replay_journal(journal, processes=1)
        assert alone.symbols == result.symbols, "one process gives what several give"
    rate = statistics.median(rates)
    print(
        f"replay, half crossing, Python {sys.version.split()[0]}: {count:,} commands of"
        f" {len(SYMBOLS)} symbols, {rate:,.0f} commands/s in {os.cpu_count()} processes,"
        f" {alone.commands_per_s:,} in one"
    )
    return {"commands_per_s": rate, "one_process": float(alone.commands_per_s)}


if __name__ == "__main__":
    main()
