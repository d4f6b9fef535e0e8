"""Events: what the engine says about one input, in ``events:{symbol}`` and in outboxes. Pure.

One ``Output`` per input, at the input's own ``seq``. Its events are facts about one account's
order each, so the same structs serve everybody: a gateway renders them as ExecutionReports, the
writer makes rows of them, market data reads the book off them. A trade is two ``OrderFilled`` with
the same ``trade`` number, the resting side first. ``index`` numbers the events of an output from
0.

Identities derive from these numbers alone: OrderID = ``{symbol}-{order_seq}``, ExecID =
``{symbol}-{seq}-{index}``, trade id = ``{symbol}-{seq}-{trade}``.

The entry of ``outbox:{account}`` holds an ``Output`` too: of the same input, with only this
account's events and no changes. An ``Output`` with ``seq`` 0 is a refusal that never reached an
engine.
"""

from __future__ import annotations

import msgspec

from engine.commands import OrderConditions
from engine.enums import (
    BusinessRejectReason,
    CancelReason,
    CxlRejReason,
    CxlRejResponseTo,
    Liquidity,
    MassCancelRejectReason,
    MassCancelRequestType,
    OrdRejReason,
    OrdStatus,
    OrdType,
    PhaseReason,
    SelfTradePrevention,
    Side,
    TimeInForce,
    TradingPhase,
)
from engine.errors import DecodeError
from engine.instrument import SymbolRules


