"""MarketBook: snapshots, increments, what is shared, what is left out, and how that is told."""

from __future__ import annotations

import pytest

from engine.commands import OrderConditions
from engine.enums import Liquidity, Side
from engine.events import Event
from gateway import market_book
from gateway.market_book import NEVER, UNKNOWN, Mark, MarketBook
from gateway.market_requests import Kind
from router.market_state import OrdersSnapshot
from tests.market_events import accepted, canceled, defined, filled, output, refilled, rules, trade

BUY, SELL = Side.BUY, Side.SELL
LEVELS = Kind(False, 10, False, (BUY, SELL), True)
ORDERS = LEVELS._replace(by_order=True)


class World:
    """A book and its next input."""

    def __init__(self) -> None:
        event = defined()
        self.book = MarketBook(OrdersSnapshot("BTC-USD", 1, "server", event, [], None))  # type: ignore[arg-type]
        self.seq = 1

    def happen(self, *events: Event) -> None:
        self.seq += 1
        self.book.note([output(self.seq, *events)])
        self.book.apply(1)

    def told(self, kind: Kind, mark: Mark | None = None, told: int = NEVER) -> list[str]:
        """Return the messages as MsgType and text."""
        return [
            f"{msg_type.decode()} {shared.data.decode().replace(chr(1), '|')}"
            for msg_type, shared in self.book.bodies(kind, mark, told)
        ]

    def buy(self, seq: int, price_ticks: int, lots: int) -> None:
        self.happen(accepted(seq, BUY, price_ticks, lots))

    def sell(self, seq: int, price_ticks: int, lots: int) -> None:
        self.happen(accepted(seq, SELL, price_ticks, lots))

    def trade(self, maker: int, price_ticks: int, lots: int) -> None:
        taken = trade(self.seq + 1, maker, BUY, price_ticks, lots)
        self.happen(accepted(self.seq + 1, BUY, price_ticks, lots), *taken)


@pytest.fixture
def world() -> World:
    return World()


def test_snapshot_has_levels_best_first_and_the_last_trade(world: World) -> None:
    world.buy(2, 100, 5)
    world.buy(3, 101, 4)
    world.buy(4, 101, 1)
    world.sell(5, 103, 2)
    world.trade(5, 103, 2)
    [message] = world.told(LEVELS)
    assert message == (
        "W 55=BTC-USD|268=3|269=0|270=1.01|271=0.5|346=2|269=0|270=1.00|271=0.5|346=1|"
        "269=2|270=1.03|271=0.2|272=20231114|273=22:13:20.000|299=BTC-USD-6-0|58=buy|"
    )


def test_empty_book_has_a_snapshot_without_entries(world: World) -> None:
    assert world.told(LEVELS) == ["W 55=BTC-USD|268=0|"]


def test_depth_cuts_and_a_level_that_comes_into_view_is_new(world: World) -> None:
    best = LEVELS._replace(depth=1)
    world.buy(2, 100, 5)
    world.buy(3, 101, 4)
    mark = world.book.mark(best)
    world.happen(canceled(3, BUY, 101, 4))
    assert world.told(best, mark, 0) == [
        "X 268=2|279=2|269=0|55=BTC-USD|270=1.01|279=0|269=0|55=BTC-USD|270=1.00|271=0.5|346=1|"
    ]


def test_nothing_is_sent_where_nothing_of_it_changed(world: World) -> None:
    best = LEVELS._replace(depth=1)
    world.buy(2, 101, 5)
    mark = world.book.mark(best)
    world.buy(3, 100, 4)
    assert world.told(best, mark, 0) == []
    offers = LEVELS._replace(sides=(SELL,))
    mark = world.book.mark(offers)
    world.buy(4, 102, 4)
    assert world.book.mark(offers) is mark
    assert world.told(offers, mark, 0) == []


def test_orders_are_named_by_order_id_and_refills_go_to_the_back(world: World) -> None:
    floor = OrderConditions(max_floor_lots=3)
    world.happen(accepted(2, SELL, 101, 8, conditions=floor))
    world.sell(3, 101, 2)
    [message] = world.told(ORDERS)
    assert message.startswith("W 55=BTC-USD|268=2|269=1|270=1.01|271=0.3|37=BTC-USD-2|269=1|")
    mark = world.book.mark(ORDERS)
    world.happen(
        accepted(4, BUY, 101, 4),
        filled(2, SELL, 101, fill=3, leaves=5, liquidity=Liquidity.MAKER),
        filled(4, BUY, 101, fill=3, leaves=1, liquidity=Liquidity.TAKER),
        refilled(2, SELL, 101, leaves=5, displayed=3),
        filled(3, SELL, 101, fill=1, leaves=1, liquidity=Liquidity.MAKER, trade=1),
        filled(4, BUY, 101, fill=1, leaves=0, liquidity=Liquidity.TAKER, trade=1),
    )
    [message] = world.told(ORDERS._replace(trades=False), mark, 0)
    assert message == (
        "X 268=3|279=2|269=1|278=BTC-USD-2|55=BTC-USD|270=1.01|"
        "279=1|269=1|278=BTC-USD-3|55=BTC-USD|270=1.01|271=0.1|"
        "279=0|269=1|278=BTC-USD-2|55=BTC-USD|270=1.01|271=0.3|"
    )
    [message] = world.told(ORDERS, mark, 0)
    assert message.count("|269=2|278=BTC-USD-4-") == 2


