"""Back up a venue with private servers, running or stopped: one consistent state, in a directory.

    BACKUP/manifest.json    what is here, with sizes and digests; written last
    BACKUP/exchange.toml    the venue file
    BACKUP/redis.rdb        Redis at one moment R (BGSAVE)
    BACKUP/journals/…       every journal, copied after R
    BACKUP/demo.json        the demo's users, where there are any

Why this is consistent. All state that counts is in Redis and in the journals. Redis is copied at
one moment. An engine commits nothing that its journal lacks, so journals that are copied later have
all that Redis had at R; what they have beyond that is cut off by `restore`. PostgreSQL and the
snapshots follow from the journals. Hence nothing has to stop, and nothing has to be copied twice.

The engines' journals must be whole, from their first record on: they are read before anything is
copied. Of the gateways' journals, which are evidence and no state, the oldest may be elsewhere.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from engine.errors import JournalGap
from engine.journal_reader import JournalReader, archived_path, segment_paths
from ops.data_dir import DATA_DIRECTORY_VERSION, read_versions, sync_directory
from ops.errors import CommandFailed
from ops.journal_replay import journals_in
from ops.settings import Settings
from ops.venue_servers import venue_servers
from ops.wiring import VERSION, accounts_link
from router import keys
from router.dense_ids import last_entry, last_number
from router.redis_client import RedisLink

BACKUP_FORMAT = 2
MANIFEST = "manifest.json"
REDIS_FILE = "redis.rdb"
JOURNALS = "journals"
VENUE_FILE = "exchange.toml"
DEMO_FILE = "demo.json"

SAVE_TIMEOUT_S = 600.0
"""For BGSAVE, or for an append-only file's rewrite that stands in its way."""

LEDGER_TIMEOUT_S = 15.0
"""For an engine to write into its journal what the ledger had at the moment of the copy."""

_POLL_S = 0.05
_CHUNK_BYTES = 1 << 20


class BackedUpFile(msgspec.Struct, frozen=True):
    """One file of a backup; the digest is blake2b, 32 bytes, in hexadecimal."""

    size_bytes: int
    digest: str


class Manifest(msgspec.Struct, frozen=True):
    """What a backup says about itself.

    Attributes:
        format: BACKUP_FORMAT.
        data_directory: version of the layout of var_dir.
        redis_version: major and minor, as versions.json has it.
        shardex_version: which made it.
        created_s: when, s since 1970.
        moment_us: Redis' clock at the moment R, µs since 1970: all that Redis has was stamped
            before, and nothing that it has not.
        was_running: whether the venue ran meanwhile.
        files: path within the backup → what is there.
    """

    format: int
    data_directory: str
    redis_version: str
    shardex_version: str
    created_s: int
    moment_us: int
    was_running: bool
    files: dict[str, BackedUpFile]


def refuse_external_servers(settings: Settings, command: str) -> None:
    """Refuse a venue whose servers are not ours to copy.

    Raises:
        CommandFailed: says what to do instead.
    """
    named = [name for name in ("redis_url", "postgres_url") if getattr(settings, name) is not None]
    if named:
        raise CommandFailed(
            f"{command}: {' and '.join(named)} name servers of your own. Copy Redis with its own"
            f" means first (an RDB file), then {settings.var_dir}/journals; PostgreSQL is rebuilt"
            " by `shardex replay --journal … --into …`"
        )