class OrderState(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The order as it stands after the event; the first fields of every event about an order.

    ``leaves_lots + cum_lots = qty_lots`` while it is open; leaves is 0 once it is done.
    ``cum_price_qty`` is Σ price_ticks × lots over its fills (AvgPx = that ÷ cum_lots, in ticks).
    """

    index: int
    account: int
    order_seq: int
    cl_ord_id: str
    side: Side
    ord_type: OrdType
    time_in_force: TimeInForce
    price_ticks: int
    qty_lots: int
    leaves_lots: int
    cum_lots: int
    cum_price_qty: int


class SymbolDefined(msgspec.Struct, frozen=True, array_like=True, tag=0, gc=False):
    """The symbol begins, or goes on under changed rules."""

    index: int
    incarnation: str
    rules: SymbolRules


class OrderAccepted(OrderState, frozen=True, array_like=True, tag=1, gc=False):
    """150=0. What trades at once follows in later events of the same output."""

    post_only: bool
    stp: SelfTradePrevention
    conditions: OrderConditions | None = None


class OrderRejected(OrderState, frozen=True, array_like=True, tag=2, gc=False):
    """150=8: the order has no effect and its reservation is free again."""

    reason: OrdRejReason
    text: str


class OrderFilled(OrderState, frozen=True, array_like=True, tag=3, gc=False):
    """150=F, one side of a trade. ``fee``: what this fill charged, in quote units."""

    trade: int
    liquidity: Liquidity
    last_price_ticks: int
    last_qty_lots: int
    fee: int


class OrderCanceled(OrderState, frozen=True, array_like=True, tag=4, gc=False):
    """150=4 or C. ``orig_cl_ord_id`` is empty unless requested; then cl_ord_id is the request's.

    ``canceled_lots``: the leaves that went away with it.
    """

    reason: CancelReason
    orig_cl_ord_id: str
    canceled_lots: int


class OrderReplaced(OrderState, frozen=True, array_like=True, tag=5, gc=False):
    """150=5: the order goes on under the new ClOrdID, price and quantity.

    What it was before stands in ``orig_cl_ord_id``, ``old_price_ticks`` and ``old_leaves_lots``.
    """

    orig_cl_ord_id: str
    old_price_ticks: int
    old_leaves_lots: int
    kept_priority: bool
    post_only: bool
    stp: SelfTradePrevention
    conditions: OrderConditions | None = None


class CancelRejected(msgspec.Struct, frozen=True, array_like=True, tag=6, gc=False):
    """35=9. ``order_seq`` 0: the order is unknown (OrderID NONE, OrdStatus 8)."""

    index: int
    account: int
    cl_ord_id: str
    orig_cl_ord_id: str
    order_seq: int
    ord_status: OrdStatus
    response_to: CxlRejResponseTo
    reason: CxlRejReason
    text: str


class OrderStatusReported(OrderState, frozen=True, array_like=True, tag=7, gc=False):
    """150=I. ``order_seq`` 0: the order is unknown (39=8, 103=5).

    ``working`` False: a stop order that has not been triggered (636=N).
    """

    ord_status: OrdStatus
    ord_status_req_id: str
    conditions: OrderConditions | None = None
    working: bool = True
    post_only: bool = False


class BusinessRejected(msgspec.Struct, frozen=True, array_like=True, tag=8, gc=False):
    """35=j: made by gateways; by an engine only as the answer to a status request it skips."""

    index: int
    account: int
    ref_seq_num: int
    ref_msg_type: str
    ref_id: str
    reason: BusinessRejectReason
    text: str


class Skipped(msgspec.Struct, frozen=True, array_like=True, tag=9, gc=False):
    """An operator passed over an input that cannot be applied; it only frees what it reserved.

    ``account`` sent it under ``cl_ord_id``; account 0 where nobody did, or where the bytes are no
    command. ``reason``: the operator's. ``answer``: what the sender is told, under the same index,
    as if the input had been refused; None where nobody is waiting for one.
    """

    index: int
    account: int
    cl_ord_id: str
    reason: str
    answer: OrderRejected | CancelRejected | BusinessRejected | None


class OrderTriggered(OrderState, frozen=True, array_like=True, tag=10, gc=False):
    """150=D, 636=Y: the last trade has reached the stop price; the order goes to work.

    What it trades follows in later events of the same output.
    """

    conditions: OrderConditions


class OrderRefilled(OrderState, frozen=True, array_like=True, tag=11, gc=False):
    """An iceberg order shows its next part, ``displayed_lots``, at the back of its price's queue.

    For market data; its owner is told nothing.
    """

    displayed_lots: int


class MassCancelReported(msgspec.Struct, frozen=True, array_like=True, tag=12, gc=False):
    """35=r. ``response`` REJECTED: nothing was done, for ``reason``; else the cancels follow.

    ``affected``: how many; None where several symbols are concerned. ``side`` None: both.
    """

    index: int
    account: int
    cl_ord_id: str
    request_type: MassCancelRequestType
    response: MassCancelRequestType
    affected: int | None
    reason: MassCancelRejectReason
    text: str
    side: Side | None = None


class PhaseChanged(msgspec.Struct, frozen=True, array_like=True, tag=13, gc=False):
    """The symbol is in this phase from here on.

    ``auction_ticks``, ``auction_lots``: price and volume of the auction that this input began; 0
    where there was none, or nothing crossed.
    """

    index: int
    phase: TradingPhase
    reason: PhaseReason
    auction_ticks: int = 0
    auction_lots: int = 0


Event = (
    SymbolDefined
    | OrderAccepted
    | OrderRejected
    | OrderFilled
    | OrderCanceled
    | OrderReplaced
    | CancelRejected
    | OrderStatusReported
    | BusinessRejected
    | Skipped
    | OrderTriggered
    | OrderRefilled
    | MassCancelReported
    | PhaseChanged
)


class BalanceChange(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What one input does to one account's balance of one asset, in its smallest unit.

    At most one per account and asset in an output, never all zero. Over an output's changes,
    available + pending + held sum to 0 per asset: money only moves.
    """

    account: int
    asset: str
    available: int
    pending: int
    held: int


class OutputEvents(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What one input did to orders. ``ts_us``: the input's stamp, µs since 1970 UTC."""

    symbol: str
    seq: int
    ts_us: int
    events: list[Event]


class Output(OutputEvents, frozen=True, array_like=True, gc=False):
    """All that one input did: to orders and to balances."""

    changes: list[BalanceChange]


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(Output)
_EVENTS_DECODER = msgspec.msgpack.Decoder(OutputEvents)
encode_output = _ENCODER.encode


def decode_output(data: bytes) -> Output:
    """Decode the output of one input.

    Raises:
        DecodeError: the bytes are no output of this version.
    """
    try:
        return _DECODER.decode(data)
    except msgspec.DecodeError as error:
        raise DecodeError(f"not an output: {error} ({data[:80]!r})") from error


def decode_output_events(data: bytes) -> OutputEvents:
    """Decode the output of one input without its balance changes, in half the time.

    Raises:
        DecodeError: the bytes are no output of this version.
    """
    try:
        return _EVENTS_DECODER.decode(data)
    except msgspec.DecodeError as error:
        raise DecodeError(f"not an output: {error} ({data[:80]!r})") from error
