"""var/endpoints.json: where a running exchange is reached, for people, tools and our own commands.

Written, whole and with mode 0600 (it holds passwords), when everything accepts; removed before a
start and at the stop. So a command in a second terminal finds the exchange by its data directory.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import msgspec
from pydantic import SecretStr

from ops.errors import CommandFailed
from ops.private_file import write_private_file
from ops.redis_acl import OPERATOR, read_passwords, url_of
from ops.settings import Settings

_INDENT = 2


class FixEndpoint(msgspec.Struct, frozen=True):
    """Where one gateway listens."""

    host: str
    port: int


class Credentials(msgspec.Struct, frozen=True):
    """How a visitor logs on."""

    sender_comp_id: str
    username: str
    password: str


class Endpoints(msgspec.Struct, frozen=True):
    """The file."""

    fix: list[FixEndpoint]
    target_comp_id: str
    users: list[Credentials]
    symbols: list[str]
    redis_url: str
    postgres_url: str
    market_data_url: str = ""
    """For subscribers of market data: the same Redis, as a user that may do nothing else."""


def endpoints_path(var_dir: Path) -> Path:
    """Return where the file of a data directory stands."""
    return var_dir / "endpoints.json"


def write_endpoints(path: Path, endpoints: Endpoints) -> None:
    """Write the file, whole or not at all."""
    body = msgspec.json.format(msgspec.json.encode(endpoints), indent=_INDENT)
    write_private_file(path, body + b"\n")


def read_endpoints(path: Path) -> Endpoints | None:
    """Return what a running exchange wrote, or None when there is none.

    Raises:
        CommandFailed: the file is not ours, or may not be read by this account.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=Endpoints)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as error:
        raise CommandFailed(f"{path} cannot be read: {error}") from error


def find_redis(settings: Settings, user: str = OPERATOR) -> str:
    """Return the URL of the exchange's Redis: configured, or of the ``up`` that runs here.

    Args:
        settings: say where it is, and whether it has users.
        user: to log on as, where the server has users of ours and the URL names no other.

    Raises:
        CommandFailed: neither, or the passwords are not known.
    """
    url = _find(settings, "redis_url", settings.redis_url)
    name = urlsplit(url).username
    if settings.redis_url is None:
        # What `up` wrote, which is the operator's where there are users.
        return url_of(url, user, read_passwords(settings.var_dir)) if name == OPERATOR else url
    if not settings.redis.acl_users or name:
        return url
    return url_of(url, user, read_passwords(settings.var_dir))


def find_postgres(settings: Settings) -> str:
    """Return the URL of the exchange's PostgreSQL database: see ``find_redis``."""
    return _find(settings, "postgres_url", settings.postgres_url)


def _find(settings: Settings, key: str, configured: SecretStr | None) -> str:
    if configured is not None:
        return configured.get_secret_value()
    path = endpoints_path(settings.var_dir)
    running = read_endpoints(path)
    if running is None:
        raise CommandFailed(
            f"no exchange runs here ({path} is missing) and {key} is not set: "
            "start one (shardex up), or set it"
        )
    url: str = getattr(running, key)
    return url
