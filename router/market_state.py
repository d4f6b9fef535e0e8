"""What market data keeps for gateways: a symbol's displayed orders, and its trading phase. Pure.

Gateways have a book of their own for each symbol that a client of theirs follows. They begin it
with an ``OrdersSnapshot``, which market data writes on demand: a gateway publishes the symbol on
``md:control``, and ``md:{symbol}:orders`` appears with the next save, for ``ORDERS_KEPT_S``. From
there they go on with ``events:{symbol}``.
"""

from __future__ import annotations

from typing import Final

import msgspec

from engine.errors import DecodeError
from engine.events import SymbolDefined
from engine.order_replica import BookOrder
from engine.trades import Trade

ORDERS_KEPT_S: Final = 10
"""How long a snapshot of the orders stands in Redis: so long it serves whoever else asks."""


class OrdersSnapshot(msgspec.Struct, frozen=True, array_like=True):
    """The displayed orders of a symbol after input ``seq``; of no use to another build.

    ``run_id``: of the server that it was written to; another server may not have the same events.
    ``last_trade``: None where there was none under the present tick and lot size.
    """

    symbol: str
    seq: int
    run_id: str
    defined: SymbolDefined
    orders: list[BookOrder]
    last_trade: Trade | None


class PhaseStatus(msgspec.Struct, frozen=True):
    """The trading phase of a symbol, as the key ``md:{symbol}:phase`` and its channel tell it.

    ``seq`` is that of the message, or of the key; the key says in ``last_seq`` which input changed
    the phase last, and in ``since`` when. A heartbeat has no ``phase``, and the ``seq`` of the last
    message.
    """

    symbol: str
    seq: int
    ts: int
    phase: str = ""
    reason: str = ""
    auction_price: str | None = None
    auction_qty: str | None = None
    last_seq: int | None = None
    since: int = 0

    @property
    def changed_seq(self) -> int:
        """Return the input that changed the phase last; 0 where none did."""
        return self.seq if self.last_seq is None else self.last_seq

    @property
    def changed_us(self) -> int:
        """Return when that was, µs since 1970 UTC; 0 where the phase has never changed."""
        return self.ts if self.last_seq is None else self.since


_ENCODER = msgspec.msgpack.Encoder()
_ORDERS = msgspec.msgpack.Decoder(OrdersSnapshot)
_PHASES = msgspec.json.Decoder(PhaseStatus)
encode_orders_snapshot = _ENCODER.encode


def decode_orders_snapshot(data: bytes) -> OrdersSnapshot:
    """Decode the value of ``md:{symbol}:orders``.

    Raises:
        DecodeError: the bytes are no snapshot of this build.
    """
    try:
        return _ORDERS.decode(data)
    except msgspec.DecodeError as error:
        raise DecodeError(f"not a snapshot of orders: {error} ({data[:80]!r})") from error


def decode_phase(data: bytes | str) -> PhaseStatus:
    """Decode the value of ``md:{symbol}:phase``, or a message of its channel, heartbeats included.

    Raises:
        DecodeError: it is neither.
    """
    try:
        return _PHASES.decode(data)
    except msgspec.DecodeError as error:
        raise DecodeError(f"not a trading phase: {error} ({data[:80]!r})") from error
