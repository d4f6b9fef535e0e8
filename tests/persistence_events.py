"""Outputs for the tests of persistence: a small day with every kind of event, and random ones."""

from __future__ import annotations

import random
from typing import Any

from engine.commands import (
    CancelAll,
    CancelOrder,
    Command,
    DefineSymbol,
    NewOrder,
    QueryOrder,
    ReplaceOrder,
)
from engine.enums import (
    CancelReason,
    CxlRejReason,
    CxlRejResponseTo,
    Liquidity,
    OrdRejReason,
    OrdStatus,
    OrdType,
    SelfTradePrevention,
    Side,
    TimeInForce,
)
from engine.events import (
    BalanceChange,
    CancelRejected,
    OrderAccepted,
    OrderCanceled,
    OrderFilled,
    OrderRejected,
    OrderReplaced,
    OrderState,
    OrderStatusReported,
    Output,
    SymbolDefined,
)
from engine.instrument import SymbolRules, define_rules
from engine.shard import Shard

SYMBOL = "ALFA-USD"
INCARNATION = "0123456789abcdef"
SCALES = {"ALFA": 0, "USD": 6}
TS_US = 1_700_000_000_000_000
"""2023-11-14 22:13:20 UTC."""

_IMMEDIATE = (TimeInForce.IOC, TimeInForce.FOK)


def rules(symbol: str = SYMBOL, *, tick_size: str = "0.01", version: int = 1) -> SymbolRules:
    """Return the rules of a symbol of the demo's kind."""
    return define_rules(
        symbol=symbol,
        base=symbol.partition("-")[0],
        quote="USD",
        base_scale=0,
        quote_scale=6,
        tick_size=tick_size,
        lot_size="1",
        min_qty="1",
        max_qty="100000",
        max_price=None,
        min_notional="0",
        maker_fee_ppm=100,
        taker_fee_ppm=200,
        version=version,
    )


def order_fields(index: int, account: int, order_seq: int, **changes: Any) -> dict[str, Any]:
    """Return the fields of OrderState, with defaults: buy 10 at 50.00, nothing filled."""
    fields: dict[str, Any] = {
        "index": index,
        "account": account,
        "order_seq": order_seq,
        "cl_ord_id": f"c{order_seq}",
        "side": Side.BUY,
        "ord_type": OrdType.LIMIT,
        "time_in_force": TimeInForce.GTC,
        "price_ticks": 5_000,
        "qty_lots": 10,
        "leaves_lots": 10,
        "cum_lots": 0,
        "cum_price_qty": 0,
    }
    assert set(changes) <= set(fields), f"no fields of OrderState: {set(changes) - set(fields)}"
    return fields | changes


def accepted(index: int, account: int, order_seq: int, **changes: Any) -> OrderAccepted:
    """Return an acceptance."""
    return OrderAccepted(
        **order_fields(index, account, order_seq, **changes),
        post_only=False,
        stp=SelfTradePrevention.CANCEL_NEWEST,
    )


def filled(
    index: int,
    account: int,
    order_seq: int,
    liquidity: Liquidity,
    lots: int,
    fee: int,
    *,
    trade: int = 0,
    **changes: Any,
) -> OrderFilled:
    """Return one side of a trade of so many lots at the order's price."""
    fields = order_fields(index, account, order_seq, **changes)
    return OrderFilled(
        **fields,
        trade=trade,
        liquidity=liquidity,
        last_price_ticks=fields["price_ticks"],
        last_qty_lots=lots,
        fee=fee,
    )


