"""What PostgreSQL says that accounts own and have open, at one moment and with its positions.

In the units of the streams, so that it can be compared with them; an amount that is no whole number
of those keeps its fraction and equals none.
"""

from __future__ import annotations

import asyncio
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


async def read_stored_state(url: str, *, connect_timeout_s: int) -> StoredState:
    """Read balances, open orders and positions in one transaction.

    Raises:
        PostgresUnavailable: it cannot be reached, or does not answer in time.
        SchemaMismatch: no writer has made the tables yet.
    """
    try:
        async with (
            asyncio.timeout(READ_TIMEOUT_S),
            await AsyncConnection.connect(url, connect_timeout=connect_timeout_s) as connection,
        ):
            await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            return await _read(connection)
    except psycopg.errors.UndefinedTable as error:
        raise SchemaMismatch(f"the tables are not there: {error.diag.message_primary}") from error
    except (psycopg.OperationalError, TimeoutError) as error:
        raise PostgresUnavailable(str(error).strip() or "no answer in time") from error


async def _read(connection: AsyncConnection) -> StoredState:
    query = "SELECT stream, position FROM stream_positions"
    positions = {stream: position async for stream, position in await connection.execute(query)}
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
