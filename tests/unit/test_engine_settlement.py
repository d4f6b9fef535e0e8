"""What is committed of one input: the whole for the stream, each account's part for its outbox."""

from __future__ import annotations

from engine.commands import CancelAll, Command, DefineSymbol, NewOrder
from engine.enums import OrdType, SelfTradePrevention, Side, TimeInForce
from engine.events import OrderFilled, decode_output
from engine.settlement import Settlement, encode_settlement
from engine.shard import Shard
from tests.router_helpers import BTC, make_rules

RULES = make_rules(maker_fee_ppm=1_000, taker_fee_ppm=2_000)


def order(account: int, side: Side, cl_ord_id: str) -> NewOrder:
    return NewOrder(
        account,
        1,
        1,
        cl_ord_id,
        side,
        OrdType.LIMIT,
        TimeInForce.GTC,
        False,
        SelfTradePrevention.NONE,
        10_000,
        5,
        1,
        RULES.hold_of(side, 10_000, 5),
    )


def settle(*commands: Command) -> list[Settlement]:
    shard = Shard()
    return [
        encode_settlement(shard.apply(BTC, seq, seq, command))
        for seq, command in enumerate((DefineSymbol("x", RULES), *commands), 1)
    ]


def test_definition_reports_to_nobody() -> None:
    [defined] = settle()

    assert defined.reports() == []
    assert decode_output(defined.event).seq == 1


def test_trade_reports_to_each_side_its_own_events_and_not_to_the_fee_account() -> None:
    traded = settle(order(1, Side.SELL, "A"), order(2, Side.BUY, "B"))[-1]

    whole = decode_output(traded.event)
    assert whole.changes == traded.changes
    assert any(change.account == 0 for change in traded.changes)
    parts = {account: decode_output(body) for account, body in traded.reports()}
    assert sorted(parts) == [1, 2]
    for account, part in parts.items():
        assert (part.symbol, part.seq, part.ts_us, part.changes) == (BTC, 3, 3, [])
        assert part.events == [e for e in whole.events if getattr(e, "account", 0) == account]
        assert sum(isinstance(event, OrderFilled) for event in part.events) == 1


def test_best_prices_and_open_orders_are_handed_on() -> None:
    rested, canceled = settle(order(1, Side.SELL, "A"), CancelAll(1))[1:]

    assert (rested.best_bid_ticks, rested.best_ask_ticks) == (0, 10_000)
    assert [(one.account, one.cl_ord_id) for one in rested.opens] == [(1, "A")]
    assert (canceled.best_bid_ticks, canceled.best_ask_ticks) == (0, 0)
    assert [one.value for one in canceled.opens] == [None]
