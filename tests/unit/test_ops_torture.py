"""The torture's own parts: the plan, what a client remembers, what is compared, who is who."""

from __future__ import annotations

import random
from collections.abc import Callable
from decimal import Decimal
from itertools import islice
from pathlib import Path

import pytest

from engine.enums import Side, TradingPhase
from ops.torture_checks import check_logs, check_record
from ops.torture_parts import kind_of, part_names, running_parts
from ops.torture_plan import FAILOVER, KILL, PAUSE, SCENES, Step, draw_plan, draw_scenes
from ops.torture_record import Record, Reports, Sent
from ops.torture_requests import RandomRequests
from persistence.told import StoredFill, StoredOrder, StoredReports

PARTS = part_names(2, 2, standby=True)
SYMBOL = "ALFA-USD"


def plan(seed: int, parts: list[str], steps: int = 300) -> list[Step]:
    return list(islice(draw_plan(random.Random(seed), parts, ["engine-1"]), steps))


def test_a_seed_gives_one_plan_and_each_part_has_its_turn() -> None:
    steps = plan(7, PARTS)
    assert steps == plan(7, PARTS) != plan(8, PARTS)
    blows = [blow for step in steps for blow in step.blows]
    assert {blow.part for blow in blows if blow.action == KILL} == set(PARTS)
    assert {blow.part for blow in blows if blow.action == FAILOVER} == {"engine-1"}
    assert all(blow.seconds > 0 for blow in blows if blow.action == PAUSE)
    for step in steps:
        names = [blow.part for blow in step.blows]
        assert len(names) == len(set(names)), "one thing at a time to each part"


def test_scenes_have_every_phase_and_end_continuous() -> None:
    scenes = list(islice(draw_scenes(random.Random(3), [SYMBOL]), 2 * len(SCENES)))
    assert scenes == list(islice(draw_scenes(random.Random(3), [SYMBOL]), 2 * len(SCENES)))
    assert {phase for scene in scenes for phase, _ in scene.phases} == set(TradingPhase)
    ends = {TradingPhase.CONTINUOUS, TradingPhase.OPENING_AUCTION}
    assert {scene.phases[-1][0] for scene in scenes} == ends
    assert all(lasts_s > 0 for scene in scenes for _, lasts_s in scene.phases)


def test_a_plan_of_one_part_never_wants_several_at_once() -> None:
    assert {len(step.blows) for step in plan(1, ["redis", "redis"])} == {1}


def test_parts_are_named_like_their_processes() -> None:
    assert [kind_of(name) for name in PARTS] == [
        *("gateway", "gateway", "engine", "engine", "standby", "standby"),
        *("writer", "marketdata", "redis", "postgres"),
    ]
    assert running_parts(up_pid=2**30) == {}


# ---------------------------------------------------------------- what a client was told


def sent(record: Record, name: str, kind: str = "D") -> None:
    record.note_sent(name, int(name), Sent(kind, SYMBOL, float(name)))


def report(record: Record, exec_id: str, exec_type: str, **more: str) -> None:
    """Note a report about order ALFA-USD-2 (ClOrdID 1, 5 lots)."""
    fields = {"37": f"{SYMBOL}-2", "11": "1", "17": exec_id, "150": exec_type, "39": "0"}
    fields |= {"14": "0", "151": "5", "55": SYMBOL, "54": "1"}
    fields |= {tag.removeprefix("t"): value for tag, value in more.items()}
    record.note(b"8", {tag.encode(): value.encode() for tag, value in fields.items()})


def fill(record: Record, exec_id: str, trade: str, *, cum: int, lots: int = 2) -> None:
    filled = {"t31": "50.00", "t32": str(lots), "t527": trade, "t851": "1", "t137": "0.10"}
    report(record, exec_id, "F", t39="1", t14=str(cum), t151=str(5 - cum), **filled)


def told() -> Record:
    """A client with one order, filled by 2 of 5."""
    record = Record()
    sent(record, "1")
    report(record, "ALFA-USD-2-0", "0")
    fill(record, "ALFA-USD-3-0", "ALFA-USD-3-0", cum=2)
    return record


def stored() -> StoredReports:
    """What stands about it in PostgreSQL."""
    return StoredReports(
        {f"{SYMBOL}-2": StoredOrder("1", "partially_filled", Decimal(2), Decimal(3))},
        {"ALFA-USD-2-0", "ALFA-USD-3-0"},
        0,
        {("ALFA-USD-3-0", Side.BUY): StoredFill("1", Decimal(50), Decimal(2), Decimal("0.1"))},
    )


def test_a_client_that_was_told_everything_once_has_nothing_to_complain_of() -> None:
    record = told()
    assert list(check_record(7, record, stored())) == []
    assert (record.answers, record.answered_s) == ({"D": 1}, {SYMBOL: 1.0})
    assert record.open[f"{SYMBOL}-2"].side is Side.BUY


