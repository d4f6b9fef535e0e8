"""What status calls a problem or a warning, and the lags that it is made of."""

from __future__ import annotations

from ops import status
from ops.progress import Progress, SymbolProgress
from ops.status import ProcessStatus, StreamLengths
from router.process_registry import ProcessState

NO_STREAMS = StreamLengths(0, 0, "", 0)


def symbol(
    *,
    shard: int = 1,
    admitted: int = 10,
    settled: int = 10,
    published: int = 10,
    marketdata: int = 10,
    writer: int = 10,
    orders_length: int = 10,
    events_length: int = 10,
) -> SymbolProgress:
    return SymbolProgress(
        *(shard, admitted, settled, published, marketdata, writer),
        *(orders_length, events_length, 0, 0),
    )


def test_lags_are_summed_by_process() -> None:
    progress = Progress(
        {
            "A": symbol(admitted=15, settled=12, published=11, marketdata=9, writer=4),
            "B": symbol(admitted=11),
            "C": symbol(shard=2, marketdata=9),
        },
        ledger=5,
        ledger_written=3,
        ledger_length=5,
    )
    assert progress.lags() == {"engine-1": 4, "engine-2": 0, "marketdata": 3, "writer": 9}


def test_a_lag_is_never_negative() -> None:
    progress = Progress({"A": symbol(settled=11, marketdata=12, writer=13)}, 1, 2, 1)
    assert set(progress.lags().values()) == {0}


def test_lengths_up_to_their_limits_are_fine() -> None:
    boxes = StreamLengths(1, 1, "outbox:9", status.OUTBOX_LENGTH_WARNED)
    stores = StreamLengths(1, 1, "sent:9:1", status.STORE_LENGTH_WARNED)
    assert status._length_warnings(boxes, stores) == []


def test_what_is_beyond_its_limit_is_named() -> None:
    boxes = StreamLengths(1, 1, "outbox:9", status.OUTBOX_LENGTH_WARNED + 1)
    stores = StreamLengths(1, 1, "sent:9:1", status.STORE_LENGTH_WARNED + 1)
    assert status._length_warnings(boxes, stores) == [
        "outbox:9 has 101,001 entries, more than 101,000",
        "sent:9:1 has 30,001 entries, more than 30,000",
    ]
    assert status._lag_warnings({"writer": status.LAG_WARNED + 1, "marketdata": 50_000}) == [
        "writer is 50,001 entries behind, more than 50,000"
    ]


def test_memory_and_silence_are_warned_about() -> None:
    assert status._memory_warnings(70, 100) == []
    assert status._memory_warnings(71, 100) == ["Redis uses 71 % of its maxmemory"]
    assert status._memory_warnings(10**9, 0) == []
    quick = ProcessStatus("writer", 1, "0", 9, 2, {})
    silent = ProcessStatus("engine-1", 1, "0", 9, 3, {})
    assert status._heartbeat_warnings([quick, silent]) == [
        "engine-1 has given no sign of life for 3 s"
    ]


def test_what_a_process_says_of_itself_is_a_problem() -> None:
    states = {
        name: ProcessState(name, 1, "1", 0, 0, counters)
        for name, counters in (("gateway-1", {"problem": "full"}), ("writer", {}))
    }
    assert status._reported(states) == ["gateway-1: full"]
