"""engine.matching: what the text tables do not show."""

from __future__ import annotations

import msgspec
import pytest

from engine import lookahead, matching, trading
from engine.commands import OrderConditions
from engine.enums import (
    CancelReason,
    CxlRejReason,
    OrdRejReason,
    SelfTradePrevention,
    Side,
    TimeInForce,
)
from engine.events import (
    CancelRejected,
    OrderAccepted,
    OrderCanceled,
    OrderFilled,
    OrderRejected,
    OrderStatusReported,
)
from engine.matching import Matcher
from tests.matching_world import SYMBOL, World, rules


def test_identities_come_from_seq_index_and_trade_number() -> None:
    world = World()
    world.new(2, "b1", Side.SELL, 4, 100)
    world.new(2, "b2", Side.SELL, 4, 100)
    output = world.new(1, "a1", Side.BUY, 8, 100)
    assert output.seq == 4
    assert [event.index for event in output.events] == [0, 1, 2, 3, 4]
    fills = [event for event in output.events if isinstance(event, OrderFilled)]
    assert [(fill.order_seq, fill.trade) for fill in fills] == [(2, 0), (4, 0), (3, 1), (4, 1)]
    assert [fill.cum_price_qty for fill in fills] == [400, 400, 400, 800]


def test_acceptance_shows_the_order_before_it_trades() -> None:
    world = World()
    world.new(2, "b1", Side.SELL, 4, 100)
    accepted = world.new(1, "a1", Side.BUY, 8, 100, stp=SelfTradePrevention.CANCEL_BOTH).events[0]
    assert isinstance(accepted, OrderAccepted)
    assert (accepted.leaves_lots, accepted.cum_lots, accepted.cum_price_qty) == (8, 0, 0)
    assert (accepted.post_only, accepted.stp) == (False, SelfTradePrevention.CANCEL_BOTH)


@pytest.mark.parametrize(
    ("stp", "fills"),
    [(None, 0), (SelfTradePrevention.CANCEL_OLDEST, 0), (SelfTradePrevention.NONE, 2)],
)
def test_replace_gives_the_order_its_own_self_trade_prevention_or_leaves_it(
    stp: SelfTradePrevention | None, fills: int
) -> None:
    world = World()
    world.new(1, "a1", Side.BUY, 4, 100)
    world.new(1, "a2", Side.SELL, 4, 110)
    command = world.replacing(1, "a3", "a2", Side.SELL, 4, 100)
    output = world.apply(msgspec.structs.replace(command, stp=stp))
    assert sum(isinstance(event, OrderFilled) for event in output.events) == fills
    canceled = [event.cl_ord_id for event in output.events if isinstance(event, OrderCanceled)]
    expected = {None: ["a3"], SelfTradePrevention.CANCEL_OLDEST: ["a1"]}
    assert canceled == expected.get(stp, [])


def limit_matches(monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    """Let an order meet fewer resting ones than the system's limit."""
    for module in (lookahead, trading):
        monkeypatch.setattr(module, "MATCHES_PER_ORDER_MAX", limit)


def test_order_that_meets_too_many_orders_is_canceled_for_the_rest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    limit_matches(monkeypatch, 3)
    world = World()
    for number in range(5):
        world.new(2, f"b{number}", Side.SELL, 1, 100)
    output = world.new(1, "a1", Side.BUY, 5, 100)
    canceled = output.events[-1]
    assert isinstance(canceled, OrderCanceled)
    assert (canceled.reason, canceled.canceled_lots) == (CancelReason.EXPIRED, 2)
    assert len(output.events) == 2 + 2 * 3
    assert world.best == (0, 100)


def test_self_trade_cancels_count_as_matches(monkeypatch: pytest.MonkeyPatch) -> None:
    limit_matches(monkeypatch, 3)
    world = World()
    for number in range(5):
        world.new(1 + number % 2, f"b{number}", Side.SELL, 1, 100)
    output = world.new(1, "a1", Side.BUY, 5, 100, stp=SelfTradePrevention.CANCEL_OLDEST)
    assert len(output.events) <= 2 + 2 * 3
    assert isinstance(output.events[-1], OrderCanceled)
    assert output.events[-1].reason is CancelReason.EXPIRED


def test_fok_that_would_meet_too_many_orders_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    limit_matches(monkeypatch, 3)
    world = World()
    for number in range(5):
        world.new(2, f"b{number}", Side.SELL, 1, 100)
    killed = world.new(1, "a1", Side.BUY, 4, 100, time_in_force=TimeInForce.FOK)
    assert [type(event) for event in killed.events] == [OrderAccepted, OrderCanceled]
    filled = world.new(1, "a2", Side.BUY, 3, 100, time_in_force=TimeInForce.FOK)
    assert len(filled.events) == 1 + 2 * 3


def test_account_has_a_limit_of_open_orders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matching, "OPEN_ORDERS_PER_ACCOUNT_MAX", 2)
    world = World()
    world.new(1, "a1", Side.BUY, 1, 100)
    world.new(1, "a2", Side.BUY, 1, 100)
    refused = world.new(1, "a3", Side.BUY, 1, 100).events[0]
    assert isinstance(refused, OrderRejected)
    assert refused.reason is OrdRejReason.EXCEEDS_LIMIT
    world.cancel(1, "x", "a1")
    assert isinstance(world.new(1, "a3", Side.BUY, 1, 100).events[0], OrderAccepted)


