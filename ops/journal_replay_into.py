"""Rebuild the database from the engines' journals alone: the ledger first, then every output.

The rows are made and written by what the writer uses, so the result equals the live database row
for row, once both are at the same positions. Of the two journals of a shard each symbol is read
from the one that has more of it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from engine.errors import JournalCorrupt, JournalMismatch
from engine.journal_keys import LEDGER
from engine.journal_reader import JournalReader
from engine.ledger_entries import decode_ledger_entry
from ops.errors import CommandFailed
from ops.journal_replay import choose_sources, journals_in, skips_of
from ops.journal_replay_symbols import JournalReplayer, ReplayDifference, journal_damage
from ops.settings import Settings
from persistence.batch import BatchBuilder
from persistence.schema import refuse_tables
from persistence.writer import PostgresWriter


class Rebuilt(msgspec.Struct, frozen=True):
    """What was written into an empty database.

    Attributes:
        positions: symbol, or ``ledger`` → the last entry that the database has now.
        sources: the same → name of the journal that it was read from.
        differences: as of ``replay_journal``; what is behind one in its symbol was not written.
        rows: of the large tables.
        elapsed_s: wall time, in s.
    """

    positions: dict[str, int]
    sources: dict[str, str]
    differences: list[ReplayDifference]
    rows: int
    elapsed_s: float


class _Rebuilder:
    """Fills batches and writes them."""

    def __init__(self, writer: PostgresWriter, builder: BatchBuilder) -> None:
        self._writer = writer
        self._builder = builder
        self.positions: dict[str, int] = {}
        self.differences: list[ReplayDifference] = []
        self.rows = 0

    async def add_ledger(self, journal: Path) -> None:
        """Write all entries of the ledger that a journal has.

        Raises:
            DecodeError: one is none.
            SequenceGap: one is missing.
            VenueMismatch: an amount is in an asset that the venue does not have.
        """
        for record in JournalReader(journal):
            if record.key == LEDGER:
                entry = decode_ledger_entry(record.payload)
                self._builder.add_ledger_entry(record.seq, record.ts_ns // 1_000, entry, now_ns=0)
                if self._builder.is_full:
                    await self.write()
        # Before any order: rows of orders refer to users.
        await self.write()

    async def add_symbols(self, journal: Path, symbols: Sequence[str]) -> None:
        """Replay some symbols of a journal and write what comes out."""
        reader = JournalReader(journal)
        replayer = JournalReplayer(journal.name, symbols, skips_of(journal, reader.positions()))
        try:
            for output in replayer.run(reader):
                self._builder.add_output(output, now_ns=0)
                if self._builder.is_full:
                    await self.write()
        except (JournalCorrupt, JournalMismatch) as error:
            replayer.differences.append(journal_damage(journal.name, error))
        await self.write()
        replayer.finish()
        self.differences += replayer.differences

    async def write(self) -> None:
        """Write the batch at hand."""
        if self._builder.is_empty:
            return
        batch = self._builder.take()
        await self._writer.write(batch)
        self.rows += batch.rows
        self.positions.update({stream: last for stream, (_, last) in batch.positions.items()})


async def replay_into(
    directories: Sequence[Path], postgres_url: str, settings: Settings
) -> Rebuilt:
    """Fill an empty database from journals.

    Args:
        directories: each of one engine's journal, or of journals; of all shards together.
        postgres_url: of a database without tables.
        settings: of the venue: the assets' scales, and how batches are written.

    Raises:
        CommandFailed: a directory has no journal, or none of them has the ledger.
        JournalCorrupt, JournalMismatch: the end of a journal is damaged, or its ledger.
        SchemaMismatch: the database is not empty.
        PersistenceError: PostgreSQL is away, or refuses rows.
        ExchangeError: the ledger is damaged; see ``add_ledger``.
    """
    started = time.monotonic()
    journals = [one for path in directories for one in journals_in(path)]
    sources, incarnations = choose_sources(journals)
    if LEDGER not in sources:
        names = ", ".join(journal.name for journal in journals)
        raise CommandFailed(f"none of the journals has the ledger ({names}): name all of them")
    await refuse_tables(postgres_url, connect_timeout_s=settings.postgres.connect_timeout_s)
    writer = PostgresWriter(postgres_url, settings.postgres)
    try:
        stored = await writer.load(incarnations, settings.scales())
        builder = BatchBuilder(
            rows_max=settings.writer.batch_rows_max,
            age_ns_max=0,
            positions=stored.positions,
            formats=stored.formats,
            scales=stored.scales,
        )
        rebuilder = _Rebuilder(writer, builder)
        await rebuilder.add_ledger(sources[LEDGER])
        for journal in dict.fromkeys(sources.values()):
            symbols = [key for key, of in sources.items() if of == journal and key != LEDGER]
            if symbols:
                await rebuilder.add_symbols(journal, symbols)
    finally:
        await writer.close()
    return Rebuilt(
        positions=rebuilder.positions,
        sources={key: journal.name for key, journal in sources.items()},
        differences=rebuilder.differences,
        rows=rebuilder.rows,
        elapsed_s=round(time.monotonic() - started, 3),
    )