def scenario() -> list[Output]:
    """Return what an engine says about a small day, with every kind of event.

    Account 1 buys, account 2 sells. At the end account 1 has 6 ALFA more and paid 300 USD and 0.03
    in fees; its replaced order rests with 4 at 49.00. Account 2's market order was filled with 2,
    the rest expired.
    """
    sell: dict[str, Any] = {"side": Side.SELL}
    requested = {"reason": CancelReason.REQUESTED, "orig_cl_ord_id": "c9"}
    return [
        Output(SYMBOL, 1, TS_US, [SymbolDefined(0, INCARNATION, rules())], []),
        # 2: account 1 buys 10 at 50.00; reserved 500 + 0.10.
        Output(
            SYMBOL,
            2,
            TS_US + 1,
            [accepted(0, 1, 2)],
            [BalanceChange(1, "USD", 0, -500_100_000, 500_100_000)],
        ),
        # 3: account 2 sells 4 into it: maker pays 0.02, taker 0.04.
        Output(
            SYMBOL,
            3,
            TS_US + 2,
            [
                accepted(0, 2, 3, qty_lots=4, leaves_lots=4, **sell),
                filled(
                    1,
                    1,
                    2,
                    Liquidity.MAKER,
                    4,
                    20_000,
                    leaves_lots=6,
                    cum_lots=4,
                    cum_price_qty=20_000,
                ),
                filled(
                    2,
                    2,
                    3,
                    Liquidity.TAKER,
                    4,
                    40_000,
                    qty_lots=4,
                    leaves_lots=0,
                    cum_lots=4,
                    cum_price_qty=20_000,
                    **sell,
                ),
            ],
            [
                BalanceChange(0, "USD", 60_000, 0, 0),
                BalanceChange(1, "ALFA", 4, 0, 0),
                BalanceChange(1, "USD", 0, 0, -200_020_000),
                BalanceChange(2, "ALFA", 0, -4, 0),
                BalanceChange(2, "USD", 199_960_000, 0, 0),
            ],
        ),
        # 4: account 1 replaces by 8 in all at 49.00: 4 remain, some of the hold is free.
        Output(
            SYMBOL,
            4,
            TS_US + 3,
            [
                OrderReplaced(
                    **order_fields(
                        0,
                        1,
                        2,
                        cl_ord_id="c4",
                        price_ticks=4_900,
                        qty_lots=8,
                        leaves_lots=4,
                        cum_lots=4,
                        cum_price_qty=20_000,
                    ),
                    orig_cl_ord_id="c2",
                    old_price_ticks=5_000,
                    old_leaves_lots=6,
                    kept_priority=False,
                ),
            ],
            [BalanceChange(1, "USD", 104_040_800, 0, -104_040_800)],
        ),
        # 5: account 2's market order of 5 meets 2 of account 1's at 50.00, the rest expires.
        Output(
            SYMBOL,
            5,
            TS_US + 3,
            [accepted(0, 1, 5, qty_lots=2, leaves_lots=2)],
            [BalanceChange(1, "USD", 0, -100_020_000, 100_020_000)],
        ),
        Output(
            SYMBOL,
            6,
            TS_US + 4,
            [
                accepted(
                    0,
                    2,
                    6,
                    qty_lots=5,
                    leaves_lots=5,
                    ord_type=OrdType.MARKET,
                    time_in_force=TimeInForce.IOC,
                    **sell,
                ),
                filled(
                    1,
                    1,
                    5,
                    Liquidity.MAKER,
                    2,
                    10_000,
                    qty_lots=2,
                    leaves_lots=0,
                    cum_lots=2,
                    cum_price_qty=10_000,
                ),
                filled(
                    2,
                    2,
                    6,
                    Liquidity.TAKER,
                    2,
                    20_000,
                    qty_lots=5,
                    leaves_lots=3,
                    cum_lots=2,
                    cum_price_qty=10_000,
                    ord_type=OrdType.MARKET,
                    time_in_force=TimeInForce.IOC,
                    **sell,
                ),
                OrderCanceled(
                    **order_fields(
                        3,
                        2,
                        6,
                        qty_lots=5,
                        leaves_lots=0,
                        cum_lots=2,
                        cum_price_qty=10_000,
                        ord_type=OrdType.MARKET,
                        time_in_force=TimeInForce.IOC,
                        **sell,
                    ),
                    reason=CancelReason.EXPIRED,
                    orig_cl_ord_id="",
                    canceled_lots=3,
                ),
            ],
            [
                BalanceChange(0, "USD", 30_000, 0, 0),
                BalanceChange(1, "ALFA", 2, 0, 0),
                BalanceChange(1, "USD", 10_000, 0, -100_020_000),
                BalanceChange(2, "ALFA", 3, -5, 0),
                BalanceChange(2, "USD", 99_980_000, 0, 0),
            ],
        ),
        # 7: refused, its reservation is free again. The text is not harmless.
        Output(
            SYMBOL,
            7,
            TS_US + 5,
            [
                OrderRejected(
                    **order_fields(0, 1, 7, cl_ord_id="c2\\\tx", leaves_lots=0),
                    reason=OrdRejReason.DUPLICATE_ORDER,
                    text="duplicate\nClOrdID",
                ),
            ],
            [BalanceChange(1, "USD", 500_100_000, -500_100_000, 0)],
        ),
        # 8: a cancel of nothing, 9 and 10: an order and its cancel, 11: a question.
        Output(
            SYMBOL,
            8,
            TS_US + 6,
            [
                CancelRejected(
                    0,
                    1,
                    "x8",
                    "c7",
                    0,
                    OrdStatus.REJECTED,
                    CxlRejResponseTo.CANCEL,
                    CxlRejReason.UNKNOWN_ORDER,
                    "unknown order",
                ),
            ],
            [],
        ),
        Output(
            SYMBOL,
            9,
            TS_US + 7,
            [accepted(0, 2, 9, **sell)],
            [BalanceChange(2, "ALFA", 0, -10, 10)],
        ),
        Output(
            SYMBOL,
            10,
            TS_US + 8,
            [
                OrderCanceled(
                    **order_fields(0, 2, 9, cl_ord_id="x10", leaves_lots=0, **sell),
                    **requested,
                    canceled_lots=10,
                ),
            ],
            [BalanceChange(2, "ALFA", 10, 0, -10)],
        ),
        Output(
            SYMBOL,
            11,
            TS_US + 1_000_000,
            [
                OrderStatusReported(
                    **order_fields(0, 1, 2, cl_ord_id="c4", leaves_lots=4, cum_lots=4),
                    ord_status=OrdStatus.PARTIALLY_FILLED,
                    ord_status_req_id="q",
                ),
            ],
            [],
        ),
    ]


