"""Outputs for the tests of persistence: a small day with every kind of event, and random ones."""

from __future__ import annotations

import random
import struct
from datetime import UTC, datetime, timedelta
from typing import Any

from engine.commands import (
    CancelAll,
    CancelOrder,
    Command,
    DefineSymbol,
    MassCancel,
    NewOrder,
    OrderConditions,
    QueryOrder,
    ReplaceOrder,
    SetPhase,
    Tick,
    encode_command,
)
from engine.enums import (
    CancelReason,
    Liquidity,
    MassCancelRequestType,
    OrdType,
    PhaseReason,
    SelfTradePrevention,
    Side,
    TimeInForce,
    TradingPhase,
)
from engine.events import (
    OrderAccepted,
    OrderFilled,
    OrderState,
    Output,
)
from engine.instrument import SymbolRules, define_rules
from engine.shard import Shard

SYMBOL = "ALFA-USD"
INCARNATION = "0123456789abcdef"
SCALES = {"ALFA": 0, "USD": 6}
TS_US = 1_700_000_000_000_000
"""2023-11-14 22:13:20 UTC."""

_IMMEDIATE = (TimeInForce.IOC, TimeInForce.FOK)
_STOPS = (OrdType.STOP, OrdType.STOP_LIMIT)


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


def execution_row(data: bytes) -> dict[str, str]:
    """Return a row of executions, as COPY's binary format has it, as text by column."""
    [count], at = struct.unpack_from(">h", data), 2
    values = []
    for _ in range(count):
        [size] = struct.unpack_from(">i", data, at)
        values.append(data[at + 4 : at + 4 + size])
        at += 4 + size
    assert at == len(data), "a row ends with its last field"
    user_id, symbol, seq, index, kind, event, executed_at = values
    assert [len(value) for value in (user_id, seq, index, executed_at)] == [8, 8, 4, 8]
    numbers = [str(int.from_bytes(value, "big")) for value in (user_id, seq, index)]
    time = datetime(2000, 1, 1, tzinfo=UTC) + timedelta(
        microseconds=int.from_bytes(executed_at, "big", signed=True)
    )
    names = ("user_id", "seq", "index", "symbol", "kind", "event", "executed_at")
    texts = (*numbers, symbol.decode(), kind.decode(), event.hex(), time.isoformat(sep=" "))
    return dict(zip(names, texts, strict=True))


def scenario(*, skips: bool = False) -> list[Output]:
    """Return what an engine says about a small day, with every kind of event.

    Account 1 buys, account 2 sells. At the end account 1 has 6 ALFA more, paid 300 USD and 0.03 in
    fees, and 4 at 49.00 of its replaced order rest. Account 2's market order sold 2, the rest
    expired.

    Args:
        skips: go on with three inputs that are skipped, by which nothing of this changes: an order
            of account 1, a cancel of account 1 and bytes that are no command.
    """
    of = rules()
    gtc, ioc = (OrdType.LIMIT, TimeInForce.GTC), (OrdType.MARKET, TimeInForce.IOC)

    def new(
        account: int, cl_ord_id: str, side: Side, price_ticks: int, qty_lots: int, kind: Any = gtc
    ) -> NewOrder:
        reserved = of.hold_of(side, price_ticks, qty_lots)
        how = (*kind, False, SelfTradePrevention.CANCEL_NEWEST)
        return NewOrder(account, 0, 0, cl_ord_id, side, *how, price_ticks, qty_lots, 1, reserved)

    commands: list[Command] = [
        DefineSymbol(INCARNATION, of),
        new(1, "c2", Side.BUY, 5_000, 10),
        new(2, "c3", Side.SELL, 5_000, 4),
        ReplaceOrder(
            *(1, 0, 0, "c4", "c2", 0, Side.BUY, *gtc, False, 4_900, 8, 1),
            reserved=of.hold_of(Side.BUY, 4_900, 8),
        ),
        new(1, "c5", Side.BUY, 5_000, 2),
        new(2, "c6", Side.SELL, 4_950, 5, ioc),
        # More than max_qty; the ClOrdID is not harmless.
        new(1, "c\\7\tx", Side.BUY, 5_000, 1_000_000),
        CancelOrder(1, 0, 0, "x8", "c7", 0),
        new(2, "c9", Side.SELL, 5_100, 10),
        CancelOrder(2, 0, 0, "x10", "c9", 0),
        QueryOrder(1, 0, 0, "c4", 0, Side.BUY, "q"),
    ]
    shard = Shard()
    outputs = [
        shard.apply(SYMBOL, seq, TS_US + seq, command).output
        for seq, command in enumerate(commands, 1)
    ]
    payloads = [
        encode_command(new(1, "c12", Side.BUY, 4_000, 3)),
        encode_command(CancelOrder(1, 0, 0, "x13", "c4", 0)),
        b"no command",
    ]
    for seq, payload in enumerate(payloads if skips else (), len(commands) + 1):
        outputs.append(shard.skip(SYMBOL, seq, TS_US + seq, payload, "a bug").output)
    return outputs


