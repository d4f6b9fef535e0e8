"""Events to the bodies of what a client is told: 35=8, 9, j and r. Pure.

A body is everything behind the standard header: the session puts MsgType, numbers and times before
it. There are only fields that FIX 4.4 has in these messages. Source: fix-reference 3.1 to 3.3.

    event                150  39        further fields
    OrderAccepted        0    0, 1      18=6 when post-only; conditions; 636=N on a stop order
    OrderRejected        8    8         103, 58
    OrderTriggered       D    0, 1      636=Y, 378=99, 58; conditions
    OrderFilled          F    1, 2      31, 32, 851, 527, one fee (136 = 1, 137, 138, 139 = 4);
                                        no 851 in an auction, where nobody was taker
    OrderRefilled                       no message: an iceberg order shows its next part
    OrderCanceled        4    4         41 when requested, alone or with others; else 378 and 58
      expired            C    C         58: why
    OrderReplaced        5    0, 1      41; conditions
    OrderStatusReported  I    any       790 when given; 18=6, conditions; 636=N on a stop order that
                                        waits; unknown order: 37=NONE, 39=8, 103=5
    CancelRejected            any       35=9
    BusinessRejected                    35=j
    MassCancelReported                  35=r: 530, 531; 532 and 58 when refused, 533 when known
    Skipped                             its answer: OrderRejected, CancelRejected (39: as the order
                                        stands) or BusinessRejected (to an H or q)

Conditions are 99, 111, 110, 126 and 152, where the order has them. Price (44) is that of limit and
stop-limit orders; the price at which a market or stop order ends is not shown.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from engine.enums import (
    CancelReason,
    MassCancelRequestType,
    OrdRejReason,
    OrdType,
    TimeInForce,
)
from engine.events import (
    BusinessRejected,
    CancelRejected,
    MassCancelReported,
    OrderAccepted,
    OrderCanceled,
    OrderFilled,
    OrderRefilled,
    OrderRejected,
    OrderReplaced,
    OrderStatusReported,
    OrderTriggered,
    Output,
    Skipped,
)
from gateway.fix_tags import (
    BUSINESS_MESSAGE_REJECT,
    EXECUTION_REPORT,
    ORDER_CANCEL_REJECT,
    ORDER_MASS_CANCEL_REPORT,
)
from gateway.fix_time import UtcTimestampWriter
from gateway.order_kinds import STOPS
from gateway.report_fields import (
    NOT_WORKING,
    POST_ONLY,
    STATUS_TEXTS,
    ReportEntry,
    condition_fields,
    order_fields,
    status_fields,
)
from gateway.symbol_texts import SymbolTable

Body = tuple[bytes, bytes]
"""MsgType (35) and the fields behind the standard header."""

_FILL = b"31=%b\x0132=%b\x01%b527=%b-%d-%d\x01136=1\x01137=%b\x01138=%b\x01139=4\x01"
_REFUSED = (
    b"37=%b\x0111=%b\x0117=%b\x01150=8\x0139=8\x0155=%b\x0154=%d\x01%b151=0\x0114=0\x016=0\x01"
    b"60=%b\x01103=%d\x0158=%b\x01"
)
_CANCEL_REJECT = b"37=%b\x0111=%b\x0141=%b\x0139=%b\x01434=%d\x01102=%d\x0160=%b\x0158=%b\x01"
_UNKNOWN_STATUS = (
    b"37=NONE\x0111=%b\x0117=%b\x01150=I\x0139=8\x0155=%b\x0154=%d\x01151=0\x0114=0\x016=0\x01"
    b"60=%b\x01103=%d\x0158=Unknown order\x01"
)
_MASS_CANCEL = b"37=%b\x0111=%b\x01530=%d\x01531=%d\x01%b60=%b\x01"

_TRIGGERED = b"636=Y\x01378=99\x0158=Stop price reached\x01"
_LIQUIDITIES = (b"", b"851=1\x01", b"851=2\x01", b"", b"")
"""By Liquidity. A tuple, because the hash of an enumeration is slow; the last is AUCTION."""
_ASKED_FOR = (CancelReason.REQUESTED, CancelReason.MASS_CANCEL)
_EXPIRED = (CancelReason.EXPIRED, CancelReason.TIME_EXPIRED)
_UNSOLICITED_TEXTS = {
    CancelReason.SELF_TRADE: b"378=99\x0158=Canceled by self-trade prevention\x01",
    CancelReason.USER_DISABLED: b"378=99\x0158=Canceled because the user was disabled\x01",
    CancelReason.DISCONNECTED: b"378=99\x0158=Canceled because the session was disconnected\x01",
    CancelReason.PRICE_BAND: b"378=8\x0158=Canceled because its price is outside the band\x01",
}
_TIMES_OVER = {
    TimeInForce.DAY: b"58=Day order: the symbol was closed\x01",
    TimeInForce.OPG: b"58=Order for the opening: the opening is over\x01",
    TimeInForce.GTD: b"58=ExpireTime has come\x01",
}
_COPIED = (EXECUTION_REPORT, ORDER_CANCEL_REJECT)


def safe_text(text: str) -> bytes:
    """Return text for a Text (58) field: one line of ASCII, without the field delimiter."""
    return text.encode("ascii", "replace").replace(b"\x01", b"?").replace(b"\n", b" ")


class ReportWriter:
    """Render the events of outbox entries.

    Args:
        symbols: rules and texts of every symbol.
    """

    def __init__(self, symbols: SymbolTable) -> None:
        self._symbols = symbols.by_name
        self._times = UtcTimestampWriter()
        self._expiries = UtcTimestampWriter()
        self._writers: dict[type, Callable[[ReportEntry, Any], Body]] = {
            OrderAccepted: self._accepted,
            OrderRejected: self._rejected,
            OrderTriggered: self._triggered,
            OrderFilled: self._filled,
            OrderCanceled: self._canceled,
            OrderReplaced: self._replaced,
            OrderStatusReported: self._status,
            CancelRejected: self._cancel_rejected,
            BusinessRejected: self._business_rejected,
            MassCancelReported: self._mass_cancel,
            Skipped: self._skipped,
        }

    def bodies(self, output: Output, outbox_number: int, account_of_copy: int = 0) -> list[Body]:
        """Return the body of each event of one outbox entry, in order.

        The same entry gives the same bytes every time, ExecIDs included; a copy differs from its
        original only by the Account (1) that it names, and by 35=j and r, which are not copied.

        Args:
            output: the entry, with one account's events.
            outbox_number: the entry's place in the outbox of that account, of a copy too. It makes
                the ExecID of a refusal that no engine saw unique:
                ``{account}-{outbox number}-R{index}``.
            account_of_copy: whose the entry is, where another session gets a copy; 0 = no copy.
        """
        symbol = output.symbol
        entry = ReportEntry(
            symbol,
            output.seq,
            outbox_number,
            self._symbols.get(symbol),
            self._times.write(output.ts_us * 1_000),
        )
        writers = self._writers
        bodies = [
            writers[type(event)](entry, event)
            for event in output.events
            if type(event) is not OrderRefilled
        ]
        if not account_of_copy:
            return bodies
        account = b"1=%d\x01" % account_of_copy
        return [(kind, account + body) for kind, body in bodies if kind in _COPIED]

    def _accepted(self, entry: ReportEntry, event: OrderAccepted) -> Body:
        state = order_fields(entry, event, b"0", b"1" if event.cum_lots else b"0")
        if event.post_only:
            state += POST_ONLY
        if event.conditions is not None:
            state += condition_fields(entry, event.conditions, self._expiries)
            if event.ord_type in STOPS:
                state += NOT_WORKING
        return EXECUTION_REPORT, state

    def _triggered(self, entry: ReportEntry, event: OrderTriggered) -> Body:
        state = order_fields(entry, event, b"D", b"1" if event.cum_lots else b"0")
        return EXECUTION_REPORT, state + condition_fields(
            entry, event.conditions, self._expiries
        ) + _TRIGGERED

    def _filled(self, entry: ReportEntry, event: OrderFilled) -> Body:
        texts = entry.known_symbol()
        return EXECUTION_REPORT, order_fields(
            entry, event, b"F", b"1" if event.leaves_lots else b"2"
        ) + _FILL % (
            texts.prices.text(event.last_price_ticks),
            texts.quantities.text(event.last_qty_lots),
            _LIQUIDITIES[event.liquidity],
            texts.name,
            entry.seq,
            event.trade,
            texts.amounts.text(event.fee),
            texts.quote,
        )

    def _canceled(self, entry: ReportEntry, event: OrderCanceled) -> Body:
        if event.reason in _EXPIRED:
            return EXECUTION_REPORT, order_fields(entry, event, b"C", b"C") + _why_expired(event)
        state = order_fields(entry, event, b"4", b"4")
        if event.reason in _ASKED_FOR:
            return EXECUTION_REPORT, b"%b41=%b\x01" % (state, event.orig_cl_ord_id.encode())
        return EXECUTION_REPORT, state + _UNSOLICITED_TEXTS[event.reason]

    def _replaced(self, entry: ReportEntry, event: OrderReplaced) -> Body:
        state = order_fields(entry, event, b"5", b"1" if event.cum_lots else b"0")
        body = b"%b41=%b\x01" % (state, event.orig_cl_ord_id.encode())
        if event.post_only:
            body += POST_ONLY
        if event.conditions is not None:
            body += condition_fields(entry, event.conditions, self._expiries)
        return EXECUTION_REPORT, body

    def _status(self, entry: ReportEntry, event: OrderStatusReported) -> Body:
        if event.order_seq:
            body = status_fields(entry, event, self._expiries)
        else:
            body = _UNKNOWN_STATUS % (
                event.cl_ord_id.encode(),
                entry.exec_id(event.account, event.index),
                entry.symbol.encode(),
                event.side,
                entry.time,
                OrdRejReason.UNKNOWN_ORDER,
            )
        if event.ord_status_req_id:
            body = b"%b790=%b\x01" % (body, event.ord_status_req_id.encode())
        return EXECUTION_REPORT, body

    def _rejected(self, entry: ReportEntry, event: OrderRejected) -> Body:
        quantity = b""
        if event.qty_lots:
            quantity = b"38=%b\x01" % entry.known_symbol().quantities.text(event.qty_lots)
        return EXECUTION_REPORT, _REFUSED % (
            entry.order_id(event.order_seq),
            event.cl_ord_id.encode(),
            entry.exec_id(event.account, event.index),
            entry.symbol.encode(),
            event.side,
            quantity,
            entry.time,
            event.reason,
            safe_text(event.text),
        )

    def _cancel_rejected(self, entry: ReportEntry, event: CancelRejected) -> Body:
        return ORDER_CANCEL_REJECT, _CANCEL_REJECT % (
            entry.order_id(event.order_seq),
            event.cl_ord_id.encode(),
            event.orig_cl_ord_id.encode(),
            STATUS_TEXTS[event.ord_status],
            event.response_to,
            event.reason,
            entry.time,
            safe_text(event.text),
        )

    def _business_rejected(self, _entry: ReportEntry, event: BusinessRejected) -> Body:
        return BUSINESS_MESSAGE_REJECT, business_reject_body(event)

    def _mass_cancel(self, entry: ReportEntry, event: MassCancelReported) -> Body:
        details = b""
        if event.response == MassCancelRequestType.REJECTED:
            details += b"532=%d\x01" % event.reason
        if event.affected is not None:
            details += b"533=%d\x01" % event.affected
        if entry.symbol:
            details += b"55=%b\x01" % entry.symbol.encode()
        if event.side is not None:
            details += b"54=%d\x01" % event.side
        body = _MASS_CANCEL % (
            entry.order_id(entry.seq) if entry.seq else entry.exec_id(event.account, event.index),
            event.cl_ord_id.encode(),
            event.request_type,
            event.response,
            details,
            entry.time,
        )
        if event.text:
            body += b"58=%b\x01" % safe_text(event.text)
        return ORDER_MASS_CANCEL_REPORT, body

    def _skipped(self, entry: ReportEntry, event: Skipped) -> Body:
        assert event.answer is not None, "Invariant: what stands in an outbox answers its account"
        return self._writers[type(event.answer)](entry, event.answer)


def _why_expired(event: OrderCanceled) -> bytes:
    """Return the Text (58) that says why an order ended by itself."""
    time = event.time_in_force
    if event.reason is CancelReason.TIME_EXPIRED:
        return _TIMES_OVER[time]
    if time is TimeInForce.FOK:
        return b"58=FOK: not all of it could trade at once\x01"
    if time is TimeInForce.IOC:
        return b"58=IOC: %b could trade at once\x01" % (
            b"no more" if event.cum_lots else b"nothing, or less than MinQty,"
        )
    if event.ord_type is OrdType.STOP:
        return b"58=Stop: no more could trade once it was triggered\x01"
    if event.cum_lots:
        return b"58=More orders to trade with than one order may meet at once\x01"
    return b"58=MinQty: not so much could trade at once\x01"


def business_reject_body(event: BusinessRejected) -> bytes:
    """Return the body of a BusinessMessageReject (35=j)."""
    ref_seq_num = b"45=%d\x01" % event.ref_seq_num if event.ref_seq_num else b""
    ref_id = b"379=%b\x01" % event.ref_id.encode() if event.ref_id else b""
    return b"%b372=%b\x01%b380=%d\x0158=%b\x01" % (
        ref_seq_num,
        event.ref_msg_type.encode(),
        ref_id,
        event.reason,
        safe_text(event.text),
    )
