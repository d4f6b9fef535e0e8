"""The configuration of a process: exchange.toml, overridden by the environment, validated once.

The only reader of the file and of the environment. ``SHARDEX_GATEWAY__PORT=9900`` overrides
``port`` of ``[gateway]``, ``SHARDEX_REDIS_URL=…`` the top-level ``redis_url``; a value that starts
with ``[`` or ``{`` is read as TOML. What is unknown or wrong is refused with its key and the
reason. All keys, defaults and consequences: docs/configuration.md.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator

from engine.settings import EngineSettings
from gateway.settings import GatewaySettings
from marketdata.settings import MarketDataSettings
from ops.errors import SettingsError
from ops.venue_file import Shard, Venue
from persistence.settings import PostgresSettings, WriterSettings
from router.settings import RedisSettings

DEFAULT_CONFIG = Path("exchange.toml")
_PREFIX = "SHARDEX_"


class Settings(Venue):
    """All of exchange.toml: the venue itself, and how its processes run."""

    var_dir: Path = Path("var")
    """Data directory: private servers, journals, logs, endpoints.json. One ``up`` at a time owns
    it."""
    redis_url: SecretStr | None = None
    """An existing Redis (6.2 or newer, set up like redis.conf). Left out: ``up`` starts a private
    one."""
    postgres_url: SecretStr | None = None
    """An existing PostgreSQL database, encoded in UTF8. Left out: ``up`` starts a private
    server."""
    log_level: Literal["debug", "info", "warning"] = "info"
    """Least severe lines in the logs of the processes."""
    reconcile_interval_s: int = Field(60, ge=0)
    """How often `up` looks at one cut through Redis whether money, holds and reservations add up,
    and raises an alarm if not; Redis serves nobody for some 20 ms per 1,000 accounts meanwhile.
    0: never."""
    gateway: GatewaySettings = Field(default_factory=GatewaySettings)
    engine: EngineSettings = Field(default_factory=EngineSettings)
    marketdata: MarketDataSettings = Field(default_factory=MarketDataSettings)
    writer: WriterSettings = Field(default_factory=WriterSettings)
    redis: RedisSettings = Field(default_factory=RedisSettings)
    postgres: PostgresSettings = Field(default_factory=PostgresSettings)

    @field_validator("redis_url")
    @classmethod
    def _is_a_server(cls, url: SecretStr | None) -> SecretStr | None:
        if url is None:
            return None
        parts = urlsplit(url.get_secret_value())
        if parts.scheme not in ("redis", "rediss", "unix"):
            raise ValueError("expected redis://, rediss:// or unix://")
        if parts.scheme != "unix" and parts.path not in ("", "/", "/0"):
            raise ValueError("expected no database number: shards have theirs, accounts 0")
        return url

    @field_validator("postgres_url")
    @classmethod
    def _is_a_database(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None and urlsplit(url.get_secret_value()).scheme not in (
            "postgresql",
            "postgres",
        ):
            raise ValueError("expected postgresql://user:password@host:port/database")
        return url


def load_settings(path: Path, environment: Mapping[str, str] | None = None) -> Settings:
    """Read and validate the configuration.

    Args:
        path: the venue file.
        environment: None takes the process's own.

    Raises:
        SettingsError: the file is missing or no TOML, or a key is unknown or wrong; every fault is
            named with its key, or with its environment variable, and the reason.
    """
    environ = os.environ if environment is None else environment
    values = _read_file(path)
    named = _override(values, environ)
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        raise SettingsError(_describe(error, path, named)) from None
    for index, shard in enumerate(settings.shards):
        _refuse_other_server(index, shard, settings)
    return settings


def child_environment(*, redis_url: str, postgres_url: str | None) -> dict[str, str]:
    """Return this process's environment with the servers that its children shall use.

    Args:
        redis_url: with the child's own user, where there are users.
        postgres_url: None for a child that has no business there.
    """
    servers = {"REDIS_URL": redis_url, "POSTGRES_URL": postgres_url}
    ours = {f"{_PREFIX}{key}": url for key, url in servers.items()}
    others = {name: value for name, value in os.environ.items() if name not in ours}
    return {**others, **{name: url for name, url in ours.items() if url is not None}}


def private_environment() -> dict[str, str]:
    """Return this process's environment for a venue that takes no settings but its own file's.

    Which redis-server runs is a property of the machine, so that choice goes along.
    """
    kept = f"{_PREFIX}REDIS__BINARY"
    return {
        name: value
        for name, value in os.environ.items()
        if name == kept or not name.startswith(_PREFIX)
    }


def _read_file(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        reason = f"{path}: {error.strerror} (--config names another venue file)"
        raise SettingsError(reason) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: not TOML: {error}") from None


def _override(values: dict[str, Any], environ: Mapping[str, str]) -> dict[str, str]:
    """Put SHARDEX_… variables into the values; return the variable's name by dotted key."""
    named: dict[str, str] = {}
    for name in sorted(environ):
        if not name.startswith(_PREFIX):
            continue
        *sections, key = name[len(_PREFIX) :].lower().split("__")
        inner = values
        for section in sections:
            inner = inner.setdefault(section, {})
            if not isinstance(inner, dict):
                raise SettingsError(f"environment {name}: {section} is no section of settings")
        inner[key] = _value(name, environ[name])
        named[".".join([*sections, key])] = name
    return named


def _value(name: str, text: str) -> Any:
    if not text.startswith(("[", "{")):
        return text
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"environment {name}: not a TOML value: {error}") from None


def _describe(error: ValidationError, path: Path, named: Mapping[str, str]) -> str:
    lines = []
    for fault in error.errors():
        key = ".".join(str(part) for part in fault["loc"])
        reason = "unknown setting" if fault["type"] == "extra_forbidden" else fault["msg"]
        lines.append(f"{_where(key, path, named)}: {reason.removeprefix('Value error, ')}")
    return "\n".join(lines)


def _where(key: str, path: Path, named: Mapping[str, str]) -> str:
    """Return what set a key: the variable of it, of a part of it, or of what it is part of."""
    for set_key, variable in named.items():
        if f"{set_key}.".startswith(f"{key}.") and key:
            return f"environment {variable}"
        if key.startswith(f"{set_key}."):
            return f"environment {variable}: {key}"
    return f"{path}: {key}".rstrip(": ")


def _refuse_other_server(index: int, shard: Shard, settings: Settings) -> None:
    """Admission reserves and publishes in one script, which spans databases but not servers."""
    ours = settings.redis_url.get_secret_value() if settings.redis_url else None
    if shard.redis_url is not None and shard.redis_url != ours:
        raise SettingsError(
            f"shards.{index}.redis_url: expected the accounts' server (redis_url) or none,"
            " received another: shards on servers of their own are not supported yet"
        )
