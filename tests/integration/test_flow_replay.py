"""Flow through a venue of its own: right rows, wrong ones that are found, participants."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from engine.enums import Side, TimeInForce
from gateway.fix_message import FixMessage
from ops import fix_client, flow_player, flow_recorder
from ops.__main__ import main
from ops.cli import EXIT_FAILED, EXIT_OK
from ops.commands_flow import target_of
from ops.demo import run_demo
from ops.fix_client import FixClient
from ops.fix_initiator import Initiator
from ops.fix_orders import Message, OrderBodies
from ops.flow import NEW, ExpectedRow, FlowRow, Quote
from ops.flow_player import Truth, replay
from ops.private_venue import PrivateSymbol, PrivateVenue, private_venue
from ops.progress import ProgressReader
from ops.wiring import accounts_link, shard_map
from tests.helpers import DEADLINE_S, eventually_async

SYMBOL = "SIM"
OTHER = "SOM"
TIME = b"20240102-12:00:00.000"


@pytest.fixture(scope="module")
def venue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateVenue]:
    parent = tmp_path_factory.mktemp("venues")
    # Who compares quotes waits for two heartbeats: of a table behind the gateway's, shorter ones.
    lines = ("[marketdata]", "heartbeat_interval_ms = 50", "snapshot_interval_ms = 50")
    symbols = [PrivateSymbol(SYMBOL), PrivateSymbol(OTHER)]
    running = private_venue(symbols, parent=parent, gateway_lines=lines)
    with asyncio.Runner() as runner:
        yield runner.run(running.__aenter__())
        runner.run(running.__aexit__(None, None, None))
    assert list(parent.iterdir()) == []


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have replays wait for the venue, however slow the machine is: they leave an empty book."""
    for module, name in (
        (fix_client, "CONNECT_TIMEOUT_S"),
        (fix_client, "LOGOUT_TIMEOUT_S"),
        (flow_player, "STALL_TIMEOUT_S"),
        (flow_player, "GIVE_UP_TIMEOUT_S"),
        (flow_recorder, "WAIT_TIMEOUT_S"),
    ):
        monkeypatch.setattr(module, name, DEADLINE_S)


def config_of(venue: PrivateVenue) -> str:
    return str(venue.settings.var_dir.parent / "exchange.toml")


def simulated(venue: PrivateVenue, path: Path, rows: int) -> int:
    options = ["--symbol", SYMBOL, "--orders", str(rows), "--write", str(path)]
    return main(["simulate", "--config", config_of(venue), *options])


def replayed(venue: PrivateVenue, path: Path, *options: str) -> int:
    where = ["--config", config_of(venue), "--symbol", SYMBOL]
    return main(["replay-flow", str(path), *where, *options])


