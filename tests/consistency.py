"""What must hold in an exchange at rest, whatever has been killed; on data read from its servers.

``Replay`` is the reference, as for `shardex reconcile`, whose checks are used where there are any:
the order streams, applied from their first entries by a shard of our own. All that Redis and market
data say is compared with that; PostgreSQL in consistency_postgres.py.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import redis

from engine.commands import decode_command
from engine.enums import Side
from engine.events import (
    OrderFilled,
    OrderRefilled,
    PhaseChanged,
    SymbolDefined,
    decode_output,
    encode_output,
)
from engine.instrument import DecimalGrid
from engine.settlement import encode_settlement
from marketdata.feed_codec import SnapshotMessage, decode_snapshot
from marketdata.replica import MarketReplica
from ops import reconcile
from ops.reconcile_cut import amounts_of, holds_of
from ops.reconcile_replay import Replay as StreamReplay
from persistence.execution_rows import encode_event
from router import keys
from router.dense_ids import entry_number
from router.ledger import Balance, parse_balances

Entries = list[tuple[int, dict[bytes, bytes]]]
"""(n, fields) of a dense stream's entries n-0."""

LEVELS_MAX = 10_000


@dataclass
class RedisState:
    """All that stands in Redis about accounts and symbols; of long streams what is left of them."""

    ledger: Entries
    totals: dict[str, int]
    balances: dict[int, dict[str, Balance]]
    opens: dict[int, dict[str, str]]
    outboxes: dict[int, Entries]
    sessions: dict[int, dict[str, str]]
    sent: dict[int, Entries]
    settled: dict[str, int]
    marketdata: dict[str, int]
    bbo: dict[str, str]
    snapshots: dict[str, SnapshotMessage]
    orders: dict[str, Entries]
    events: dict[str, Entries]


def read_redis(url: str, symbols: Mapping[str, int], *, since: Mapping[str, int]) -> RedisState:
    """Read everything.

    Args:
        url: of the server.
        symbols: symbol → database of its shard.
        since: symbol → seq behind which its orders are read; missing = all.
    """
    with redis.Redis.from_url(url) as client:
        accounts = range(int(client.get(keys.USER_IDS) or 0) + 1)
        sessions = {one: _texts(client.hgetall(keys.session(one))) for one in accounts}
        state = RedisState(
            ledger=_entries(client, keys.LEDGER),
            totals=_numbers(client.hgetall(keys.TOTALS)),
            balances={one: _balances(client, one) for one in accounts},
            opens={one: _texts(client.hgetall(keys.open_orders(one))) for one in accounts},
            outboxes={one: _entries(client, keys.outbox(one)) for one in accounts},
            sessions=sessions,
            sent={
                one: _entries(client, keys.sent(one, int(session["number"])))
                for one, session in sessions.items()
                if session
            },
            settled=_numbers(client.hgetall(keys.SETTLED)),
            marketdata=_numbers(client.hgetall(keys.POSITION_MARKETDATA)),
            bbo=_texts(client.hgetall(keys.BBO)),
            snapshots={
                one: decode_snapshot(value)
                for one in symbols
                if (value := client.get(keys.md_snapshot(one))) is not None
            },
            orders={},
            events={},
        )
    for symbol, db in symbols.items():
        with redis.Redis.from_url(url, db=db) as client:
            state.orders[symbol] = _entries(client, keys.orders(symbol), since.get(symbol, 0) + 1)
            state.events[symbol] = _entries(client, keys.events(symbol))
    return state


def _entries(client: redis.Redis, key: str, first: int = 0) -> Entries:
    found: Any = client.xrange(key, min=f"{first}-0")
    return [(entry_number(entry_id), fields) for entry_id, fields in found]


def _balances(client: redis.Redis, account: int) -> dict[str, Balance]:
    found: Any = client.hgetall(keys.balances(account))
    return parse_balances([part for pair in found.items() for part in pair])


def _texts(found: Any) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in found.items()}


def _numbers(found: Any) -> dict[str, int]:
    return {name.decode(): int(value) for name, value in found.items()}


