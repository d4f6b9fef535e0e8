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
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import redis

from engine.journal_reader import archived_path, segment_paths
from ops.data_dir import DATA_DIRECTORY_VERSION, DataDirectory, sync_directory
from ops.embedded_redis import EmbeddedRedis
from ops.endpoints import find_redis
from ops.engine_process import engine_name
from ops.errors import CommandFailed, DataDirectoryLocked
from ops.settings import Settings
from ops.wiring import VERSION
from router import keys
from router.dense_ids import last_number

BACKUP_FORMAT = 1
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
        was_running: whether the venue ran meanwhile.
        files: path within the backup → what is there.
    """

    format: int
    data_directory: str
    redis_version: str
    shardex_version: str
    created_s: int
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
        CommandFailed: there is no venue, the target exists, or a server cannot save.
        DataDirectoryLocked: the venue is starting or stopping.
        OpsError: the private Redis of a venue that is stopped does not start.
    """
    refuse_external_servers(settings, "backup")
    versions = settings.var_dir / "versions.json"
    if not versions.exists():
        raise CommandFailed(f"{settings.var_dir}: there is no venue here")
    if target.exists():
        raise CommandFailed(f"{target} exists already: name another directory")
    new = target.with_name(target.name + ".new")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(mode=0o700, parents=True)
    with _servers(settings) as (url, was_running):
        files = {REDIS_FILE: _save_redis(settings, url, new, wait_for_ledger=was_running)}
        files |= _copy_journals(settings.var_dir / JOURNALS, new)
    for name, path in ((VENUE_FILE, config), (DEMO_FILE, settings.var_dir / DEMO_FILE)):
        if path.exists():
            files[name] = copy_file(path, new / name)
    manifest = Manifest(
        format=BACKUP_FORMAT,
        data_directory=DATA_DIRECTORY_VERSION,
        redis_version=msgspec.json.decode(versions.read_bytes())["redis"],
        shardex_version=VERSION,
        created_s=int(time.time()),
        was_running=was_running,
        files=files,
    )
    body = msgspec.json.format(msgspec.json.encode(manifest), indent=2)
    with (new / MANIFEST).open("wb") as file:
        file.write(body + b"\n")
        file.flush()
        os.fsync(file.fileno())
    sync_directory(new)
    new.rename(target)
    sync_directory(target.parent)
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


@contextmanager
def _servers(settings: Settings) -> Iterator[tuple[str, bool]]:
    """Give the URL of the venue's Redis, started for this if the venue is stopped; and which."""
    try:
        data = DataDirectory.open(settings.var_dir, wait_s=0)
    except DataDirectoryLocked:
        yield find_redis(settings), True
        return
    with data:
        server = EmbeddedRedis(data, binary=settings.redis.binary, port=0)
        server.start()
        try:
            yield server.url, False
        finally:
            server.stop()


def _save_redis(
    settings: Settings, url: str, directory: Path, *, wait_for_ledger: bool
) -> BackedUpFile:
    """Save Redis as of one moment, and copy that."""
    try:
        with redis.Redis.from_url(url) as client:
            _begin_save(client)
            ledger = last_number(client.xrevrange(keys.LEDGER, count=1))
            saved = _wait_until_saved(client)
            try:
                copied = copy_file(saved, directory / REDIS_FILE)
            finally:
                saved.unlink(missing_ok=True)
            if wait_for_ledger:
                _wait_for_ledger(settings, client, ledger)
    except redis.RedisError as error:
        raise CommandFailed(f"Redis does not save: {error}") from error
    return copied


def _begin_save(client: redis.Redis) -> None:
    """Begin BGSAVE, behind a save or a rewrite of the append-only file that goes on."""
    deadline = time.monotonic() + SAVE_TIMEOUT_S
    while True:
        try:
            client.bgsave()
            return
        except redis.ResponseError as error:
            if "in progress" not in str(error) or time.monotonic() > deadline:
                raise
        time.sleep(_POLL_S)


def _wait_until_saved(client: redis.Redis) -> Path:
    """Wait for the end of BGSAVE and return the file."""
    deadline = time.monotonic() + SAVE_TIMEOUT_S
    while (info := client.info("persistence"))["rdb_bgsave_in_progress"]:
        if time.monotonic() > deadline:
            raise CommandFailed(f"Redis has not saved within {SAVE_TIMEOUT_S:g} s")
        time.sleep(_POLL_S)
    if info["rdb_last_bgsave_status"] != "ok":
        raise CommandFailed("Redis could not save (redis/redis-server.log): is the disk full?")
    settings = client.config_get("dir") | client.config_get("dbfilename")
    return Path(str(settings["dir"]), str(settings["dbfilename"]))


def _wait_for_ledger(settings: Settings, client: redis.Redis, ledger: int) -> None:
    """Wait until a journal has the ledger as far as the copy of Redis can have it."""
    shard = min(one.id for one in settings.shards if one.symbols)
    names = [engine_name(shard, standby=standby) for standby in (False, True)]
    deadline = time.monotonic() + LEDGER_TIMEOUT_S
    while True:
        found = [client.hget(keys.position_engine(name), keys.LEDGER) for name in names]
        if max(int(position or 0) for position in found) >= ledger:
            return
        if time.monotonic() > deadline:
            raise CommandFailed(
                f"{names[0]} has not written the ledger up to entry {ledger} into its journal"
                f" within {LEDGER_TIMEOUT_S:g} s: does it run? (shardex status)"
            )
        time.sleep(_POLL_S)


def _copy_journals(source: Path, target: Path) -> dict[str, BackedUpFile]:
    files = {}
    for journal in sorted(path for path in source.iterdir() if path.is_dir()):
        directory = target / JOURNALS / journal.name
        directory.mkdir(mode=0o700, parents=True)
        for path in segment_paths(journal):
            # It may be compressed since it was found.
            found = path if path.exists() else archived_path(path)
            name = f"{JOURNALS}/{journal.name}/{found.name}"
            files[name] = copy_file(found, target / name)
    return files
