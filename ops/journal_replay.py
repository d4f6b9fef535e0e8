"""Replay the journals of engines: every output again, compared with the hash beside it.

    directory ─▶ journals ─▶ one task per journal and part of its symbols ─▶ processes ─▶ result

A task reads its whole journal, and applies its symbols only: reading costs a tenth of applying.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import msgspec

from engine.errors import JournalCorrupt, JournalMismatch
from engine.journal_keys import LEDGER, hashed_symbol, skipped_symbol
from engine.journal_reader import JournalReader, read_header, segment_paths
from ops.errors import CommandFailed
from ops.journal_replay_symbols import (
    JournalReplayer,
    ReplayDifference,
    SymbolReplayed,
    journal_damage,
    read_skips,
)

JOURNAL_KIND = "commands"
_ENGINES = "engine-*"

_IN_PROCESS_MAX = 50_000
"""Commands that are replayed here rather than by new processes, which take half a second to come
up."""

_GC_THRESHOLD = 50_000
"""Objects made between two looks of the collector: nearly all die by their count of references, and
looking costs a sixth of the time else."""


class ReplayResult(msgspec.Struct, frozen=True):
    """What a replay found.

    Attributes:
        journals: names of the journals that were read.
        symbols: what was replayed, by journal and symbol.
        ledger: name of a journal → its last entry of the ledger, where it has any.
        differences: at most one of each kind per journal and symbol.
        commands, outputs_checked, outputs_differing, outputs_unhashed: sums over the symbols.
        elapsed_s: wall time, in s.
        commands_per_s: of all processes together.
    """

    journals: list[str]
    symbols: list[SymbolReplayed]
    ledger: dict[str, int]
    differences: list[ReplayDifference]
    commands: int
    outputs_checked: int
    outputs_differing: int
    outputs_unhashed: int
    elapsed_s: float
    commands_per_s: int


class _Part(msgspec.Struct, frozen=True):
    """A task: some keys of one journal, how many commands that are, and what is skipped."""

    journal: Path
    keys: tuple[str, ...]
    commands: int
    skips: dict[str, dict[int, str]]


class _Done(msgspec.Struct, frozen=True):
    """What became of a task."""

    symbols: list[SymbolReplayed]
    ledger: int
    differences: list[ReplayDifference]


def journals_in(directory: Path) -> list[Path]:
    """Return the engines' journals that a directory is, or has.

    Raises:
        CommandFailed: there is none, or it is a journal of something else.
        JournalCorrupt, JournalMismatch: what the last segment begins with is damaged.
    """
    if segment_paths(directory):
        found = [directory]
    else:
        found = sorted(path for path in directory.glob(_ENGINES) if segment_paths(path))
    if not found:
        raise CommandFailed(f"{directory}: there is no journal of an engine")
    for journal in found:
        kind = read_header(segment_paths(journal)[-1]).kind
        if kind != JOURNAL_KIND:
            raise CommandFailed(f"{journal}: a journal of {kind}, expected {JOURNAL_KIND}")
    return found


def symbols_of(positions: dict[str, int]) -> dict[str, int]:
    """Return the positions of a journal's commands alone: symbol → last seq."""
    return {
        key: seq
        for key, seq in positions.items()
        if key != LEDGER and hashed_symbol(key) is None and skipped_symbol(key) is None
    }


def choose_sources(journals: Sequence[Path]) -> tuple[dict[str, Path], dict[str, str]]:
    """Return the journal that has most of each symbol and of the ledger, and the incarnations.

    Raises:
        CommandFailed: two journals have different lives of a symbol.
        JournalCorrupt, JournalMismatch: the end of a journal is damaged.
    """
    best: dict[str, int] = {}
    sources: dict[str, Path] = {}
    incarnations: dict[str, str] = {}
    for journal in journals:
        positions = JournalReader(journal).positions()
        header = read_header(segment_paths(journal)[-1])
        symbols = symbols_of(positions)
        for key, seq in {**symbols, LEDGER: positions.get(LEDGER, 0)}.items():
            if seq > best.get(key, 0):
                best[key], sources[key] = seq, journal
        for symbol in symbols:
            incarnation = header.incarnations[symbol]
            if incarnations.setdefault(symbol, incarnation) != incarnation:
                raise CommandFailed(
                    f"{journal}: {symbol} is of incarnation {incarnation}, elsewhere of"
                    f" {incarnations[symbol]}: these are journals of two venues"
                )
    return sources, incarnations


