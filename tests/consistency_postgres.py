"""What PostgreSQL must have when an exchange is at rest, row for row (see consistency.py)."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import psycopg

from ops import reconcile
from router import keys
from tests.consistency import Entries, Replay, assert_none, transfers


@dataclass
class PostgresState:
    """The tables, as they are."""

    positions: dict[str, int]
    balances: dict[tuple[int, str], tuple[Decimal, Decimal]]
    trades: dict[tuple[str, int, int], tuple[Any, ...]]
    executions: dict[tuple[int, str, int, int], bytes]
    ledger_fees: dict[str, Decimal]
    scales: dict[str, int]
    rules: dict[str, tuple[Decimal, Decimal, str]]


def read_positions(url: str) -> dict[str, int]:
    """Return where each stream stands in PostgreSQL."""
    with psycopg.connect(url) as db:
        return dict(db.execute("SELECT stream, position FROM stream_positions").fetchall())


def read_postgres(url: str) -> PostgresState:
    """Read everything but orders, which persistence.told reads by user."""
    with psycopg.connect(url) as db:

        def rows(sql: str) -> list[tuple[Any, ...]]:
            return db.execute(sql.encode()).fetchall()

        db.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        trade = "maker_user_id, taker_user_id, price, quantity, maker_fee, taker_fee"
        fees = "SELECT asset, sum(amount) FROM ledger WHERE kind LIKE '%_fee' GROUP BY asset"
        return PostgresState(
            positions=dict(rows("SELECT stream, position FROM stream_positions")),
            balances={
                (user, asset): (available, held)
                for user, asset, available, held in rows(
                    "SELECT user_id, asset, available, held FROM balances"
                )
            },
            trades={
                row[:3]: row[3:] for row in rows(f"SELECT symbol, seq, index, {trade} FROM trades")
            },
            executions={
                row[:4]: bytes(row[4])
                for row in rows("SELECT user_id, symbol, seq, index, event FROM executions")
            },
            ledger_fees=dict(rows(fees)),
            scales=dict(rows("SELECT asset, scale FROM assets")),
            rules={
                row[0]: row[1:]
                for row in rows("SELECT symbol, tick_size, lot_size, quote FROM symbols")
            },
        )


def check_postgres(state: PostgresState, ledger: Entries, replay: Replay) -> None:
    """PostgreSQL has what the streams say, row for row, and balances that follow from them."""
    expected_positions = {**replay.position(), keys.LEDGER: ledger[-1][0]}
    for stream, position in expected_positions.items():
        assert state.positions[stream] == position, stream
    assert state.executions == replay.executions, "each report is a row, once"
    found = reconcile.Differences()
    stored = {
        (user, asset): (available.scaleb(state.scales[asset]), held.scaleb(state.scales[asset]))
        for (user, asset), (available, held) in state.balances.items()
    }
    expected = reconcile.expected_balances(replay.owned, transfers(ledger))
    reconcile.check_stored_balances(found, stored, expected)
    assert_none(found)
    check_trades(state, replay)


def check_trades(state: PostgresState, replay: Replay) -> None:
    """Each trade is a row, once; the ledger's fees are theirs."""
    assert state.trades.keys() == replay.trades.keys(), "each trade is a row, once"
    fees: dict[str, Decimal] = defaultdict(Decimal)
    for name, (maker, taker, price, lots, *paid) in replay.trades.items():
        tick, lot, quote = state.rules[name[0]]
        unit = Decimal(10) ** -state.scales[quote]
        charged = [fee * unit for fee in paid]
        assert state.trades[name] == (maker, taker, price * tick, lots * lot, *charged), name
        fees[quote] -= sum(charged)
    assert state.ledger_fees == {asset: amount for asset, amount in fees.items() if amount}