class Replay(StreamReplay):
    """The product's replay of the order streams, and all that was said on the way.

    Attributes:
        outputs: symbol → encoded output of each input, from seq 1 on.
        reports: (account, symbol, seq) → what stands in its outbox about that input.
        executions: (account, symbol, seq, index) → encoded event.
        trades: (symbol, seq, trade) → maker, taker, price_ticks, qty_lots, fees of maker and taker.
    """

    def __init__(self) -> None:
        super().__init__()
        self.outputs: dict[str, list[bytes]] = defaultdict(list)
        self.reports: dict[tuple[int, str, int], bytes] = {}
        self.executions: dict[tuple[int, str, int, int], bytes] = {}
        self.trades: dict[tuple[str, int, int], tuple[int, ...]] = {}

    def position(self) -> dict[str, int]:
        """Return the last seq of each symbol."""
        return {symbol: len(outputs) for symbol, outputs in self.outputs.items()}

    def apply_entries(self, orders: Mapping[str, Entries]) -> None:
        """Apply the entries that follow, which must be dense, and check the shard itself."""
        for symbol, entries in orders.items():
            for seq, fields in entries:
                self._apply_entry(symbol, seq, int(fields[b"t"]), fields[b"c"])
        self.shard.check_invariants()

    def _apply_entry(self, symbol: str, seq: int, ts_us: int, command: bytes) -> None:
        applied = self.apply(symbol, seq, ts_us, decode_command(command))
        settlement = encode_settlement(applied)
        self.outputs[symbol].append(settlement.event)
        for account, report in settlement.reports():
            self.reports[account, symbol, seq] = report
        maker = None
        for event in applied.output.events:
            if isinstance(event, SymbolDefined | PhaseChanged | OrderRefilled):
                continue
            self.executions[event.account, symbol, seq, event.index] = encode_event(event)
            if not isinstance(event, OrderFilled):
                continue
            if maker is None:
                maker = event
                continue
            assert maker.trade == event.trade, "the parts of a trade follow each other"
            self.trades[symbol, seq, event.trade] = (
                *(maker.account, event.account),
                *(event.last_price_ticks, event.last_qty_lots, maker.fee, event.fee),
            )
            maker = None


# ---------------------------------------------------------------- Redis


def check_redis(state: RedisState, replay: Replay) -> None:
    """Assert everything about Redis at rest; ``replay`` has applied ``state.orders``."""
    check_money(state)
    check_balances(state, replay)
    check_open_orders(state, replay)
    check_streams(state, replay)
    check_outboxes(state, replay)
    check_sent(state)


def check_money(state: RedisState) -> None:
    """Conservation: all accounts, the fees' too, own what was deposited and not withdrawn."""
    found, balances = reconcile.Differences(), amounts_of(state.balances)
    reconcile.check_totals(found, transfers(state.ledger), state.totals)
    reconcile.check_money(found, balances, state.totals)
    reconcile.check_pending(found, balances, {})
    assert_none(found)


def check_balances(state: RedisState, replay: Replay) -> None:
    """Each balance is what was deposited and what the order streams made of it."""
    found = reconcile.Differences()
    expected = reconcile.expected_balances(replay.owned, transfers(state.ledger))
    reconcile.check_balances(found, amounts_of(state.balances), expected)
    assert_none(found)


def transfers(ledger: Entries) -> dict[reconcile.Owner, int]:
    """Return deposits - withdrawals of a ledger by account and asset."""
    sums: dict[reconcile.Owner, int] = {}
    reconcile.add_transfers(sums, [fields[b"e"] for _, fields in ledger])
    return sums


def check_open_orders(state: RedisState, replay: Replay) -> None:
    """``open:{account}`` is the engine's, and what its orders hold is what the account has held."""
    found, shard = reconcile.Differences(), replay.shard
    reconcile.check_opens(found, "open order", state.opens, replay.opens)
    rules = {symbol: shard.matcher(symbol).rules for symbol in shard.symbols()}
    reconcile.check_held(found, amounts_of(state.balances), holds_of(state.opens, rules))
    assert_none(found)