def test_trades_since_the_last_message_are_told_with_the_changes(world: World) -> None:
    world.sell(2, 101, 9)
    mark, count = world.book.mark(LEVELS), world.book.trade_count
    world.trade(2, 101, 4)
    world.trade(2, 101, 1)
    [message] = world.told(LEVELS, mark, count)
    assert message == (
        "X 268=3|279=1|269=1|55=BTC-USD|270=1.01|271=0.4|346=1|"
        "279=0|269=2|278=BTC-USD-3-0|55=BTC-USD|270=1.01|271=0.4|272=20231114|273=22:13:20.000|58=buy|"
        "279=0|269=2|278=BTC-USD-4-0|55=BTC-USD|270=1.01|271=0.1|272=20231114|273=22:13:20.000|58=buy|"
    )
    assert world.told(LEVELS, world.book.mark(LEVELS), world.book.trade_count) == []


def test_trades_that_are_not_kept_are_counted_in_a_snapshot(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(market_book, "TRADES_KEPT_MAX", 3)
    world = World()
    world.sell(2, 101, 9)
    mark = world.book.mark(LEVELS)
    for _ in range(4):
        world.trade(2, 101, 1)
    [message] = world.told(LEVELS, mark, 0)
    assert message.startswith("W 55=BTC-USD|268=2|")
    assert message.endswith("|299=BTC-USD-6-0|58=3 trades omitted|")
    [message] = world.told(LEVELS, mark, 1)
    assert message.startswith("X 268=4|")
    assert "W" in world.told(LEVELS, None, UNKNOWN)[0]
    assert "58=trades may have been omitted|" in world.told(LEVELS, None, UNKNOWN)[0]


def test_whole_updates_are_snapshots_and_only_when_something_changed(world: World) -> None:
    whole = LEVELS._replace(whole=True)
    world.buy(2, 100, 5)
    mark = world.book.mark(whole)
    assert world.told(whole, mark, 0) == []
    world.buy(3, 100, 5)
    assert world.told(whole, mark, 0) == ["W 55=BTC-USD|268=1|269=0|270=1.00|271=1.0|346=2|"]


def test_auction_trades_say_so(world: World) -> None:
    world.buy(2, 102, 3)
    world.sell(3, 100, 3)
    mark = world.book.mark(LEVELS)
    both = {"fill": 3, "leaves": 0, "liquidity": Liquidity.AUCTION, "last_ticks": 101}
    world.happen(filled(2, BUY, 102, **both), filled(3, SELL, 100, **both))
    [message] = world.told(LEVELS, mark, 0)
    assert message.endswith("|273=22:13:20.000|277=E|58=auction|")


def test_those_of_one_mark_share_their_bodies(world: World) -> None:
    world.buy(2, 100, 5)
    mark = world.book.mark(LEVELS)
    world.buy(3, 101, 5)
    first = world.book.bodies(LEVELS, mark, 0)
    assert world.book.bodies(LEVELS, mark, 0) is first
    assert world.book.mark(LEVELS) is world.book.mark(LEVELS) is not mark


def test_many_changes_are_cut_into_messages(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(market_book, "ENTRIES_PER_MESSAGE_MAX", 2)
    mark = world.book.mark(LEVELS)
    for price in (100, 101, 102):
        world.buy(price, price, 1)
    assert [message[:8] for message in world.told(LEVELS, mark, 0)] == ["X 268=2|", "X 268=1|"]


def test_orders_of_a_side_are_limited_to_the_best(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(market_book, "ORDERS_MAX", 2)
    for price in (100, 101, 102):
        world.buy(price, price, 1)
    [message] = world.told(ORDERS)
    assert message.startswith("W 55=BTC-USD|268=2|269=0|270=1.02|")


def test_changed_rules_begin_with_a_snapshot(world: World) -> None:
    world.sell(2, 101, 1)
    world.trade(2, 101, 1)
    mark = world.book.mark(LEVELS)
    world.happen(defined(rules(version=2)))
    assert world.told(LEVELS, mark, 1) == ["W 55=BTC-USD|268=0|"]
    mark = world.book.mark(LEVELS)
    world.happen(defined(rules(version=3, tick_size="0.0025")))
    assert world.told(LEVELS, mark, NEVER) == ["W 55=BTC-USD|268=0|"]


def test_outputs_are_applied_when_it_is_time(world: World) -> None:
    world.book.note([output(2, accepted(2, BUY, 100, 5)), output(3, accepted(3, BUY, 100, 5))])
    assert (world.book.noted, world.book.seq) == (2, 3)
    world.book.apply(1)
    assert (world.book.noted, "346=1" in world.told(LEVELS)[0]) == (1, True)
    world.book.apply(9)
    assert "346=2" in world.told(LEVELS)[0]
