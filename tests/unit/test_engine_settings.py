"""[engine] of exchange.toml: runs with nothing set, refuses what it does not know."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from engine.journal_writer import FsyncPolicy
from engine.settings import EngineSettings


def test_every_policy_of_the_journal_can_be_set() -> None:
    assert EngineSettings().journal_fsync == "overlapped"
    for policy in FsyncPolicy:
        assert EngineSettings.model_validate({"journal_fsync": policy.value})


@pytest.mark.parametrize(
    ("key", "value"),
    [("journal_fsync", "never"), ("read_block_ms", 0), ("lease_ttl_ms", 1), ("symbols", [])],
)
def test_wrong_and_unknown_values_are_refused_by_key(key: str, value: object) -> None:
    with pytest.raises(ValidationError, match=key):
        EngineSettings.model_validate({key: value})
