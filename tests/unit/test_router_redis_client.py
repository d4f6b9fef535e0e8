"""What a connection says first, and what error replies stand for."""

from __future__ import annotations

import hiredis
import pytest

from router.errors import OutOfMemory, RedisUnavailable
from router.redis_client import greeting, pack_commands, translate


def test_greeting_selects_the_database_and_says_a_name() -> None:
    assert greeting("redis://127.0.0.1:1", db=3, name="x") == [
        ("SELECT", 3),
        ("CLIENT", "SETNAME", "x"),
    ]


@pytest.mark.parametrize(
    ("user", "expected"),
    [(":p%40ss", ("AUTH", "p@ss")), ("me:p%2Fw", ("AUTH", "me", "p/w"))],
)
def test_greeting_authenticates_first(user: str, expected: tuple[str, ...]) -> None:
    assert greeting(f"redis://{user}@127.0.0.1:1", db=0, name="x")[0] == expected


def test_commands_are_packed_one_after_the_other() -> None:
    assert pack_commands([("SET", b"\x00", 12), ("GET", "é")]) == (
        b"*3\r\n$3\r\nSET\r\n$1\r\n\x00\r\n$2\r\n12\r\n*2\r\n$3\r\nGET\r\n$2\r\n\xc3\xa9\r\n"
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("LOADING Redis is loading the dataset in memory", RedisUnavailable),
        ("BUSY Redis is busy running a script", RedisUnavailable),
        ("READONLY You can't write against a read only replica.", RedisUnavailable),
        (
            "ERR Error running script (call to f_1): @user_script:9: -MISCONF Redis",
            RedisUnavailable,
        ),
        ("OOM command not allowed when used memory > 'maxmemory'.", OutOfMemory),
        ("ERR Error running script (call to f_1): @user_script:9: -OOM command", OutOfMemory),
        ("WRONGTYPE Operation against a key", hiredis.ReplyError),
    ],
)
def test_error_replies_are_translated(text: str, expected: type[Exception]) -> None:
    assert type(translate(hiredis.ReplyError(text))) is expected
