"""What a client of a world sends: every kind of order and request, drawn at random."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from engine.enums import OrdType, Side, TimeInForce
from gateway.fix_tags import (
    NEW_ORDER_SINGLE,
    ORDER_CANCEL_REPLACE_REQUEST,
    ORDER_MASS_CANCEL_REQUEST,
    ORDER_MASS_STATUS_REQUEST,
)
from gateway.fix_time import UtcTimestampWriter
from ops.fix_orders import Message, OrderBodies

MID_TICKS = 5_000
SPREAD_TICKS = 6
LOTS_MAX = 20
UNAFFORDABLE_TICKS = 10**9
UNAFFORDABLE_LOTS = 100_000
GTD_MS = (50, 1_500)
"""From now to the ExpireTime of a GTD order: some do not live to see the end of their world."""

_MASS_CANCEL_ALL, _MASS_CANCEL, _MASS_STATUS = 0.015, 0.03, 0.05
_REPLACE, _STATUS, _CANCEL = 0.17, 0.2, 0.33
_CONDITIONAL, _MARKET, _UNAFFORDABLE = 0.45, 0.5, 0.53
_TIMES_IN_FORCE = (
    *(TimeInForce.GTC,) * 5,
    *(TimeInForce.DAY, TimeInForce.DAY, TimeInForce.OPG),
    *(TimeInForce.IOC, TimeInForce.IOC, TimeInForce.FOK),
)


class Open(NamedTuple):
    """An open order, as its client knows it."""

    symbol: str
    cl_ord_id: str
    side: Side
    cum: int
    ord_type: OrdType


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
        self._expiries = UtcTimestampWriter()
        self._bodies = {
            symbol: OrderBodies(symbol, tick_size="0.01", lot_size="1", stp=None)
            for symbol in symbols
        }

    def draw(self, name: str, resting: Mapping[str, Open], *, now_ns: int) -> tuple[str, Message]:
        """Return a request and its kind: D, F, G, H, q (of one symbol), Q (of all) or AF.

        Args:
            name: its ClOrdID; of a status request the id of that (790, 584).
            resting: the client's open orders, as it knows them.
            now_ns: its TransactTime (60).
        """
        now, draw = self._times.write(now_ns), self._choose.random()
        if draw < _MASS_CANCEL:
            return self._mass_cancel(draw < _MASS_CANCEL_ALL, name.encode(), now)
        if draw < _MASS_STATUS:
            return "AF", (ORDER_MASS_STATUS_REQUEST, b"584=%b\x01585=7\x01" % name.encode())
        if resting and draw < _CANCEL:
            order = self._choose.choice(list(resting.values()))
            return self._about(order, draw, name.encode(), now)
        return "D", self._order(name.encode(), now, now_ns)

    def _mass_cancel(self, everything: bool, name: bytes, now: bytes) -> tuple[str, Message]:
        side = self._choose.choice((b"", b"", b"54=1\x01", b"54=2\x01"))
        if everything:
            body = b"11=%b\x01530=7\x01%b60=%b\x01" % (name, side, now)
            return "Q", (ORDER_MASS_CANCEL_REQUEST, body)
        symbol = self._choose.choice(self._symbols).encode()
        body = b"11=%b\x01530=1\x0155=%b\x01%b60=%b\x01" % (name, symbol, side, now)
        return "q", (ORDER_MASS_CANCEL_REQUEST, body)

    def _about(self, order: Open, draw: float, name: bytes, now: bytes) -> tuple[str, Message]:
        bodies, orig = self._bodies[order.symbol], order.cl_ord_id.encode()
        if draw < _REPLACE:
            return "G", self._replace(order, name, now)
        if draw < _STATUS:
            msg_type, body = bodies.status(orig, order.side)
            return "H", (msg_type, b"%b790=%b\x01" % (body, name))
        return "F", bodies.cancel(name, orig, order.side, time=now)

    def _replace(self, order: Open, name: bytes, now: bytes) -> Message:
        """Draw new terms for an order, which stays what it is; some show a part from then on."""
        choose, ord_type = self._choose, order.ord_type
        text = self._bodies[order.symbol].prices.text
        lots = order.cum + choose.randint(1, LOTS_MAX)
        terms = b"38=%d\x01" % lots
        if ord_type is not OrdType.STOP:
            terms += b"44=%b\x01" % text(self._price())
            if choose.random() < 0.2:
                terms += b"111=%d\x01" % choose.randint(1, min(lots, 3))
        if ord_type is OrdType.STOP or (ord_type is OrdType.STOP_LIMIT and choose.random() < 0.7):
            terms += b"99=%b\x01" % text(self._price())
        body = b"11=%b\x0141=%b\x01%b40=%d\x0154=%d\x0155=%b\x0159=1\x0160=%b\x01" % (
            name,
            order.cl_ord_id.encode(),
            terms,
            ord_type,
            order.side,
            order.symbol.encode(),
            now,
        )
        return ORDER_CANCEL_REPLACE_REQUEST, body

    def _order(self, name: bytes, now: bytes, now_ns: int) -> Message:
        choose = self._choose
        symbol, side = choose.choice(self._symbols), choose.choice((Side.BUY, Side.SELL))
        draw, lots, price = choose.random(), choose.randint(1, LOTS_MAX), self._price()
        if draw < _CONDITIONAL:
            return self._conditional(symbol, side, name, now, now_ns)
        if draw < _MARKET:
            body = b"11=%b\x0138=%d\x0140=1\x0154=%d\x0155=%b\x0160=%b\x01"
            return NEW_ORDER_SINGLE, body % (name, lots, side, symbol.encode(), now)
        if draw < _UNAFFORDABLE:
            price, lots, side = UNAFFORDABLE_TICKS, UNAFFORDABLE_LOTS, Side.BUY
        return self._bodies[symbol].new(
            name,
            side,
            price_ticks=price,
            qty_lots=lots,
            time_in_force=choose.choice(_TIMES_IN_FORCE),
            time=now,
        )

    def _conditional(
        self, symbol: str, side: Side, name: bytes, now: bytes, now_ns: int
    ) -> Message:
        """Draw an order that waits for a price, shows a part, ends by the clock, or the like."""
        choose = self._choose
        text = self._bodies[symbol].prices.text
        price, stop = text(self._price()), text(self._price())
        lots, part = choose.randint(1, LOTS_MAX), choose.randint(1, 3)
        expiry = self._expiries.write(now_ns + choose.randint(*GTD_MS) * 1_000_000)
        terms = choose.choice(
            (
                b"38=%d\x0140=3\x0159=1\x0199=%b\x01" % (lots, stop),
                b"38=%d\x0140=4\x0144=%b\x0159=0\x0199=%b\x01" % (lots, price, stop),
                b"38=%d\x0140=4\x0144=%b\x0159=6\x0199=%b\x01126=%b\x01111=%d\x01"
                % (lots + 3, price, stop, expiry, part),
                b"38=%d\x0140=2\x0144=%b\x0159=1\x01111=%d\x01" % (lots + 3, price, part),
                b"38=%d\x0140=2\x0144=%b\x0159=6\x01126=%b\x01" % (lots, price, expiry),
                b"38=%d\x0140=2\x0144=%b\x0159=3\x01110=%d\x01" % (lots + 3, price, part),
                b"152=%d\x0140=1\x01" % (lots * MID_TICKS // 100),
            )
        )
        if terms.startswith(b"152"):
            side = Side.BUY
        body = b"11=%b\x01%b54=%d\x0155=%b\x0160=%b\x01"
        return NEW_ORDER_SINGLE, body % (name, terms, side, symbol.encode(), now)

    def _price(self) -> int:
        return MID_TICKS + self._choose.randint(-SPREAD_TICKS, SPREAD_TICKS)
