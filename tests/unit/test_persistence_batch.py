"""Batches: what they contain, when they are due, and that the cuts between them leave no trace."""

from __future__ import annotations

import itertools
from decimal import Decimal

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.commands import OrderConditions
from engine.enums import SelfTradePrevention
from engine.errors import SequenceGap
from engine.events import OrderReplaced, OrderTriggered, Output, SymbolDefined
from engine.ledger_entries import (
    Deposited,
    LedgerEntry,
    PasswordChanged,
    UserChanged,
    UserCreated,
    UserDisabled,
    Withdrawn,
)
from persistence.batch import Batch, BatchBuilder
from persistence.errors import VenueMismatch
from tests.persistence_events import (
    INCARNATION,
    SCALES,
    SYMBOL,
    TS_US,
    accepted,
    execution_row,
    order_fields,
    random_outputs,
    rules,
    scenario,
)

LEDGER: list[LedgerEntry] = [
    UserCreated(1, "ada", "hash-1"),
    UserCreated(2, "bob", "hash-2"),
    Deposited(1, "USD", 1_000_000_000, "d1"),
    PasswordChanged(1, "hash-3"),
    Deposited(2, "ALFA", 100, "d2"),
    Withdrawn(1, "USD", 1_000_000, "w1"),
    UserDisabled(2),
    PasswordChanged(2, "hash-4"),
    UserChanged(1, "addresses", "192.0.2.7/32"),
    UserChanged(1, "max_order_value", "USD=5"),
    UserChanged(1, "addresses", ""),
]

Row = dict[str, str]
Tables = dict[str, dict[tuple[str, ...], Row]]

KEYS = {
    "symbols": ("symbol",),
    "users": ("id",),
    "transfers": ("position",),
    "user_settings": ("user_id", "field"),
    "orders": ("id",),
    "trades": ("symbol", "seq", "index"),
    "executions": ("user_id", "symbol", "seq", "index"),
    "balances": ("user_id", "asset"),
    "order_conditions": ("order_id",),
    "phase_changes": ("symbol", "seq", "index"),
}
STAGED = {
    "symbol_changes": "symbols",
    "user_changes": "users",
    "user_setting_changes": "user_settings",
    "order_changes": "orders",
    "balance_changes": "balances",
    "order_condition_changes": "order_conditions",
}


def builder(*, rows_max: int = 1_000_000, age_ns_max: int = 1_000) -> BatchBuilder:
    return BatchBuilder(
        rows_max=rows_max,
        age_ns_max=age_ns_max,
        positions={SYMBOL: 0, "ledger": 0},
        formats={},
        scales=SCALES,
    )


def write(tables: Tables, batch: Batch) -> None:
    """Do to dictionaries what the writer does to tables."""
    executions = tables.setdefault("executions", {})
    for data in batch.executions:
        row = execution_row(data)
        key = tuple(row[column] for column in KEYS["executions"])
        assert key not in executions, f"execution {key} is written twice"
        executions[key] = row
    for table, lines in batch.tables():
        name = STAGED.get(table.name, table.name)
        stored = tables.setdefault(name, {})
        for line in lines:
            row = dict(zip(table.columns, line[:-1].split("\t"), strict=True))
            key = tuple(row[column] for column in KEYS[name])
            if table.name == name:
                assert key not in stored, f"{name} {key} is written twice"
                stored[key] = row
            else:
                merge(name, stored, key, row)


def merge(name: str, stored: dict[tuple[str, ...], Row], key: tuple[str, ...], row: Row) -> None:
    """Do to a dictionary what the writer's statement for a staging table does."""
    if name == "balances":
        old = stored.setdefault(key, {**row, "available": "0", "held": "0"})
        for column in ("available", "held"):
            old[column] = str(Decimal(old[column]) + Decimal(row[column]))
    elif name == "users":
        old = stored[key]
        if row["password_hash"] != "\\N":
            old["password_hash"] = row["password_hash"]
        old["disabled"] = max(old["disabled"], row["disabled"])
    elif name == "orders":
        stored[key].update(row)
    elif name == "order_conditions" and row["triggered_at"] == "\\N" and key in stored:
        stored[key] = {**row, "triggered_at": stored[key]["triggered_at"]}
    else:
        stored[key] = row


def tables_of(outputs: list[Output], cuts: set[int]) -> Tables:
    """Write the ledger, then the outputs, with a batch ending at each of the cuts."""
    tables: Tables = {}
    filling = builder()
    for n, entry in enumerate(LEDGER, 1):
        filling.add_ledger_entry(n, TS_US, entry, now_ns=0)
        if n in cuts:
            write(tables, filling.take())
    for output in outputs:
        filling.add_output(output, now_ns=0)
        if output.seq in cuts:
            write(tables, filling.take())
    write(tables, filling.take())
    return tables


@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    count=st.integers(1, 60),
    cuts=st.sets(st.integers(1, 60)),
)
def test_any_cut_into_batches_gives_the_same_tables(seed: int, count: int, cuts: set[int]) -> None:
    outputs = random_outputs(seed, count)
    whole = tables_of(outputs, set())
    assert tables_of(outputs, cuts) == whole
    assert tables_of(outputs, set(range(1, 61))) == whole


def test_scenario_cut_everywhere_gives_the_same_tables() -> None:
    outputs = scenario()
    whole = tables_of(outputs, set())
    for size in range(len(outputs)):
        for cuts in itertools.combinations(range(2, len(outputs)), size):
            assert tables_of(outputs, set(cuts)) == whole


def test_user_of_the_same_batch_has_its_last_password_and_is_disabled() -> None:
    users = tables_of([], set())["users"]
    assert (users[("1",)]["password_hash"], users[("1",)]["disabled"]) == ("hash-3", "f")
    assert (users[("2",)]["password_hash"], users[("2",)]["disabled"]) == ("hash-4", "t")
    assert users[("2",)]["sender_comp_id"] == "2"


