"""What settlement keeps for gateways: open orders per account, and the best prices."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from engine.enums import OrdType, Side, TimeInForce
from router import keys
from router.redis_client import RedisLink


class OpenOrder(msgspec.Struct, frozen=True, gc=False):
    """An open order, as of its symbol's last settlement.

    Units: ticks, lots, ``hold`` in the smallest unit of the asset it holds, and µs since 1970 UTC.

    Attributes:
        leaves_lots: displayed and hidden.
        max_fee_ppm: the dearer of its two fee rates, which are those of when it was accepted.
        cum_price_qty: Σ price_ticks × lots over its fills.
        stop_ticks, max_floor_lots, min_qty_lots, expire_us: as of ``OrderConditions``; 0 = none.
        working: False: a stop order that has not been triggered.
    """

    order_seq: int
    side: Side
    price_ticks: int
    leaves_lots: int
    cum_lots: int
    hold: int
    max_fee_ppm: int
    ord_type: OrdType = OrdType.LIMIT
    time_in_force: TimeInForce = TimeInForce.GTC
    cum_price_qty: int = 0
    stop_ticks: int = 0
    max_floor_lots: int = 0
    min_qty_lots: int = 0
    expire_us: int = 0
    working: bool = True
    post_only: bool = False


class BestPrices(msgspec.Struct, frozen=True, gc=False):
    """Best bid and ask in ticks (0 = none) after the symbol's input ``seq``."""

    bid_ticks: int
    ask_ticks: int
    seq: int


_PLAIN = (0, 0, 0, 0, 1, 0)
"""What ends the text of an order without conditions that is not post-only, where it is left out."""


async def read_open_orders(
    link: RedisLink, wanted: Sequence[tuple[int, str, str]]
) -> list[OpenOrder | None]:
    """Return open orders, None where there is none, in the order asked for.

    Args:
        link: accounts database.
        wanted: account, symbol and ClOrdID of each.

    Raises:
        RedisUnavailable: no reply.
    """
    values = await link.pipeline(
        [
            ("HGET", keys.open_orders(account), keys.open_field(symbol, cl_ord_id))
            for account, symbol, cl_ord_id in wanted
        ]
    )
    return [None if value is None else parse_open_order(value) for value in values]


def parse_open_order(value: bytes) -> OpenOrder:
    """Return the order that a field of ``open:{account}`` holds."""
    order_seq, side, price_ticks, leaves_lots, cum_lots, *more = map(int, value.split())
    hold, max_fee_ppm, ord_type, time_in_force, cum_price_qty, *conditions = more
    stop_ticks, max_floor_lots, min_qty_lots, expire_us, working, post_only = conditions or _PLAIN
    return OpenOrder(
        order_seq,
        Side(side),
        price_ticks,
        leaves_lots,
        cum_lots,
        hold,
        max_fee_ppm,
        OrdType(ord_type),
        TimeInForce(time_in_force),
        cum_price_qty,
        stop_ticks,
        max_floor_lots,
        min_qty_lots,
        expire_us,
        working == 1,
        post_only == 1,
    )


async def read_best_prices(link: RedisLink, symbols: Sequence[str]) -> dict[str, BestPrices]:
    """Return each symbol's best prices; 0 0 0 before its first settlement.

    Args:
        link: accounts database.

    Raises:
        RedisUnavailable: no reply.
    """
    values = await link.call("HMGET", keys.BBO, *symbols) if symbols else []
    return {
        symbol: BestPrices(*(int(part) for part in (value or b"0 0 0").split()))
        for symbol, value in zip(symbols, values, strict=True)
    }
