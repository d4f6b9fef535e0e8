"""What PostgreSQL says that one user has been told: orders, executions and fills.

For comparing with what the user's client has heard; in the terms of its reports.
"""

from __future__ import annotations

import asyncio
from decimal import Decimal

import msgspec
import psycopg
from psycopg import AsyncConnection

from engine.enums import Side
from persistence.errors import PostgresUnavailable

READ_TIMEOUT_S = 120
"""Longest wait for one user; orders and trades are looked for in the whole tables."""

_ORDERS = """
SELECT id, cl_ord_id, status, filled_quantity, remaining_quantity FROM orders WHERE user_id = %s
"""
_EXECUTIONS = """
SELECT symbol || '-' || seq || '-' || index, kind FROM executions WHERE user_id = %s
"""
_FILLS = """
SELECT symbol || '-' || seq || '-' || index, maker_user_id = %(user)s, taker_user_id = %(user)s,
       taker_side, price, quantity, maker_fee, taker_fee, auction
FROM trades WHERE maker_user_id = %(user)s OR taker_user_id = %(user)s
"""
_MAKER, _TAKER = "1", "2"
_CANCEL_REJECTED = "cancel_rejected"
_MASS_CANCEL = "mass_cancel"


class StoredFill(msgspec.Struct, frozen=True):
    """One side of a trade. ``liquidity`` (851): 1 maker, 2 taker; empty in an auction."""

    liquidity: str
    price: Decimal
    quantity: Decimal
    fee: Decimal


class StoredOrder(msgspec.Struct, frozen=True):
    """An order as it stands."""

    cl_ord_id: str
    status: str
    filled: Decimal
    remaining: Decimal


class StoredReports(msgspec.Struct, frozen=True):
    """One user's.

    Attributes:
        orders: OrderID (37) → the order.
        exec_ids: ExecID (17) of every report, but for refused cancels and replaces and for mass
            cancels, which have none.
        cancel_rejects: how many of those there are.
        fills: trade id (527) and side → the user's side of it. One trade may have it on both.
    """

    orders: dict[str, StoredOrder]
    exec_ids: set[str]
    cancel_rejects: int
    fills: dict[tuple[str, Side], StoredFill]


async def read_reports(url: str, user: int, *, connect_timeout_s: int) -> StoredReports:
    """Read all that a user has been told, in one transaction.

    Raises:
        PostgresUnavailable: it cannot be reached, or does not answer in time.
    """
    try:
        async with (
            asyncio.timeout(READ_TIMEOUT_S),
            await AsyncConnection.connect(url, connect_timeout=connect_timeout_s) as connection,
        ):
            await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            return await _read(connection, user)
    except (psycopg.OperationalError, TimeoutError) as error:
        raise PostgresUnavailable(str(error).strip() or "no answer in time") from error


async def _read(connection: AsyncConnection, user: int) -> StoredReports:
    orders = {
        row[0]: StoredOrder(*row[1:]) async for row in await connection.execute(_ORDERS, [user])
    }
    exec_ids, cancel_rejects = set(), 0
    async for exec_id, kind in await connection.execute(_EXECUTIONS, [user]):
        if kind == _CANCEL_REJECTED:
            cancel_rejects += 1
        elif kind != _MASS_CANCEL:
            exec_ids.add(exec_id)
    fills = {}
    async for row in await connection.execute(_FILLS, {"user": user}):
        trade, makes, takes, taker_side, price, quantity, maker_fee, taker_fee, auction = row
        taking = Side.BUY if taker_side == "buy" else Side.SELL
        if makes:
            making = Side.SELL if taking is Side.BUY else Side.BUY
            liquidity = "" if auction else _MAKER
            fills[trade, making] = StoredFill(liquidity, price, quantity, maker_fee)
        if takes:
            liquidity = "" if auction else _TAKER
            fills[trade, taking] = StoredFill(liquidity, price, quantity, taker_fee)
    return StoredReports(orders, exec_ids, cancel_rejects, fills)
