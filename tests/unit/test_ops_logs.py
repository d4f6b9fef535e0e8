"""Log lines and bounded log files."""

from __future__ import annotations

import logging
import resource
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


def test_what_a_full_disk_refuses_is_left_out_and_counted(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    path = tmp_path / "writer.log"
    log = BoundedLog(path)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (8, hard))
        log.write(b"before\n")
        log.write(b"torn and\n")
        log.write(b"lost\n")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    log.write(b"after\n")
    log.close()
    missing = b"(14 bytes are missing here: the disk was full)\n"
    assert path.read_bytes() == b"before\nt" + missing + b"after\n"


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
