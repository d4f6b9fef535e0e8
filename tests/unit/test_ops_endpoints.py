"""endpoints.json, and how commands find the exchange."""

from __future__ import annotations

import stat
from pathlib import Path

import msgspec
import pytest
from pydantic import SecretStr

from ops.endpoints import (
    Credentials,
    Endpoints,
    FixEndpoint,
    endpoints_path,
    find_postgres,
    find_redis,
    read_endpoints,
    write_endpoints,
)
from ops.errors import CommandFailed
from ops.redis_acl import OPERATOR, ensure_passwords, url_of
from ops.settings import Settings, load_settings
from router.settings import RedisSettings

ENDPOINTS = Endpoints(
    fix=[FixEndpoint("127.0.0.1", 9878)],
    target_comp_id="SHARDEX",
    users=[Credentials("9", "9", "secret")],
    symbols=["ALFA-USD"],
    redis_url="redis://127.0.0.1:6390",
    postgres_url="postgresql://x:y@127.0.0.1:5440/shardex",
)
CONFIG = Path(__file__).resolve().parents[2] / "exchange.toml"


def settings(var_dir: Path, **more: str) -> Settings:
    return load_settings(CONFIG, {"SHARDEX_VAR_DIR": str(var_dir), **more})


def test_what_is_written_is_read_and_nobody_else_may(tmp_path: Path) -> None:
    path = endpoints_path(tmp_path)
    assert read_endpoints(path) is None
    path.write_text("left behind, readable by all")
    write_endpoints(path, ENDPOINTS)
    assert read_endpoints(path) == ENDPOINTS
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    path = endpoints_path(tmp_path)
    path.write_text('{"fix": 3}')
    with pytest.raises(CommandFailed, match=r"endpoints\.json cannot be read"):
        read_endpoints(path)


def test_servers_are_those_of_the_running_exchange(tmp_path: Path) -> None:
    write_endpoints(endpoints_path(tmp_path), ENDPOINTS)
    assert find_redis(settings(tmp_path)) == ENDPOINTS.redis_url
    assert find_postgres(settings(tmp_path)) == ENDPOINTS.postgres_url


def test_configured_servers_go_first(tmp_path: Path) -> None:
    write_endpoints(endpoints_path(tmp_path), ENDPOINTS)
    configured = settings(tmp_path, SHARDEX_REDIS_URL="redis://10.0.0.1:6379")
    assert find_redis(configured) == "redis://10.0.0.1:6379"
    assert find_postgres(configured) == ENDPOINTS.postgres_url


def test_without_either_the_command_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(CommandFailed, match="start one"):
        find_redis(settings(tmp_path))
    with pytest.raises(CommandFailed, match="postgres_url is not set"):
        find_postgres(settings(tmp_path))


def test_processes_alone_log_on_as_the_users_of_their_kind(tmp_path: Path) -> None:
    passwords = ensure_passwords(tmp_path)
    running = msgspec.structs.replace(
        ENDPOINTS, redis_url=url_of("redis://127.0.0.1:6390", OPERATOR, passwords)
    )
    write_endpoints(endpoints_path(tmp_path), running)
    assert find_redis(settings(tmp_path)) == running.redis_url
    expected = f"redis://gateway:{passwords['gateway']}@127.0.0.1:6390"
    assert find_redis(settings(tmp_path), "gateway") == expected
    write_endpoints(endpoints_path(tmp_path), ENDPOINTS)
    assert find_redis(settings(tmp_path), "gateway") == ENDPOINTS.redis_url, "it has no users"


@pytest.mark.parametrize(
    ("url", "found"),
    [("redis://h:1", "redis://gateway:{}@h:1"), ("redis://me:pw@h:1", "redis://me:pw@h:1")],
)
def test_server_of_ones_own_has_users_where_it_is_set(tmp_path: Path, url: str, found: str) -> None:
    own = settings(tmp_path).model_copy(
        update={"redis_url": SecretStr(url), "redis": RedisSettings(acl_users=True)}
    )
    if "{}" in found:
        with pytest.raises(CommandFailed, match="shardex acl makes it"):
            find_redis(own, "gateway")
    password = ensure_passwords(tmp_path)["gateway"]
    assert find_redis(own, "gateway") == found.format(password)
