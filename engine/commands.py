"""Commands: what stands in ``orders:{symbol}`` and in the engine's journal. Pure.

One declaration is schema, codec and documentation (msgspec, array-like, tagged by a small
integer), so the same bytes stand in streams, journals and snapshots. New fields go at the end,
tags are never reused.

A stream entry ``{seq}-0`` is ``{c: encoded command, t: stamp in µs}``. The admission script gives
``seq`` and the stamp (never falling within a symbol); everything else, including ``reserved``, the
gateway put into the command. ``account`` is the SenderCompID; ``session`` and ``msg_seq_num`` name
the FIX message that the command came from (session 0: an operator's command).
"""

from __future__ import annotations

import msgspec

from engine.enums import (
    CancelReason,
    CxlRejResponseTo,
    MassCancelRequestType,
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


class DefineSymbol(msgspec.Struct, frozen=True, array_like=True, tag=0, gc=False):
    """The first entry of every stream, and later each change of the symbol's rules.

    ``incarnation`` is the random id that the symbol's home got when it was created.
    """

    incarnation: str
    rules: SymbolRules


class OrderConditions(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What few orders have, so that the others do not carry it; 0 = not given.

    Attributes:
        stop_ticks: StopPx (99): the last trade that triggers a STOP or STOP_LIMIT.
        max_floor_lots: MaxFloor (111): what an iceberg order shows at once.
        min_qty_lots: MinQty (110): what must trade at once, or the order ends.
        expire_us: ExpireTime (126) of a GTD order, µs since 1970 UTC.
        cash: CashOrderQty (152) of a market buy, in the quote asset's smallest unit: the most that
            it spends, fees included; its ``qty_lots`` is 0.
    """

    stop_ticks: int = 0
    max_floor_lots: int = 0
    min_qty_lots: int = 0
    expire_us: int = 0
    cash: int = 0


class NewOrder(msgspec.Struct, frozen=True, array_like=True, tag=1, gc=False):
    """NewOrderSingle (35=D). ``reserved``: what admission moved from available to pending.

    ``poss_resend``, here and below (97=Y): where its account has used the ClOrdID, nothing is done,
    and the answer says how that order stands.
    """

    account: int
    session: int
    msg_seq_num: int
    cl_ord_id: str
    side: Side
    ord_type: OrdType
    time_in_force: TimeInForce
    post_only: bool
    stp: SelfTradePrevention
    price_ticks: int
    qty_lots: int
    rules_version: int
    reserved: int
    conditions: OrderConditions | None = None
    poss_resend: bool = False


class CancelOrder(msgspec.Struct, frozen=True, array_like=True, tag=2, gc=False):
    """OrderCancelRequest (35=F) by OrigClOrdID. ``order_seq``: from OrderID (37) where given, else
    0."""

    account: int
    session: int
    msg_seq_num: int
    cl_ord_id: str
    orig_cl_ord_id: str
    order_seq: int
    poss_resend: bool = False


class ReplaceOrder(msgspec.Struct, frozen=True, array_like=True, tag=3, gc=False):
    """OrderCancelReplaceRequest (35=G). ``qty_lots`` is the new total OrderQty, filled part
    included. ``stp`` None: the order keeps its own.

    ``orig_status``: PENDING_NEW or PENDING_REPLACE where its gateway had sent the order that it
    replaces, and nobody had answered yet; for a refusal that no engine sees.
    """

    account: int
    session: int
    msg_seq_num: int
    cl_ord_id: str
    orig_cl_ord_id: str
    order_seq: int
    side: Side
    ord_type: OrdType
    time_in_force: TimeInForce
    post_only: bool
    price_ticks: int
    qty_lots: int
    rules_version: int
    reserved: int
    stp: SelfTradePrevention | None = None
    conditions: OrderConditions | None = None
    orig_status: OrdStatus = OrdStatus.REJECTED
    poss_resend: bool = False


class ResentRefusal(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Why a D, F or G with PossResend=Y is refused, should nothing be known under its ClOrdID.

    ``reason``: an OrdRejReason (103) of a D, else a CxlRejReason (102). ``response_to`` None: a D.
    """

    reason: int
    text: str
    qty_lots: int = 0
    orig_cl_ord_id: str = ""
    response_to: CxlRejResponseTo | None = None


class QueryOrder(msgspec.Struct, frozen=True, array_like=True, tag=4, gc=False):
    """OrderStatusRequest (35=H). Changes nothing; answered from the book at its place in the
    stream.

    ``refusal``: of a message with PossResend=Y in place of which this was sent, because its gateway
    would refuse it.
    """

    account: int
    session: int
    msg_seq_num: int
    cl_ord_id: str
    order_seq: int
    side: Side
    ord_status_req_id: str
    refusal: ResentRefusal | None = None


class CancelAll(msgspec.Struct, frozen=True, array_like=True, tag=5, gc=False):
    """Cancel every open order of an account in this symbol, though it did not ask for it.

    ``reason``: USER_DISABLED or DISCONNECTED.
    """

    account: int
    reason: CancelReason = CancelReason.USER_DISABLED


class MassCancel(msgspec.Struct, frozen=True, array_like=True, tag=6, gc=False):
    """OrderMassCancelRequest (35=q): cancel the account's open orders in this symbol.

    A request for ALL stands in the stream of every symbol in which the account may have orders;
    admission has answered it then, and the engines only cancel. ``side`` None: both.
    """

    account: int
    session: int
    msg_seq_num: int
    cl_ord_id: str
    request_type: MassCancelRequestType
    side: Side | None = None


class Tick(msgspec.Struct, frozen=True, array_like=True, tag=7, gc=False):
    """Time has passed: whatever is due is done (expiry, triggered stops, the rest of an auction).

    Appended by the engine that leads, when something is due and no other input comes.
    """


class SetPhase(msgspec.Struct, frozen=True, array_like=True, tag=8, gc=False):
    """The symbol changes to another trading phase."""

    phase: TradingPhase
    reason: PhaseReason


Command = (
    DefineSymbol
    | NewOrder
    | CancelOrder
    | ReplaceOrder
    | QueryOrder
    | CancelAll
    | MassCancel
    | Tick
    | SetPhase
)

_ENCODER = msgspec.msgpack.Encoder()
_DECODER: msgspec.msgpack.Decoder[Command] = msgspec.msgpack.Decoder(Command)
encode_command = _ENCODER.encode


def decode_command(data: bytes) -> Command:
    """Decode one command.

    Raises:
        DecodeError: the bytes are no command of this version.
    """
    try:
        return _DECODER.decode(data)
    except msgspec.DecodeError as error:
        raise DecodeError(f"not a command: {error} ({data[:80]!r})") from error
