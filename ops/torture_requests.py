"""What a client of the torture sends: every kind of order and request, drawn at random."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from engine.enums import SelfTradePrevention, Side, TimeInForce
from gateway.fix_tags import (
    NEW_ORDER_SINGLE,
    ORDER_MASS_CANCEL_REQUEST,
    ORDER_MASS_STATUS_REQUEST,
)
from gateway.fix_time import NS_PER_SECOND, UtcTimestampWriter
from ops.fix_orders import Message, OrderBodies
from ops.torture_lists import Told

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

GTD_MIN_S = 1
GTD_MAX_S = 8
"""From now to the ExpireTime of a GTD order: the venue comes to rest so much later."""

_STATUS, _REPLACE, _CANCEL = 0.03, 0.1, 0.2
_MASS_CANCEL, _MASS_CANCEL_ALL = 0.003, 0.001
_LIST, _LIST_ALL = 0.009, 0.006
_MARKET, _UNAFFORDABLE, _FORBIDDEN = 0.06, 0.08, 0.1
_CONDITIONAL = 0.22
_TIMES_IN_FORCE = (
    *(TimeInForce.GTC,) * 5,
    *(TimeInForce.DAY, TimeInForce.DAY, TimeInForce.OPG),
    *(TimeInForce.IOC, TimeInForce.IOC, TimeInForce.FOK),
)
_POST_ONLY = b"18=6\x01"
_POST_ONLY_SHARE = 0.15


class Request(NamedTuple):
    """One message to send: D, F, G, H, q or AF, and what it is about (all symbols: empty)."""

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
        self._times = UtcTimestampWriter()
        self._bodies = {
            symbol: OrderBodies(symbol, tick_size="0.01", lot_size="1", stp=None)
            for symbol in symbols
        }

    def draw(self, name: str, resting: Mapping[str, Told], *, now_ns: int) -> Request:
        """Return the next request.

        Args:
            name: its ClOrdID; of a status request the OrdStatusReqID (790), of one for a list the
                MassStatusReqID (584).
            resting: the client's resting orders, as it knows them.
            now_ns: its TransactTime (60).
        """
        time = self._times.write(now_ns)
        draw = self._choose.random()
        if draw < _MASS_CANCEL:
            return self._mass_cancel(draw < _MASS_CANCEL_ALL, name.encode(), time)
        if draw < _LIST:
            return self.list_of(
                "" if draw < _LIST_ALL else self._choose.choice(self._symbols), name
            )
        if resting and (draw < _CANCEL or len(resting) > OPEN_MAX):
            told = self._choose.choice(list(resting.values()))
            return self._about(told, draw, name.encode(), time)
        if self._choose.random() < _CONDITIONAL:
            return self._conditional(name.encode(), time, now_ns)
        return self._order(name.encode(), time)

    def list_of(self, symbol: str, name: str) -> Request:
        """Return a request for the open orders of a symbol; of all where it is empty."""
        scope = f"585=1\x0155={symbol}\x01" if symbol else "585=7\x01"
        body = f"584={name}\x01{scope}".encode()
        return Request("AF", symbol, (ORDER_MASS_STATUS_REQUEST, body))

    def _mass_cancel(self, everything: bool, name: bytes, time: bytes) -> Request:
        if everything:
            body = b"11=%b\x01530=7\x0160=%b\x01" % (name, time)
            return Request("q", "", (ORDER_MASS_CANCEL_REQUEST, body))
        symbol = self._choose.choice(self._symbols)
        body = b"11=%b\x01530=1\x0155=%b\x0160=%b\x01" % (name, symbol.encode(), time)
        return Request("q", symbol, (ORDER_MASS_CANCEL_REQUEST, body))

    def _conditional(self, name: bytes, time: bytes, now_ns: int) -> Request:
        """Draw an order that waits for a price, shows a part, ends by the clock, or the like."""
        choose = self._choose
        symbol, side = choose.choice(self._symbols), choose.choice((Side.BUY, Side.SELL))
        text = self._bodies[symbol].prices.text
        price, stop = text(self._price()), text(self._price())
        lots, part = choose.randint(1, QTY_LOTS_MAX), choose.randint(1, 3)
        expiry_ns = now_ns + choose.randint(GTD_MIN_S, GTD_MAX_S) * NS_PER_SECOND
        terms = choose.choice(
            (
                b"38=%d\x0140=3\x0159=1\x0199=%b\x01" % (lots, stop),
                b"38=%d\x0140=4\x0144=%b\x0159=1\x0199=%b\x01" % (lots, price, stop),
                b"38=%d\x0140=2\x0144=%b\x0159=1\x01111=%d\x01" % (lots + 10, price, part),
                b"38=%d\x0140=2\x0144=%b\x0159=6\x01126=%b\x01"
                % (lots, price, self._times.write(expiry_ns)),
                b"38=%d\x0140=2\x0144=%b\x0159=3\x01110=%d\x01" % (lots + 3, price, part),
                b"152=%d\x0140=1\x01" % (lots * MID_TICKS // 100),
            )
        )
        if terms.startswith(b"152"):
            side = Side.BUY
        body = b"11=%b\x01%b54=%d\x0155=%b\x0160=%b\x01"
        return Request(
            "D", symbol, (NEW_ORDER_SINGLE, body % (name, terms, side, symbol.encode(), time))
        )

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
