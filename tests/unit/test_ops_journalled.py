"""What deposit, withdraw and user say about the journal."""

from __future__ import annotations

import pytest

from ops.journalled import journal_note, ledger_shard
from ops.settings import Settings, load_settings
from ops.venue_file import Shard
from router.ledger_journal import Journalled
from tests.exchange_process import ROOT

URL = "redis://localhost"


@pytest.fixture
def settings() -> Settings:
    return load_settings(ROOT / "exchange.toml", {})


def test_nothing_is_said_where_a_journal_has_the_entry(settings: Settings) -> None:
    assert journal_note(settings, Journalled(7, "engine-1-standby", ["engine-1-standby"])) == ""


def test_it_is_said_plainly_that_no_engine_runs(settings: Settings) -> None:
    assert journal_note(settings, Journalled(7, "", [])) == (
        "It stands in the ledger (entry 7), but no engine of shard 1 runs:"
        " no engine has journalled it yet"
    )


def test_it_is_said_that_engines_run_and_were_too_slow(settings: Settings) -> None:
    assert journal_note(settings, Journalled(7, "", ["engine-1", "engine-1-standby"])) == (
        "It stands in the ledger (entry 7), but engine-1 and engine-1-standby did not journal it"
        " in 3 s"
    )


def test_the_lowest_shard_with_symbols_journals_the_ledger(settings: Settings) -> None:
    shards = [
        Shard(id=number, db=number, symbols=symbols)
        for number, symbols in ((3, ["ALFA-USD"]), (1, []), (2, ["BETA-USD"]))
    ]
    found = ledger_shard(settings.model_copy(update={"shards": shards}), URL)
    assert found is not None and found.id == 2
    assert ledger_shard(settings.model_copy(update={"shards": shards[1:2]}), URL) is None
