"""``shardex failover``: a planned change of the engine that leads a shard; ``forget-standby``."""

from __future__ import annotations

import argparse
import asyncio

import msgspec

from ops.cli import (
    EXIT_OK,
    Subparsers,
    add_command,
    connect,
    positive_number,
    print_data,
    settings_of,
)
from ops.engine_roles import owns
from ops.errors import CommandFailed
from ops.settings import Settings
from ops.wiring import shard_map, wall_us
from router import keys
from router.lease import Leader, ask_to_hand_over, read_leader
from router.process_registry import read_processes
from router.redis_client import RedisLink
from router.shards import Shard
from router.trimming import OrderStreams

_DEFAULT_TIMEOUT_S = 10
_POLL_S = 0.02
_HEARTBEAT_AGE_MAX_US = 2_500_000
"""Of a follower that lives: it gives a sign every second, and its last one stays for five."""

_DETAILS = """\
Asks the engine that leads the shard to give it up; the one that follows it goes on from
the first output that was not published. Gateways notice nothing but a short wait. Refused where no
other live engine follows. The engine that handed over ends; `up` starts it again."""

_FORGET_DETAILS = """\
Keeps orders in Redis for the shard's second engine no longer, as `up` without --standby
does when it starts: for a standby that is not coming back, while the venue trades. Refused
while that engine runs. Should it come back all the same, it reads what is gone from
journals, or ends with RecoveryGap."""


class Failover(msgspec.Struct, frozen=True):
    """A change of leader that took place. Owners are ``name:pid:random``."""

    shard: int
    previous: str
    leader: str
    epoch: int
    elapsed_ms: int


def add_parsers(commands: Subparsers) -> None:
    """Add failover."""
    parser = add_command(
        commands,
        "failover",
        _failover,
        summary="Hand a shard over to its other engine",
        details=_DETAILS,
        json=True,
    )
    parser.add_argument("shard", type=int, metavar="SHARD", help="of [[shards]], such as 1")
    parser.add_argument(
        "--timeout-s",
        type=positive_number,
        default=_DEFAULT_TIMEOUT_S,
        metavar="S",
        help=f"longest wait for the new leader (default: {_DEFAULT_TIMEOUT_S})",
    )

    parser = add_command(
        commands,
        "forget-standby",
        _forget_standby,
        summary="Keep no orders for a second engine that is not coming back",
        details=_FORGET_DETAILS,
    )
    parser.add_argument("shard", type=int, metavar="SHARD", help="of [[shards]], such as 1")


def _failover(args: argparse.Namespace) -> int:
    done = asyncio.run(_hand_over(settings_of(args), args.shard, args.timeout_s))
    if args.json:
        print_data(msgspec.to_builtins(done))
    else:
        print(
            f"shard {done.shard}: {done.leader} leads, epoch {done.epoch},"
            f" {done.elapsed_ms:,} ms after {done.previous} was asked"
        )
    return EXIT_OK


def _forget_standby(args: argparse.Namespace) -> int:
    name = keys.engine_name(args.shard, standby=True)
    has_forgotten = asyncio.run(_forget(settings_of(args), args.shard, name))
    what = "orders are kept no longer" if has_forgotten else "no orders were kept"
    print(f"shard {args.shard}: {what} for {name}")
    return EXIT_OK


async def _forget(settings: Settings, shard_id: int, name: str) -> bool:
    """Forget what a second engine needs; False where that was not known.

    Raises:
        CommandFailed: there is no such shard, or the engine runs.
        RedisUnavailable: it may be forgotten or not.
    """
    async with connect(settings) as link:
        streams = OrderStreams(link, _find_shard(settings, link, shard_id))
        try:
            running = (await read_processes(link, [name])).get(name)
            if running is not None:
                raise CommandFailed(f"{name} runs (process {running.pid}): stop it first")
            return await streams.forget(name)
        finally:
            await streams.close()


def _find_shard(settings: Settings, link: RedisLink, shard_id: int) -> Shard:
    shards = shard_map(settings, link.url)
    if shard_id not in [shard.id for shard in shards.shards]:
        raise CommandFailed(f"shard {shard_id}: no [[shards]] block has this id")
    return shards.by_id(shard_id)


async def _hand_over(settings: Settings, shard_id: int, timeout_s: int) -> Failover:
    """Ask for a handover and wait until another epoch has begun.

    Raises:
        CommandFailed: it cannot be, or did not happen in time.
        RedisUnavailable, OutOfMemory: it may still happen.
    """
    async with connect(settings) as link:
        async with link.sibling(_find_shard(settings, link, shard_id).db) as shard_link:
            before = await read_leader(shard_link)
            if before is None:
                raise CommandFailed(f"shard {shard_id}: nobody leads it")
            await _check_follower(link, shard_id, before)
            loop = asyncio.get_running_loop()
            asked_at_s = loop.time()
            if not await ask_to_hand_over(shard_link, before.epoch):
                raise CommandFailed(f"shard {shard_id}: its leader has just changed")
            try:
                async with asyncio.timeout(timeout_s):
                    after = await _next_leader(shard_link, before.epoch)
            except TimeoutError:
                raise CommandFailed(
                    f"shard {shard_id}: {before.owner} was asked, but nobody else leads it after"
                    f" {timeout_s} s"
                ) from None
            elapsed_ms = round((loop.time() - asked_at_s) * 1_000)
            return Failover(shard_id, before.owner, after.owner, after.epoch, elapsed_ms)


async def _check_follower(link: RedisLink, shard_id: int, leader: Leader) -> None:
    processes = await read_processes(link, keys.engine_names(shard_id))
    oldest_us = wall_us() - _HEARTBEAT_AGE_MAX_US
    others = [
        state
        for state in processes.values()
        if not owns(state, leader) and state.now_us >= oldest_us
    ]
    if not others:
        raise CommandFailed(
            f"shard {shard_id}: no other engine runs beside {leader.owner}; `shardex up --standby`"
            " or `shardex engine --standby` starts one"
        )
    if not any(state.counters.get("is_live") for state in others):
        raise CommandFailed(f"shard {shard_id}: {others[0].name} still recovers")


async def _next_leader(link: RedisLink, epoch: int) -> Leader:
    while True:
        leader = await read_leader(link)
        if leader is not None and leader.epoch > epoch:
            return leader
        await asyncio.sleep(_POLL_S)
