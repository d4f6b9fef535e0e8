"""Scripted FIX sessions, one file per case of FIX 4.4's session tests (tests/fix_scripts/*.fix).

The files are named by the case numbers of the FIX session tests (FIX 4.4 volume 2, appendix 2-A,
and the public server cases that continue them). What stands in them, and in which modes each runs:
tests/fix_player.py.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fix_player import Player, run_lines

_SCRIPTS = sorted(Path(__file__).parent.joinpath("fix_scripts").glob("*.fix"))


def run(script: Path, player: Player) -> None:
    run_lines(script.name, script.read_text(encoding="utf-8").splitlines(), player)


@pytest.mark.parametrize("mode", ["whole", "bytes", "one message", "together", "blocked"])
@pytest.mark.parametrize("script", _SCRIPTS, ids=lambda path: path.stem)
def test_script(script: Path, mode: str) -> None:
    run(script, Player(mode))


@pytest.mark.parametrize("script", _SCRIPTS, ids=lambda path: path.stem)
def test_script_is_the_same_however_it_is_split(script: Path) -> None:
    for seed in range(50):
        try:
            run(script, Player("split", seed))
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from error


_CASES = (
    "1a 1b 1c 1d 1e 2a 2b 2c 2d 2e 2f 2g 2i 2k 2m 2o 2q 2r 2t 3b 3c 4a 4b 6 7 8 10 11a 11b 11c"
    " 13b 14a 14b 14c 14d 14e 14f 14g 14h 14i 15 19a 19b 20 21"
)
"""The numbers of the public server cases for FIX 4.4; those without a number among them (a session
reset by Logon, routing fields, a resent message that is rejected, a MsgSeqNum that is missing) are
12_session_reset_by_logon, 2z_routing, 2b_a_resent_message_is_rejected, 2c_msg_seq_num_missing."""


def test_every_case_is_there() -> None:
    stems = {path.stem for path in _SCRIPTS}
    assert set(_CASES.split()) <= {stem.split("_")[0] for stem in stems}
    unnumbered = "12_session_reset_by_logon 2z_routing 2b_a_resent_message_is_rejected"
    assert {*unnumbered.split(), "2c_msg_seq_num_missing"} <= stems
