"""Whether a command says what its FIX message said. Pure.

Not by the gateway's own translation, which would repeat its mistakes: each value is read off the
message again. What the message does not say (a market order's protection price, a reservation, the
defaults of 7928) is not compared.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from engine.commands import (
    CancelOrder,
    MassCancel,
    NewOrder,
    OrderConditions,
    QueryOrder,
    ReplaceOrder,
)
from engine.enums import CxlRejResponseTo, MassCancelRequestType, OrdType, TimeInForce
from engine.instrument import DecimalGrid, SymbolRules
from gateway.fix_message import split_fields
from gateway.fix_tags import (
    NEW_ORDER_SINGLE,
    ORDER_CANCEL_REPLACE_REQUEST,
    ORDER_CANCEL_REQUEST,
    ORDER_MASS_CANCEL_REQUEST,
    ORDER_STATUS_REQUEST,
    TAG_CASH_ORDER_QTY,
    TAG_CL_ORD_ID,
    TAG_EXEC_INST,
    TAG_EXPIRE_DATE,
    TAG_EXPIRE_TIME,
    TAG_MASS_CANCEL_REQUEST_TYPE,
    TAG_MAX_FLOOR,
    TAG_MIN_QTY,
    TAG_MSG_TYPE,
    TAG_ORD_TYPE,
    TAG_ORDER_QTY,
    TAG_ORIG_CL_ORD_ID,
    TAG_PRICE,
    TAG_SIDE,
    TAG_STOP_PX,
    TAG_SYMBOL,
    TAG_TIME_IN_FORCE,
)
from gateway.fix_time import UtcTimestampReader

Fields = Mapping[bytes, bytes]
FixCommand = NewOrder | CancelOrder | ReplaceOrder | QueryOrder | MassCancel

MESSAGE_TYPES: dict[type, bytes] = {
    NewOrder: NEW_ORDER_SINGLE,
    CancelOrder: ORDER_CANCEL_REQUEST,
    ReplaceOrder: ORDER_CANCEL_REPLACE_REQUEST,
    QueryOrder: ORDER_STATUS_REQUEST,
    MassCancel: ORDER_MASS_CANCEL_REQUEST,
}

_PRICED = (OrdType.LIMIT, OrdType.STOP_LIMIT)
_NO_CONDITIONS = OrderConditions()
_DAY_US = 86_400_000_000

_Pair = tuple[str, object, object]
"""Name of a field, what the command has, and what the message says."""


class Grids:
    """Ticks, lots and amounts of one version of a symbol's rules.

    Args:
        rules: that version.
    """

    __slots__ = ("amounts", "lots", "ticks")

    def __init__(self, rules: SymbolRules) -> None:
        self.ticks = DecimalGrid(rules.tick_size)
        self.lots = DecimalGrid(rules.lot_size)
        self.amounts = DecimalGrid.of_scale(rules.quote_scale)


def fields_of(raw: bytes) -> dict[bytes, bytes]:
    """Return a framed message's values by tag; of a tag that stands there twice the last."""
    return {tag: value for tag, value in split_fields(raw) if value is not None}


def text_of(fields: Fields, tag: bytes) -> str:
    """Return a value as text, empty where the tag is absent."""
    return fields.get(tag, b"").decode("ascii", "backslashreplace")


def difference_of(
    command: FixCommand, symbol: str, grids: Mapping[int, Grids], fields: Fields
) -> str | None:
    """Return how a command and its message differ, or None.

    Args:
        grids: by version of the symbol's rules.
        fields: of the message.
    """
    for name, in_command, in_message in _pairs(command, symbol, grids, fields):
        if in_command != in_message:
            return f"{name}: the command has {in_command}, the message {in_message}"
    return None


