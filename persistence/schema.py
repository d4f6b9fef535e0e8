"""Applies schema.sql to an empty database, and refuses one that another version made.

Nobody runs an older one, so there are no statements that lead from one to the next.
"""

from __future__ import annotations

from importlib.resources import files
from urllib.parse import quote, urlsplit

import msgspec
import psycopg
from psycopg import AsyncConnection, errors, sql

from persistence.errors import PostgresUnavailable, SchemaMismatch

SCHEMA_VERSION = 3

# Held for the transaction that applies the schema, so that of two writers that start at once one
# waits. Any number that others of the same database do not use: the bytes of "shardex".
_ADVISORY_LOCK = int.from_bytes(b"shardex", "big")


async def apply_schema(connection: AsyncConnection) -> None:
    """Create the tables where there are none, or check that they are of this version.

    Args:
        connection: in autocommit mode; its search path says where the tables stand.

    Raises:
        SchemaMismatch: the tables are of another version, tables of somebody else have their
        names, or the
            database's encoding cannot hold every ClOrdID.
    """
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock(%s)", [_ADVISORY_LOCK])
        version = await _read_version(connection)
        if version is None:
            await _create_tables(connection)
        elif version != SCHEMA_VERSION:
            raise SchemaMismatch(
                f"the tables of database {connection.info.dbname} are of version {version}, "
                f"expected {SCHEMA_VERSION}"
            )


class Versions(msgspec.Struct, frozen=True):
    """What a database says of itself. ``schema`` is None where no writer has been yet."""

    server: str
    schema: int | None


async def read_versions(url: str, *, connect_timeout_s: int) -> Versions:
    """Return the versions of a server and of its tables, for operators.

    Raises:
        PostgresUnavailable: it cannot be reached.
    """
    try:
        async with await AsyncConnection.connect(
            url, autocommit=True, connect_timeout=connect_timeout_s
        ) as connection:
            server = connection.info.parameter_status("server_version") or ""
            return Versions(server, await _read_version(connection))
    except psycopg.OperationalError as e:
        raise PostgresUnavailable(str(e).strip()) from e


async def create_database(url: str, name: str, *, connect_timeout_s: int) -> str:
    """Make an empty database on a server, unless it has one of this name, and return its URL.

    Args:
        url: of a database of the same server, whose user may do that.
        name: of the new one.

    Raises:
        SchemaMismatch: it is not there, and this user may not make it.
        PostgresUnavailable: it cannot be reached.
    """
    try:
        async with await AsyncConnection.connect(
            url, autocommit=True, connect_timeout=connect_timeout_s
        ) as connection:
            query = "SELECT 1 FROM pg_database WHERE datname = %s"
            if await (await connection.execute(query, [name])).fetchone() is None:
                await connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    except errors.InsufficientPrivilege as e:
        raise SchemaMismatch(f"there is no database {name}, and {e}".strip()) from e
    except psycopg.OperationalError as e:
        raise PostgresUnavailable(str(e).strip()) from e
    return urlsplit(url)._replace(path=f"/{quote(name)}").geturl()


async def refuse_tables(url: str, *, connect_timeout_s: int) -> None:
    """Check that a database is empty, because it is to be filled from nothing.

    Raises:
        SchemaMismatch: it has tables; names them.
        PostgresUnavailable: it cannot be reached.
    """
    try:
        async with await AsyncConnection.connect(
            url, autocommit=True, connect_timeout=connect_timeout_s
        ) as connection:
            cursor = await connection.execute(
                "SELECT tablename FROM pg_tables WHERE schemaname = ANY (current_schemas(false))"
                " ORDER BY tablename"
            )
            tables = [name for (name,) in await cursor.fetchall()]
            database = connection.info.dbname
    except psycopg.OperationalError as e:
        raise PostgresUnavailable(str(e).strip()) from e
    if tables:
        raise SchemaMismatch(
            f"database {database} is not empty, it has the tables {', '.join(tables)}:"
            " expected one without tables"
        )


async def _read_version(connection: AsyncConnection) -> int | None:
    row = await (await connection.execute("SELECT to_regclass('schema_version')")).fetchone()
    if row is None or row[0] is None:
        return None
    row = await (await connection.execute("SELECT max(version) FROM schema_version")).fetchone()
    return row[0] if row is not None else None


async def _create_tables(connection: AsyncConnection) -> None:
    encoding = connection.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        raise SchemaMismatch(
            f"the encoding of database {connection.info.dbname} is {encoding}, expected UTF8"
        )
    try:
        await connection.execute(files("persistence").joinpath("schema.sql").read_bytes())
    except (errors.DuplicateTable, errors.DuplicateObject) as e:
        raise SchemaMismatch(
            f"database {connection.info.dbname} holds tables of somebody else: {e}"
        ) from e
    await connection.execute("INSERT INTO schema_version VALUES (%s)", [SCHEMA_VERSION])
