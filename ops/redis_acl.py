"""Redis users, one for each kind of process: what each may do, and their passwords.

A user has the commands that its scripts and its own code send, and the keys and channels that these
touch. Commands of scripts are read off the scripts: a script runs with its caller's rights, so a
user that may run `settle` may as well send its HINCRBY by hand. What this protects against is
therefore a process that is taken over and does what its kind never does: a gateway that reads the
ledger, writes the totals, or leads a shard; market data that touches balances.

Redis 6.2 knows neither rules per database nor keys that may be read and not written. So a user's
keys are those of all databases, and for reading and writing alike.

The passwords stand in `redis-passwords.json` (mode 0600) of the data directory, what Redis is given
are their SHA-256 digests. They are made once, and stay: processes of another machine may know them.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from ops.errors import CommandFailed
from ops.private_file import write_private_file
from router.scripts import script_text

OPERATOR = "operator"
SUBSCRIBER = "subscriber"

_PASSWORD_BYTES = 32
_COMMAND_OF_SCRIPT = re.compile(rb"\bcall\('([A-Z]+)'")

_CONNECTING = ("select", "ping", "client|setname")
_READING = (
    *("get", "mget", "exists", "scan", "hget", "hmget", "hgetall", "hkeys", "hlen", "hexists"),
    *("xread", "xrange", "xrevrange", "xlen", "zrange", "zscore", "time", "info"),
)
_RUNNING = ("evalsha", "script|load")
_REPORTING = ("set", "del", "expire")
"""For `process:{name}`."""


class RedisUser(msgspec.Struct, frozen=True):
    """What one kind of process may do.

    Args:
        name: of the user, and of the kind of process.
        commands: that its own code sends; rules of ACL SETUSER without the plus.
        scripts: in `router/scripts/`, without `.lua`, whose commands it may send too.
        keys, channels: glob patterns.
    """

    name: str
    commands: tuple[str, ...]
    scripts: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()

    def rules(self) -> list[str]:
        """Return the rules of ACL SETUSER, but for the password."""
        used = {name.lower() for script in self.scripts for name in commands_of(script)}
        commands = sorted(used | set(self.commands))
        return [
            "on",
            *("resetkeys", *(f"~{key}" for key in self.keys)),
            *("resetchannels", *(f"&{channel}" for channel in self.channels)),
            *("-@all", *(f"+{command}" for command in commands)),
        ]


_PROCESS = (*_CONNECTING, *_READING, *_RUNNING, *_REPORTING)
_SHARED_KEYS = ("home:*", "settled", "position:*", "process:*", "orders:*", "events:*")

_GATEWAY = RedisUser(
    "gateway",
    commands=(*_PROCESS, "publish", "subscribe"),
    scripts=(
        *("admit", "cleared", "streams", "copies", "session_logon", "session_renew"),
        *("session_limit", "session_store", "session_release", "session_signed"),
        *("session_overdue", "session_disconnect"),
    ),
    keys=(
        *(
            "home:*",
            "settled",
            "bbo",
            "cleared",
            "process:*",
            "user:*",
            "copies",
            "lost",
            "restored",
            "disconnects",
        ),
        *("bal:*", "open:*", "outbox:*", "session:*", "sent:*", "orders:*", "events:*", "md:*"),
    ),
    channels=("wake", "control", "md:*"),
)
_ENGINE = RedisUser(
    "engine",
    commands=(*_PROCESS, "hset", "xtrim", "publish"),
    scripts=(
        *("settle", "publish", "cleared", "copies", "clear", "lease", "tick"),
        *("set_phase", "define_symbol"),
    ),
    keys=(
        *_SHARED_KEYS,
        *("bal:*", "open:*", "outbox:*", "bbo", "copies", "lost", "cleared", "ledger"),
        *("skips:*", "phase:*", "lease", "totals"),
    ),
    channels=("wake",),
)
_MARKETDATA = RedisUser(
    "marketdata",
    commands=(
        *(*_PROCESS, "hset", "zadd", "zremrangebyscore", "zremrangebyrank", "multi", "exec"),
        *("publish", "subscribe"),
    ),
    scripts=("save_market_data",),
    keys=(*_SHARED_KEYS, "md:*"),
    channels=("md:*",),
)
_WRITER = RedisUser(
    "writer",
    commands=(*_PROCESS, "hset", "xtrim"),
    keys=(*_SHARED_KEYS, "ledger"),
)
_SUBSCRIBER = RedisUser(
    SUBSCRIBER,
    commands=(
        *_CONNECTING,
        *("get", "mget", "exists", "ttl", "type", "zrange", "zrangebyscore", "zcard", "info"),
        *("subscribe", "psubscribe", "unsubscribe", "punsubscribe"),
    ),
    keys=("md:*",),
    channels=("md:*",),
)
_OPERATOR = RedisUser(
    OPERATOR,
    commands=(
        *("@all", "-@dangerous", "-@admin"),
        *("info", "client", "bgsave", "lastsave", "config|get", "slowlog", "latency", "acl|whoami"),
    ),
    keys=("*",),
    channels=("*",),
)
USERS = (_GATEWAY, _ENGINE, _MARKETDATA, _WRITER, _OPERATOR, _SUBSCRIBER)


def commands_of(script: str) -> set[str]:
    """Return the names of the commands that a script calls."""
    return {name.decode() for name in _COMMAND_OF_SCRIPT.findall(script_text(script))}


def acl_lines(passwords: Mapping[str, str]) -> list[str]:
    """Return the lines of an ACL file: our users, and nobody else.

    Args:
        passwords: by name of the user.
    """
    lines = ["user default off"]
    for user in USERS:
        digest = hashlib.sha256(passwords[user.name].encode()).hexdigest()
        lines.append(f"user {user.name} #{digest} {' '.join(_ordered(user))}")
    return lines


def _ordered(user: RedisUser) -> list[str]:
    """Return the rules of a user; what takes away stands behind what gives it, as it must."""
    if user.name != OPERATOR:
        return user.rules()
    signed = [name if name.startswith("-") else f"+{name}" for name in user.commands]
    return ["on", "~*", "&*", *signed]


def passwords_path(var_dir: Path) -> Path:
    """Return where the passwords of a data directory stand."""
    return var_dir / "redis-passwords.json"


def read_passwords(var_dir: Path) -> dict[str, str]:
    """Return the passwords by user; none where none were made.

    Raises:
        CommandFailed: the file is not ours, or may not be read by this account.
    """
    path = passwords_path(var_dir)
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, str])
    except FileNotFoundError:
        return {}
    except (OSError, msgspec.DecodeError) as error:
        raise CommandFailed(f"{path} cannot be read: {error}") from error


def ensure_passwords(var_dir: Path) -> dict[str, str]:
    """Return the passwords by user; make those that are missing.

    Raises:
        CommandFailed: see ``read_passwords``.
    """
    known = read_passwords(var_dir)
    every = {user.name: known.get(user.name) or _new_password() for user in USERS}
    if every != known:
        var_dir.mkdir(parents=True, exist_ok=True)
        write_private_file(passwords_path(var_dir), msgspec.json.encode(every) + b"\n")
    return every


def url_of(url: str, user: str, passwords: Mapping[str, str]) -> str:
    """Return the URL of a server with which a user of ours logs on.

    Raises:
        CommandFailed: the user's password is not known.
    """
    if user not in passwords:
        raise CommandFailed(f"the password of Redis user {user} is missing: shardex acl makes it")
    parts = urlsplit(url)
    place = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=f"{user}:{passwords[user]}@{place}").geturl()


def _new_password() -> str:
    return secrets.token_hex(_PASSWORD_BYTES)