def test_rejection_names_the_order_by_its_seq() -> None:
    world = World()
    refused = world.new(1, "a1", Side.BUY, 0, 100).events[0]
    assert isinstance(refused, OrderRejected)
    assert (refused.order_seq, refused.leaves_lots, refused.cum_lots) == (2, 0, 0)


def test_cancel_event_carries_both_cl_ord_ids() -> None:
    world = World()
    world.new(1, "a1", Side.BUY, 5, 100)
    event = world.cancel(1, "x1", "a1").events[0]
    assert isinstance(event, OrderCanceled)
    assert (event.cl_ord_id, event.orig_cl_ord_id) == ("x1", "a1")
    assert (event.leaves_lots, event.canceled_lots, event.qty_lots) == (0, 5, 5)


def test_cancel_reject_of_an_open_order_names_it() -> None:
    world = World()
    world.new(1, "a1", Side.BUY, 5, 100)
    world.new(2, "b1", Side.SELL, 2, 100)
    command = world.replacing(1, "a2", "a1", Side.BUY, 2, 100)
    event = world.apply(command).events[0]
    assert isinstance(event, CancelRejected)
    assert (event.order_seq, event.reason) == (2, CxlRejReason.TOO_LATE)


def test_status_answer_repeats_the_request_id() -> None:
    world = World()
    event = world.query(1, "a1").events[0]
    assert isinstance(event, OrderStatusReported)
    assert (event.order_seq, event.ord_status_req_id) == (0, "s-a1")


def test_no_account_is_remembered_for_nothing_but_a_refusal() -> None:
    world = World()
    world.query(9, "a1")
    world.cancel(9, "x1", "a1")
    world.new(9, "a1", Side.BUY, 0, 100)
    world.cancel_all(9)
    assert world.shard.matcher(SYMBOL).accounts == {}


def test_units_change_only_while_the_book_is_empty() -> None:
    matcher = Matcher(rules())
    finer = msgspec.structs.replace(rules(version=2), tick_size="0.1")
    matcher.change_rules(finer)
    assert matcher.rules is finer
    world = World()
    world.new(1, "a1", Side.BUY, 5, 100)
    with pytest.raises(AssertionError, match="book is empty"):
        world.shard.matcher(SYMBOL).change_rules(finer)
    with pytest.raises(AssertionError, match="dense"):
        world.shard.matcher(SYMBOL).change_rules(rules(version=3))


def test_order_expires_though_hundreds_that_were_to_expire_were_canceled_before() -> None:
    world = World()
    for number in range(300):
        expire_us = 20_000_000 - number
        world.new(
            *(1, f"a{number}", Side.BUY, 1, 100),
            time_in_force=TimeInForce.GTD,
            conditions=OrderConditions(expire_us=expire_us),
        )
        assert world.shard.due_us(SYMBOL) == expire_us, f"after {number} orders"
        world.cancel(1, f"x{number}", f"a{number}")


def test_last_trade_in_other_units_is_forgotten() -> None:
    world = World(rules(band_ppm=100_000))
    world.new(1, "a1", Side.BUY, 5, 100)
    world.new(2, "b1", Side.SELL, 5, 100)
    world.change_rules(rules(version=2, band_ppm=50_000))
    assert isinstance(world.new(1, "a2", Side.BUY, 5, 106).events[0], OrderRejected)
    finer = msgspec.structs.replace(rules(version=3, band_ppm=50_000), tick_size="0.5")
    world.change_rules(finer)
    accepted = world.new(1, "a3", Side.BUY, 5, 200).events[0]
    assert isinstance(accepted, OrderAccepted), "200 ticks are 100 as before"


def test_own_orders_that_an_order_meets_last_count_as_well(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(trading, "MATCHES_PER_ORDER_MAX", 2)
    world = World()
    world.new(2, "b1", Side.SELL, 1, 100)
    for name in ("a1", "a2", "a3"):
        world.new(1, name, Side.SELL, 1, 100)
    oldest = SelfTradePrevention.CANCEL_OLDEST
    events = world.new(1, "a4", Side.BUY, 9, 100, stp=oldest).events
    canceled = [event for event in events if isinstance(event, OrderCanceled)]
    assert [(event.cl_ord_id, event.reason) for event in canceled] == [
        ("a1", CancelReason.SELF_TRADE),
        ("a4", CancelReason.EXPIRED),
    ]
