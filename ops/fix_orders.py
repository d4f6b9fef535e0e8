"""Bodies of the application messages that a client sends, rendered from integers. Pure.

A body is everything behind the standard header (``ops/fix_initiator.py`` puts that before it).
"""

from __future__ import annotations

from engine.enums import SelfTradePrevention, Side, TimeInForce
from engine.instrument import DecimalGrid
from gateway.fix_tags import (
    NEW_ORDER_SINGLE,
    ORDER_CANCEL_REPLACE_REQUEST,
    ORDER_CANCEL_REQUEST,
    ORDER_STATUS_REQUEST,
)
from gateway.symbol_texts import GridTexts

Message = tuple[bytes, bytes]
"""MsgType (35) and the body."""


class OrderBodies:
    """The requests of one client about one symbol.

    Args:
        symbol: Symbol (55).
        tick_size: the symbol's tick, decimal text.
        lot_size: its lot.
        stp: self-trade prevention (7928) of every order; None leaves it to the venue's default.

    Attributes:
        prices: texts and ticks of prices.
        quantities: texts and lots of quantities.
    """

    __slots__ = ("_order", "_replace", "_symbol", "prices", "quantities")

    def __init__(
        self, symbol: str, *, tick_size: str, lot_size: str, stp: SelfTradePrevention | None
    ) -> None:
        self._symbol = symbol.encode("ascii")
        self.prices = GridTexts(DecimalGrid(tick_size))
        self.quantities = GridTexts(DecimalGrid(lot_size))
        prevention = b"" if stp is None else b"7928=%d\x01" % stp
        terms = (
            b"38=%%b\x0140=2\x0144=%%b\x0154=%%d\x0155=%b\x0159=%%d\x0160=%%b\x01" % self._symbol
        )
        self._order = b"11=%b\x01" + terms + prevention
        self._replace = b"11=%b\x0141=%b\x01" + terms

    def new(
        self,
        cl_ord_id: bytes,
        side: Side,
        *,
        price_ticks: int,
        qty_lots: int,
        time_in_force: TimeInForce,
        time: bytes,
    ) -> Message:
        """Return a limit order (35=D); ``time`` is TransactTime (60)."""
        return NEW_ORDER_SINGLE, self._order % (
            cl_ord_id,
            self.quantities.text(qty_lots),
            self.prices.text(price_ticks),
            side,
            time_in_force,
            time,
        )

    def replace(
        self,
        cl_ord_id: bytes,
        orig_cl_ord_id: bytes,
        side: Side,
        *,
        price_ticks: int,
        total_lots: int,
        time: bytes,
    ) -> Message:
        """Return a replace (35=G) of a GTC limit order; OrderQty counts what has been filled."""
        return ORDER_CANCEL_REPLACE_REQUEST, self._replace % (
            cl_ord_id,
            orig_cl_ord_id,
            self.quantities.text(total_lots),
            self.prices.text(price_ticks),
            side,
            TimeInForce.GTC,
            time,
        )

    def cancel(
        self, cl_ord_id: bytes, orig_cl_ord_id: bytes, side: Side, *, time: bytes
    ) -> Message:
        """Return a cancel (35=F)."""
        return ORDER_CANCEL_REQUEST, b"11=%b\x0141=%b\x0154=%d\x0155=%b\x0160=%b\x01" % (
            cl_ord_id,
            orig_cl_ord_id,
            side,
            self._symbol,
            time,
        )

    def status(self, cl_ord_id: bytes, side: Side) -> Message:
        """Return a status request (35=H)."""
        body = b"11=%b\x0154=%d\x0155=%b\x01" % (cl_ord_id, side, self._symbol)
        return ORDER_STATUS_REQUEST, body
