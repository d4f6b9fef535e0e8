"""Journals to rows: the rebuilt database equals what the writer wrote, and diff sees any change."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from engine.events import Output
from engine.journal_keys import LEDGER
from engine.ledger_entries import LedgerEntry, PasswordChanged, UserChanged, UserDisabled
from ops.database_diff import compare_databases, diff_databases
from ops.embedded_postgres import EmbeddedPostgres
from ops.errors import CommandFailed
from ops.journal_replay_into import replay_into
from ops.settings import Settings, load_settings
from persistence.errors import SchemaMismatch
from tests.helpers import DEADLINE_S
from tests.persistence_events import SYMBOL, random_history
from tests.persistence_servers import (
    ALL_SCALES,
    SECOND,
    publish,
    query,
    running,
    service,
    until_written,
)
from tests.persistence_servers import (
    LEDGER as ENTRIES,
)
from tests.replay_journals import History, write_journal

COUNT = 400
LEDGER_ENTRIES: list[LedgerEntry] = [
    *ENTRIES,
    UserChanged(1, "addresses", "192.0.2.0/24"),
    UserChanged(4, "drop_copy", "1 2"),
    PasswordChanged(2, "other"),
    UserDisabled(4),
]


@pytest.fixture(scope="module")
def histories() -> dict[str, History]:
    return {
        SYMBOL: random_history(1, COUNT),
        SECOND: random_history(2, COUNT // 2, symbol=SECOND),
    }


@pytest.fixture
def rebuilt_url(embedded_postgres: EmbeddedPostgres, postgres_url: str) -> Iterator[str]:
    """Another empty database."""
    name = postgres_url.rpartition("/")[2] + "_rebuilt"
    with psycopg.connect(embedded_postgres.url, autocommit=True) as db:
        db.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    yield postgres_url + "_rebuilt"
    with psycopg.connect(embedded_postgres.url, autocommit=True) as db:
        db.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Of a venue that has the writer's assets, with small batches."""
    config = tmp_path / "exchange.toml"
    assets = "".join(
        f'[[assets]]\nname = "{name}"\nscale = {n}\n' for name, n in ALL_SCALES.items()
    )
    config.write_text(
        f"symbols = []\nshards = []\n{assets}[writer]\nbatch_rows_max = 100\n"
        f"[postgres]\nconnect_timeout_s = {DEADLINE_S:.0f}\n"
    )
    return load_settings(config, {})


async def write_live(redis_url: str, postgres_url: str, histories: dict[str, History]) -> None:
    """Have a writer write the histories, as it does in a venue."""
    outputs: list[Output] = [output for history in histories.values() for _, output in history]
    await publish(redis_url, outputs, ledger=LEDGER_ENTRIES)
    async with running(service(redis_url, postgres_url, symbols=tuple(histories))) as writer:
        await until_written(writer, ALFA=COUNT, BETA=COUNT // 2, ledger=len(LEDGER_ENTRIES))


async def test_the_rebuilt_database_equals_the_live_one_and_a_change_is_found(
    redis_url: str,
    postgres_url: str,
    rebuilt_url: str,
    settings: Settings,
    histories: dict[str, History],
    tmp_path: Path,
) -> None:
    await write_live(redis_url, postgres_url, histories)
    root = tmp_path / "journals"
    # Each of the two journals has more of something: the ledger, or the commands.
    write_journal(root / "engine-1", histories, ledger=LEDGER_ENTRIES[:2], lag=2)
    shorter = {SYMBOL: histories[SYMBOL][:100]}
    write_journal(root / "engine-1-standby", shorter, ledger=LEDGER_ENTRIES)

    rebuilt = await replay_into([root], rebuilt_url, settings)

    assert rebuilt.differences == []
    assert rebuilt.positions == {
        SYMBOL: COUNT, SECOND: COUNT // 2, LEDGER: len(LEDGER_ENTRIES),
    }  # fmt: skip
    assert rebuilt.sources[LEDGER] == "engine-1-standby"
    assert rebuilt.sources[SYMBOL] == "engine-1"
    assert diff_databases(postgres_url, rebuilt_url) == []
    tables = {one.table: one.rows_a for one in compare_databases(postgres_url, rebuilt_url)}
    assert tables["orders"] > 100
    assert tables["executions"] > 100
    assert tables["stream_positions"] == 3
    assert tables["user_settings"] == 2

    with psycopg.connect(rebuilt_url) as db:
        db.execute("UPDATE orders SET price = price + 1 WHERE seq = 2")
        db.execute(
            "DELETE FROM trades WHERE (symbol, seq, index) = (SELECT min(symbol), min(seq),"
            " 0 FROM trades WHERE symbol = 'ALFA-USD')"
        )
        db.execute("INSERT INTO assets VALUES ('A\\B', 1)")
    found = {one.table: one for one in diff_databases(postgres_url, rebuilt_url)}
    assert {table: (one.only_a, one.only_b, one.changed) for table, one in found.items()} == {
        "assets": (0, 1, 0), "orders": (0, 0, 1), "trades": (1, 0, 0),
    }  # fmt: skip
    assert found["orders"].first[0].startswith(f"id {SYMBOL}-2: price: A ")
    assert found["assets"].first == ["asset A\\B: only in B (scale 1)"]
    [trade] = query(postgres_url, "SELECT min(seq) FROM trades WHERE symbol = 'ALFA-USD'")
    assert (
        found["trades"].first[0].startswith(f"symbol {SYMBOL}, seq {trade[0]}, index 0: only in A")
    )


async def test_a_database_that_is_not_empty_is_refused_by_name(
    postgres_url: str, settings: Settings, histories: dict[str, History], tmp_path: Path
) -> None:
    journal = write_journal(tmp_path / "engine-1", histories, ledger=LEDGER_ENTRIES)
    with psycopg.connect(postgres_url) as db:
        db.execute("CREATE TABLE theirs (id int)")
    name = postgres_url.rpartition("/")[2]
    with pytest.raises(SchemaMismatch, match=f"database {name} is not empty, .* theirs"):
        await replay_into([journal], postgres_url, settings)


async def test_journals_without_the_ledger_are_refused(
    postgres_url: str, settings: Settings, histories: dict[str, History], tmp_path: Path
) -> None:
    journal = write_journal(tmp_path / "engine-2", histories)
    with pytest.raises(CommandFailed, match="none of the journals has the ledger"):
        await replay_into([journal], postgres_url, settings)


async def test_tables_of_different_shape_are_a_difference(
    postgres_url: str, rebuilt_url: str
) -> None:
    for url, columns in (
        (postgres_url, "id int PRIMARY KEY"),
        (rebuilt_url, "id text PRIMARY KEY"),
    ):
        with psycopg.connect(url) as db:
            db.execute(f"CREATE TABLE in_both ({columns})".encode())
    with psycopg.connect(postgres_url) as db:
        db.execute("CREATE TABLE one (id int PRIMARY KEY)")
    found = {one.table: one.shape for one in diff_databases(postgres_url, rebuilt_url)}
    assert found == {"in_both": "has other columns", "one": "only A has it"}