def test_settings_of_users_stand_as_they_were_set_last() -> None:
    found = tables_of([], set())["user_settings"]
    assert {key: (row["value"], row["position"]) for key, row in found.items()} == {
        ("1", "addresses"): ("", "11"),
        ("1", "max_order_value"): ("USD=5", "10"),
        ("2", "drop_copy"): ("", "7"),
    }


def test_withdrawal_is_a_negative_transfer() -> None:
    tables = tables_of([], set())
    assert tables["transfers"][("6",)]["amount"] == "-1000000e-6"
    assert Decimal(tables["balances"][("1", "USD")]["available"]) == 999


def test_many_events_of_an_order_are_one_row() -> None:
    filling = builder()
    for output in scenario():
        filling.add_output(output, now_ns=0)
    lines = {table.name: lines for table, lines in filling.take().tables()}
    assert [line.split("\t")[0] for line in lines["orders"]] == [
        f"{SYMBOL}-{seq}" for seq in (2, 3, 5, 6, 7, 9)
    ]
    assert "order_changes" not in lines


def test_a_skipped_order_has_the_row_of_a_rejected_one_and_every_skip_an_execution() -> None:
    tables = tables_of(scenario(skips=True), {11, 12})
    row = tables["orders"][(f"{SYMBOL}-12",)]
    assert (row["status"], row["reject_reason"]) == ("rejected", "99")
    assert row["reject_text"] == "Skipped by an operator: a bug"
    assert (row["remaining_quantity"], row["filled_quantity"]) == ("0", "0")
    assert len(tables["orders"]) == 7
    skipped = [row for row in tables["executions"].values() if row["kind"] == "skipped"]
    assert [(row["user_id"], row["seq"]) for row in skipped] == [
        ("1", "12"),
        ("1", "13"),
        ("0", "14"),
    ]
    assert tables["balances"] == tables_of(scenario(), set())["balances"]


def test_conditions_stand_as_the_last_event_left_them_and_a_trigger_is_kept() -> None:
    stop, later = OrderConditions(stop_ticks=5_000), OrderConditions(stop_ticks=5_100)
    opened = msgspec.structs.replace(accepted(0, 1, 2), conditions=stop)
    state = order_fields(0, 1, 2)
    triggered = OrderTriggered(**state, conditions=stop)
    replaced = OrderReplaced(
        **state,
        orig_cl_ord_id="c",
        old_price_ticks=5_000,
        old_leaves_lots=1,
        kept_priority=False,
        post_only=False,
        stp=SelfTradePrevention.NONE,
        conditions=later,
    )
    outputs = [
        scenario()[0],
        *(
            Output(SYMBOL, seq, TS_US + seq, [event], [])
            for seq, event in enumerate((opened, triggered, replaced), 2)
        ),
    ]
    for cuts in (set(), {2}, {3}, {2, 3}):
        row = tables_of(outputs, cuts)["order_conditions"][(f"{SYMBOL}-2",)]
        assert row["stop_price"] == "5100e-2"
        assert row["triggered_at"].startswith("2023-11-14 22:13:20.000003")


def test_positions_say_from_where_to_where() -> None:
    filling = builder()
    for output in scenario()[:4]:
        filling.add_output(output, now_ns=0)
    assert filling.take().positions == {SYMBOL: (0, 4)}
    for output in scenario()[4:6]:
        filling.add_output(output, now_ns=0)
    filling.add_ledger_entry(1, TS_US, LEDGER[0], now_ns=0)
    assert filling.take().positions == {SYMBOL: (4, 6), "ledger": (0, 1)}


def test_changed_tick_leaves_earlier_rows_of_the_batch_as_they_were() -> None:
    outputs = [
        *scenario(),
        Output(SYMBOL, 12, TS_US, [SymbolDefined(0, INCARNATION, rules(tick_size="0.05"))], []),
        Output(SYMBOL, 13, TS_US, [accepted(0, 1, 13, price_ticks=100)], []),
    ]
    orders = tables_of(outputs, set())["orders"]
    assert Decimal(orders[(f"{SYMBOL}-9",)]["price"]) == 51
    assert Decimal(orders[(f"{SYMBOL}-13",)]["price"]) == 5


def test_batch_is_due_by_age_or_rows() -> None:
    filling = builder(rows_max=4, age_ns_max=1_000)
    assert filling.due_in_ns(5) is None
    filling.add_output(scenario()[0], now_ns=10)
    filling.add_output(scenario()[1], now_ns=600)
    assert filling.due_in_ns(700) == 310
    assert filling.due_in_ns(2_000) == 0
    assert not filling.is_full
    filling.add_output(scenario()[2], now_ns=700)
    assert filling.is_full
    assert filling.due_in_ns(700) == 0
    filling.take()
    assert filling.is_empty
    assert filling.due_in_ns(800) is None


def test_entry_that_is_not_the_next_is_refused() -> None:
    filling = builder()
    with pytest.raises(SequenceGap, match="expected seq 1, received 2"):
        filling.add_output(scenario()[1], now_ns=0)
    with pytest.raises(SequenceGap, match="ledger: expected seq 1, received 3"):
        filling.add_ledger_entry(3, TS_US, LEDGER[2], now_ns=0)
    assert filling.is_empty


def test_amount_of_an_unknown_asset_is_refused_by_name() -> None:
    with pytest.raises(VenueMismatch, match="ledger entry 1: the venue has no asset 'EUR'"):
        builder().add_ledger_entry(1, TS_US, Deposited(1, "EUR", 5, "r"), now_ns=0)
