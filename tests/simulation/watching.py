"""What must hold while a world runs, and what it still waits for before it is at rest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from engine.commands import NewOrder, decode_command
from engine.events import (
    BusinessRejected,
    CancelRejected,
    MassCancelReported,
    Output,
    decode_output,
)
from router import keys
from tests.simulation.clock import State
from tests.simulation.redis_store import Reply

if TYPE_CHECKING:
    from tests.simulation.world import World

_WITHOUT_EXEC_ID = (CancelRejected, BusinessRejected, MassCancelReported)
"""Events that make no 35=8; outboxes have no others that do not."""


def watch(world: World) -> None:
    """Check after each script: money only moves, nothing is negative, only leaders commit."""

    def on_script(name: str, args: Sequence[bytes], reply: Reply) -> None:
        _look_at_money(world, moves_only=name != "ledger_transfer")
        if name.startswith("session_"):
            world.disconnects.on_script(name, args, reply, world.loop.time())
        if name in ("settle", "publish") and isinstance(reply, list) and reply[0] == b"OK":
            _look_at_leader(world, args)

    world.redis.on_script = on_script
    world.redis.store.balance_moves.clear()


def _look_at_money(world: World, *, moves_only: bool) -> None:
    moves = world.redis.store.balance_moves
    if not moves:
        return
    sums: dict[bytes, int] = {}
    for (key, name), amount in moves.items():
        asset = name.partition(b":")[0]
        sums[asset] = sums.get(asset, 0) + amount
        value = int(world.redis.store.databases[0].values[key][name])
        if value < 0:
            world.fail(f"negative balance: {key!r} {name!r} is {value}")
    moves.clear()
    if moves_only and any(sums.values()):
        world.fail(f"money is not conserved: a script made {sums}")


def _look_at_leader(world: World, args: Sequence[bytes]) -> None:
    db, owner, epoch = msgspec.msgpack.decode(args[0])[:3]
    lease = world.redis.store.key(db, keys.LEASE)
    if (lease[b"owner"].decode(), int(lease[b"epoch"])) != (owner, epoch):
        world.fail(f"{owner} (epoch {epoch}) committed, but the lease is {lease}")


# ------------------------------------------------------------ whether it is at rest


def what_is_missing(world: World) -> str:
    """Return what the world still waits for; empty when it is at rest."""
    for task in world.at_work:
        if not task.done():
            return "an operator is at work"
        task.result()
    for client in world.clients:
        if client.wrong:
            world.fail(f"client {client.account} was told what cannot be: {client.wrong[0]}")
        if not client.is_done:
            waiting = list(client.unanswered.items())[:5]
            return f"client {client.account}: sent {client.sent}, unanswered {waiting}"
    ends = _ends(world, "orders")
    settled = world.redis.store.key(0, keys.SETTLED) or {}
    found = {symbol: int(settled.get(symbol.encode(), 0)) for symbol in world.symbols}
    if found != ends:
        return f"settled {found} of {ends}"
    if _ends(world, "events") != ends:
        return f"published {_ends(world, 'events')} of {ends}"
    return _behind(world, ends)


def _behind(world: World, ends: dict[str, int]) -> str:
    for client in world.clients:
        session = world.redis.store.key(0, keys.session(client.account))
        cursor, end = int(session.get(b"cursor", 0)), _outbox_end(world, client.account)
        if cursor != end:
            return f"account {client.account}: told up to {cursor} of {end}"
        exec_ids, rejects = to_be_told(world, client.account)
        if len(client.exec_ids) < len(exec_ids) or client.cancel_rejects < rejects:
            return f"account {client.account}: reports are on their way"
    for name in world.plan.engines:
        missing = _engine_behind(world, name, ends)
        if missing:
            return missing
    if world.plan.writer:
        ledger = world.redis.store.databases[0].stream(b"ledger").last
        if world.tables.positions != {**ends, keys.LEDGER: ledger}:
            return f"writer: {world.tables.positions} of {ends}, ledger {ledger}"
    return _market_data_behind(world, ends) if world.plan.marketdata else ""


def _engine_behind(world: World, name: str, ends: dict[str, int]) -> str:
    runner = world.lives[name].process.objects.get("runner")
    if world.lives[name].process.state is not State.RUNNING or runner is None:
        return f"{name} does not run"
    if any(seq != ends[symbol] for symbol, seq in runner.applied.items()):
        return f"{name}: applied {runner.applied} of {ends}"
    if not runner.is_idle:
        return f"{name}: commits"
    now_us = world.loop.time_ns() // 1_000
    for symbol in runner.shard.symbols():
        if 0 < runner.shard.due_us(symbol) <= now_us:
            return f"{name}: something is due in {symbol}"
    return ""


def _market_data_behind(world: World, ends: dict[str, int]) -> str:
    position = world.redis.store.key(0, keys.POSITION_MARKETDATA) or {}
    found = {symbol: int(position.get(symbol.encode(), 0)) for symbol in ends}
    if found != ends:
        return f"market data: {found} of {ends}"
    assert world.subscriber is not None
    if not all(replica.joined for replica in world.subscriber.replicas.values()):
        return "a replica is not complete"
    if world.rested_s is None:
        world.rested_s = world.loop.time()
    if world.loop.time() < world.rested_s + 1.0:
        return "replicas hear what they have missed with the next heartbeats"
    return ""


def _ends(world: World, kind: str) -> dict[str, int]:
    return {
        symbol: world.redis.store.databases[shard].stream(f"{kind}:{symbol}".encode()).last
        for shard, symbols in enumerate(world.plan.shards, 1)
        for symbol in symbols
    }


def _outbox_end(world: World, account: int) -> int:
    return world.redis.store.databases[0].stream(keys.outbox(account).encode()).last


def to_be_told(world: World, account: int) -> tuple[list[str], int]:
    """Return the ExecIDs that an outbox makes, in order, and the number of its cancel rejects."""
    exec_ids: list[str] = []
    rejects = 0
    for number, fields in world.redis.history(0, keys.outbox(account)):
        if fields[0] == b"e":
            output = decode_output(fields[1])
            exec_ids += _exec_ids(output, account, number)
            rejects += sum(isinstance(event, CancelRejected) for event in output.events)
        elif fields[0] == b"q":
            entry = dict(zip(fields[::2], fields[1::2], strict=True))
            orders = msgspec.msgpack.decode(entry[b"o"])[::2]
            exec_ids += [f"m{account}-{number}-{i}" for i in range(max(len(orders), 1))]
        elif fields[5] != b"away":
            is_order = isinstance(decode_command(fields[1]), NewOrder)
            exec_ids += [f"{account}-{number}-R0"] * is_order
            rejects += not is_order
    return exec_ids, rejects


def _exec_ids(output: Output, account: int, number: int) -> list[str]:
    return [
        f"{output.symbol}-{output.seq}-{event.index}"
        if output.seq
        else f"{account}-{number}-R{event.index}"
        for event in output.events
        if not isinstance(event, _WITHOUT_EXEC_ID)
    ]