def skips_of(journal: Path, positions: dict[str, int]) -> dict[str, dict[int, str]]:
    """Return the skips in a journal, which is read for them only where it has any.

    Raises:
        JournalCorrupt, JournalMismatch: see ``JournalReader``.
    """
    if any(skipped_symbol(key) is not None for key in positions):
        return read_skips(JournalReader(journal))
    return {}


def replay_journal(directory: Path, *, processes: int | None = None) -> ReplayResult:
    """Replay an engine's journal, or all ``engine-*`` in a directory; they may be being written.

    What is damaged is a difference of kind ``journal``, and everything before it is replayed.

    Args:
        directory: of one journal, or of journals.
        processes: at most so many; None: as many as there are processors.

    Raises:
        CommandFailed, JournalCorrupt, JournalMismatch: see ``journals_in``.
    """
    started = time.monotonic()
    journals = journals_in(directory)
    workers = processes or os.cpu_count() or 1
    parts: list[_Part] = []
    damaged: list[ReplayDifference] = []
    for journal in journals:
        try:
            parts += _parts(journal, workers)
        except (JournalCorrupt, JournalMismatch) as error:
            damaged.append(journal_damage(journal.name, error))
    parts.sort(key=lambda part: -part.commands)
    done = _run(parts, workers)
    symbols = sorted(
        (one for part in done for one in part.symbols), key=lambda one: (one.journal, one.symbol)
    )
    commands = sum(one.commands for one in symbols)
    elapsed_s = time.monotonic() - started
    return ReplayResult(
        journals=[journal.name for journal in journals],
        symbols=symbols,
        ledger={
            part.journal.name: one.ledger
            for part, one in zip(parts, done, strict=True)
            if one.ledger
        },
        differences=damaged + _distinct(done),
        commands=commands,
        outputs_checked=sum(one.outputs_checked for one in symbols),
        outputs_differing=sum(one.outputs_differing for one in symbols),
        outputs_unhashed=sum(one.outputs_unhashed for one in symbols),
        elapsed_s=round(elapsed_s, 3),
        commands_per_s=int(commands / elapsed_s),
    )


def _parts(journal: Path, workers: int) -> list[_Part]:
    """Cut a journal's symbols into at most so many parts of about the same size."""
    positions = JournalReader(journal).positions()
    symbols, skips = symbols_of(positions), skips_of(journal, positions)
    count = min(workers, len(symbols)) or 1
    keys: list[list[str]] = [[] for _ in range(count)]
    sizes = [0] * count
    for symbol in sorted(symbols, key=lambda symbol: -symbols[symbol]):
        smallest = sizes.index(min(sizes))
        keys[smallest].append(symbol)
        sizes[smallest] += symbols[symbol]
    keys[-1].append(LEDGER)
    return [
        _Part(journal, tuple(some), size, skips) for some, size in zip(keys, sizes, strict=True)
    ]


def _run(parts: Sequence[_Part], workers: int) -> list[_Done]:
    if workers == 1 or len(parts) <= 1 or sum(part.commands for part in parts) <= _IN_PROCESS_MAX:
        return [_replay(part) for part in parts]
    # A copy of this process would have its threads' locks, but not its threads.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(parts)), mp_context=context) as pool:
        return list(pool.map(_replay, parts))


def _replay(part: _Part) -> _Done:
    """Replay one part; runs in a process of its own where there is much to do."""
    thresholds = gc.get_threshold()
    gc.set_threshold(_GC_THRESHOLD, *thresholds[1:])
    name = part.journal.name
    replayer = JournalReplayer(name, part.keys, part.skips)
    try:
        for _ in replayer.run(JournalReader(part.journal)):
            pass
    except (JournalCorrupt, JournalMismatch) as error:
        replayer.differences.append(journal_damage(name, error))
    finally:
        gc.set_threshold(*thresholds)
    return _Done(replayer.finish(), replayer.ledger, replayer.differences)


def _distinct(done: Sequence[_Done]) -> list[ReplayDifference]:
    """Return the differences of all parts; a damaged journal is found by each of its parts."""
    found: list[ReplayDifference] = []
    for part in done:
        found += [one for one in part.differences if one not in found]
    return found