def random_outputs(seed: int, count: int, *, symbol: str = SYMBOL) -> list[Output]:
    """Return what an engine says about the inputs 1 to count of a symbol: orders at random.

    Limit, market, IOC, FOK and post-only orders of four accounts in a narrow market, cancels,
    replaces, questions, a disabled account; some are refused. Nobody looks at the accounts' funds.
    """
    choice = random.Random(seed)
    shard = Shard()
    definition = DefineSymbol(INCARNATION, rules(symbol))
    outputs = [shard.apply(symbol, 1, TS_US, definition).output]
    resting: dict[int, OrderState] = {}
    ts_us = TS_US
    for seq in range(2, count + 1):
        ts_us += choice.choice((0, 1, 999_999))
        command = _random_command(choice, seq, definition.rules, list(resting.values()))
        outputs.append(shard.apply(symbol, seq, ts_us, command).output)
        for event in outputs[-1].events:
            if isinstance(event, OrderState) and event.leaves_lots:
                resting[event.order_seq] = event
            elif isinstance(event, OrderState):
                resting.pop(event.order_seq, None)
    return outputs


def _random_command(
    choice: random.Random, seq: int, of: SymbolRules, resting: list[OrderState]
) -> Command:
    kind = choice.random()
    account, known, side = choice.randint(1, 4), "never was", choice.choice((Side.BUY, Side.SELL))
    if resting and kind < 0.35 and choice.random() < 0.9:
        order = choice.choice(resting)
        account, known, side = order.account, order.cl_ord_id, order.side
    if kind < 0.15:
        return CancelOrder(account, 0, 0, f"c{seq}", known, 0)
    if kind < 0.2:
        return QueryOrder(account, 0, 0, known, 0, Side.BUY, "")
    if kind < 0.21:
        return CancelAll(account)
    price_ticks, qty_lots = choice.randint(4_995, 5_005), choice.randint(1, 20)
    reserved = of.hold_of(side, price_ticks, qty_lots)
    if kind < 0.35:
        return ReplaceOrder(
            *(account, 0, 0, f"c{seq}", known, 0, side, OrdType.LIMIT, TimeInForce.GTC, False),
            *(price_ticks, qty_lots, 1, reserved),
        )
    ord_type = OrdType.MARKET if choice.random() < 0.1 else OrdType.LIMIT
    time_in_force = choice.choice((*3 * (TimeInForce.DAY, TimeInForce.GTC), *_IMMEDIATE))
    if ord_type == OrdType.MARKET:
        time_in_force = TimeInForce.IOC
    return NewOrder(
        *(account, 0, 0, f"c{seq}", side, ord_type, time_in_force),
        post_only=time_in_force not in _IMMEDIATE and choice.random() < 0.2,
        stp=choice.choice(list(SelfTradePrevention)),
        price_ticks=price_ticks,
        qty_lots=qty_lots,
        rules_version=1,
        reserved=reserved,
    )
