"""What a client of the torture sends: every kind of order and request, drawn at random."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from engine.enums import SelfTradePrevention, Side, TimeInForce
from gateway.fix_tags import NEW_ORDER_SINGLE
from ops.fix_orders import Message, OrderBodies
from ops.torture_record import Told

MID_TICKS = 5_000
SPREAD_TICKS = 8
QTY_LOTS_MAX = 20
UNAFFORDABLE_TICKS = 10**9
UNAFFORDABLE_LOTS = 100_000
FORBIDDEN_LOTS = 10**7
"""More than a private venue takes in one order."""

BURST_MAX = 6
"""Messages that a client sends at once; one at least."""

OPEN_MAX = 30
"""Resting orders above which it rather cancels or replaces."""

_STATUS, _REPLACE, _CANCEL = 0.03, 0.1, 0.2
_MARKET, _UNAFFORDABLE, _FORBIDDEN = 0.06, 0.08, 0.1
_TIMES_IN_FORCE = (*(TimeInForce.GTC,) * 6, TimeInForce.IOC, TimeInForce.IOC, TimeInForce.FOK)
_POST_ONLY = b"18=6\x01"
_POST_ONLY_SHARE = 0.15


class Request(NamedTuple):
    """One message to send: D, F, G or H, and what it is about."""

    kind: str
    symbol: str
    message: Message


class RandomRequests:
    """Draws requests.

    Args:
        choose: decides.
        symbols: what is traded, at a tick of 0.01 and a lot of 1.
    """

    def __init__(self, choose: random.Random, symbols: Sequence[str]) -> None:
        self._choose = choose
        self._symbols = list(symbols)
        self._bodies = {
            symbol: OrderBodies(symbol, tick_size="0.01", lot_size="1", stp=None)
            for symbol in symbols
        }

    def draw(self, name: str, resting: Mapping[str, Told], *, time: bytes) -> Request:
        """Return the next request.

        Args:
            name: its ClOrdID; of a status request the OrdStatusReqID (790).
            resting: the client's resting orders, as it knows them.
            time: TransactTime (60).
        """
        draw = self._choose.random()
        if resting and (draw < _CANCEL or len(resting) > OPEN_MAX):
            told = self._choose.choice(list(resting.values()))
            return self._about(told, draw, name.encode(), time)
        return self._order(name.encode(), time)

    def _about(self, told: Told, draw: float, name: bytes, time: bytes) -> Request:
        bodies, orig = self._bodies[told.symbol], told.cl_ord_id.encode()
        if draw < _STATUS:
            msg_type, body = bodies.status(orig, told.side)
            return Request("H", told.symbol, (msg_type, b"%b790=%b\x01" % (body, name)))
        if draw < _REPLACE:
            lots = told.cum + self._choose.randint(1, QTY_LOTS_MAX)
            message = bodies.replace(
                name, orig, told.side, price_ticks=self._price(), total_lots=lots, time=time
            )
            return Request("G", told.symbol, message)
        return Request("F", told.symbol, bodies.cancel(name, orig, told.side, time=time))

    def _order(self, name: bytes, time: bytes) -> Request:
        choose = self._choose
        symbol, side = choose.choice(self._symbols), choose.choice((Side.BUY, Side.SELL))
        stp = b"7928=%d\x01" % choose.choice(list(SelfTradePrevention))
        draw, lots, price = choose.random(), choose.randint(1, QTY_LOTS_MAX), self._price()
        if draw < _MARKET:
            body = b"11=%b\x0138=%d\x0140=1\x0154=%d\x0155=%b\x0160=%b\x01%b"
            fields = (name, lots, side, symbol.encode(), time, stp)
            return Request("D", symbol, (NEW_ORDER_SINGLE, body % fields))
        if draw < _UNAFFORDABLE:
            price, lots, side = UNAFFORDABLE_TICKS, UNAFFORDABLE_LOTS, Side.BUY
        elif draw < _FORBIDDEN:
            lots = FORBIDDEN_LOTS
        time_in_force = choose.choice(_TIMES_IN_FORCE)
        is_post_only = time_in_force is TimeInForce.GTC and choose.random() < _POST_ONLY_SHARE
        msg_type, body = self._bodies[symbol].new(
            name,
            side,
            price_ticks=price,
            qty_lots=lots,
            time_in_force=time_in_force,
            time=time,
        )
        return Request("D", symbol, (msg_type, body + stp + (_POST_ONLY if is_post_only else b"")))

    def _price(self) -> int:
        return MID_TICKS + self._choose.randint(-SPREAD_TICKS, SPREAD_TICKS)
