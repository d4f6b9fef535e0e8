"""What must hold: while a world runs, and when it has come to rest.

Each checker is a function from the world (and the clean history of its streams) to complaints; all
of them are in ``CHECKERS``. None trusts what it checks: expectations come from the streams of
commands alone, from the ledger, and from what clients sent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from itertools import zip_longest
from typing import TYPE_CHECKING

import msgspec

from engine.book import content_hash
from engine.commands import DefineSymbol, NewOrder, decode_command
from engine.enums import Side
from engine.events import (
    BusinessRejected,
    CancelRejected,
    Output,
    SymbolDefined,
    decode_output,
)
from engine.journal_keys import decode_hash, digest_of, hashed_symbol
from engine.journal_reader import JournalReader
from engine.ledger_entries import Deposited, decode_ledger_entry
from marketdata.feed_codec import SymbolTexts
from marketdata.updates import LevelChange
from ops.wiring import journal_directory
from router import keys
from tests.simulation.clock import State
from tests.simulation.history import History, NaiveReplay
from tests.simulation.postgres import rows_of_uncut_run
from tests.simulation.redis_store import Reply

if TYPE_CHECKING:
    from tests.simulation.world import World

LEVELS = 1_000


# ------------------------------------------------------------ while it runs


def watch(world: World) -> None:
    """Check after each script: money only moves, nothing is negative, only leaders commit."""

    def on_script(name: str, args: Sequence[bytes], reply: Reply) -> None:
        _look_at_money(world, moves_only=name != "ledger_transfer")
        if name in ("settle", "publish") and isinstance(reply, list):
            if reply[0] == b"OK" and reply[1]:
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
        if len(client.exec_ids) + client.cancel_rejects + len(client.unavailable) < end:
            return f"account {client.account}: reports are on their way"
    for name in world.plan.engines:
        runner = world.lives[name].process.objects.get("runner")
        if world.lives[name].process.state is not State.RUNNING or runner is None:
            return f"{name} does not run"
        if any(seq != ends[symbol] for symbol, seq in runner.applied.items()):
            return f"{name}: applied {runner.applied} of {ends}"
        if runner.counters()["ring_used"]:
            return f"{name}: commits"
    if world.plan.writer:
        ledger = world.redis.store.databases[0].stream(b"ledger").last
        if world.tables.positions != {**ends, keys.LEDGER: ledger}:
            return f"writer: {world.tables.positions} of {ends}, ledger {ledger}"
    return _market_data_behind(world, ends) if world.plan.marketdata else ""


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


# ------------------------------------------------------------ at rest

Checker = Callable[["World", History], Iterator[str]]


def check(world: World) -> None:
    """Run every checker."""
    streams = {
        symbol: world.redis.history(shard, keys.orders(symbol))
        for shard, symbols in enumerate(world.plan.shards, 1)
        for symbol in symbols
    }
    history = History(streams)
    world.count("commands", sum(map(len, streams.values())))
    for checker in CHECKERS:
        for complaint in checker(world, history):
            world.fail(f"{checker.__name__}: {complaint}")


def events_are_those_of_a_clean_run(world: World, history: History) -> Iterator[str]:
    """Events are dense per symbol and, byte for byte, what the commands give."""
    for shard, symbols in enumerate(world.plan.shards, 1):
        for symbol in symbols:
            published = world.redis.history(shard, keys.events(symbol))
            expected = list(enumerate(history.outputs[symbol], 1))
            for ours, theirs in zip_longest(expected, published):
                if ours is None or theirs is None or ours != (theirs[0], theirs[1][1]):
                    yield f"{symbol}: expected {_shown(ours)}, published {theirs}"
                    break


def _shown(one: tuple[int, bytes] | None) -> object:
    return None if one is None else (one[0], decode_output(one[1]))


def live_state_is_replayed_state(world: World, history: History) -> Iterator[str]:
    """The state of every live engine is that of a clean run, and keeps its invariants."""
    for name in world.plan.engines:
        shard = world.lives[name].process.objects["runner"].shard
        shard.check_invariants()
        for symbol in shard.symbols():
            if shard.state_hash(symbol) != history.shard.state_hash(symbol):
                yield f"{name}: the state of {symbol} is another"


def book_is_the_naive_book(world: World, history: History) -> Iterator[str]:
    """Events, followed by the reference book, keep price-time priority and end in the same book."""
    for symbol in world.symbols:
        replay = NaiveReplay()
        for output in history.decoded(symbol):
            replay.apply(output)
        replay.check_rest()
        book = history.shard.matcher(symbol).book
        for side in Side:
            if book.levels(side, LEVELS) != replay.book.levels(side, LEVELS):
                replay.wrong.append(f"{side.name} levels differ")
        orders = {order.order_id: order.leaves_qty_lots for order in book.orders.values()}
        if orders != {entry[2]: entry[3] for entry in replay.book.content()}:
            replay.wrong.append("resting orders differ")
        if content_hash(replay.book.content()) != replay.book.state_hash():
            replay.wrong.append("the reference book contradicts itself")
        yield from (f"{symbol}: {complaint}" for complaint in replay.wrong)


def balances_follow_from_deposits_and_events(world: World, history: History) -> Iterator[str]:
    """Each balance is deposits, reservations and changes; nothing is pending; money is conserved."""
    expected: dict[tuple[int, str], list[int]] = {}
    for _, fields in world.redis.history(0, keys.LEDGER):
        entry = decode_ledger_entry(fields[1])
        if isinstance(entry, Deposited):
            expected.setdefault((entry.account, entry.asset), [0, 0, 0])[0] += entry.amount
    totals: dict[str, int] = {}
    for (_, asset), parts in expected.items():
        totals[asset] = totals.get(asset, 0) + sum(parts)
    for key, moves in history.moves.items():
        parts = expected.setdefault(key, [0, 0, 0])
        for index, amount in enumerate(moves):
            parts[index] += amount
    for (account, asset), parts in expected.items():
        balance = world.redis.store.key(0, keys.balances(account)) or {}
        names = keys.available(asset), keys.pending(asset), keys.held(asset)
        found = [int(balance.get(name.encode(), 0)) for name in names]
        totals[asset] -= sum(found)
        if found != parts:
            yield f"account {account}: {asset} is {found}, expected {parts}"
        if found[1] or min(found) < 0:
            yield f"account {account}: {asset} is pending or negative at rest: {found}"
    if any(totals.values()):
        yield f"money is not conserved: deposits less balances are {totals}"


def open_orders_are_those_of_the_book(world: World, history: History) -> Iterator[str]:
    """What settlement keeps is what rests, and what is held is what it needs."""
    held: dict[tuple[int, str], int] = {}
    resting: dict[tuple[int, str, str], str] = {}
    for symbol in world.symbols:
        matcher = history.shard.matcher(symbol)
        for order in matcher.book.orders.values():
            resting[order.owner, symbol, order.cl_ord_id] = order.text()
            key = order.owner, matcher.rules.hold_asset(order.side)
            held[key] = held.get(key, 0) + order.hold
    found = {}
    for client in world.clients:
        fields = world.redis.store.key(0, keys.open_orders(client.account)) or {}
        for name, text in fields.items():
            symbol, _, cl_ord_id = name.decode().partition("|")
            found[client.account, symbol, cl_ord_id] = text.decode()
        balance = world.redis.store.key(0, keys.balances(client.account))
        for name, amount in balance.items():
            asset, _, part = name.decode().partition(":")
            if part == "h" and int(amount) != held.get((client.account, asset), 0):
                yield f"account {client.account}: holds {amount!r} {asset}, the book needs {held}"
    if not found == resting == history.opens:
        yield f"open orders are {found}, in the book rest {resting}"


def each_message_takes_effect_once(world: World, history: History) -> Iterator[str]:
    """No message stands in the streams twice, nor one that was answered with 380=4."""
    seen: dict[tuple[int, str], tuple[str, int]] = {}
    for symbol, commands in history.commands.items():
        for seq, command in commands.items():
            if isinstance(command, DefineSymbol):
                continue
            name = getattr(command, "ord_status_req_id", "") or command.cl_ord_id
            key = command.account, name
            if key in seen:
                yield f"{command} stands at {seen[key]} and at {(symbol, seq)}"
            seen[key] = symbol, seq
    for client in world.clients:
        for name in client.unavailable:
            if (client.account, name) in seen:
                yield f"account {client.account}: {name} was refused, but stands in a stream"


def each_report_is_told_once(world: World, history: History) -> Iterator[str]:
    """Outboxes hold each report once, in order, and clients were told just that."""
    for client in world.clients:
        account = client.account
        by_symbol: dict[str, list[bytes]] = {}
        exec_ids: list[str] = []
        rejects = 0
        for number, fields in world.redis.history(0, keys.outbox(account)):
            if fields[0] == b"c":
                if fields[5] == b"funds":
                    is_order = isinstance(decode_command(fields[1]), NewOrder)
                    exec_ids += [f"{account}-{number}-R0"] * is_order
                    rejects += not is_order
                continue
            output = decode_output(fields[1])
            if output.seq:
                by_symbol.setdefault(output.symbol, []).append(fields[1])
            exec_ids += _exec_ids(output, account, number)
            rejects += sum(isinstance(event, CancelRejected) for event in output.events)
        expected = {s: data for (one, s), data in history.reports.items() if one == account}
        if by_symbol != expected:
            yield f"account {account}: its outbox is not what the events report to it"
        if client.exec_ids != exec_ids:
            pairs = zip_longest(exec_ids, client.exec_ids)
            first = next(pair for pair in pairs if pair[0] != pair[1])
            yield f"account {account}: was to be told {first[0]}, was told {first[1]}"
        if client.cancel_rejects != rejects:
            yield f"account {account}: {rejects} cancel rejects, told {client.cancel_rejects}"


def _exec_ids(output: Output, account: int, number: int) -> list[str]:
    return [
        f"{output.symbol}-{output.seq}-{event.index}"
        if output.seq
        else f"{account}-{number}-R{event.index}"
        for event in output.events
        if not isinstance(event, CancelRejected | BusinessRejected | SymbolDefined)
    ]


def clients_know_their_orders(world: World, history: History) -> Iterator[str]:
    """What each client was told last about an order is how the order stands."""
    for client in world.clients:
        resting = {
            f"{symbol}-{order.order_id}": (order.cum_lots, order.leaves_qty_lots)
            for symbol in world.symbols
            for order in history.shard.matcher(symbol).book.orders.values()
            if order.owner == client.account
        }
        told = {
            order_id: (cum, leaves)
            for order_id, (_, cum, leaves) in client.orders.items()
            if leaves
        }
        if told != resting:
            yield f"account {client.account}: was told of {told}, in the book rest {resting}"


def journals_hold_every_command(world: World, history: History) -> Iterator[str]:
    """Each engine's journal has all commands in order, as streamed, and hashes that are right."""
    for name in world.plan.engines:
        shard = int(name.split("-")[1])
        symbols = world.plan.shards[shard - 1]
        found: dict[str, list[tuple[int, bytes]]] = {symbol: [] for symbol in symbols}
        for record in JournalReader(journal_directory(world.settings, name)):
            if record.key in found:
                found[record.key].append((record.seq, record.payload))
            elif symbol := hashed_symbol(record.key):
                one = decode_hash(record.payload)
                if digest_of(history.outputs[symbol][one.first - 1 : one.last]) != one.digest:
                    yield f"{name}: its hash of {symbol} {one.first} to {one.last} is wrong"
        for symbol in symbols:
            stream = world.redis.history(shard, keys.orders(symbol))
            expected = [(seq, fields[1]) for seq, fields in stream]
            if found[symbol] != expected:
                yield f"{name}: its journal has {len(found[symbol])} of {len(expected)} of {symbol}"


