"""Journals as engines write them, made of histories at random; and damage done to them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from engine.commands import Command, encode_command
from engine.events import Output, encode_output
from engine.journal import Record, encode_header, encode_records, header_seed, scan
from engine.journal_file import JournalFile
from engine.journal_keys import LEDGER, hash_record
from engine.journal_reader import segment_paths
from engine.ledger_entries import LedgerEntry, encode_ledger_entry
from tests.persistence_events import INCARNATION, TS_US

BATCH = 50
History = Sequence[tuple[Command, Output]]


def write_journal(
    directory: Path,
    histories: Mapping[str, History],
    *,
    ledger: Sequence[LedgerEntry] = (),
    hashed_from: int = 1,
    lag: int = 0,
    segment_bytes_max: int = 1 << 20,
) -> Path:
    """Write the journal of an engine: commands in batches, hashes behind them.

    Args:
        hashed_from: the first seq that has a hash.
        lag: hashes stand so many batches behind their commands.

    Returns:
        The directory.
    """
    file = JournalFile(
        directory,
        kind="commands",
        owner="shard-1",
        incarnations=dict.fromkeys(histories, INCARNATION),
        keeps_positions=True,
        now_ns=time.time_ns,
        segment_bytes_max=segment_bytes_max,
    )
    for n, entry in enumerate(ledger, 1):
        file.append([Record(LEDGER, n, TS_US * 1_000, 0, encode_ledger_entry(entry))])
    late: list[Record] = []
    longest = max((len(history) for history in histories.values()), default=0)
    for start in range(0, longest, BATCH):
        for symbol, history in histories.items():
            part = history[start : start + BATCH]
            if not part:
                continue
            file.append(
                [
                    Record(symbol, output.seq, output.ts_us * 1_000, 0, encode_command(command))
                    for command, output in part
                ]
            )
            hashed = [output for _, output in part if output.seq >= hashed_from]
            if hashed:
                encoded = [encode_output(output) for output in hashed]
                late.append(hash_record(symbol, hashed[0].seq, encoded, part[-1][1].ts_us * 1_000))
        while len(late) > lag * len(histories):
            file.append([late.pop(0)])
    for record in late:
        file.append([record])
    file.sync()
    file.close()
    return directory


def rewrite(directory: Path, change: Callable[[Record], Record | None]) -> None:
    """Write a journal again with its records changed or, where None comes back, left out.

    All checksums are right afterwards.
    """
    paths = segment_paths(directory)
    for path in paths:
        found = scan(path.read_bytes())
        header = encode_header(found.header)
        changed = [change(record) for record in found.records]
        kept = [record for record in changed if record is not None]
        assert len(kept) == len(changed) or path == paths[-1], "records go from the last segment"
        path.write_bytes(header + encode_records(kept, seed=header_seed(header)))


def record_of(directory: Path, key: str, seq: int) -> Record:
    """Return one record of a journal."""
    for path in segment_paths(directory):
        for record in scan(path.read_bytes()).records:
            if (record.key, record.seq) == (key, seq):
                return record
    raise AssertionError(f"no record {key} {seq}")
