"""A client that applies W and X ends with the engine's book, however often it is left behind."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from engine.enums import Side
from engine.events import SymbolDefined
from engine.order_replica import OrderReplica
from engine.shard import Shard
from engine.trades import trades_of
from gateway.market_book import NEVER, Mark, MarketBook
from gateway.market_requests import DEPTHS, Kind
from router.market_state import OrdersSnapshot, decode_orders_snapshot, encode_orders_snapshot
from tests.fix_market import FixMarket, Level, Order, check_valid
from tests.matching_world import SYMBOL, World
from tests.property.test_shard_conservation import KINDS_OF_STEPS, Step, outputs, steps_of

BOTH = (Side.BUY, Side.SELL)
kinds = st.builds(
    Kind,
    by_order=st.booleans(),
    depth=st.sampled_from([1, 2, 3, DEPTHS[-1]]),
    whole=st.just(False),
    sides=st.just(BOTH),
    trades=st.booleans(),
)


class Client:
    """A subscription and the client behind it."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.market = FixMarket()
        self.mark: Mark | None = None
        self.told = NEVER

    def bring_up_to_date(self, book: MarketBook) -> None:
        for msg_type, shared in book.bodies(self.kind, self.mark, self.told):
            pairs = [_pair(piece) for piece in shared.data[:-1].split(b"\x01")]
            check_valid(msg_type, [(b"262", b"r1"), *pairs])
            self.market.apply(msg_type, pairs)
        self.mark, self.told = book.mark(self.kind), book.trade_count

    def check(self, shard: Shard) -> None:
        for side, entry_type in zip(BOTH, "01", strict=True):
            if self.kind.by_order:
                assert self.market.orders(entry_type) == orders_of(shard, side, self.kind.depth)
            else:
                assert self.market.levels(entry_type) == levels_of(shard, side, self.kind.depth)


def _pair(piece: bytes) -> tuple[bytes, bytes]:
    tag, _, value = piece.partition(b"=")
    return tag, value


def levels_of(shard: Shard, side: Side, depth: int) -> list[Level]:
    """The engine's levels as text; ticks and lots are whole units."""
    levels = shard.matcher(SYMBOL).book.levels(side, depth)
    return [(str(ticks), str(lots), orders) for ticks, lots, orders in levels]


def orders_of(shard: Shard, side: Side, depth: int) -> list[Order]:
    """The displayed orders of the engine's best levels as text, first in priority first."""
    book = shard.matcher(SYMBOL).book
    prices = [ticks for ticks, _, _ in book.levels(side, depth)]
    return [
        (f"{SYMBOL}-{order.order_id}", str(order.price_ticks), str(order.leaves_qty_lots))
        for order in book.by_priority()
        if order.side == side and order.price_ticks in prices
    ]


@given(
    st.lists(steps_of([*KINDS_OF_STEPS, *["new"] * 8, *["phase"] * 4]), min_size=20, max_size=60),
    st.lists(kinds, min_size=1, max_size=4),
    st.integers(0, 30),
    st.data(),
)
@settings(max_examples=150, deadline=None)
def test_client_ends_with_the_engines_book_whenever_it_is_told(
    drawn: list[Step], wanted: list[Kind], joined_at: int, data: st.DataObject
) -> None:
    world = World()
    shard, replica = world.shard, OrderReplica()
    clients = [Client(kind) for kind in wanted]
    book: MarketBook | None = None
    trades: list[tuple[str, str]] = []
    for number, output in enumerate(outputs(world, drawn)):
        if book is None:
            replica.apply(output.events)
            book = _joined(world, replica) if number == joined_at else None
        else:
            book.note([output])
            book.apply(99)
            trades += [(str(trade.price_ticks), str(trade.qty_lots)) for trade in trades_of(output)]
        for client in clients if book is not None else ():
            if number == joined_at or data.draw(st.booleans()):
                client.bring_up_to_date(book)
                client.check(shard)
    for client in clients if book is not None else ():
        client.bring_up_to_date(book)
        client.check(shard)
        assert client.market.trades == (trades if client.kind.trades else [])
        assert client.market.snapshots == 1


def _joined(world: World, replica: OrderReplica) -> MarketBook:
    """A book made of another one's orders, as market data hands them over."""
    orders = list(replica.orders.values())
    defined = SymbolDefined(0, "incarnation", world.rules)
    seq = len(world.commands)
    data = encode_orders_snapshot(OrdersSnapshot(SYMBOL, seq, "server", defined, orders, None))
    return MarketBook(decode_orders_snapshot(data))