def tables_are_those_of_an_uncut_run(world: World, history: History) -> Iterator[str]:
    """The writer's rows, however cut and interrupted, are those of one batch; and Redis' balances."""
    if not world.plan.writer:
        return
    ledger = [
        (n, int(fields[3]), fields[1]) for n, fields in world.redis.history(0, keys.LEDGER)
    ]
    outputs = [output for symbol in world.symbols for output in history.decoded(symbol)]
    expected = rows_of_uncut_run(outputs, ledger, world.tables.scales).content()
    for table, content in world.tables.content().items():
        if content != expected[table]:
            yield f"table {table} differs"
    for (user, asset), (available, _) in world.tables.balances.items():
        balance = world.redis.store.key(0, keys.balances(int(user))) or {}
        in_redis = int(balance.get(keys.available(asset).encode(), 0))
        if available.scaleb(world.tables.scales[asset]) != Decimal(in_redis):
            yield f"account {user}: {available} {asset} in the tables, {in_redis} units in Redis"


def replicas_are_the_book(world: World, history: History) -> Iterator[str]:
    """What a subscriber has after losses and repetitions is the engine's book."""
    if world.subscriber is None:
        return
    for symbol, replica in world.subscriber.replicas.items():
        matcher = history.shard.matcher(symbol)
        texts = SymbolTexts(matcher.rules)
        for side in Side:
            levels = [LevelChange(*level) for level in matcher.book.levels(side, LEVELS)]
            if replica.levels(side, LEVELS) != texts.level_list(levels):
                yield f"{symbol}: the replica's {side.name} side is not the book's"


CHECKERS: tuple[Checker, ...] = (
    events_are_those_of_a_clean_run,
    live_state_is_replayed_state,
    book_is_the_naive_book,
    balances_follow_from_deposits_and_events,
    open_orders_are_those_of_the_book,
    each_message_takes_effect_once,
    each_report_is_told_once,
    clients_know_their_orders,
    journals_hold_every_command,
    tables_are_those_of_an_uncut_run,
    replicas_are_the_book,
)
