"""Executions: one row per report to one account, in COPY's binary format. Pure."""

from __future__ import annotations

from struct import Struct
from typing import cast

import msgspec

from engine.errors import DecodeError
from engine.events import (
    CancelRejected,
    Event,
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
    PhaseChanged,
    Skipped,
    SymbolDefined,
)
from persistence.table import Table

_NO_REPORTS = frozenset({SymbolDefined, PhaseChanged, OrderRefilled})
"""Events that nobody is told by a report."""

AccountEvent = (
    OrderAccepted
    | OrderRejected
    | OrderFilled
    | OrderCanceled
    | OrderReplaced
    | OrderTriggered
    | CancelRejected
    | OrderStatusReported
    | MassCancelReported
    | Skipped
)
EXECUTION_KINDS: dict[type, str] = {
    OrderAccepted: "accepted",
    OrderRejected: "rejected",
    OrderFilled: "filled",
    OrderCanceled: "canceled",
    OrderReplaced: "replaced",
    OrderTriggered: "triggered",
    CancelRejected: "cancel_rejected",
    OrderStatusReported: "status",
    MassCancelReported: "mass_cancel",
    Skipped: "skipped",
}

EXECUTIONS = Table(
    "executions", ("user_id", "symbol", "seq", "index", "kind", "event", "executed_at")
)
"""The one table whose rows are binary; see ExecutionRows."""
BINARY_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
BINARY_TRAILER = b"\xff\xff"
"""What stands before the first row and after the last one in COPY's binary format."""

_EXECUTION_FIELDS = len(EXECUTIONS.columns)
# Each field is its length in bytes and its value; times are µs since 2000-01-01 UTC.
_SEQ_FIELD = _TIME_FIELD = Struct(">iq")
_POSTGRES_EPOCH_US = 946_684_800_000_000

encode_event = msgspec.msgpack.Encoder().encode
_EVENT_DECODER: msgspec.msgpack.Decoder[Event] = msgspec.msgpack.Decoder(Event)


def decode_event(data: bytes) -> Event:
    """Decode the column ``executions.event``.

    Raises:
        DecodeError: the bytes are no event of this version.
    """
    try:
        return _EVENT_DECODER.decode(data)
    except msgspec.DecodeError as error:
        raise DecodeError(f"not an event: {error} ({data[:80]!r})") from error


class ExecutionRows:
    """Renders EXECUTIONS in COPY's binary format: one row per report to one account.

    The rows of an output share most of their bytes, and the event stands there as it is: as text a
    row costs twice as much here, and PostgreSQL must read hexadecimal digits and times.

    Args:
        symbol: the symbol's name.

    Source: PostgreSQL documentation, COPY, "Binary Format".
    """

    __slots__ = ("_kinds", "_symbol")

    def __init__(self, symbol: str) -> None:
        self._symbol = _binary_text(symbol)
        shared = len(self._symbol) + _SEQ_FIELD.size
        self._kinds = {
            event: (Struct(f">hiq{shared}sii{len(kind)}si").pack, kind)
            for event, kind in ((of, _binary_text(name)) for of, name in EXECUTION_KINDS.items())
        }

    def of_output(self, output: Output) -> list[bytes]:
        """Return the rows of an output's reports; a symbol's definition is none."""
        shared = self._symbol + _SEQ_FIELD.pack(8, output.seq)
        time = _TIME_FIELD.pack(8, output.ts_us - _POSTGRES_EPOCH_US)
        rows = []
        # One look-up by type, as a miss of isinstance is slow with the events' metaclass.
        for event in cast("list[AccountEvent]", output.events):
            known = self._kinds.get(type(event))
            if known is None:
                assert type(event) in _NO_REPORTS, "Invariant: engines make no 35=j"
                continue
            pack, kind = known
            data = encode_event(event)
            size = len(data)
            rows.append(
                pack(_EXECUTION_FIELDS, 8, event.account, shared, 4, event.index, kind, size)
                + data
                + time
            )
        return rows


def _binary_text(text: str) -> bytes:
    data = text.encode()
    return len(data).to_bytes(4, "big") + data