def random_outputs(seed: int, count: int, *, symbol: str = SYMBOL) -> list[Output]:
    """Return what an engine says about the inputs 1 to count of a symbol: orders at random."""
    return [output for _, output in random_history(seed, count, symbol=symbol)]


def random_history(seed: int, count: int, *, symbol: str = SYMBOL) -> list[tuple[Command, Output]]:
    """Return the inputs 1 to count of a symbol, and what an engine says about each.

    Every kind of order of four accounts in a narrow market, cancels, replaces, questions, mass
    cancels, changes of the trading phase, ticks; some are refused. Nobody looks at the accounts'
    funds.
    """
    choice = random.Random(seed)
    shard = Shard()
    definition = DefineSymbol(INCARNATION, rules(symbol))
    history: list[tuple[Command, Output]] = [
        (definition, shard.apply(symbol, 1, TS_US, definition).output)
    ]
    resting: dict[int, OrderState] = {}
    ts_us = TS_US
    for seq in range(2, count + 1):
        ts_us += choice.choice((0, 1, 999_999))
        command = _random_command(choice, seq, definition.rules, ts_us, list(resting.values()))
        output = shard.apply(symbol, seq, ts_us, command).output
        history.append((command, output))
        for event in output.events:
            if isinstance(event, OrderState) and event.leaves_lots:
                resting[event.order_seq] = event
            elif isinstance(event, OrderState):
                resting.pop(event.order_seq, None)
    return history


def _random_command(
    choice: random.Random, seq: int, of: SymbolRules, ts_us: int, resting: list[OrderState]
) -> Command:
    kind = choice.random()
    account, known, side = choice.randint(1, 4), "never was", choice.choice((Side.BUY, Side.SELL))
    order = choice.choice(resting) if resting and choice.random() < 0.9 else None
    if order is not None and kind < 0.35:
        account, known, side = order.account, order.cl_ord_id, order.side
    if kind < 0.15:
        return CancelOrder(account, 0, 0, f"c{seq}", known, 0)
    if kind < 0.2:
        return QueryOrder(account, 0, 0, known, 0, Side.BUY, "")
    if kind < 0.33:
        return _random_replace(choice, seq, of, ts_us, order, (account, known, side))
    if kind < 0.41:
        return _random_event(choice, seq, account)
    if kind < 0.55:
        return _random_conditional(choice, seq, of, ts_us, account, side)
    price_ticks, qty_lots = _price(choice), choice.randint(1, 20)
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
        reserved=of.hold_of(side, price_ticks, qty_lots),
    )


def _random_event(choice: random.Random, seq: int, account: int) -> Command:
    """Draw what is about no single order; most of the time the symbol is open."""
    kind = choice.random()
    if kind < 0.6:
        phase = choice.choice((*5 * (TradingPhase.CONTINUOUS,), *TradingPhase))
        return SetPhase(phase, choice.choice((PhaseReason.OPERATOR, PhaseReason.SCHEDULE)))
    if kind < 0.75:
        return Tick()
    if kind < 0.85:
        reason = choice.choice((CancelReason.USER_DISABLED, CancelReason.DISCONNECTED))
        return CancelAll(account, reason)
    request = choice.choice((MassCancelRequestType.SECURITY, MassCancelRequestType.ALL))
    side = choice.choice((None, Side.BUY, Side.SELL))
    return MassCancel(account, 0, 0, f"c{seq}", request, side)


