"""The servers of a venue for the time of one command, whether the venue runs or is stopped.

What needs a venue at rest, or the truth about one, must not need `up`: that starts engines, which
trade, or refuse to. So the private servers of a venue that is stopped are started here, and stopped
again, under the lock of its data directory. Nothing else can start meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

from ops.data_dir import DataDirectory, read_versions
from ops.embedded import EmbeddedServer
from ops.embedded_postgres import EmbeddedPostgres
from ops.embedded_redis import EmbeddedRedis
from ops.endpoints import endpoints_path, find_postgres, find_redis, read_endpoints
from ops.errors import DataDirectoryLocked
from ops.redis_acl import ensure_passwords
from ops.settings import Settings


class VenueServers(NamedTuple):
    """Where the servers are. ``postgres_url``: empty where it was not asked for."""

    redis_url: str
    postgres_url: str
    is_running: bool
    """Whether they are those of a venue that runs, or of the operator: not started for this."""


@contextmanager
def venue_servers(settings: Settings, *, with_postgres: bool) -> Iterator[VenueServers]:
    """Give the venue's servers; the private ones of a stopped venue run until the context is left.

    Raises:
        CommandFailed: there is no venue here.
        DataDirectoryLocked: it is starting or stopping.
        DataDirectoryMismatch, EmbeddedServerFailed: a private server cannot be started.
    """
    urls = {"redis": settings.redis_url, "postgres": settings.postgres_url}
    private = [
        name for name, url in urls.items() if url is None and (name == "redis" or with_postgres)
    ]
    versions = read_versions(settings.var_dir)
    if not private or any(name not in versions for name in private):
        # Servers of the operator's own; or none ever, which is said.
        yield _found(settings, with_postgres=with_postgres)
        return
    try:
        data = DataDirectory.open(settings.var_dir)
    except DataDirectoryLocked:
        if read_endpoints(endpoints_path(settings.var_dir)) is None:
            raise
        yield _found(settings, with_postgres=with_postgres)
        return
    with data, ExitStack() as stack:
        started = {name: _start(stack, name, settings, data) for name in private}
        yield VenueServers(
            started["redis"].url if "redis" in started else find_redis(settings),
            started["postgres"].url
            if "postgres" in started
            else _postgres(settings, with_postgres),
            False,
        )


def _found(settings: Settings, *, with_postgres: bool) -> VenueServers:
    return VenueServers(find_redis(settings), _postgres(settings, with_postgres), True)


def _postgres(settings: Settings, wanted: bool) -> str:
    return find_postgres(settings) if wanted else ""


def _start(stack: ExitStack, name: str, settings: Settings, data: DataDirectory) -> EmbeddedServer:
    """Start a private server at any port; the stack stops it."""
    server: EmbeddedServer
    if name == "redis":
        passwords = ensure_passwords(settings.var_dir)
        server = EmbeddedRedis(data, binary=settings.redis.binary, port=0, passwords=passwords)
    else:
        server = EmbeddedPostgres(data, port=0)
    stack.callback(server.stop)
    server.start()
    return server