def test_a_simulated_flow_is_right_and_so_is_its_recording(
    venue: PrivateVenue, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flow, expected = tmp_path / "a_flow.csv.gz", tmp_path / "a_expected.csv.gz"
    assert simulated(venue, flow, 400) == EXIT_OK
    assert "400 rows, 400 quotes, 0 depths; 0 mismatches" in capsys.readouterr().out
    assert replayed(venue, flow, "--expected", str(expected), "--json") == EXIT_OK
    result = json.loads(capsys.readouterr().out)
    assert (result["rows"], result["rows_checked"], result["is_right"]) == (400, 400, True)
    assert result["trades"] > 0


def test_a_wrong_row_is_named(
    venue: PrivateVenue, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flow, expected = tmp_path / "b_flow.csv", tmp_path / "b_expected.csv"
    assert simulated(venue, flow, 60) == EXIT_OK
    capsys.readouterr()
    lines = expected.read_text().splitlines()
    cells = lines[30].split(",")
    cells[2] = str(int(cells[2]) + 1)
    lines[30] = ",".join(cells)
    expected.write_text("\n".join(lines) + "\n")
    assert replayed(venue, flow, "--expected", str(expected)) == EXIT_FAILED
    out = capsys.readouterr().out
    assert "60 rows, 60 quotes, 0 depths; 1 mismatches" in out
    assert "row 30 quote: expected bid" in out


def test_depth_is_checked(
    venue: PrivateVenue, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flow, depth = tmp_path / "flow.csv", tmp_path / "depth.csv"
    flow.write_text(
        "seq,ts_ns,action,order_id,side,price_ticks,qty,orig_id,flag\n"
        "1,0,N,1,B,500,30,,\n2,1000,N,2,S,510,20,,\n3,2000,N,3,B,499,7,,\n4,3000,X,1,B,500,30,,\n"
    )
    header = "seq,ask1,asz1,bid1,bsz1,ask2,asz2,bid2,bsz2\n"
    depth.write_text(f"{header}3,510,20,500,30,,,499,7\n4,510,20,499,7,,,,\n")
    assert replayed(venue, flow, "--depth", str(depth), "--speed", "0.001") == EXIT_OK
    capsys.readouterr()
    depth.write_text(f"{header}3,510,20,500,31,,,499,7\n")
    assert replayed(venue, flow, "--depth", str(depth)) == EXIT_FAILED
    assert "row 3 depth: expected bids 500:31|499:7" in capsys.readouterr().out


def test_a_refused_row_fails(
    venue: PrivateVenue, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flow = tmp_path / "flow.csv.gz"
    with gzip.open(flow, "wt") as file:
        file.write("seq,ts_ns,action,order_id,side,price_ticks,qty,orig_id,flag\n")
        file.write("1,0,N,1,B,500,2000000,,\n")
    assert replayed(venue, flow) == EXIT_FAILED
    assert "1 refused\n  row 1: OrderQty" in capsys.readouterr().out


async def test_a_replay_that_is_interrupted_leaves_an_empty_book(venue: PrivateVenue) -> None:
    target = target_of(venue.endpoints, SYMBOL, "0.01", "1")
    rows = [
        FlowRow(1, 0, NEW, 1, Side.BUY, 500, 30, 0, ""),
        FlowRow(2, 10**15, NEW, 2, Side.BUY, 500, 1, 0, ""),
    ]
    answered = asyncio.Event()

    def on_progress(count: int) -> None:
        if count:
            answered.set()

    playing = asyncio.create_task(replay(target, rows, Truth(), speed=1.0, on_progress=on_progress))
    await answered.wait()
    playing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await playing

    result = await replay(
        target,
        rows[:1],
        Truth([ExpectedRow(1, Quote(500, 30, 0, 0), ())]),
        speed=None,
        on_progress=on_progress,
    )
    assert result.is_right and result.quotes_checked == 1


def test_a_book_that_is_not_empty_is_refused(
    venue: PrivateVenue, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bodies = OrderBodies(SYMBOL, tick_size="0.01", lot_size="1", stp=None)
    order = bodies.new(
        b"mine", Side.BUY, price_ticks=500, qty_lots=1, time_in_force=TimeInForce.GTC, time=TIME
    )
    assert asyncio.run(answer_to(venue, order)) == b"0"
    try:
        assert simulated(venue, tmp_path / "c_flow.csv", 10) == EXIT_FAILED
        assert "expected an empty book, 1 price levels rest" in capsys.readouterr().err
    finally:
        cancel = bodies.cancel(b"gone", b"mine", Side.BUY, time=TIME)
        assert asyncio.run(answer_to(venue, cancel)) == b"4"


async def answer_to(venue: PrivateVenue, request: Message) -> bytes:
    """Send one request in a session of its own and return the ExecType of the answer."""
    target = target_of(venue.endpoints, SYMBOL, "0.01", "1")
    received: list[FixMessage] = []
    async with FixClient(Initiator(target.identity), on_messages=received.extend) as client:
        await client.connect(target.host, target.port, reset=True)
        client.send(*request)
        client.flush()
        await eventually_async(lambda: bool(received))
    return received[0].fields[b"150"]


async def test_participants_trade_and_stop(venue: PrivateVenue) -> None:
    demo = asyncio.create_task(run_demo(venue.settings, orders_per_s=100, seed=1))
    url = venue.endpoints.redis_url
    async with accounts_link(venue.settings, url, name="test") as link:
        progress = ProgressReader(link, shard_map(venue.settings, url).shards)

        async def is_lively() -> bool:
            symbols = (await progress.read()).symbols
            assert not demo.done(), demo.result()
            return all(one.best_bid_ticks and one.best_ask_ticks for one in symbols.values())

        await eventually_async(is_lively)
        demo.cancel()
        with suppress(asyncio.CancelledError):
            await demo
        await progress.close()
