"""[redis] of exchange.toml: runs with nothing set, refuses what it does not know."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from router.settings import RedisSettings


def test_defaults_outlive_what_they_must() -> None:
    settings = RedisSettings()

    assert (settings.binary, settings.port) == ("auto", 6390)
    # A reply may take longer than a session's lease: the session must not depend on one call.
    assert settings.session_ttl_ms < settings.call_timeout_ms


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("binary", "docker"),
        ("port", 0),
        ("call_timeout_ms", 1),
        ("session_ttl_ms", 1),
        ("url", "x"),
    ],
)
def test_wrong_and_unknown_values_are_refused_by_key(key: str, value: object) -> None:
    with pytest.raises(ValidationError, match=key):
        RedisSettings.model_validate({key: value})
