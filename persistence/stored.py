"""What PostgreSQL says that accounts own and have open, at one moment and with its positions.

In the units of the streams, so that it can be compared with them; an amount that is no whole number
of those keeps its fraction and equals none.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from decimal import Decimal
from typing import Any

import msgspec
import psycopg
from psycopg import AsyncConnection

from persistence.errors import PostgresUnavailable, SchemaMismatch
from router import keys

READ_TIMEOUT_S = 120
"""Longest wait for everything; open orders are looked for in the whole table of orders."""

_OPEN_ORDERS = """
SELECT o.user_id, o.symbol, o.cl_ord_id, o.seq, CASE o.side WHEN 'buy' THEN 1 ELSE 2 END,
       o.price / s.tick_size, o.remaining_quantity / s.lot_size, o.filled_quantity / s.lot_size
FROM orders o JOIN symbols s USING (symbol) WHERE o.status IN ('new', 'partially_filled')
"""
_BALANCES = (
    "SELECT user_id, asset, available, held, scale FROM balances LEFT JOIN assets USING (asset)"
)


class StoredState(msgspec.Struct, frozen=True):
    """One snapshot of the tables.

    Attributes:
        positions: stream → its last entry that the tables contain.
        balances: (account, asset) → available and held, in the asset's smallest unit.
        opens: account → field of ``open:{account}`` → its text without the hold.
    """

    positions: dict[str, int]
    balances: dict[tuple[int, str], tuple[Decimal, Decimal]]
    opens: dict[int, dict[str, str]]


class StoredTables:
    """The tables at one moment, in a transaction that has begun.

    Attributes:
        positions: stream → its last entry that the tables contain.
    """

    def __init__(self, connection: AsyncConnection, positions: dict[str, int]) -> None:
        self._connection = connection
        self.positions = positions

    async def read(self) -> StoredState:
        """Return what they say.

        Raises:
            PostgresUnavailable: it does not answer in time.
        """
        with _translated():
            async with asyncio.timeout(READ_TIMEOUT_S):
                return await _read(self._connection, self.positions)


@asynccontextmanager
async def stored_tables(url: str, *, connect_timeout_s: int) -> AsyncIterator[StoredTables]:
    """Begin a transaction and give the tables as they are now, for as long as it takes.

    Whoever compares them with streams reads what follows the positions while it has them: nothing
    keeps that in Redis once the writer has it.

    Raises:
        PostgresUnavailable: it cannot be reached, or does not answer in time.
        SchemaMismatch: no writer has made the tables yet.
    """
    with _translated():
        connection = await AsyncConnection.connect(url, connect_timeout=connect_timeout_s)
    try:
        with _translated():
            async with asyncio.timeout(READ_TIMEOUT_S):
                await connection.execute(
                    "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"
                )
                found = await connection.execute("SELECT stream, position FROM stream_positions")
                positions = {stream: position async for stream, position in found}
        yield StoredTables(connection, positions)
    finally:
        await connection.close()


async def read_stored_state(url: str, *, connect_timeout_s: int) -> StoredState:
    """Read balances, open orders and positions in one transaction.

    Raises:
        PostgresUnavailable: it cannot be reached, or does not answer in time.
        SchemaMismatch: no writer has made the tables yet.
    """
    async with stored_tables(url, connect_timeout_s=connect_timeout_s) as tables:
        return await tables.read()


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except psycopg.errors.UndefinedTable as error:
        raise SchemaMismatch(f"the tables are not there: {error.diag.message_primary}") from error
    except (psycopg.OperationalError, TimeoutError) as error:
        raise PostgresUnavailable(str(error).strip() or "no answer in time") from error


async def _read(connection: AsyncConnection, positions: dict[str, int]) -> StoredState:
    balances = {}
    async for user, asset, available, held, scale in await connection.execute(_BALANCES):
        balances[user, asset] = available.scaleb(scale or 0), held.scaleb(scale or 0)
    opens: dict[int, dict[str, str]] = {}
    async for user, symbol, cl_ord_id, seq, side, *numbers in await connection.execute(
        _OPEN_ORDERS
    ):
        text = " ".join([str(seq), str(side), *map(_plain, numbers)])
        opens.setdefault(user, {})[keys.open_field(symbol, cl_ord_id)] = text
    return StoredState(positions, balances, opens)


def _plain(number: Any) -> str:
    return format(number.normalize(), "f")
