"""Production code with the simulated clock, disk and database in the place of the real ones.

Whatever is replaced in a process of the venue is replaced here; all else is what ``ops`` puts
together.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any
from unittest import mock

import engine.opening
import engine.snapshot_keeper
import engine.trading
import gateway.server
import ops.engine_process
import ops.writer_process
from engine.runner import ShardRunner
from engine.snapshot import encode_snapshot
from engine.snapshot_keeper import SnapshotKeeper
from router.process_registry import ProcessRegistry
from tests.simulation.clock import current_process

if TYPE_CHECKING:
    from tests.simulation.world import World

PORTIONS = (
    (engine.trading, "EXPIRIES_PER_INPUT_MAX", 2),
    (engine.trading, "STOP_TRIGGERS_PER_INPUT_MAX", 1),
    (engine.opening, "AUCTION_TRADES_PER_INPUT_MAX", 1),
)
"""What one input does of what is due, where portions are small: Ticks do the rest."""

SNAPSHOT_WRITE_S = 0.02
"""Time that a child process takes to write a snapshot."""


class _WatchedRunner(ShardRunner):
    """A ShardRunner that the simulation finds again; made where ``ops`` makes its runner."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.shard = options["shard"]
        process = current_process()
        assert process is not None, "engines are processes"
        process.objects["runner"] = self

    @property
    def is_idle(self) -> bool:
        """Tell whether all that was read is journalled and committed, or compared."""
        return self._ring.is_drained()


def _write_snapshots(keeper: Any, positions: Mapping[str, int]) -> int:
    """Write what a forked child would (SnapshotKeeper._fork): a fork is the state of a moment."""
    writer = os.getpid()
    for symbol, seq in positions.items():
        data = encode_snapshot(symbol, keeper._shard.state(symbol))
        keeper._store.write_new(symbol, seq, data, writer=writer)
    return writer


async def _wait_for_snapshots(pid: int) -> None:
    """Wait as for the child (engine.snapshot_keeper._wait_for)."""
    await asyncio.sleep(SNAPSHOT_WRITE_S)


async def _report_nothing(registry: ProcessRegistry) -> None:
    """Leave the register of processes empty: nothing here depends on it (ProcessRegistry.run)."""


@contextmanager
def production_in(world: World) -> Iterator[None]:
    """Put the world's clock, disk and database in the place of the real ones."""
    loop, choose = world.loop, random.Random(f"secrets {world.plan.seed}")
    with ExitStack() as stack:
        for place, name, value in (
            (time, "time_ns", loop.time_ns),
            (time, "monotonic_ns", loop.time_ns),
            (secrets, "token_hex", lambda size=32: choose.randbytes(size).hex()),
            (ops.engine_process, "JournalFile", world.disk.open),
            (gateway.server, "JournalFile", world.disk.open),
            (ops.engine_process, "ShardRunner", _WatchedRunner),
            (SnapshotKeeper, "_fork", _write_snapshots),
            (engine.snapshot_keeper, "_wait_for", _wait_for_snapshots),
            (ProcessRegistry, "run", _report_nothing),
            (ops.writer_process, "PostgresWriter", lambda url, settings: world.table_writer()),
        ):
            stack.enter_context(mock.patch.object(place, name, value))
        for place, name, portion in PORTIONS if world.plan.small_portions else ():
            stack.enter_context(mock.patch.object(place, name, portion))
        before = logging.root.manager.disable
        logging.disable(logging.CRITICAL)
        stack.callback(logging.disable, before)
        yield
