"""What an audit says of a venue that goes on meanwhile."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.commands import CancelOrder, DefineSymbol, encode_command
from engine.journal import Record
from engine.journal_file import JournalFile
from ops.__main__ import main
from ops.data_dir import VERSIONS_FILE
from tests.persistence_events import INCARNATION, SYMBOL, rules

LATE_NS = 2**62


def write(directory: Path, kind: str, records: list[Record]) -> None:
    file = JournalFile(
        directory,
        kind=kind,
        owner=directory.name,
        incarnations={SYMBOL: INCARNATION} if kind == "commands" else {},
        keeps_positions=kind == "commands",
        now_ns=lambda: 1,
    )
    file.append(records)
    file.close()


def test_commands_that_came_after_its_start_are_told_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    commands = [DefineSymbol(INCARNATION, rules()), CancelOrder(7, 1, 3, "b", "a", 0)]
    records = [
        Record(SYMBOL, seq, ts_ns, 0, encode_command(command))
        for seq, (command, ts_ns) in enumerate(zip(commands, (1, LATE_NS), strict=True), 1)
    ]
    write(tmp_path / "engine-1", "commands", records)
    write(tmp_path / "gateway-1", "fix", [])
    assert main(["audit", "--journals", str(tmp_path)]) == 0
    expected = "clean: 0 of 1 commands have their message, 1 came after the look began; of 0 "
    assert capsys.readouterr().out.startswith(expected)


def test_journals_in_a_directory_of_another_version_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / VERSIONS_FILE).write_text('{"data_directory": "1"}')
    write(tmp_path / "journals" / "engine-1", "commands", [])
    write(tmp_path / "journals" / "gateway-1", "fix", [])
    assert main(["audit", "--journals", str(tmp_path / "journals")]) == 1
    assert "was made with data_directory version 1" in capsys.readouterr().err
