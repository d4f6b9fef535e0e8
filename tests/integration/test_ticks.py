"""Time in a quiet market, and changes of the phase, while engines are killed: real processes."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from engine import opening
from engine.commands import Command, NewOrder, SetPhase, Tick, decode_command
from engine.enums import PhaseReason, TradingPhase
from engine.events import Event, OrderFilled, PhaseChanged, decode_output
from ops.__main__ import main
from ops.cli import EXIT_FAILED, EXIT_USAGE
from router import keys
from tests.engine_pair import ENGINE, STANDBY, Pair, running_pair
from tests.helpers import DEADLINE_S, eventually_async
from tests.venue import USD, Peer, limit_order, running_venue, utc_timestamp

SYMBOL = "BTC-USD"
WAIT = ("--wait", f"{DEADLINE_S:.0f}")
"""For the engine to settle a change."""
Captured = pytest.CaptureFixture[str]


@pytest.fixture
async def pair(
    redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Pair]:
    monkeypatch.setenv("SHARDEX_REDIS_URL", redis_url)
    async with running_pair(redis_url, tmp_path) as pair:
        yield pair


async def commands(pair: Pair) -> list[Command]:
    """Return what stands behind the definition of the symbol."""
    async with pair.venue.link.sibling(1) as link:
        entries = await link.call("XRANGE", keys.orders(SYMBOL), "2-0", "+")
    return [decode_command(fields[1]) for _, fields in entries]


async def events(pair: Pair) -> list[Event]:
    """Return all events of the symbol."""
    async with pair.venue.link.sibling(1) as link:
        entries = await link.call("XRANGE", keys.events(SYMBOL), "-", "+")
    return [event for _, fields in entries for event in decode_output(fields[1]).events]


async def phase(tmp_path: Path, *words: str) -> int:
    """Run ``shardex phase``."""
    config = str(tmp_path / "exchange.toml")
    return await asyncio.to_thread(main, ["phase", *words, "--config", config])


def until(ends_ns: int) -> str:
    """Return the fields of an order that is good till then."""
    return f"|59=6|126={utc_timestamp(ends_ns)}"


async def good_till(peer: Peer, cl_ord_id: str, seconds: int) -> None:
    """Have an order rest so long."""
    ends_ns = time.time_ns() + seconds * 1_000_000_000
    peer.send(limit_order(cl_ord_id, 1, "1", "100", until(ends_ns)))
    await peer.expect("8", t150="0", t11=cl_ord_id)


async def good_till_soon(peer: Peer) -> tuple[str, int]:
    """Have an order rest as short as can be; return its ClOrdID and when it ends, in ns.

    One that has ended before the venue got it is refused; then it is tried with twice the time.
    """
    milliseconds = 700
    while True:
        cl_ord_id = f"a1-{milliseconds}"
        ends_ns = time.time_ns() + milliseconds * 1_000_000
        peer.send(limit_order(cl_ord_id, 1, "1", "100", until(ends_ns)))
        answer = await peer.expect("8", t11=cl_ord_id)
        if answer["150"] == "0":
            return cl_ord_id, ends_ns
        assert (answer["150"], answer["103"]) == ("8", "4"), answer
        assert time.time_ns() >= ends_ns - 1_000_000
        milliseconds *= 2


async def test_an_order_expires_on_time_in_a_quiet_market_whoever_leads(pair: Pair) -> None:
    async with pair.venue.gateway() as gateway:
        peer = await pair.venue.trader(gateway, "user")
        await good_till(peer, "a2", 3_600)
        cl_ord_id, ends_ns = await good_till_soon(peer)
        await peer.expect("8", t150="C", t39="C", t11=cl_ord_id)
        # The engine's and Redis' clock are one here; ExpireTime has whole milliseconds.
        assert time.time_ns() >= ends_ns - 1_000_000
        assert [type(one) for one in await commands(pair)][2:] == [Tick]
        held = (await pair.venue.balances(peer.account))["USD"].held
        assert 100 * USD <= held < 101 * USD, "the other order goes on"
        states = await pair.state(ENGINE, ticks=1), await pair.state(STANDBY, compared=3)
        assert [state.counters["ticks"] for state in states] == [1, 0]

        # Long enough for the leader to be killed before.
        await good_till(peer, "a3", 10)
        await pair.kill(ENGINE)
        await peer.expect("8", t150="C", t39="C", t11="a3")
        await pair.leads(STANDBY)
        assert [type(one) for one in await commands(pair)][3:] == [NewOrder, Tick]
        assert (await pair.state(STANDBY, ticks=1)).counters["ticks"] == 1


async def crossed(peer: Peer, count: int) -> None:
    """Gather orders that cross, in pre-open."""
    for number in range(count):
        for side, price in ((1, "110"), (2, "100")):
            peer.send(limit_order(f"{side}-{number}", side, "0.01", price))
            await peer.expect("8", t150="0", t39="0")


async def test_a_change_of_phase_survives_the_engine_that_was_to_apply_it(
    pair: Pair, tmp_path: Path, capsys: Captured
) -> None:
    async with pair.venue.gateway() as gateway:
        peer = await pair.venue.trader(gateway, "user")
        assert await phase(tmp_path, SYMBOL, "pre-open", *WAIT) == 0
        await crossed(peer, 20)
        capsys.readouterr()
        changing = asyncio.create_task(phase(tmp_path, SYMBOL, "continuous", "--json", *WAIT))

        async def stands_there() -> bool:
            return SetPhase(TradingPhase.CONTINUOUS, PhaseReason.OPERATOR) in await commands(pair)

        await eventually_async(stands_there)
        await pair.kill(ENGINE)
        assert await changing == 0
        done = json.loads(capsys.readouterr().out)
        assert (done["phase"], done["changed"]) == ("continuous", True)
        assert (done["auction_price"], done["auction_volume"]) == ("100.00", "0.20")
        for _ in range(40):
            await peer.expect("8", t150="F", t31="100.00")
        # One opening, whatever happened: each order traded once.
        told = await events(pair)
        opened = [one for one in told if isinstance(one, PhaseChanged) and one.auction_lots]
        fills = [one for one in told if isinstance(one, OrderFilled)]
        assert (len(opened), len({one.order_seq for one in fills}), len(fills)) == (1, 40, 40)
        balances = await pair.venue.balances(peer.account)
        assert (balances["USD"].held, balances["BTC"].held) == (0, 0)


async def test_an_auction_in_parts_goes_on_after_a_restart_in_its_midst(
    redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.setenv("SHARDEX_REDIS_URL", redis_url)
    monkeypatch.setattr(opening, "AUCTION_TRADES_PER_INPUT_MAX", 1)
    async with (
        running_venue(redis_url, tmp_path, engines=False) as venue,
        venue.engine(2),
        venue.gateway() as gateway,
        venue.link.sibling(1) as link,
    ):
        config = str(tmp_path / "exchange.toml")
        change = ["phase", SYMBOL, "continuous", "--json", "--config", config, *WAIT]

        async def ticks() -> int:
            return await link.call("XLEN", keys.orders(SYMBOL)) - 2 - 2 * 30 - 1

        async with venue.engine(1):
            peer = await venue.trader(gateway, "user")
            await asyncio.to_thread(main, [*change[:2], "pre-open", "--config", config, *WAIT])
            await crossed(peer, 30)
            capsys.readouterr()
            changing = asyncio.create_task(asyncio.to_thread(main, change))
            await eventually_async(lambda: _at_least(ticks, 5))
        async with venue.engine(1):
            assert await changing == 0
        done = json.loads(capsys.readouterr().out)
        assert (done["phase"], done["auction_volume"]) == ("continuous", "0.30")
        for _ in range(60):
            await peer.expect("8", t150="F", t31="100.00")
        # The command made the first trade, each Tick another one, and the last one found no more.
        assert await ticks() == 30


async def _at_least(count: Callable[[], Awaitable[int]], least: int) -> bool:
    return await count() >= least


async def test_phases_are_shown_refused_and_told_to_traders(
    redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.setenv("SHARDEX_REDIS_URL", redis_url)
    async with (
        running_venue(redis_url, tmp_path, engines=False) as venue,
        venue.engine(1),
        venue.gateway() as gateway,
    ):
        peer = await venue.trader(gateway, "user")
        assert await phase(tmp_path, SYMBOL, "halted", *WAIT) == 0
        assert f"{SYMBOL}: halted (seq 2)" in capsys.readouterr().out
        assert await phase(tmp_path, SYMBOL, "halted", *WAIT) == 0
        assert "is in that phase already" in capsys.readouterr().out

        peer.send(limit_order("a1", 1, "1", "100"))
        text = f"Trading phase: {SYMBOL} is halted"
        await peer.expect("8", t150="8", t103="2", t58=text)

        async def shown() -> bool:
            assert await phase(tmp_path, "--all", "--json") == 0
            rows = json.loads(capsys.readouterr().out)
            return bool(
                rows
                == [
                    {"symbol": "BTC-USD", "phase": "halted"},
                    {"symbol": "ETH-USD", "phase": None},
                ]
            )

        await eventually_async(shown)
    for words, code, reason in (
        ((), EXIT_USAGE, "which symbol?"),
        (("DOGE-USD",), EXIT_FAILED, "DOGE-USD: no such symbol"),
        ((SYMBOL, "open"), EXIT_USAGE, "expected one of continuous"),
        (("--all", "halted", "now"), EXIT_USAGE, "--all: expected no symbol"),
        (("ETH-USD", "halted", "--wait", "1"), EXIT_FAILED, "no engine has settled it in time"),
    ):
        assert await phase(tmp_path, *words) == code
        assert reason in capsys.readouterr().err


def closed_now() -> str:
    """Return a [[schedule]] by which the symbol is closed now, for hours yet."""
    hours = ("13:00", "23:00") if datetime.now(UTC).hour < 12 else ("01:00", "11:00")
    return (
        f'\n[[schedule]]\nsymbols = ["{SYMBOL}"]\n'
        'days = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]\n'
        f'open = "{hours[0]}"\nclose = "{hours[1]}"\n'
    )


async def test_the_schedule_is_executed_once_whoever_leads(
    redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHARDEX_REDIS_URL", redis_url)
    async with running_pair(redis_url, tmp_path, more=closed_now()) as pair:

        async def closed() -> bool:
            return bool(await commands(pair))

        await eventually_async(closed)
        assert await phase(tmp_path, SYMBOL, "continuous", *WAIT) == 0
        await pair.kill(ENGINE)
        await pair.leads(STANDBY)
        assert await phase(tmp_path, SYMBOL, "cancel-only", *WAIT) == 0
        assert await commands(pair) == [
            SetPhase(TradingPhase.CLOSED, PhaseReason.SCHEDULE),
            SetPhase(TradingPhase.CONTINUOUS, PhaseReason.OPERATOR),
            SetPhase(TradingPhase.CANCEL_ONLY, PhaseReason.OPERATOR),
        ]
