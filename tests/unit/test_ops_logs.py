"""Log lines and bounded log files."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from ops.logs import BoundedLog, configure_logging, split_line


def test_a_line_of_ours_is_understood(capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    try:
        configure_logging("info")
        logging.getLogger("router").debug("not this")
        logging.getLogger("router").warning("Redis is %s", "away")
    finally:
        root.handlers[:], level = before
        root.setLevel(level)
    line = capsys.readouterr().err
    assert split_line(line.rstrip().encode()) == ("WARNING", "router: Redis is away")


@pytest.mark.parametrize("line", [b"", b"Traceback (most recent call last):", b"ERROR x: y"])
def test_other_lines_are_not(line: bytes) -> None:
    assert split_line(line) is None


def test_a_full_log_moves_aside_and_one_generation_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "writer.log"
    log = BoundedLog(path, bytes_max=10)
    for line in (b"12345\n", b"678\n", b"next\n", b"longer than all\n", b"z\n"):
        log.write(line)
    log.close()
    assert path.read_bytes() == b"z\n"
    assert (tmp_path / "writer.old.log").read_bytes() == b"longer than all\n"
    again = BoundedLog(path, bytes_max=10)
    again.write(b"y\n")
    again.close()
    assert path.read_bytes() == b"z\ny\n"
