"""Restore a backup (backup.py) into an empty data directory.

Redis comes back as it was at its moment R. The engines' journals, which were copied later, are cut
to what Redis had published at R, per symbol, and to its ledger: what an engine had written beyond
that, this venue has never seen. The engines read the rest, admitted but not published at R, from
the streams. PostgreSQL is rebuilt from the journals (promise 6), so that its positions are exactly
where Redis' event streams end.

Numbers after R are given a second time, to other orders, so OrderIDs, ExecIDs and trade ids come
again. Nobody who saw the first ones may go on as if nothing had been: each client is refused until
it begins anew (`keys.RESTORED`). The gateways' journals are cut to R, too: what was said later
belongs to a life that is gone, and would be taken for messages about orders of this one. All that
is cut off stays in the backup.

Everything is made in a directory beside, which then takes the place of var_dir: what is there is
whole.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import msgspec

from engine.journal import Record, encode_header
from engine.journal_file import JournalFile
from engine.journal_keys import LEDGER, hashed_symbol, skipped_symbol
from engine.journal_reader import JournalReader, read_header, segment_path, segment_paths
from ops.backup import (
    BACKUP_FORMAT,
    DEMO_FILE,
    JOURNALS,
    MANIFEST,
    REDIS_FILE,
    VENUE_FILE,
    Manifest,
    copy_file,
    disk_errors,
    only_one,
    refuse_external_servers,
)
from ops.child_process import server_account
from ops.data_dir import DATA_DIRECTORY_VERSION, DataDirectory, sync_directory
from ops.embedded_postgres import EmbeddedPostgres
from ops.embedded_redis import EmbeddedRedis
from ops.errors import CommandFailed
from ops.journal_replay import journals_in, symbols_of
from ops.journal_replay_into import Rebuilt, replay_into
from ops.settings import Settings
from ops.wiring import accounts_link, gateway_journals
from router import keys
from router.dense_ids import last_entry, last_number

_APPEND_ONLY_FILE = "appendonly.aof"
"""An append-only file may begin with what BGSAVE writes, and be nothing else."""

_BEYOND = "beyond"
_BATCH_RECORDS = 1_000


class Restored(msgspec.Struct, frozen=True):
    """What was restored.

    Attributes:
        manifest: of the backup.
        positions: symbol, or ``ledger`` → up to where Redis and PostgreSQL stand.
        cut_records: what was cut off the engines' journals.
        cut_messages: what was cut off the gateways'.
        is_other_venue_file: whether the backup's venue file differs from the present one.
        rebuilt: how PostgreSQL was filled.
    """

    manifest: Manifest
    positions: dict[str, int]
    cut_records: int
    cut_messages: int
    is_other_venue_file: bool
    rebuilt: Rebuilt


class _Versions(msgspec.Struct, frozen=True):
    """What every format of a manifest says."""

    format: int
    data_directory: str


def restore_venue(settings: Settings, config: Path, source: Path) -> Restored:
    """Make a data directory of a backup.

    Args:
        config: the venue file in force.
        source: the backup.

    Raises:
        CommandFailed: var_dir is not empty, cannot be replaced or written, another restore is under
            way, the backup is damaged or of another version, or its journals are not enough.
        DataDirectoryMismatch: it was made with another version of Redis.
        OpsError: a private server does not start.
        ExchangeError: see ``replay_into``.
    """
    refuse_external_servers(settings, "restore")
    with disk_errors(f"restore of {source}"):
        # A link stays, and what it names is made.
        var_dir = settings.var_dir.resolve()
        _check_place(var_dir)
        manifest = read_manifest(source)
        work = var_dir.with_name(var_dir.name + ".restoring")
        work.mkdir(mode=0o711, parents=True, exist_ok=True)
        with only_one(work, "restore"):
            restored = _restore(settings, config, source, manifest, var_dir=var_dir, work=work)
    return restored


def _check_place(var_dir: Path) -> None:
    """Refuse a var_dir whose place no directory can take."""
    if var_dir.is_mount():
        raise CommandFailed(
            f"{var_dir} is a mount point, which no other directory can take the place of:"
            " set var_dir to a directory in it"
        )
    if var_dir.exists() and any(var_dir.iterdir()):
        raise CommandFailed(
            f"{var_dir} is not empty: restore into another var_dir, or stop its venue and move it"
        )


def _restore(
    settings: Settings, config: Path, source: Path, manifest: Manifest, *, var_dir: Path, work: Path
) -> Restored:
    """Make everything in ``work``, and let it take the place of ``var_dir``."""
    # Of a restore that was killed.
    for left in work.iterdir():
        _remove(left)
    is_done = False
    try:
        is_other = VENUE_FILE in manifest.files and (
            (source / VENUE_FILE).read_bytes() != config.read_bytes()
        )
        with DataDirectory.open(work, wait_s=0) as data:
            data.record_version("redis", manifest.redis_version)
            _copy_in(manifest, source, data)
            journals = work / JOURNALS
            positions = _mark_and_read(settings, data, journals)
            cut_records = sum(cut_journal(journal, positions) for journal in journals_in(journals))
            cut_messages = sum(
                cut_messages_of(journal, manifest.moment_us * 1_000)
                for journal in gateway_journals(journals)
            )
            rebuilt = _rebuild(settings, data, journals)
            sync_directory(work)
            work.rename(var_dir)
            is_done = True
            sync_directory(var_dir.parent)
    finally:
        if not is_done:
            shutil.rmtree(work, ignore_errors=True)
    return Restored(
        manifest=manifest,
        positions=positions,
        cut_records=cut_records,
        cut_messages=cut_messages,
        is_other_venue_file=is_other,
        rebuilt=rebuilt,
    )


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


def read_manifest(source: Path) -> Manifest:
    """Return what a backup says about itself.

    Raises:
        CommandFailed: it is none, or of another version.
    """
    try:
        data = (source / MANIFEST).read_bytes()
        versions = msgspec.json.decode(data, type=_Versions)
        for what, found, expected in (
            ("format", versions.format, BACKUP_FORMAT),
            ("data_directory version", versions.data_directory, DATA_DIRECTORY_VERSION),
        ):
            if found != expected:
                raise CommandFailed(f"{source}: {what} {found}, expected {expected}")
        return msgspec.json.decode(data, type=Manifest)
    except (OSError, msgspec.DecodeError) as error:
        raise CommandFailed(f"{source} is no backup: {error}") from error


def cut_journal(directory: Path, positions: Mapping[str, int]) -> int:
    """Cut a journal to what it had when its symbols stood at these positions.

    Segments that end before them stay as they are; the rest is written again without what is
    beyond.

    Args:
        directory: of an engine's journal that nobody writes.
        positions: symbol, or ``ledger`` → the last number to keep; missing: none.

    Returns:
        How many records were cut off.

    Raises:
        JournalCorrupt, JournalMismatch: the journal is damaged.
    """

    def limit(key: str) -> int:
        return positions.get(hashed_symbol(key) or skipped_symbol(key) or key, 0)

    paths = segment_paths(directory)
    place = len(paths) - 1
    while any(seq > limit(key) for key, seq in (read_header(paths[place]).positions or {}).items()):
        place -= 1
    return _cut(directory, paths[place:], lambda record: record.seq <= limit(record.key))


def cut_messages_of(directory: Path, moment_ns: int) -> int:
    """Cut a gateway's journal to what was received and written up to a moment, in ns since 1970.

    Returns:
        How many records were cut off.

    Raises:
        JournalCorrupt, JournalMismatch: the journal is damaged.
    """
    paths = segment_paths(directory)
    place = len(paths) - 1
    while place > 0 and read_header(paths[place]).created_ns > moment_ns:
        place -= 1
    return _cut(directory, paths[max(place, 0) :], lambda record: record.ts_ns <= moment_ns)


def _cut(directory: Path, paths: list[Path], is_kept: Callable[[Record], bool]) -> int:
    """Write the last segments of a journal again with some of their records."""
    if not paths:
        return 0
    header = read_header(paths[0])
    beyond = directory / _BEYOND
    beyond.mkdir()
    for path in paths:
        path.rename(beyond / path.name)
    # Its beginning may be elsewhere: the numbers of the records go on as they were.
    first = segment_path(directory, header.first_record)
    first.write_bytes(encode_header(header))
    first.chmod(0o600)
    file = JournalFile(
        directory,
        kind=header.kind,
        owner=header.owner,
        incarnations={},
        keeps_positions=header.positions is not None,
        now_ns=time.time_ns,
    )
    cut = 0
    batch = []
    try:
        for record in JournalReader(beyond).remaining():
            if not is_kept(record):
                cut += 1
                continue
            batch.append(record)
            if len(batch) == _BATCH_RECORDS:
                file.append(batch)
                batch = []
        file.append(batch)
        file.sync()
    finally:
        file.close()
    shutil.rmtree(beyond)
    return cut


def _copy_in(manifest: Manifest, source: Path, data: DataDirectory) -> None:
    """Copy every file of the backup to its place, and compare it with its digest."""
    redis_directory = data.subdirectory("redis")
    places = {
        REDIS_FILE: redis_directory / _APPEND_ONLY_FILE,
        DEMO_FILE: data.path / DEMO_FILE,
    }
    for name, expected in manifest.files.items():
        if name == VENUE_FILE:
            continue
        target = places.get(name, data.path / name)
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            copied = copy_file(source / name, target)
        except FileNotFoundError as error:
            raise CommandFailed(f"{source}: {name} is missing") from error
        if copied != expected:
            raise CommandFailed(
                f"{source}: {name} is damaged: expected {expected.size_bytes} bytes of digest"
                f" {expected.digest}, found {copied.size_bytes} of {copied.digest}"
            )
    account = server_account(redis_directory, [])
    if account is not None:
        os.chown(places[REDIS_FILE], account.uid, account.gid)


def _mark_and_read(settings: Settings, data: DataDirectory, journals: Path) -> dict[str, int]:
    """Note in Redis that it was restored, for all clients to be told.

    Returns:
        Where each symbol that a journal knows, and the ledger, stood at the moment R.
    """
    symbols = {
        symbol
        for journal in journals_in(journals)
        for symbol in symbols_of(JournalReader(journal).positions())
    }
    with EmbeddedRedis(data, binary=settings.redis.binary, port=0) as server:
        return asyncio.run(_mark_and_read_ends(settings, server.url, symbols))


async def _mark_and_read_ends(
    settings: Settings, url: str, symbols: Iterable[str]
) -> dict[str, int]:
    async with accounts_link(settings, url, name="restore") as link:
        await link.call("SET", keys.RESTORED, time.time_ns() // 1_000)
        positions = {LEDGER: last_number(await link.call(*last_entry(keys.LEDGER)))}
        for symbol in symbols:
            db = await link.call("HGET", keys.home(symbol), "db")
            if db is None:
                continue
            async with link.sibling(int(db), name="restore") as shard_link:
                found = await shard_link.call(*last_entry(keys.events(symbol)))
            positions[symbol] = last_number(found)
    return positions


def _rebuild(settings: Settings, data: DataDirectory, journals: Path) -> Rebuilt:
    with EmbeddedPostgres(data, port=0) as server:
        rebuilt = asyncio.run(replay_into([journals], server.url, settings))
    if rebuilt.differences:
        raise CommandFailed(
            f"the journals do not give what they recorded: {rebuilt.differences[0]}"
        )
    return rebuilt
