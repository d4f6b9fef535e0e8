"""What the entries of an outbox say to a client: decoded, looked up, rendered."""

from __future__ import annotations

import msgspec

from engine.commands import Command, NewOrder, ReplaceOrder, decode_command
from engine.enums import BusinessRejectReason, MassCancelRejectReason, MassCancelRequestType
from engine.events import (
    BusinessRejected,
    CancelRejected,
    MassCancelReported,
    Output,
    decode_output,
)
from gateway.fix_tags import EXECUTION_REPORT, ORDER_MASS_STATUS_REQUEST
from gateway.fix_time import UtcTimestampWriter
from gateway.mass_requests import decode_query
from gateway.order_lists import ListWriter
from gateway.refusals import NewCommand, Refusal, refused_while_away
from gateway.reports_out import Body, ReportWriter
from gateway.reservations import (
    refused_for_backlog,
    refused_for_funds,
    settled_as,
    with_order,
)
from gateway.symbol_texts import SymbolTable, SymbolTexts
from router.open_orders import read_open_orders
from router.outbox import LostCopies, OrderList, OutboxEntry, RefusedCommand, RefusedList, Report
from router.redis_client import RedisLink, retry_while_away

Told = Output | OrderList
"""What an entry says: events, or open orders."""

_LIST_REFUSALS = {
    "pending": "Mass status: earlier lists of this session are still being sent; try again",
    "many": "Mass status: too many open orders for one list",
}


class OutboxReports:
    """Render outbox entries, copies of other accounts' entries too.

    Args:
        link: accounts database, for reading open orders.
        symbols: rules and texts of every symbol.
    """

    def __init__(self, link: RedisLink, symbols: SymbolTable) -> None:
        self._link = link
        self._symbols = symbols
        self._writer = ReportWriter(symbols)
        self._lists = ListWriter(symbols)

    async def told(self, account: int, entry: OutboxEntry) -> Told:
        """Return what an entry says; waits while Redis is away, where it must be asked.

        Args:
            account: whose outbox it stands in.
        """
        if isinstance(entry, Report):
            output = decode_output(entry.output)
            return _without(output, entry.missed) if entry.missed else output
        if isinstance(entry, OrderList):
            return entry
        if isinstance(entry, RefusedList):
            return Output("", 0, entry.ts_us, [_list_refused(account, entry)], [])
        if isinstance(entry, LostCopies):
            return Output("", 0, entry.ts_us, [_copies_lost(account, entry)], [])
        return await self._refused(entry.copy_of or account, entry)

    def bodies(self, account: int, entry: OutboxEntry, told: Told) -> list[Body]:
        """Return the bodies of the messages that an entry makes; of a copy there may be none.

        Args:
            account: whose outbox it stands in.
            told: what it says.
        """
        if not isinstance(told, OrderList):
            number = entry.original or entry.number
            return self._writer.bodies(told, number, entry.copy_of)
        return [(EXECUTION_REPORT, body) for body in self._lists.bodies(told, account)]

    async def _refused(self, account: int, entry: RefusedCommand) -> Output:
        """Return the refusal of a command that admission did not publish."""
        command = decode_command(entry.command)
        refusal = _refusal(command, entry.why, self._symbols.by_name[entry.symbol])
        if isinstance(refusal, CancelRejected):
            wanted = [(account, entry.symbol, refusal.orig_cl_ord_id)]
            (order,) = await retry_while_away(
                lambda: read_open_orders(self._link, wanted), what="open orders"
            )
            refusal = refusal if order is None else with_order(refusal, settled_as(order))
        return Output(entry.symbol, 0, entry.ts_us, [refusal], [])


def _refusal(command: Command, why: str, texts: SymbolTexts) -> Refusal:
    """Return the refusal of a command for the reason that its outbox entry gives."""
    assert isinstance(command, NewCommand), "Invariant: a client sent it"
    if why == "away":
        return refused_while_away(command)
    assert isinstance(command, NewOrder | ReplaceOrder), "Invariant: only these can be too much"
    if why == "backlog":
        return refused_for_backlog(command)
    assert why == "funds", f"Invariant: a known reason, not {why!r}"
    return refused_for_funds(command, texts)


def _without(output: Output, missed: tuple[str, ...]) -> Output:
    """Return the answer to a mass cancel of all symbols that some of them did not get.

    It says REJECTED, although the other symbols cancel: who is told less would think it is done.
    """
    (event,) = output.events
    assert isinstance(event, MassCancelReported), "Invariant: only mass cancels miss symbols"
    event = msgspec.structs.replace(
        event,
        response=MassCancelRequestType.REJECTED,
        reason=MassCancelRejectReason.OTHER,
        text=f"Not canceled in {', '.join(missed)}: not open yet; canceled elsewhere",
    )
    return msgspec.structs.replace(output, events=[event])


def _copies_lost(account: int, entry: LostCopies) -> BusinessRejected:
    since = UtcTimestampWriter().write(entry.since_us * 1_000).decode()
    return BusinessRejected(
        index=0,
        account=account,
        ref_seq_num=0,
        ref_msg_type=EXECUTION_REPORT.decode(),
        ref_id="",
        reason=BusinessRejectReason.OTHER,
        text=f"Copies lost: {entry.count}, from {since} on: too many were not fetched",
    )


def _list_refused(account: int, entry: RefusedList) -> BusinessRejected:
    return BusinessRejected(
        index=0,
        account=account,
        ref_seq_num=entry.msg_seq_num,
        ref_msg_type=ORDER_MASS_STATUS_REQUEST.decode(),
        ref_id=decode_query(entry.request).mass_status_req_id,
        reason=BusinessRejectReason.OTHER,
        text=_LIST_REFUSALS[entry.why],
    )