def back_up(settings: Settings, config: Path, target: Path) -> Manifest:
    """Copy a venue into a directory that appears whole or not at all.

    Args:
        config: the venue file.
        target: the backup; must not exist.

    Raises:
        CommandFailed: there is no venue, the target exists or cannot be written, a journal is not
            whole, a server cannot save, or another backup is under way.
        DataDirectoryLocked: the venue is starting or stopping.
        DataDirectoryMismatch: versions.json is damaged.
        JournalCorrupt, JournalMismatch: a journal is damaged.
        RedisUnavailable: Redis does not answer.
        OpsError: the private Redis of a venue that is stopped does not start.
    """
    refuse_external_servers(settings, "backup")
    var_dir = settings.var_dir
    with disk_errors(f"backup into {target}"):
        if not read_versions(var_dir):
            raise CommandFailed(f"{var_dir}: there is no venue here")
        # The second of two would take the file that Redis saves for the first.
        with only_one(var_dir, "backup"):
            if target.exists():
                raise CommandFailed(f"{target} exists already: name another directory")
            _check_whole(var_dir / JOURNALS)
            new = target.with_name(target.name + ".new")
            shutil.rmtree(new, ignore_errors=True)
            try:
                new.mkdir(mode=0o700, parents=True)
                manifest = _fill(settings, config, new)
                new.rename(target)
            finally:
                shutil.rmtree(new, ignore_errors=True)
            sync_directory(target.parent)
    return manifest


@contextmanager
def only_one(directory: Path, what: str) -> Iterator[None]:
    """Let one process at a time do something to a directory; no file is left behind.

    Args:
        directory: is locked itself (flock).
        what: for the message to the second one.

    Raises:
        CommandFailed: another process is at it.
        OSError: the directory cannot be opened.
    """
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CommandFailed(f"{directory}: another {what} is under way") from None
        yield
    finally:
        os.close(fd)


@contextmanager
def disk_errors(what: str) -> Iterator[None]:
    """Turn what the disk refuses into one line for the operator.

    Raises:
        CommandFailed: says what, where, and why not.
    """
    try:
        yield
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        raise CommandFailed(f"{what}: {where}{error.strerror or error}") from error


def _check_whole(journals: Path) -> None:
    """Read the engines' journals, which a restore replays from their first record on."""
    for journal in journals_in(journals):
        try:
            for _ in JournalReader(journal):
                pass
        except JournalGap as error:
            raise CommandFailed(
                f"{error}. A backup without them could not be restored: put them back first"
            ) from error


def _fill(settings: Settings, config: Path, new: Path) -> Manifest:
    """Copy a venue into an empty directory, the manifest last."""
    var_dir = settings.var_dir
    with venue_servers(settings, with_postgres=False) as servers:
        was_running = servers.is_running
        saving = _save_redis(settings, servers.redis_url, new, wait_for_ledger=was_running)
        saved, moment_us = asyncio.run(saving)
        files = {REDIS_FILE: saved}
        files |= _copy_journals(var_dir / JOURNALS, new)
    for name, path in ((VENUE_FILE, config), (DEMO_FILE, var_dir / DEMO_FILE)):
        if path.exists():
            files[name] = copy_file(path, new / name)
    manifest = Manifest(
        format=BACKUP_FORMAT,
        data_directory=DATA_DIRECTORY_VERSION,
        redis_version=read_versions(var_dir)["redis"],
        shardex_version=VERSION,
        created_s=int(time.time()),
        moment_us=moment_us,
        was_running=was_running,
        files=files,
    )
    body = msgspec.json.format(msgspec.json.encode(manifest), indent=2)
    with (new / MANIFEST).open("wb") as file:
        file.write(body + b"\n")
        file.flush()
        os.fsync(file.fileno())
    sync_directory(new)
    return manifest


def copy_file(source: Path, target: Path) -> BackedUpFile:
    """Copy a file as far as it goes now, make it durable, and return what was copied.

    Raises:
        FileNotFoundError: it is gone.
    """
    digest = hashlib.blake2b(digest_size=32)
    size_bytes = 0
    with source.open("rb") as old, open(target, "xb", opener=_private) as new:
        while chunk := old.read(_CHUNK_BYTES):
            new.write(chunk)
            digest.update(chunk)
            size_bytes += len(chunk)
        new.flush()
        os.fsync(new.fileno())
    return BackedUpFile(size_bytes, digest.hexdigest())


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


