"""var/endpoints.json: where a running exchange is reached, for people, tools and our own commands.

Written, whole and with mode 0600 (it holds passwords), when everything accepts; removed before a
start and at the stop. So a command in a second terminal finds the exchange by its data directory.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
from pydantic import SecretStr

from ops.errors import CommandFailed
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


def endpoints_path(var_dir: Path) -> Path:
    """Return where the file of a data directory stands."""
    return var_dir / "endpoints.json"


def write_endpoints(path: Path, endpoints: Endpoints) -> None:
    """Write the file, whole or not at all."""
    body = msgspec.json.format(msgspec.json.encode(endpoints), indent=_INDENT)
    write_private_file(path, body + b"\n")


def write_private_file(path: Path, data: bytes) -> None:
    """Write a file of mode 0600, whole or not at all."""
    new = path.with_suffix(".new")
    new.unlink(missing_ok=True)
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)
    new.rename(path)


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


def find_redis(settings: Settings) -> str:
    """Return the URL of the exchange's Redis: configured, or of the ``up`` that runs here.

    Raises:
        CommandFailed: neither.
    """
    return _find(settings, "redis_url", settings.redis_url)


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
