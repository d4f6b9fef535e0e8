"""The writer's role on a real PostgreSQL: it fills tables, and can neither make nor drop one."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

import psycopg
import pytest
from psycopg import errors

from persistence.roles import WRITER_ROLE, prepare_database
from persistence.schema import read_versions
from tests.persistence_servers import CONNECT_TIMEOUT_S

PASSWORD = "it's a secret"


@pytest.fixture
async def writer_url(postgres_url: str) -> str:
    """A prepared database, as the role sees it."""
    for password in ("another", PASSWORD):
        await prepare_database(postgres_url, password=password, connect_timeout_s=CONNECT_TIMEOUT_S)
    parts = urlsplit(postgres_url)
    place = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=f"{WRITER_ROLE}:it%27s%20a%20secret@{place}").geturl()


@pytest.fixture
def writer(writer_url: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(writer_url, autocommit=True) as connection:
        yield connection


async def test_role_reads_the_version_that_the_owner_made(writer_url: str) -> None:
    assert (await read_versions(writer_url, connect_timeout_s=CONNECT_TIMEOUT_S)).schema is not None


def test_role_fills_tables_and_makes_temporary_ones(writer: psycopg.Connection) -> None:
    writer.execute("CREATE TEMP TABLE changes (LIKE stream_positions)")
    writer.execute("DELETE FROM stream_positions")
    assert writer.execute("SELECT count(*) FROM users").fetchone() == (1,)


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE mine (id int)",
        "DROP TABLE users",
        "ALTER TABLE users ADD COLUMN more int",
        "TRUNCATE users",
        "CREATE SCHEMA mine",
        "CREATE ROLE mine",
        "CREATE DATABASE mine",
        "ALTER ROLE shardex_writer SUPERUSER",
        "COPY users TO PROGRAM 'cat'",
        "SELECT * FROM pg_authid",
    ],
)
def test_role_is_refused_what_is_the_owners(writer: psycopg.Connection, statement: str) -> None:
    with pytest.raises(errors.InsufficientPrivilege):
        writer.execute(statement.encode())
