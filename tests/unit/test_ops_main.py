"""A command loads its own part of the project and no other, and the table says where each is."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ops.__main__ import COMMANDS, build_parser
from tests.helpers import DEADLINE_S

ROOT = Path(__file__).resolve().parent.parent.parent

# What is dear to load, or another process's.
DATABASE = {"psycopg", "persistence.writer", "persistence.service"}
SERVERS = {"redis", "ops.embedded", "ops.up"}
GATEWAY = {"argon2", "cryptography", "gateway.server", "gateway.session", "gateway.auth"}
MARKET_DATA = {"marketdata.service"}
ENGINE = {"engine.runner", "engine.shard", "ops.engine_process"}


def loaded_by(command: str) -> set[str]:
    """Return the modules that ``shardex COMMAND --help`` has loaded when it ends."""
    program = (
        "import atexit, json, sys\n"
        "atexit.register(lambda: print(json.dumps(list(sys.modules)), file=sys.stderr))\n"
        "from ops.__main__ import main\n"
        "main(sys.argv[1:])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, command, "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
    )
    assert done.returncode == 0, done.stderr
    assert f"usage: shardex {command}" in done.stdout
    return set(json.loads(done.stderr))


@pytest.mark.parametrize(
    ("command", "needed", "others"),
    [
        ("deposit", "router.ledger", DATABASE | SERVERS | GATEWAY | MARKET_DATA | ENGINE),
        ("phase", "router.phases", DATABASE | SERVERS | GATEWAY | MARKET_DATA | ENGINE),
        ("status", "ops.status", SERVERS | GATEWAY | MARKET_DATA | ENGINE),
        ("up", "ops.up", {"gateway.server", "persistence.writer"} | MARKET_DATA | ENGINE),
        ("engine", "engine.runner", DATABASE | SERVERS | GATEWAY | MARKET_DATA),
        ("gateway", "gateway.server", DATABASE | SERVERS | MARKET_DATA | ENGINE),
        ("marketdata", "marketdata.service", DATABASE | SERVERS | GATEWAY | ENGINE),
        ("writer", "persistence.service", SERVERS | GATEWAY | MARKET_DATA | ENGINE),
    ],
)
def test_a_command_loads_what_it_needs_and_no_part_of_others(
    command: str, needed: str, others: set[str]
) -> None:
    loaded = loaded_by(command)
    assert needed in loaded
    assert not loaded & others


def test_the_table_names_every_command_and_no_other(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        build_parser().parse_args(["no-such-command"])
    assert caught.value.code == 2
    choices = capsys.readouterr().err.partition("choose from")[2]
    assert set(re.findall(r"[a-z][a-z-]*", choices)) == set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_table_names_the_module_that_has_the_command(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        build_parser(command).parse_args([command, "--help"])
    assert caught.value.code == 0
    assert f"usage: shardex {command}" in capsys.readouterr().out