def _pairs(
    command: FixCommand, symbol: str, grids: Mapping[int, Grids], fields: Fields
) -> Iterator[_Pair]:
    yield "MsgType (35)", _message_type(command).decode(), text_of(fields, TAG_MSG_TYPE)
    if (
        not isinstance(command, MassCancel)
        or command.request_type == MassCancelRequestType.SECURITY
    ):
        yield "Symbol (55)", symbol, text_of(fields, TAG_SYMBOL)
    yield "ClOrdID (11)", command.cl_ord_id, text_of(fields, TAG_CL_ORD_ID)
    if isinstance(command, CancelOrder | ReplaceOrder):
        yield "OrigClOrdID (41)", command.orig_cl_ord_id, text_of(fields, TAG_ORIG_CL_ORD_ID)
    if isinstance(command, MassCancel):
        request_type = str(int(command.request_type))
        yield (
            "MassCancelRequestType (530)",
            request_type,
            text_of(fields, TAG_MASS_CANCEL_REQUEST_TYPE),
        )
        side = "" if command.side is None else str(int(command.side))
        yield "Side (54)", side, text_of(fields, TAG_SIDE)
    elif not isinstance(command, CancelOrder) and not _is_of_refused_change(command):
        yield "Side (54)", str(int(command.side)), text_of(fields, TAG_SIDE)
    if isinstance(command, NewOrder | ReplaceOrder):
        version = command.rules_version
        if version in grids:
            yield from _terms(command, grids[version], fields)
        else:
            yield "version of the rules", version, f"one of {sorted(grids)}"


def _is_of_refused_change(command: FixCommand) -> bool:
    """Tell whether it is a query in place of an F or G, of which it needs no Side (54)."""
    refusal = command.refusal if isinstance(command, QueryOrder) else None
    return refusal is not None and refusal.response_to is not None


def _message_type(command: FixCommand) -> bytes:
    """Return the type of the message that a command was made of."""
    refusal = command.refusal if isinstance(command, QueryOrder) else None
    if refusal is None:
        return MESSAGE_TYPES[type(command)]
    if refusal.response_to is None:
        return NEW_ORDER_SINGLE
    is_cancel = refusal.response_to is CxlRejResponseTo.CANCEL
    return ORDER_CANCEL_REQUEST if is_cancel else ORDER_CANCEL_REPLACE_REQUEST


def _terms(command: NewOrder | ReplaceOrder, grids: Grids, fields: Fields) -> Iterator[_Pair]:
    conditions = command.conditions or _NO_CONDITIONS
    yield "OrdType (40)", str(int(command.ord_type)), text_of(fields, TAG_ORD_TYPE)
    if not conditions.cash:
        quantity = grids.lots.parse(text_of(fields, TAG_ORDER_QTY))
        yield "OrderQty (38) in lots", command.qty_lots, quantity
    if command.ord_type in _PRICED:
        price = grids.ticks.parse(text_of(fields, TAG_PRICE))
        yield "Price (44) in ticks", command.price_ticks, price
    is_market = command.ord_type is OrdType.MARKET
    default = TimeInForce.IOC if is_market else TimeInForce.DAY
    time = text_of(fields, TAG_TIME_IN_FORCE) or str(int(default))
    if is_market and time != str(int(TimeInForce.FOK)):
        time = str(int(TimeInForce.IOC))
    yield "TimeInForce (59)", str(int(command.time_in_force)), time
    yield "ExecInst (18)", "6" if command.post_only else "", text_of(fields, TAG_EXEC_INST)
    for name, value, grid, tag in (
        ("StopPx (99) in ticks", conditions.stop_ticks, grids.ticks, TAG_STOP_PX),
        ("MaxFloor (111) in lots", conditions.max_floor_lots, grids.lots, TAG_MAX_FLOOR),
        ("MinQty (110) in lots", conditions.min_qty_lots, grids.lots, TAG_MIN_QTY),
        ("CashOrderQty (152) in units", conditions.cash, grids.amounts, TAG_CASH_ORDER_QTY),
    ):
        yield name, value, grid.parse(text_of(fields, tag) or "0")
    yield "ExpireTime (126) in µs", conditions.expire_us, _expire_us(fields)


def _expire_us(fields: Fields) -> int:
    """Return when an order expires, by ExpireTime or at the end of its ExpireDate; 0 = never."""
    read_ns = UtcTimestampReader().read_ns
    expire_date = fields.get(TAG_EXPIRE_DATE)
    if expire_date:
        return read_ns(expire_date + b"-00:00:00") // 1_000 + _DAY_US
    expire_time = fields.get(TAG_EXPIRE_TIME)
    return read_ns(expire_time) // 1_000 if expire_time else 0