async def _save_redis(
    settings: Settings, url: str, directory: Path, *, wait_for_ledger: bool
) -> tuple[BackedUpFile, int]:
    """Save Redis as of one moment, copy that, and return the moment, µs since 1970."""
    async with accounts_link(settings, url, name="backup") as link:
        try:
            async with asyncio.timeout(SAVE_TIMEOUT_S):
                moment_us = await _begin_save(link)
                ledger = last_number(await link.call(*last_entry(keys.LEDGER)))
                saved = await _wait_until_saved(link)
        except TimeoutError as error:
            raise CommandFailed(f"Redis has not saved within {SAVE_TIMEOUT_S:g} s") from error
        try:
            copied = copy_file(saved, directory / REDIS_FILE)
        finally:
            saved.unlink(missing_ok=True)
        if wait_for_ledger:
            await _wait_for_ledger(settings, link, ledger)
    return copied, moment_us


async def _begin_save(link: RedisLink) -> int:
    """Begin BGSAVE, behind a save or a rewrite that goes on; return Redis' clock at that moment."""
    while True:
        info = await _persistence(link)
        if info["rdb_bgsave_in_progress"] == info["aof_rewrite_in_progress"] == "0":
            # In one write, so that Redis does nothing else between the two.
            _, (seconds, micros) = await link.pipeline([("BGSAVE",), ("TIME",)])
            return int(seconds) * 1_000_000 + int(micros)
        await asyncio.sleep(_POLL_S)


async def _wait_until_saved(link: RedisLink) -> Path:
    """Wait for the end of BGSAVE and return the file."""
    while True:
        info = await _persistence(link)
        if info["rdb_bgsave_in_progress"] == "0":
            break
        await asyncio.sleep(_POLL_S)
    if info["rdb_last_bgsave_status"] != "ok":
        raise CommandFailed("Redis could not save (redis/redis-server.log): is the disk full?")
    _, directory = await link.call("CONFIG", "GET", "dir")
    _, name = await link.call("CONFIG", "GET", "dbfilename")
    return Path(directory.decode(), name.decode())


async def _persistence(link: RedisLink) -> dict[str, str]:
    lines = (await link.call("INFO", "persistence")).decode().splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)


async def _wait_for_ledger(settings: Settings, link: RedisLink, ledger: int) -> None:
    """Wait until a journal has the ledger as far as the copy of Redis can have it."""
    shard = min(one.id for one in settings.shards if one.symbols)
    names = keys.engine_names(shard)
    try:
        async with asyncio.timeout(LEDGER_TIMEOUT_S):
            while True:
                found = await link.pipeline(
                    [("HGET", keys.position_engine(name), keys.LEDGER) for name in names]
                )
                if max(int(position or 0) for position in found) >= ledger:
                    return
                await asyncio.sleep(_POLL_S)
    except TimeoutError as error:
        raise CommandFailed(
            f"{names[0]} has not written the ledger up to entry {ledger} into its journal"
            f" within {LEDGER_TIMEOUT_S:g} s: does it run? (shardex status)"
        ) from error


def _copy_journals(source: Path, target: Path) -> dict[str, BackedUpFile]:
    files = {}
    for journal in sorted(path for path in source.iterdir() if path.is_dir()):
        directory = target / JOURNALS / journal.name
        directory.mkdir(mode=0o700, parents=True)
        for path in segment_paths(journal):
            name, copied = copy_segment(path, directory)
            files[f"{JOURNALS}/{journal.name}/{name}"] = copied
    return files


def copy_segment(path: Path, target: Path) -> tuple[str, BackedUpFile]:
    """Copy a segment, which may have been compressed since it was found.

    Returns:
        The name that it has in the copy, and what was copied.
    """
    try:
        return path.name, copy_file(path, target / path.name)
    except FileNotFoundError:
        archived = archived_path(path)
        return archived.name, copy_file(archived, target / archived.name)
