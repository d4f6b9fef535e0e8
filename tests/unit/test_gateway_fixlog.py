"""Records of the raw journal as lines."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.journal import Record
from engine.journal_file import JournalFile
from gateway.fixlog import INBOUND, JOURNAL_KIND, OUTBOUND, FixLogFilter, line_of, read_fixlog

NS = 1_767_323_045_678_901_234  # 2026-01-02 03:04:05.678901
IN = Record("1001", 2, NS, INBOUND, b"8=FIX.4.4\x019=5\x0135=D\x0111=a\xe9\x0110=000\x01")
OUT = Record("1001", 5, NS + 1_000, OUTBOUND, b"8=FIX.4.4\x019=5\x0135=8\x0110=000\x01")
OTHER = Record("", 0, NS + 2_000, INBOUND, b"8=FIX.4.4\x019=5\x0135=zz\x0110=000\x01")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    file = JournalFile(
        tmp_path / "fix",
        kind=JOURNAL_KIND,
        owner="gateway-1",
        incarnations={},
        keeps_positions=False,
        now_ns=lambda: NS,
    )
    file.append([IN, OUT, OTHER])
    file.close()
    return tmp_path / "fix"


def test_line_shows_time_session_direction_name_and_message() -> None:
    assert line_of(IN).format() == (
        "2026-01-02 03:04:05.678901     1001 < NewOrderSingle           "
        " 8=FIX.4.4|9=5|35=D|11=a?|10=000|"
    )
    assert line_of(OTHER).format().split()[2:5] == ["-", "<", "zz"]


@pytest.mark.parametrize(
    ("show", "expected"),
    [
        (FixLogFilter(), [IN, OUT, OTHER]),
        (FixLogFilter(session=1001), [IN, OUT]),
        (FixLogFilter(session=7), []),
        (FixLogFilter(msg_types=frozenset({"8", "zz"})), [OUT, OTHER]),
        (FixLogFilter(from_ns=NS + 1_000), [OUT, OTHER]),
        (FixLogFilter(until_ns=NS + 1_000), [IN]),
        (FixLogFilter(session=1001, msg_types=frozenset("8"), from_ns=NS), [OUT]),
    ],
)
def test_filter_shows_what_matches(
    directory: Path, show: FixLogFilter, expected: list[Record]
) -> None:
    assert list(read_fixlog(directory, show)) == [line_of(record) for record in expected]
