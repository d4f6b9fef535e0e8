"""A venue of its own for one command, benchmark or test, in a directory that goes afterwards.

It is ``shardex up --demo-quiet`` as a child, with a venue file made for it, on free ports: so what
is measured and checked here is what an operator runs. The child gets SIGTERM when we die, and then
stops its servers like on any other stop.
"""

from __future__ import annotations

import asyncio
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from engine.instrument import DecimalGrid
from ops.child_process import launch_command
from ops.embedded import free_port
from ops.endpoints import Endpoints, endpoints_path, read_endpoints
from ops.errors import ProcessFailed
from ops.settings import Settings, load_settings, private_environment

START_TIMEOUT_S = 300.0
STOP_TIMEOUT_S = 120.0
MAX_QTY_LOTS = 10**6
"""Largest order, in lots: recorded flow goes to 15,000."""

_POLL_S = 0.05
_TAIL_LINES = 20
_QUOTE = "USD"


class PrivateSymbol(msgspec.Struct, frozen=True):
    """A symbol to trade, in a base asset of its own against USD. Decimals are text."""

    name: str
    tick_size: str = "0.01"
    lot_size: str = "1"
    maker_fee_ppm: int = 0
    taker_fee_ppm: int = 0


class PrivateVenue(msgspec.Struct, frozen=True):
    """A venue that runs.

    Args:
        endpoints: where, and as whom, to connect; the users have ample balances.
        settings: as its processes have them.
        pid: of ``up``, the parent of all its processes.
    """

    endpoints: Endpoints
    settings: Settings
    pid: int


def venue_text(
    symbols: Sequence[PrivateSymbol],
    *,
    shards: int,
    gateways: int,
    directory: Path,
    gateway_lines: Sequence[str] = (),
) -> str:
    """Return a venue file: symbols spread evenly over shards, every port free now."""
    quote_scale = max(_places(one.tick_size) + _places(one.lot_size) for one in symbols)
    blocks = [
        f'var_dir = "{directory / "var"}"',
        f'[[assets]]\nname = "{_QUOTE}"\nscale = {quote_scale}',
    ]
    for index, one in enumerate(symbols):
        base = f"BASE{index}"
        blocks.append(f'[[assets]]\nname = "{base}"\nscale = {_places(one.lot_size)}')
        blocks.append(_symbol_block(one, base))
    for shard in range(1, shards + 1):
        names = ", ".join(f'"{one.name}"' for one in symbols[shard - 1 :: shards])
        blocks.append(f"[[shards]]\nid = {shard}\ndb = {shard}\nsymbols = [{names}]")
    gateway = ("[gateway]", f"port = {free_port(0)}", f"count = {gateways}", *gateway_lines)
    blocks.append("\n".join(gateway))
    blocks.append(f"[redis]\nport = {free_port(0)}")
    blocks.append(f"[postgres]\nport = {free_port(0)}")
    return "\n\n".join(blocks) + "\n"


def _symbol_block(symbol: PrivateSymbol, base: str) -> str:
    return "\n".join(
        [
            "[[symbols]]",
            f'name = "{symbol.name}"',
            f'base = "{base}"',
            f'quote = "{_QUOTE}"',
            f'tick_size = "{symbol.tick_size}"',
            f'lot_size = "{symbol.lot_size}"',
            f'min_qty = "{symbol.lot_size}"',
            f'max_qty = "{DecimalGrid(symbol.lot_size).format(MAX_QTY_LOTS)}"',
            f"maker_fee_ppm = {symbol.maker_fee_ppm}",
            f"taker_fee_ppm = {symbol.taker_fee_ppm}",
        ]
    )


def _places(step: str) -> int:
    return len(step.partition(".")[2])


@asynccontextmanager
async def private_venue(
    symbols: Sequence[PrivateSymbol],
    *,
    parent: Path,
    shards: int = 1,
    gateways: int = 1,
    standby: bool = False,
    gateway_lines: Sequence[str] = (),
    keeps: Callable[[], bool] = lambda: False,
) -> AsyncIterator[PrivateVenue]:
    """Run a venue for as long as the context lasts; then stop it and remove its directory.

    Args:
        symbols: what is traded.
        parent: where its directory is made; on the disk whose speed counts.
        shards: number of engines.
        gateways: number of gateways.
        standby: whether each shard has a second engine.
        gateway_lines: more of ``[gateway]``.
        keeps: asked at the end whether the directory stays.

    Raises:
        ProcessFailed: it did not start; with the end of what it said.
        InstrumentError: a tick or lot size is no positive decimal.
    """
    directory = _make_directory(parent)
    options = ["--standby"] if standby else []
    try:
        config = directory / "exchange.toml"
        size = {"shards": shards, "gateways": gateways}
        config.write_text(
            venue_text(symbols, **size, directory=directory, gateway_lines=gateway_lines)
        )
        settings = load_settings(config, {})
        with (directory / "up.log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                *launch_command(
                    [
                        *(sys.executable, "-m", "ops", "up", "--demo-quiet"),
                        *("--config", str(config), *options),
                    ],
                    death_signal=signal.SIGTERM,
                ),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Ctrl-C on the terminal is for us: we stop the venue last.
                start_new_session=True,
                env=private_environment(),
            )
        try:
            endpoints = await _wait_for_endpoints(process, settings, directory)
            yield PrivateVenue(endpoints, settings, process.pid)
        finally:
            await _stop(process)
    finally:
        if not keeps():
            shutil.rmtree(directory)


def _make_directory(parent: Path) -> Path:
    parent.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(prefix="private-", dir=parent)).resolve()


async def _wait_for_endpoints(
    process: asyncio.subprocess.Process, settings: Settings, directory: Path
) -> Endpoints:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + START_TIMEOUT_S
    while (endpoints := read_endpoints(endpoints_path(settings.var_dir))) is None:
        if process.returncode is not None or loop.time() > deadline:
            said = (directory / "up.log").read_text(errors="replace").splitlines()[-_TAIL_LINES:]
            raise ProcessFailed("\n".join(["the private venue did not start:", *said]))
        await asyncio.sleep(_POLL_S)
    return endpoints


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.terminate()
    try:
        async with asyncio.timeout(STOP_TIMEOUT_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
