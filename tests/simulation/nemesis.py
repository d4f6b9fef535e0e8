"""What goes wrong in a world, one happening after the other, and how it is made good."""

from __future__ import annotations

import asyncio
import functools
from contextlib import suppress
from typing import TYPE_CHECKING

from engine.enums import TradingPhase
from ops.wiring import shard_map
from router.errors import LedgerRefused, RouterError
from router.homes import read_homes
from router.lease import ask_to_hand_over, read_leader
from router.ledger import deposit, withdraw
from router.phases import PhaseRequest, request_phase
from router.redis_client import RedisLink, retry_while_away
from tests.simulation.clock import State
from tests.simulation.plan import Happening

if TYPE_CHECKING:
    from tests.simulation.world import World


async def happen(world: World) -> None:
    """Let everything that is planned go wrong, in order."""
    for one in world.plan.happenings:
        wait_s = one.at_s - world.loop.time()
        if wait_s > 0:
            await asyncio.sleep(wait_s)
        if world.failures:
            return
        world.count(one.kind)
        world.at_work.append(world.loop.create_task(_KINDS[one.kind](world, one)))


async def make_good(world: World) -> None:
    """End all trouble: everything runs, and nothing is lost any more."""
    world.faults_on = False
    world.network.calm()
    world.disk.is_full = world.postgres_is_away = False
    world.redis.has_memory = True
    if not world.redis.is_up:
        world.redis.start()
    for life in world.lives.values():
        if life.process.state is State.PAUSED:
            world.loop.resume(life.process)


async def _kill(world: World, one: Happening) -> None:
    world.kill(one.target, power_lost=False)


async def _power(world: World, one: Happening) -> None:
    world.kill(one.target, power_lost=True)


async def _stop(world: World, one: Happening) -> None:
    life = world.lives.get(one.target)
    if life is None or life.process.state is not State.RUNNING:
        return
    life.task.cancel()
    world.loop.call_later(world.STOP_TIMEOUT_S, _kill_if_alive, world, life)


def _kill_if_alive(world: World, life: object) -> None:
    for name, present in world.lives.items():
        if present is life:
            world.kill(name, power_lost=False)


async def _pause(world: World, one: Happening) -> None:
    life = world.lives.get(one.target)
    if life is None or life.process.state is not State.RUNNING:
        return
    process = life.process
    process.state = State.PAUSED

    def go_on() -> None:
        if process.state is State.PAUSED:
            world.loop.resume(process)

    world.loop.call_later(one.for_s, go_on)


async def _redis(world: World, one: Happening) -> None:
    if not world.redis.is_up:
        return
    world.redis.stop()

    def come_back() -> None:
        if not world.redis.is_up:
            world.redis.start()

    world.loop.call_later(one.for_s, come_back)


async def _cut(world: World, one: Happening) -> None:
    life = world.lives.get(one.target)
    ends = world.network.endpoints_of(life.process) if life else []
    if ends:
        world.network.cut(ends[one.number % len(ends)])


async def _memory(world: World, one: Happening) -> None:
    world.redis.has_memory = False
    world.loop.call_later(one.for_s, setattr, world.redis, "has_memory", True)


async def _disk(world: World, one: Happening) -> None:
    world.disk.is_full = True
    world.loop.call_later(one.for_s, setattr, world.disk, "is_full", False)


async def _postgres(world: World, one: Happening) -> None:
    world.postgres_is_away = True
    world.loop.call_later(one.for_s, setattr, world, "postgres_is_away", False)


async def _handover(world: World, one: Happening) -> None:
    """Ask the leader of a shard to hand over, as ``shardex failover`` does."""
    db = one.number % len(world.plan.shards) + 1
    if not world.plan.standby:
        return
    async with RedisLink(world.URL, db=db, name="failover", timeout_ms=400) as link:
        try:
            leader = await read_leader(link)
            if leader is not None:
                await ask_to_hand_over(link, leader.epoch)
        except RouterError:
            world.count("handovers not asked")


async def _transfer(world: World, one: Happening) -> None:
    """Deposit or withdraw, and say so again until there is an answer, as an operator does."""
    client = world.clients[one.number % len(world.clients)]
    symbol = world.symbols[one.number % len(world.symbols)]
    asset = ("USD", symbol.partition("-")[0])[one.number // 7 % 2]
    move = (deposit, withdraw)[one.number // 3 % 2]
    amount = 1 + one.number // 11 % 1_000
    async with RedisLink(world.URL, db=0, name="operator", timeout_ms=400) as link:
        with suppress(LedgerRefused):
            await retry_while_away(
                lambda: move(
                    link,
                    account=client.account,
                    asset=asset,
                    amount=amount,
                    ref=f"{one.at_s}-{one.number}",
                ),
                what="transfer",
                out_of_memory_too=True,
            )


async def _phase(world: World, one: Happening) -> None:
    """Change the phase of a symbol, and open it again after a while."""
    symbol = world.symbols[one.number % len(world.symbols)]
    changes = _WAYS[one.number // 3 % len(_WAYS)]
    async with RedisLink(world.URL, db=0, name="operator", timeout_ms=400) as link:
        shards = shard_map(world.settings, world.URL).shards
        homes = await retry_while_away(lambda: read_homes(link, shards), what="homes")
        for number, phase in enumerate(changes):
            request = PhaseRequest(homes[symbol], phase, f"{one.at_s}-{one.number}-{number}")
            placed = await retry_while_away(
                functools.partial(request_phase, link, request),
                what="phase",
                out_of_memory_too=True,
            )
            world.phase_changes[symbol, placed.seq] = phase
            if phase is not TradingPhase.CONTINUOUS:
                await asyncio.sleep(one.for_s / len(changes))


async def _client_cut(world: World, one: Happening) -> None:
    world.clients[one.number % len(world.clients)].cut()


async def _client_leave(world: World, one: Happening) -> None:
    """Let a client go away, the first one above all: its orders may be canceled then."""
    number = one.number // 2 % len(world.clients) if one.number % 2 else 0
    world.clients[number].leave(2 * one.for_s)


async def _client_abandon(world: World, one: Happening) -> None:
    world.clients[one.number % len(world.clients)].abandon()


_WAYS = (
    (TradingPhase.PRE_OPEN, TradingPhase.CONTINUOUS),
    (TradingPhase.PRE_OPEN, TradingPhase.OPENING_AUCTION),
    (TradingPhase.HALTED, TradingPhase.PRE_OPEN, TradingPhase.CONTINUOUS),
    (TradingPhase.CANCEL_ONLY, TradingPhase.CONTINUOUS),
    (TradingPhase.CLOSED, TradingPhase.PRE_OPEN, TradingPhase.CONTINUOUS),
    (TradingPhase.PRE_OPEN,),
    (TradingPhase.HALTED,),
)
"""Phases that follow each other; some worlds end in the last."""

_KINDS = {
    "kill": _kill,
    "power": _power,
    "stop": _stop,
    "pause": _pause,
    "redis": _redis,
    "cut": _cut,
    "memory": _memory,
    "disk": _disk,
    "postgres": _postgres,
    "handover": _handover,
    "transfer": _transfer,
    "phase": _phase,
    "client_cut": _client_cut,
    "client_leave": _client_leave,
    "client_abandon": _client_abandon,
}
