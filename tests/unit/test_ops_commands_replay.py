"""Databases that are named on a command line."""

from __future__ import annotations

import pytest

from ops.commands_replay import database_url
from ops.errors import CommandFailed

LIVE = "postgresql://shardex:s%2Fcret@127.0.0.1:5433/shardex?sslmode=disable"


def test_the_venues_own_database_and_others_on_its_server_have_names() -> None:
    assert database_url("live", LIVE) == LIVE
    expected = LIVE.replace("/shardex?", "/re%20built?")
    assert database_url("live/re built", LIVE) == expected


def test_a_url_stays_as_it_is() -> None:
    for url in ("postgresql://me@host:1/name", "postgres:///name?host=/run", "postgresql:///name"):
        assert database_url(url, "") == url


@pytest.mark.parametrize(
    "url", ["postgresql://me:secret@host/name", "postgresql:///name?user=me&password=secret"]
)
def test_a_password_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(CommandFailed, match="set PGPASSWORD or PGPASSFILE") as caught:
        database_url(url, "")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "rebuilt", "http://host/name", "lively/name"])
def test_anything_else_is_no_database(text: str) -> None:
    with pytest.raises(CommandFailed, match="expected live, live/NAME or postgresql://"):
        database_url(text, "")
