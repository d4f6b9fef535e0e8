"""Which engine leads and which follows, how far behind they are, and what operators are told."""

from __future__ import annotations

from typing import Any

from ops import engine_roles
from ops.engine_roles import EngineRole, absence, held_back, lags, missing_standbys
from ops.progress import Progress, SymbolProgress
from router.lease import Leader
from router.process_registry import ProcessState
from router.trimming import EVENTS_KEPT_ALARM, ORDERS_KEPT_ALARM


def progress(*, admitted: int = 100, orders_length: int = 100, events_length: int = 10) -> Progress:
    one = SymbolProgress(1, admitted, 98, 98, 98, 98, orders_length, events_length, 0, 0)
    other = SymbolProgress(2, 7, 7, 7, 7, 7, 7, 7, 0, 0)
    return Progress({"A": one, "B": one, "C": other}, 0, 0, 0)


def state(name: str, pid: int, **counters: Any) -> ProcessState:
    return ProcessState(name, pid, "0", 0, 0, counters)


def leader(name: str, pid: int) -> Leader:
    return Leader(f"{name}:{pid}:abcd", 3, 1_000)


def test_role_of_each_engine_is_read_off_lease_and_counters() -> None:
    processes = {
        one.name: one
        for one in (
            state("engine-1", 11, is_live=1, applied_seq={"A": 100, "B": 60}, compared=5),
            state("engine-1-standby", 12, is_live=1, applied_seq={"A": 100, "B": 100}),
            state("engine-2", 13, is_live=0, applied_seq={"C": 3}, uncompared=2),
            state("writer", 14),
        )
    }
    leaders = {1: leader("engine-1-standby", 12), 2: None}
    assert engine_roles.engine_roles(processes, leaders, progress()) == [
        EngineRole("engine-1", 1, "follows", 40, 5, 0),
        EngineRole("engine-1-standby", 1, "leads", 0, 0, 0),
        EngineRole("engine-2", 2, "recovers", 4, 0, 2),
    ]


def test_predecessor_of_the_same_name_does_not_lead() -> None:
    started_again = state("engine-1", 12, is_live=1)
    assert engine_roles.owns(started_again, leader("engine-1", 12))
    assert not engine_roles.owns(started_again, leader("engine-1", 11))
    assert not engine_roles.owns(started_again, None)


def test_lag_of_a_shard_is_its_leaders() -> None:
    engines = [
        EngineRole("engine-1", 1, "follows", 40, 0, 0),
        EngineRole("engine-1-standby", 1, "leads", 1, 0, 0),
    ]
    rest = {"engine-2": 0, "marketdata": 0, "writer": 0}
    assert lags(progress(), engines) == {"engine-1": 40, "engine-1-standby": 4, **rest}
    assert lags(progress(), []) == {"engine-1": 4, **rest}
    recovering = [EngineRole("engine-1-standby", 1, "recovers", 9, 0, 0)]
    assert lags(progress(), recovering) == {"engine-1": 4, "engine-1-standby": 9, **rest}


def test_standby_is_missing_only_where_the_venue_counts_on_it() -> None:
    positions = {"engine-1": {"A": 1}, "engine-1-standby": {"A": 1}}
    known = {"engine-1": state("engine-1", 1)}
    leaders = {1: leader("engine-1", 1), 2: leader("engine-2", 2)}
    assert missing_standbys(leaders, known, positions) == [
        "engine-1-standby is not running: nobody takes over, and orders are kept for it"
    ]
    # Why nobody leads is another matter.
    assert missing_standbys({1: None}, known, positions) == [
        "engine-1-standby is not running: orders are kept for it"
    ]
    known["engine-1-standby"] = state("engine-1-standby", 2)
    assert missing_standbys(leaders, known, positions) == []


def test_a_silent_process_is_told_from_one_that_does_not_run() -> None:
    stuck = ProcessState("gateway-1", 7, "0", 0, 0, {}, silent_ms=1_012_345)
    known = {"gateway-1": stuck, "writer": state("writer", 8)}
    text = "gateway-1 has given no sign of life for 1,012 s: process 7 is stuck, or was killed"
    assert absence("gateway-1", known) == text
    assert absence("gateway-2", known) == "gateway-2 is not running"
    assert absence("writer", known) == ""


def test_who_holds_trimming_back_is_named() -> None:
    far = progress(orders_length=ORDERS_KEPT_ALARM + 1)
    positions = {"engine-1": {"A": 10, "B": 8}, "engine-1-standby": {"A": 9, "B": 20}}
    text = "has 5,000,001 entries, more than 5,000,000"
    assert held_back(positions, far) == [
        f"orders:A {text}: engine-1-standby needs them from 10 on",
        f"orders:B {text}: engine-1 needs them from 9 on",
    ]
    assert held_back({}, far) == [
        f"orders:A {text}: engine-1 needs them from 1 on",
        f"orders:B {text}: engine-1 needs them from 1 on",
    ]
    at_limits = progress(orders_length=ORDERS_KEPT_ALARM, events_length=EVENTS_KEPT_ALARM)
    assert held_back(positions, at_limits) == []
    text = "has 500,001 entries, more than 500,000: writer needs them from 99 on"
    assert held_back(positions, progress(events_length=EVENTS_KEPT_ALARM + 1)) == [
        f"events:{symbol} {text}" for symbol in "AB"
    ]
