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

from engine.enums import OrdType, SelfTradePrevention, Side, TimeInForce
from engine.errors import DecodeError
from engine.instrument import SymbolRules


class DefineSymbol(msgspec.Struct, frozen=True, array_like=True, tag=0, gc=False):
    """The first entry of every stream, and later each change of the symbol's rules.

    ``incarnation`` is the random id that the symbol's home got when it was created.
    """

    incarnation: str
    rules: SymbolRules


class NewOrder(msgspec.Struct, frozen=True, array_like=True, tag=1, gc=False):
    """NewOrderSingle (35=D). ``reserved``: what admission moved from available to pending."""

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


class CancelOrder(msgspec.Struct, frozen=True, array_like=True, tag=2, gc=False):
    """OrderCancelRequest (35=F) by OrigClOrdID. ``order_seq``: from OrderID (37) where given, else
    0."""

    account: int
    session: int
    msg_seq_num: int
    cl_ord_id: str
    orig_cl_ord_id: str
    order_seq: int


class ReplaceOrder(msgspec.Struct, frozen=True, array_like=True, tag=3, gc=False):
    """OrderCancelReplaceRequest (35=G). ``qty_lots`` is the new total OrderQty, filled part
    included. ``stp`` None: the order keeps its own."""

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


class QueryOrder(msgspec.Struct, frozen=True, array_like=True, tag=4, gc=False):
    """OrderStatusRequest (35=H). Changes nothing; answered from the book at its place in the
    stream."""

    account: int
    session: int
    msg_seq_num: int
    cl_ord_id: str
    order_seq: int
    side: Side
    ord_status_req_id: str


class CancelAll(msgspec.Struct, frozen=True, array_like=True, tag=5, gc=False):
    """Cancel every open order of an account in this symbol: an operator disabled the user."""

    account: int


Command = DefineSymbol | NewOrder | CancelOrder | ReplaceOrder | QueryOrder | CancelAll

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
