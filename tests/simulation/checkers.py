"""What must hold when a world has come to rest.

Each checker is a function from the world (and the clean history of its streams) to complaints; all
of them are in ``CHECKERS``. None trusts what it checks: expectations come from the streams of
commands alone, from the ledger, and from what clients sent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal
from itertools import zip_longest
from typing import TYPE_CHECKING

from engine.book import content_hash
from engine.commands import CancelAll, Command, DefineSymbol, MassCancel, NewOrder, SetPhase, Tick
from engine.enums import CancelReason, MassCancelRequestType, Side
from engine.events import (
    decode_output,
)
from engine.journal_keys import decode_hash, digest_of, hashed_symbol
from engine.journal_reader import JournalReader
from engine.ledger_entries import Deposited, Withdrawn, decode_ledger_entry
from engine.price_levels import LevelChange
from marketdata.feed_codec import SymbolTexts
from ops.wiring import journal_directory
from router import keys
from tests.simulation.history import History, NaiveReplay
from tests.simulation.postgres import rows_of_uncut_run
from tests.simulation.watching import to_be_told

if TYPE_CHECKING:
    from tests.simulation.world import World

LEVELS = 1_000


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
    inputs = [command for commands in history.commands.values() for command in commands.values()]
    world.count("ticks", sum(isinstance(command, Tick) for command in inputs))
    world.count("gone", world.disconnects.decisions)
    for shard, symbols in enumerate(world.plan.shards, 1):
        world.count("takeovers", int(world.redis.store.key(shard, keys.LEASE)[b"epoch"]) - 1)
        for symbol in symbols:
            stream = world.redis.store.key(shard, keys.orders(symbol))
            world.count("trimmed", len(stream.history) - len(stream.numbers))
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
    """Each balance is deposits, reservations and changes; none is pending; money is conserved."""
    expected: dict[tuple[int, str], list[int]] = {}
    for _, fields in world.redis.history(0, keys.LEDGER):
        entry = decode_ledger_entry(fields[1])
        if isinstance(entry, Deposited | Withdrawn):
            amount = entry.amount if isinstance(entry, Deposited) else -entry.amount
            expected.setdefault((entry.account, entry.asset), [0, 0, 0])[0] += amount
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
        for order in matcher.open_orders():
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
            if isinstance(command, DefineSymbol | CancelAll | SetPhase | Tick):
                continue
            name = getattr(command, "ord_status_req_id", "") or command.cl_ord_id
            key = command.account, name
            if key in seen and (seen[key][0] == symbol or not _is_of_all(command)):
                yield f"{command} stands at {seen[key]} and at {(symbol, seq)}"
            seen[key] = symbol, seq
    for client in world.clients:
        for name in client.unavailable:
            if (client.account, name) in seen:
                yield f"account {client.account}: {name} was refused, but stands in a stream"


def _is_of_all(command: Command) -> bool:
    return isinstance(command, MassCancel) and command.request_type is MassCancelRequestType.ALL


def mass_cancels_cancel_what_they_say(world: World, history: History) -> Iterator[str]:
    """Where the answer names a number of orders (533), so many were canceled by the request."""
    for client in world.clients:
        for name, one in client.mass_cancels.items():
            if one.affected is not None and one.affected != one.canceled:
                yield f"account {client.account}: {name} was to cancel {one}"


def mass_cancels_go_everywhere(world: World, history: History) -> Iterator[str]:
    """A mass cancel of all stands behind each order that was sent before it and is open."""
    for client in world.clients:
        wanted = [one for one in client.mass_cancels.values() if one.of_all and one.response == "7"]
        for symbol, commands in history.commands.items() if wanted else ():
            reached = {
                one.msg_seq_num
                for one in commands.values()
                if isinstance(one, MassCancel) and one.account == client.account
            }
            missed = [one for one in wanted if one.msg_seq_num not in reached]
            for open_order in history.shard.matcher(symbol).open_orders():
                order = commands[open_order.order_id]
                assert isinstance(order, NewOrder), "an order has its number from its command"
                for one in missed if order.account == client.account else ():
                    if order.msg_seq_num < one.msg_seq_num:
                        yield f"{symbol}: {order} is open, but {one} was to cancel it"


def each_decision_is_in_the_streams(world: World, history: History) -> Iterator[str]:
    """Each change of phase that was asked for stands once, and so does each cancel for a client
    that had gone."""
    changes = {}
    cancels: dict[int, int] = {}
    for symbol, commands in history.commands.items():
        for seq, command in commands.items():
            if isinstance(command, SetPhase):
                changes[symbol, seq] = command.phase
            elif isinstance(command, CancelAll):
                if command.reason is not CancelReason.DISCONNECTED:
                    yield f"{symbol} {seq}: nobody disables users here: {command}"
                cancels[command.account] = cancels.get(command.account, 0) + 1
    if changes != world.phase_changes:
        yield f"phases were to be {world.phase_changes}, in the streams are {changes}"
    decided = {account: count for account, count in world.disconnects.canceled.items() if count}
    if cancels != decided:
        yield f"clients that were gone: decided {decided}, in the streams are {cancels}"


def each_report_is_told_once(world: World, history: History) -> Iterator[str]:
    """Outboxes hold each report once, in order, and clients were told just that."""
    for client in world.clients:
        account = client.account
        by_symbol: dict[str, list[bytes]] = {}
        for _, fields in world.redis.history(0, keys.outbox(account)):
            if fields[0] == b"e":
                output = decode_output(fields[1])
                if output.seq:
                    by_symbol.setdefault(output.symbol, []).append(fields[1])
        expected = {s: data for (one, s), data in history.reports.items() if one == account}
        if by_symbol != expected:
            yield f"account {account}: its outbox is not what the events report to it"
        exec_ids, rejects = to_be_told(world, account)
        if client.exec_ids != exec_ids:
            pairs = zip_longest(exec_ids, client.exec_ids)
            first = next(pair for pair in pairs if pair[0] != pair[1])
            yield f"account {account}: was to be told {first[0]}, was told {first[1]}"
        if client.cancel_rejects != rejects:
            yield f"account {account}: {rejects} cancel rejects, told {client.cancel_rejects}"


def clients_know_their_orders(world: World, history: History) -> Iterator[str]:
    """What each client was told last about an order is how the order stands."""
    for client in world.clients:
        resting = {
            f"{symbol}-{order.order_id}": (
                order.cum_lots,
                order.leaves_qty_lots + order.hidden_lots,
            )
            for symbol in world.symbols
            for order in history.shard.matcher(symbol).open_orders()
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
    """The writer's rows, however cut and interrupted, are those of one batch, and fit Redis."""
    if not world.plan.writer:
        return
    ledger = [(n, int(fields[3]), fields[1]) for n, fields in world.redis.history(0, keys.LEDGER)]
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
    mass_cancels_cancel_what_they_say,
    mass_cancels_go_everywhere,
    each_decision_is_in_the_streams,
    each_report_is_told_once,
    clients_know_their_orders,
    journals_hold_every_command,
    tables_are_those_of_an_uncut_run,
    replicas_are_the_book,
)