WRONG: list[tuple[Callable[[Record], None], str]] = [
    (lambda record: report(record, "ALFA-USD-2-0", "0"), "again"),
    (lambda record: report(record, "ALFA-USD-9-0", "0"), "not a first answer"),
    (lambda record: fill(record, "ALFA-USD-4-0", "ALFA-USD-4-0", cum=5), "a fill is missing"),
    (lambda record: fill(record, "ALFA-USD-4-0", "ALFA-USD-3-0", cum=4), "filled again"),
    (lambda record: fill(record, "ALFA-USD-4-0", "ALFA-USD-4-0", cum=1), "out of order"),
    (lambda record: record.note(b"3", {b"45": b"1"}), "unexpected"),
]


@pytest.mark.parametrize(("say", "complaint"), WRONG, ids=[text for _, text in WRONG])
def test_what_must_not_come_is_noted(say: Callable[[Record], None], complaint: str) -> None:
    record = told()
    say(record)
    assert any(text.startswith(complaint) for text in record.wrong), record.wrong
    assert any("was told" in line for line in check_record(7, record, stored()))


def test_a_refusal_that_is_said_again_counts_once_even_after_a_reset() -> None:
    record = Record()
    sent(record, "4")
    fields = {b"45": b"4", b"372": b"D", b"379": b"4", b"380": b"4"}
    record.note(b"j", fields)
    record.note_reset()
    record.note(b"j", fields)
    assert (record.wrong, record.answers, record.unanswered) == ([], {"D": 1}, {})


def test_each_difference_from_what_is_stored_is_named() -> None:
    record = told()
    sent(record, "2")
    other = stored()
    other.exec_ids.add("ALFA-USD-8-0")
    other.orders[f"{SYMBOL}-2"] = StoredOrder("1", "filled", Decimal(5), Decimal(0))
    other.fills.clear()
    lines = list(check_record(7, record, other))
    assert [line.split(":")[1].strip() for line in lines] == [
        *("never answered", "execution never told", "order", "fill"),
    ]


def test_a_fill_in_an_auction_has_no_liquidity() -> None:
    record = told()
    auction = {"t31": "50.00", "t32": "1", "t527": "ALFA-USD-4-0", "t137": "0.10", "t39": "1"}
    report(record, "ALFA-USD-4-0", "F", **auction, t14="3", t151="2")
    assert record.fills["ALFA-USD-4-0", Side.BUY].liquidity == ""
    assert not record.wrong


def noted(*reports: dict[bytes, bytes]) -> dict[str, int]:
    told = Reports()
    assert all(told.note(fields) for fields in reports)
    assert not told.note(reports[0])
    return told.digests


FIRST = {b"34": b"2", b"37": b"A-1", b"17": b"A-1-0", b"39": b"0", b"14": b"0"}
SECOND = {b"34": b"3", b"37": b"A-1", b"17": b"A-2-0", b"39": b"1", b"14": b"2"}
REFUSED = {b"34": b"4", b"37": b"A-1", b"11": b"9", b"39": b"1", b"102": b"0"}


def test_copies_differ_by_content_and_by_order_and_by_nothing_else() -> None:
    original = noted(REFUSED, FIRST, SECOND)
    envelope = {b"1": b"7", b"34": b"99", b"43": b"Y"}
    later = {**REFUSED, b"37": b"NONE", b"39": b"8"}
    assert noted(later, FIRST | envelope, SECOND | envelope) == original
    assert noted(REFUSED, SECOND, FIRST) != original
    assert noted(REFUSED, FIRST, {**SECOND, b"14": b"3"}) != original
    assert noted(FIRST, SECOND) != original


def test_a_bug_in_a_log_is_found(tmp_path: Path) -> None:
    var = tmp_path / "var"
    (var / "log").mkdir(parents=True)
    (tmp_path / "up.log").write_text("The exchange is open\n")
    log = var / "log" / "engine-1.log"
    log.write_text("redis: Redis is away\n")
    assert list(check_logs(var)) == []
    log.write_text("x ERROR ops: stopped by a bug\n")
    assert list(check_logs(var)) == ["engine-1.log: x ERROR ops: stopped by a bug"]


def test_requests_are_drawn_by_the_seed_and_are_of_every_kind() -> None:
    resting = told().open

    def draw(seed: int) -> list[tuple[str, bytes]]:
        requests = RandomRequests(random.Random(seed), [SYMBOL])
        drawn = [requests.draw(str(n), resting, now_ns=10**18) for n in range(8_000)]
        return [(one.kind, one.message[1]) for one in drawn]

    drawn = draw(1)
    assert drawn == draw(1)
    assert {kind for kind, _ in drawn} == {"D", "F", "G", "H", "q", "AF"}
    fields = (
        "585=1 585=7 40=1 59=0 59=1 59=2 59=3 59=4 18=6 7928=0 7928=3 40=3 40=4 59=6 530=1 530=7"
    )
    for field in fields.encode().split():
        assert any(field + b"\x01" in body for _, body in drawn), field
    for tag in (b"99=", b"111=", b"110=", b"126=", b"152="):
        assert any(b"\x01" + tag in body for _, body in drawn), tag
