"""Events as an engine writes them, for the tests of those who read them."""

from __future__ import annotations

from engine.commands import OrderConditions
from engine.enums import (
    CancelReason,
    Liquidity,
    OrdType,
    PhaseReason,
    SelfTradePrevention,
    Side,
    TimeInForce,
    TradingPhase,
)
from engine.events import (
    Event,
    OrderAccepted,
    OrderCanceled,
    OrderFilled,
    OrderRefilled,
    OrderReplaced,
    OrderTriggered,
    Output,
    PhaseChanged,
    SymbolDefined,
)
from engine.instrument import SymbolRules, define_rules

SYMBOL = "BTC-USD"
INCARNATION = "incarnation-1"
TS_US = 1_700_000_000_000_000
"""2023-11-14 22:13:20 UTC."""


def rules(
    *, tick_size: str = "0.01", lot_size: str = "0.1", version: int = 1, symbol: str = SYMBOL
) -> SymbolRules:
    """Rules of a symbol with base scale 2 and quote scale 5."""
    return define_rules(
        symbol=symbol,
        base=symbol.partition("-")[0],
        quote=symbol.partition("-")[2],
        base_scale=2,
        quote_scale=5,
        tick_size=tick_size,
        lot_size=lot_size,
        min_qty=lot_size,
        max_qty="100000",
        max_price=None,
        min_notional="0",
        maker_fee_ppm=0,
        taker_fee_ppm=0,
        version=version,
    )


def output(seq: int, *events: Event, ts_us: int = TS_US, symbol: str = SYMBOL) -> Output:
    """An output of input `seq` without balance changes."""
    return Output(symbol, seq, ts_us, list(events), [])


def defined(symbol_rules: SymbolRules | None = None, *, incarnation: str = INCARNATION) -> Event:
    """The definition of the symbol."""
    return SymbolDefined(0, incarnation, symbol_rules or rules())


def accepted(
    order_seq: int,
    side: Side,
    price_ticks: int,
    qty_lots: int,
    *,
    ioc: bool = False,
    ord_type: OrdType = OrdType.LIMIT,
    conditions: OrderConditions | None = None,
) -> Event:
    """A new order, a limit order unless told otherwise."""
    tif = TimeInForce.IOC if ioc else TimeInForce.GTC
    return OrderAccepted(
        *(0, 7, order_seq, f"c{order_seq}", side, ord_type, tif),
        *(price_ticks, qty_lots, qty_lots, 0, 0),
        post_only=False,
        stp=SelfTradePrevention.CANCEL_NEWEST,
        conditions=conditions,
    )


def triggered(
    order_seq: int, side: Side, price_ticks: int, qty_lots: int, conditions: OrderConditions
) -> Event:
    """A stop-limit order goes to work."""
    return OrderTriggered(
        *(0, 7, order_seq, f"c{order_seq}", side, OrdType.STOP_LIMIT, TimeInForce.GTC),
        *(price_ticks, qty_lots, qty_lots, 0, 0),
        conditions=conditions,
    )


def phase_changed(
    phase: TradingPhase,
    reason: PhaseReason = PhaseReason.OPERATOR,
    *,
    auction: tuple[int, int] = (0, 0),
) -> Event:
    """The symbol changes to another phase, with the price and volume of an auction."""
    return PhaseChanged(0, phase, reason, *auction)


def refilled(order_seq: int, side: Side, price_ticks: int, *, leaves: int, displayed: int) -> Event:
    """An iceberg order shows its next part."""
    return OrderRefilled(
        *(0, 7, order_seq, f"c{order_seq}", side, OrdType.LIMIT, TimeInForce.GTC),
        *(price_ticks, leaves, leaves, 0, 0),
        displayed_lots=displayed,
    )


def filled(
    order_seq: int,
    side: Side,
    price_ticks: int,
    *,
    fill: int,
    leaves: int,
    liquidity: Liquidity,
    last_ticks: int | None = None,
    trade: int = 0,
) -> Event:
    """One side of a trade at `last_ticks`, which is the order's own price unless given."""
    last = price_ticks if last_ticks is None else last_ticks
    return OrderFilled(
        *(0, 7, order_seq, f"c{order_seq}", side, OrdType.LIMIT, TimeInForce.GTC),
        *(price_ticks, fill + leaves, leaves, fill, fill * last),
        trade=trade,
        liquidity=liquidity,
        last_price_ticks=last,
        last_qty_lots=fill,
        fee=0,
    )


def canceled(
    order_seq: int,
    side: Side,
    price_ticks: int,
    lots: int,
    reason: CancelReason = CancelReason.REQUESTED,
) -> Event:
    """An order that ends with `lots` unfilled."""
    return OrderCanceled(
        *(0, 7, order_seq, f"c{order_seq}", side, OrdType.LIMIT, TimeInForce.GTC),
        *(price_ticks, lots, 0, 0, 0),
        reason=reason,
        orig_cl_ord_id="",
        canceled_lots=lots,
    )


def replaced(
    order_seq: int, side: Side, *, old: tuple[int, int], new: tuple[int, int], kept_priority: bool
) -> Event:
    """An order that moves from `old` to `new`, each price in ticks and leaves in lots."""
    return OrderReplaced(
        *(0, 7, order_seq, f"r{order_seq}", side, OrdType.LIMIT, TimeInForce.GTC),
        *(new[0], new[1], new[1], 0, 0),
        orig_cl_ord_id=f"c{order_seq}",
        old_price_ticks=old[0],
        old_leaves_lots=old[1],
        kept_priority=kept_priority,
        post_only=False,
        stp=SelfTradePrevention.NONE,
    )


def trade(
    seq: int, maker_seq: int, aggressor: Side, price_ticks: int, lots: int, *, index: int = 0
) -> list[Event]:
    """Both sides of a trade that fills maker and taker whole."""
    other = Side.SELL if aggressor is Side.BUY else Side.BUY
    fill = {"fill": lots, "leaves": 0, "trade": index}
    return [
        filled(maker_seq, other, price_ticks, liquidity=Liquidity.MAKER, **fill),
        filled(seq, aggressor, price_ticks, liquidity=Liquidity.TAKER, **fill),
    ]
