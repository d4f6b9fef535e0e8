"""The role of the writer in PostgreSQL: it fills tables, and can neither make nor change one.

Whoever owns the database makes the tables (`prepare_database`); the writer, which reads what comes
from outside all day, logs on as this role. It may make temporary tables, which are its own and go
with its connection.
"""

from __future__ import annotations

import psycopg
from psycopg import AsyncConnection, sql

from persistence.errors import PostgresUnavailable
from persistence.schema import apply_schema

WRITER_ROLE = "shardex_writer"


def writer_grants(database: str) -> list[sql.Composed]:
    """Return the statements that let the role work in a database, to be run by the tables' owner.

    Args:
        database: the name.
    """
    names = {"role": sql.Identifier(WRITER_ROLE), "database": sql.Identifier(database)}
    return [
        sql.SQL(text).format(**names)
        for text in (
            "REVOKE CREATE ON SCHEMA public FROM PUBLIC",
            "GRANT CONNECT, TEMPORARY ON DATABASE {database} TO {role}",
            "GRANT USAGE ON SCHEMA public TO {role}",
            "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role}",
        )
    ]


async def prepare_database(url: str, *, password: str, connect_timeout_s: int) -> None:
    """Make tables and role, or check the tables and give the role this password.

    Args:
        url: of the database, as its owner.
        password: of the role.

    Raises:
        SchemaMismatch: see ``apply_schema``.
        PostgresUnavailable: it cannot be reached.
    """
    try:
        async with await AsyncConnection.connect(
            url, autocommit=True, connect_timeout=connect_timeout_s
        ) as connection:
            await apply_schema(connection)
            async with connection.transaction():
                await _ensure_role(connection, password)
                for statement in writer_grants(connection.info.dbname):
                    await connection.execute(statement)
    except psycopg.OperationalError as e:
        raise PostgresUnavailable(str(e).strip()) from e


async def _ensure_role(connection: AsyncConnection, password: str) -> None:
    # Made a digest here: the server logs statements that fail, with all that stands in them.
    digest = connection.pgconn.encrypt_password(
        password.encode(), WRITER_ROLE.encode(), b"scram-sha-256"
    )
    query = "SELECT 1 FROM pg_roles WHERE rolname = %s"
    found = await (await connection.execute(query, [WRITER_ROLE])).fetchone()
    verb = sql.SQL("CREATE" if found is None else "ALTER")
    await connection.execute(
        sql.SQL(
            "{} ROLE {} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION PASSWORD {}"
        ).format(verb, sql.Identifier(WRITER_ROLE), sql.Literal(digest.decode()))
    )