def assert_none(found: reconcile.Differences) -> None:
    """Assert that checks found no difference."""
    differences = found.all()
    assert not differences, "\n".join(map(str, differences))


def check_streams(state: RedisState, replay: Replay) -> None:
    """Every input is settled and published once, with the bytes that follow from the stream."""
    for symbol, outputs in replay.outputs.items():
        end = len(outputs)
        assert state.settled[symbol] == end, f"{symbol}: settled {state.settled[symbol]} of {end}"
        events = state.events[symbol]
        check_dense(events, f"events:{symbol}")
        assert events[-1][0] == end, f"{symbol}: published {events[-1][0]} of {end}"
        for seq, fields in events:
            assert fields == {b"e": outputs[seq - 1]}, f"{symbol}: output {seq} differs"
        bbo = replay.best_prices(symbol)
        assert state.bbo[symbol] == bbo, f"{symbol}: bbo {state.bbo[symbol]}, expected {bbo}"


def check_dense(entries: Entries, name: str) -> None:
    """Assert that the numbers of entries have no gap."""
    numbers = [number for number, _ in entries]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers))), f"{name} is dense"


def check_outboxes(state: RedisState, replay: Replay) -> None:
    """Outboxes are dense; each input's report stands in them once, in order, with its own bytes."""
    for account, entries in state.outboxes.items():
        if not entries:
            continue
        check_dense(entries, f"outbox:{account}")
        assert int(state.sessions[account]["cursor"]) == entries[-1][0], f"{account}: all is sent"
        last: dict[str, int] = defaultdict(int)
        for number, fields in entries:
            output = decode_output(fields[b"e"]) if b"e" in fields else None
            if output is None or not output.seq:
                continue
            symbol, seq = output.symbol, output.seq
            assert seq > last[symbol], f"outbox:{account} {number}: {symbol} {seq} comes again"
            last[symbol] = seq
            assert encode_output(output) == replay.reports[account, symbol, seq], (account, seq)
        if entries[0][0] == 1:
            expected = sum(1 for one in replay.reports if one[0] == account)
            told = sum(1 for _, f in entries if b"e" in f and decode_output(f[b"e"]).seq)
            assert told == expected, f"outbox:{account}: {told} of {expected} reports"


def check_sent(state: RedisState) -> None:
    """Stored messages never share a number, and none is beyond the lease."""
    for account, entries in state.sent.items():
        before = 0
        for last, fields in entries:
            first = int(fields[b"f"])
            assert before < first <= last, f"sent:{account}: {first} to {last} behind {before}"
            assert fields[b"m"].count(b"\x0134=") == last - first + 1, (account, first, last)
            before = last
        assert before <= int(state.sessions[account]["out_limit"]), f"{account}: within the lease"


# ---------------------------------------------------------------- market data


def check_market_data(
    snapshots: Mapping[str, SnapshotMessage], replicas: Iterable[MarketReplica], replay: Replay
) -> None:
    """The snapshot, and a subscriber that followed the channels, have the engine's book."""
    for replica in replicas:
        symbol = replica.symbol
        matcher = replay.shard.matcher(symbol)
        tick, lot = DecimalGrid(matcher.rules.tick_size), DecimalGrid(matcher.rules.lot_size)
        snapshot = snapshots[symbol]
        assert snapshot.seq == len(replay.outputs[symbol]), f"{symbol}: the snapshot is the last"
        for side, levels in ((Side.BUY, snapshot.bids), (Side.SELL, snapshot.asks)):
            book = [
                (tick.format(price), lot.format(quantity), count)
                for price, quantity, count in matcher.book.levels(side, LEVELS_MAX)
            ]
            assert list(map(tuple, levels)) == book, f"{symbol} {side.name}: snapshot"
            followed = [tuple(level) for level in replica.levels(side, LEVELS_MAX)]
            assert followed == book, f"{symbol} {side.name}: subscriber"