def _random_replace(
    choice: random.Random,
    seq: int,
    of: SymbolRules,
    ts_us: int,
    order: OrderState | None,
    whose: tuple[int, str, Side],
) -> Command:
    """Draw other terms for an order, which stays what it is."""
    account, known, side = whose
    ord_type = OrdType.LIMIT if order is None else order.ord_type
    stop_ticks = _price(choice) if ord_type in _STOPS else 0
    price_ticks = stop_ticks if ord_type is OrdType.STOP else _price(choice)
    qty_lots, day = choice.randint(1, 20), choice.random()
    may_hide = ord_type is not OrdType.STOP and choice.random() < 0.3
    conditions = OrderConditions(
        stop_ticks=stop_ticks,
        max_floor_lots=min(qty_lots, 3) if may_hide else 0,
        expire_us=_expiry_us(choice, ts_us) if day < 0.2 else 0,
    )
    return ReplaceOrder(
        *(account, 0, 0, f"c{seq}", known, 0, side, ord_type),
        *(TimeInForce.GTD if day < 0.2 else TimeInForce.GTC, False, price_ticks, qty_lots, 1),
        reserved=of.hold_of(side, price_ticks, qty_lots),
        conditions=conditions if conditions != OrderConditions() else None,
    )


def _random_conditional(
    choice: random.Random, seq: int, of: SymbolRules, ts_us: int, account: int, side: Side
) -> Command:
    """Draw an order that waits for a price, shows a part, ends by the clock, or the like."""
    price_ticks, qty_lots, stop_ticks = _price(choice), choice.randint(4, 20), _price(choice)
    gtc, ioc, expire_us = TimeInForce.GTC, TimeInForce.IOC, _expiry_us(choice, ts_us)
    cash = of.hold_of(Side.BUY, 5_000, qty_lots)
    shapes = (
        (OrdType.STOP, gtc, OrderConditions(stop_ticks=stop_ticks)),
        (OrdType.STOP_LIMIT, TimeInForce.DAY, OrderConditions(stop_ticks=stop_ticks)),
        (OrdType.STOP_LIMIT, gtc, OrderConditions(stop_ticks=stop_ticks, max_floor_lots=2)),
        (OrdType.LIMIT, gtc, OrderConditions(max_floor_lots=3)),
        (OrdType.LIMIT, TimeInForce.GTD, OrderConditions(expire_us=expire_us)),
        (OrdType.LIMIT, TimeInForce.GTD, OrderConditions(max_floor_lots=1, expire_us=expire_us)),
        (OrdType.LIMIT, ioc, OrderConditions(min_qty_lots=4)),
        (OrdType.LIMIT, gtc, OrderConditions(min_qty_lots=2, max_floor_lots=2)),
        (OrdType.LIMIT, TimeInForce.OPG, None),
        (OrdType.MARKET, ioc, OrderConditions(cash=cash)),
    )
    ord_type, time_in_force, conditions = choice.choice(shapes)
    reserved = of.hold_of(side, price_ticks, qty_lots)
    if conditions is not None and conditions.cash:
        side, qty_lots, reserved = Side.BUY, 0, cash
    return NewOrder(
        *(account, 0, 0, f"c{seq}", side, ord_type, time_in_force, False),
        *(choice.choice(list(SelfTradePrevention)), price_ticks, qty_lots, 1, reserved, conditions),
    )


def _price(choice: random.Random) -> int:
    return choice.randint(4_995, 5_005)


def _expiry_us(choice: random.Random, ts_us: int) -> int:
    return ts_us + choice.choice((1, 1_000_000, 60_000_000))
