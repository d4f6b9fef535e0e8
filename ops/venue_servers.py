"""The servers of a venue for the time of one command, whether the venue runs or is stopped.

What needs a venue at rest, or the truth about one, must not need `up`: that starts engines, which
trade, or refuse to. So the private servers of a venue that is stopped are started here, and stopped
again, under the lock of its data directory. Nothing else can start meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Final, NamedTuple

from ops.data_dir import DataDirectory, read_versions
from ops.embedded import EmbeddedServer
from ops.embedded_postgres import EmbeddedPostgres
from ops.embedded_redis import EmbeddedRedis
from ops.endpoints import endpoints_path, find_postgres, find_redis, read_endpoints
from ops.errors import DataDirectoryLocked
from ops.redis_acl import ensure_passwords
from ops.settings import Settings

_REDIS, _POSTGRES = "redis", "postgres"
_FIND: Final[dict[str, Callable[[Settings], str]]] = {_REDIS: find_redis, _POSTGRES: find_postgres}


class VenueServers(NamedTuple):
    """Where the servers are; empty where one was not asked for."""

    redis_url: str
    postgres_url: str
    is_running: bool
    """Whether they are those of a venue that runs, or of the operator: not started for this."""


@contextmanager
def venue_servers(
    settings: Settings, *, with_redis: bool = True, with_postgres: bool = True
) -> Iterator[VenueServers]:
    """Give the venue's servers; the private ones of a stopped venue run until the context is left.

    Raises:
        CommandFailed: there is no venue here.
        DataDirectoryLocked: it is starting or stopping.
        DataDirectoryMismatch, EmbeddedServerFailed: a private server cannot be started.
    """
    wanted = [name for name, is_in in ((_REDIS, with_redis), (_POSTGRES, with_postgres)) if is_in]
    configured = {_REDIS: settings.redis_url, _POSTGRES: settings.postgres_url}
    private = [name for name in wanted if configured[name] is None]
    versions = read_versions(settings.var_dir)
    if not private or any(name not in versions for name in private):
        # Servers of the operator's own; or none ever, which is said.
        yield _servers(settings, wanted, {}, is_running=True)
        return
    try:
        data = DataDirectory.open(settings.var_dir)
    except DataDirectoryLocked:
        if read_endpoints(endpoints_path(settings.var_dir)) is None:
            raise
        yield _servers(settings, wanted, {}, is_running=True)
        return
    with data, ExitStack() as stack:
        started = {name: _start(stack, name, settings, data) for name in private}
        yield _servers(settings, wanted, started, is_running=False)


def _servers(
    settings: Settings, wanted: Collection[str], started: Mapping[str, str], *, is_running: bool
) -> VenueServers:
    """Return the URLs of what was started here, and of what is found."""
    urls = {name: started.get(name) or _FIND[name](settings) for name in wanted}
    return VenueServers(urls.get(_REDIS, ""), urls.get(_POSTGRES, ""), is_running)


def _start(stack: ExitStack, name: str, settings: Settings, data: DataDirectory) -> str:
    """Start a private server at any port, and return its URL; the stack stops it."""
    server: EmbeddedServer
    if name == _REDIS:
        passwords = ensure_passwords(settings.var_dir)
        server = EmbeddedRedis(data, binary=settings.redis.binary, port=0, passwords=passwords)
    else:
        server = EmbeddedPostgres(data, port=0)
    return stack.enter_context(server).url
