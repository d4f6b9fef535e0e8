"""[gateway]: what is set reaches the sessions, and what makes no sense is refused."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from gateway.session_events import SessionRules
from gateway.settings import GatewaySettings
from gateway.settled import session_rules


def test_defaults_are_the_rules_that_sessions_have_by_themselves() -> None:
    assert session_rules(GatewaySettings()) == SessionRules(comp_id=b"SHARDEX")


def test_every_limit_of_a_session_can_be_set() -> None:
    changed = {
        "comp_id": "VENUE",
        "heart_bt_int_min_s": 2,
        "heart_bt_int_max_s": 20,
        "sending_time_tolerance_s": 3,
        "logon_timeout_s": 4,
        "logout_timeout_s": 6,
        "resend_timeout_s": 7,
        "max_message_bytes": 4_096,
        "max_garbled_bytes": 8_192,
    }
    rules = session_rules(GatewaySettings.model_validate(changed))
    assert rules.comp_id == b"VENUE"
    for name, value in changed.items():
        assert name == "comp_id" or getattr(rules, name) == value


@pytest.mark.parametrize(
    "wrong",
    [
        {"comp_id": "two words"},
        {"resend_age_max_s": 0},
        {"count": 0},
        {"prot": 1},
        {"port": 70_000},
    ],
)
def test_what_makes_no_sense_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        GatewaySettings.model_validate(wrong)
