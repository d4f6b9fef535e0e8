"""Recorded flow: its files, what rows mean, and their expected outcomes."""

from __future__ import annotations

import gzip
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

import pytest

from engine.book import OrderBook
from engine.enums import Side
from ops.errors import FlowFileError
from ops.flow import (
    EXPECTED_HEADER,
    FLOW_HEADER,
    DepthRow,
    ExpectedRow,
    FlowRow,
    Maker,
    Quote,
    apply_row,
    format_expected_row,
    format_flow_row,
    read_depth,
    read_expected,
    read_flow,
)
from ops.flow_reference import expected_rows

RECORDED = sorted(
    (Path(__file__).resolve().parents[3] / "shared" / "realdata").glob("*_flow.csv.gz")
)
"""Recorded flow beside the checkout, where there is any; it is not part of the project."""

LINES = [
    "1,10,N,101,B,500,30,,seed",
    "2,20,N,102,B,500,20,,seed",
    "3,30,I,103,S,500,35,,over",
    "4,40,U,104,B,499,10,102,",
    "5,50,R,104,B,499,4,,",
    "6,60,A,105,S,499,9,,",
    "7,70,X,105,S,499,3,,",
]
EXPECTED = [
    "1,500,30,,0,,-1,ref",
    "2,500,50,,0,,-1,ref",
    "3,500,15,,0,101:30:500|102:5:500,-1,ref",
    "4,499,10,,0,,-1,ref",
    "5,499,6,,0,,-1,ref",
    "6,,0,499,3,104:6:499,-1,ref",
    "7,,0,,0,,-1,ref",
]


def flow(lines: Iterable[str]) -> list[FlowRow]:
    return list(read_flow([FLOW_HEADER, *lines]))


def test_rows_are_read_and_written_alike() -> None:
    rows = flow(LINES)
    assert [format_flow_row(row) for row in rows] == LINES
    assert rows[3] == FlowRow(4, 40, "U", 104, Side.BUY, 499, 10, 102, "")
    expected = list(read_expected([EXPECTED_HEADER, *EXPECTED]))
    assert [format_expected_row(row) for row in expected] == EXPECTED
    assert expected[2].makers == (Maker(101, 30, 500), Maker(102, 5, 500))


def test_a_quote_that_is_not_known_is_none() -> None:
    line = "1,500,30,,0,,-1,none"
    assert list(read_expected([EXPECTED_HEADER, line])) == [ExpectedRow(1, None, ())]


def test_depth_leaves_empty_levels_out() -> None:
    header = "seq,ask1,asz1,bid1,bsz1,ask2,asz2,bid2,bsz2"
    assert list(read_depth([header, "7,101,5,100,6,,0,99,7"])) == [
        DepthRow(7, ((100, 6), (99, 7)), ((101, 5),))
    ]


@pytest.mark.parametrize(
    ("lines", "line"),
    [
        (["seq,price"], "line 1"),
        ([FLOW_HEADER, "1,10,N,101,B,500"], "line 2"),
        ([FLOW_HEADER, "1,10,N,101,Q,500,30,,"], "line 2"),
        ([FLOW_HEADER, "1,10,Z,101,B,500,30,,"], "line 2"),
        ([FLOW_HEADER, LINES[0], "3,10,N,102,B,500,30,,"], "line 3"),
        ([FLOW_HEADER, "1,10,N,101,B,500,0,,"], "line 2"),
    ],
)
def test_a_line_that_is_no_flow_is_named(lines: list[str], line: str) -> None:
    with pytest.raises(FlowFileError, match=line):
        list(read_flow(lines))


@pytest.mark.parametrize("line", ["1,500,x,,0,,-1,ref", "1,500,30,,0,101:5,-1,ref", "1,500"])
def test_a_line_that_is_no_expected_outcome_is_named(line: str) -> None:
    with pytest.raises(FlowFileError, match="line 2"):
        list(read_expected([EXPECTED_HEADER, line]))


def test_a_row_about_an_order_that_does_not_rest_is_refused() -> None:
    with pytest.raises(FlowFileError, match="row 1: no order 9 rests"):
        apply_row(OrderBook(), flow(["1,10,X,9,B,500,30,,"])[0])
    with pytest.raises(FlowFileError, match="row 1: no order 9 rests"):
        list(expected_rows(flow(["1,10,R,9,B,500,30,,"])))


def test_the_reference_gives_the_outcome_of_every_action() -> None:
    assert [format_expected_row(row) for row in expected_rows(flow(LINES))] == EXPECTED


def test_the_book_fills_whom_the_reference_fills() -> None:
    rows, book = flow(LINES), OrderBook()
    assert [tuple(apply_row(book, row)) for row in rows] == [
        row.makers for row in expected_rows(rows)
    ]
    assert not book.orders


def test_the_empty_side_of_a_quote_is_zero() -> None:
    assert next(expected_rows(flow(LINES[:1]))).quote == Quote(500, 30, 0, 0)


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.name)
def test_the_reference_agrees_with_recorded_flow(path: Path) -> None:
    with gzip.open(path, "rt") as file:
        rows = list(islice(read_flow(file), 2_000))
    with gzip.open(str(path).replace("_flow", "_expected"), "rt") as file:
        truth = list(islice(read_expected(file), 2_000))
    for row, outcome in zip(truth, expected_rows(rows), strict=True):
        assert outcome.makers == row.makers
        assert row.quote in (None, outcome.quote)
