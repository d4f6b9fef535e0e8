"""What an operator reads after a restore."""

from __future__ import annotations

from ops.commands_backup import members_text


def test_members_are_told_the_very_moment_and_not_the_second_that_it_is_in() -> None:
    text = members_text(1_767_323_045_678_901)
    assert "everything after 2026-01-02 03:04:05.678901 UTC is void" in text
