"""Market data against the engine's own book: after every output, any cut, any loss, any restart."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import astuple

from engine.commands import CancelAll, CancelOrder, Command, DefineSymbol, NewOrder, ReplaceOrder
from engine.enums import OrdType, SelfTradePrevention, Side, TimeInForce
from engine.events import Output
from engine.order_replica import OrderReplica
from engine.price_levels import Bbo, LevelChange
from engine.shard import Shard
from marketdata.board import Board, restore_candles
from marketdata.candles import CandleBook
from marketdata.feed import Checkpoint, SymbolFeed
from marketdata.feed_codec import (
    CandleText,
    Message,
    SymbolTexts,
    decode_candle,
    decode_message,
    decode_snapshot,
    encode_candle,
    encode_heartbeat,
    encode_rules,
)
from marketdata.replica import CHANNELS, MarketReplica
from marketdata.updates import ChannelSeqs, Update
from tests.market_events import INCARNATION, SYMBOL, TS_US, rules
from tests.matching_world import SYMBOL as WORLD_SYMBOL
from tests.matching_world import World
from tests.matching_world import rules as world_rules
from tests.property.test_shard_conservation import KINDS_OF_STEPS, Step, steps_of
from tests.property.test_shard_conservation import outputs as outputs_of

RULES = rules()
LEVELS = 1_000
Levels = list[LevelChange]

_sides = st.sampled_from(Side)
_prices = st.integers(95, 105)
_lots = st.integers(1, 9)
_accounts = st.integers(1, 3)
_picks = st.integers(0, 10_000)


@st.composite
def new_orders(draw: st.DrawFn) -> tuple[object, ...]:
    """An order of any type; the market order has a protection price as gateways give it."""
    ord_type = draw(st.sampled_from([OrdType.LIMIT] * 4 + [OrdType.MARKET]))
    limit = st.sampled_from([TimeInForce.GTC] * 4 + [*TimeInForce])
    tif = draw(limit) if ord_type is OrdType.LIMIT else TimeInForce.IOC
    post_only = tif in (TimeInForce.DAY, TimeInForce.GTC) and draw(st.integers(0, 9)) == 0
    stp = draw(st.sampled_from(SelfTradePrevention))
    head = (draw(_accounts), draw(_sides), ord_type, tif, post_only, stp)
    return ("new", *head, draw(_prices), draw(_lots))


steps = st.lists(
    st.one_of(
        new_orders(),
        new_orders(),
        new_orders(),
        st.tuples(st.just("cancel"), _picks),
        st.tuples(st.just("replace"), _picks, _prices, _lots),
        st.tuples(st.just("cancel all"), _accounts),
    ),
    max_size=60,
)


def commands(drawn: list[tuple]) -> Iterator[Command]:
    """Turn drawn steps into commands; cancels and replaces name some earlier order."""
    yield DefineSymbol(INCARNATION, RULES)
    orders: list[NewOrder | ReplaceOrder] = []
    for number, (kind, *args) in enumerate(drawn):
        name = f"c{number}"
        if kind == "new":
            account, side, ord_type, tif, post_only, stp, price, lots = args
            hold = RULES.hold_of(side, price, lots)
            order = NewOrder(
                *(account, 1, number, name, side, ord_type, tif, post_only, stp),
                *(price, lots, 1, hold),
            )
            orders.append(order)
            yield order
        elif kind == "cancel all":
            yield CancelAll(args[0])
        elif orders:
            old = orders[args[0] % len(orders)]
            if kind == "cancel":
                yield CancelOrder(old.account, 1, number, name, old.cl_ord_id, 0)
                continue
            price, lots = args[1:]
            hold = RULES.hold_of(old.side, price, lots)
            changed = ReplaceOrder(
                *(old.account, 1, number, name, old.cl_ord_id, 0, old.side, OrdType.LIMIT),
                *(TimeInForce.GTC, False, price, lots, 1, hold),
            )
            orders.append(changed)
            yield changed


def run(drawn: list[tuple]) -> Iterator[tuple[Output, Levels, Levels]]:
    """Yield each output of the engine, and the levels of its book after it."""
    shard = Shard()
    for seq, command in enumerate(commands(drawn), 1):
        # Twenty seconds apart: candles of several minutes.
        applied = shard.apply(SYMBOL, seq, TS_US + seq * 20_000_000, command)
        book = shard.matcher(SYMBOL).book
        bids, asks = ([LevelChange(*level) for level in book.levels(side, LEVELS)] for side in Side)
        yield applied.output, bids, asks


def messages_of(texts: SymbolTexts, update: Update) -> list[bytes]:
    """What the publisher sends for an update."""
    datas = [encode_rules(update)] if update.defined else []
    datas += [texts.trades(update)] if update.trades else []
    datas += [texts.depth(update)] if update.bids or update.asks else []
    datas += [texts.bbo(update)] if update.bbo else []
    return datas


@given(steps)
@settings(max_examples=150, deadline=None)
def test_order_replica_equals_the_engines_book_after_every_output(drawn: list[tuple]) -> None:
    depth = OrderReplica()
    for output, bids, asks in run(drawn):
        depth.apply(output.events)
        assert depth.bids.top(LEVELS) == bids
        assert depth.asks.top(LEVELS) == asks
        assert depth.bbo() == _best(bids, asks)


@given(
    st.lists(steps_of([*KINDS_OF_STEPS, *["new"] * 8, *["phase"] * 4]), min_size=20, max_size=60),
    st.booleans(),
    st.integers(0, 60),
)
@settings(max_examples=200, deadline=None)
def test_order_replica_shows_what_the_engine_shows_of_every_kind_of_order(
    drawn: list[Step], halts: bool, restored_at: int
) -> None:
    world = World(world_rules(band_ppm=100_000 if halts else 0, halts=halts))
    replica = OrderReplica()
    for number, output in enumerate(outputs_of(world, drawn)):
        changes = replica.apply(output.events)
        book = world.shard.matcher(WORLD_SYMBOL).book
        shown = [(one.order_id, one.price_ticks, one.leaves_qty_lots) for one in book.by_priority()]
        assert [
            (one.order_seq, one.price_ticks, one.qty_lots)
            for side, levels in ((Side.BUY, replica.bids), (Side.SELL, replica.asks))
            for level in levels.top(LEVELS)
            for one in replica.queue(side, level.price_ticks)
        ] == shown
        for side, levels in ((Side.BUY, replica.bids), (Side.SELL, replica.asks)):
            assert [astuple(level) for level in levels.top(LEVELS)] == book.levels(side, LEVELS)
        assert {one.order_seq for one in changes.orders if one.qty_lots} <= replica.orders.keys()
        if number == restored_at:
            replica = OrderReplica(replica.orders.values())


class _Subscriber:
    """A replica whose connection loses, repeats and is late."""

    def __init__(self) -> None:
        self.replica = MarketReplica(SYMBOL)
        self.seen: list[Message] = []

    def deliver(self, data: bytes, fate: str) -> None:
        for _ in range({"lose": 0, "take": 1, "repeat": 2}[fate]):
            self.seen += self.replica.receive(decode_message(data))

    def hear(self, last: ChannelSeqs) -> None:
        for channel, seq in zip(CHANNELS, astuple(last), strict=True):
            beat = encode_heartbeat(SYMBOL, channel, seq=seq, ts_us=0, incarnation=INCARNATION)
            self.deliver(beat, "take")

    def read(self, snapshot: bytes | None) -> None:
        assert snapshot is not None
        self.seen += self.replica.load(decode_snapshot(snapshot)) or []


@given(steps, st.data())
@settings(max_examples=150, deadline=None)
def test_replica_equals_the_engines_book_whatever_is_lost(
    drawn: list[tuple], data: st.DataObject
) -> None:
    fates = st.sampled_from(["take"] * 6 + ["lose", "repeat"])
    feed, board = (
        SymbolFeed(Checkpoint.empty(SYMBOL)),
        Board(Checkpoint.empty(SYMBOL), CandleBook()),
    )
    texts, subscriber = SymbolTexts(RULES), _Subscriber()
    replica = subscriber.replica
    snapshot: bytes | None = None
    levels_max = data.draw(st.sampled_from([2, 4, 100]))
    for output, bids, asks in run(drawn):
        update = feed.apply(output)
        board.apply(update)
        for message in messages_of(texts, update):
            subscriber.deliver(message, data.draw(fates))
        if snapshot is None or data.draw(st.booleans()):
            snapshot = board.snapshot(levels_max=levels_max, now_us=output.ts_us)
        if data.draw(st.booleans()):
            subscriber.read(snapshot)
        if data.draw(st.booleans()):
            subscriber.hear(update.after)
            if replica.joined:
                _check(replica, bids, asks)
    subscriber.hear(update.after)
    subscriber.read(board.snapshot(levels_max=levels_max, now_us=0))
    assert replica.joined
    _check(replica, bids, asks)
    assert all(a.seq <= b.seq for a, b in itertools.pairwise(subscriber.seen))


def _check(replica: MarketReplica, bids: Levels, asks: Levels) -> None:
    texts = SymbolTexts(RULES)
    for side, levels in ((Side.BUY, bids), (Side.SELL, asks)):
        shown = replica.levels(side, LEVELS)
        assert shown == texts.level_list(levels[: len(shown)])
        assert bool(shown) == bool(levels)
    assert replica.bbo == tuple(texts.bbo_fields(_best(bids, asks)).values())


def _best(bids: Levels, asks: Levels) -> Bbo:
    bid, ask = (side[0] if side else LevelChange(0, 0, 0) for side in (bids, asks))
    return Bbo(bid.price_ticks, bid.qty_lots, ask.price_ticks, ask.qty_lots)


@given(steps, st.integers(0, 61))
@settings(max_examples=100, deadline=None)
def test_restart_anywhere_goes_on_with_the_same_messages_and_numbers(
    drawn: list[tuple], cut: int
) -> None:
    outputs = [output for output, _, _ in run(drawn)]
    texts = SymbolTexts(RULES)
    feed, board = (
        SymbolFeed(Checkpoint.empty(SYMBOL)),
        Board(Checkpoint.empty(SYMBOL), CandleBook()),
    )
    stored: dict[str, dict[int, CandleText]] = {}
    said: list[bytes] = []
    for index, output in enumerate(outputs):
        if index == cut:
            feed, board = _restart(board, stored)
        update = feed.apply(output)
        board.apply(update)
        said += messages_of(texts, update)

    whole_feed = SymbolFeed(Checkpoint.empty(SYMBOL))
    whole_board = Board(Checkpoint.empty(SYMBOL), CandleBook())
    expected: list[bytes] = []
    for output in outputs:
        update = whole_feed.apply(output)
        whole_board.apply(update)
        expected += messages_of(texts, update)
    assert said == expected
    now_us = outputs[-1].ts_us
    for one in (Board.snapshot, Board.ticker):
        extra = {"levels_max": 50} if one is Board.snapshot else {}
        assert one(board, now_us=now_us, **extra) == one(whole_board, now_us=now_us, **extra)
    assert _store(board, stored) == _store(whole_board, {})


def _store(
    board: Board, stored: dict[str, dict[int, CandleText]]
) -> dict[str, dict[int, CandleText]]:
    """Write the changed candles as the store does."""
    for name, candle in board.candles.changed():
        text = decode_candle(encode_candle(candle, board.candles.places))
        stored.setdefault(name, {})[candle.open_us] = text
    return stored


def _restart(board: Board, stored: dict[str, dict[int, CandleText]]) -> tuple[SymbolFeed, Board]:
    encoded = msgspec.msgpack.encode(board.checkpoint())
    checkpoint = msgspec.msgpack.decode(encoded, type=Checkpoint)
    rows = {name: list(row.values()) for name, row in _store(board, stored).items()}
    kept = {name: row if name == "1m" else row[-1:] for name, row in rows.items()}
    return SymbolFeed(checkpoint), Board(checkpoint, restore_candles(kept))
